"""README.md and the pages of results/, written from the committed results.

tables: numbers in words and Markdown tables. times: what a number took to make. rows: one run's metric with
its spread, data, time and prior work. figures: the figures of several runs. sections: what stands between a
page's markers. paradigms: the table of all scripts. pages: everything together.
"""
