"""README.md and the pages of results/, written from the committed results.

tables: numbers in words, Markdown tables. times: how long a number took. rows: a metric of a run with its
spread, data, time and prior work. sections, special, benchmarks, front: what stands between a page's markers,
of every script, of single scripts, of the benchmarks and in README.md. figures: figures of several runs.
paradigms: the table of all scripts, where a new one is added. pages: everything together.
"""
