"""Rewrite what README.md and the pages in results/ take from the committed results: tables, numbers, figures.

    python report.py              rewrites README.md, results/*/README.md and the figures of several runs
    python report.py --check      writes nothing; exit code 1 and a line for everything that is stale

Reads results/<paradigm>/<run>/{config,metrics}.json and history.jsonl, results/benchmarks/*.json, and what
is kept by hand: results/experiments.json (the runs that reproduce.py makes, and the rows of the tables),
results/references.json (prior work) and results/times.json (seconds of an epoch, measured alone). Needs no
GPU, no weights and no data set. What is missing or damaged is named, the rest is rendered, exit code 1. Runs
that are not from a clean commit and experiments that were not run yet are listed as notes.
"""

import sys
from pathlib import Path

from report.pages import is_fresh, render, write
from report.results import read_collection
from utils.arguments import any_path
from utils.cli import Parser, command


def make_parser() -> Parser:
    parser = Parser(prog="report.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, name what is stale")
    parser.add_argument(
        "--results-dir", type=any_path, default="results", metavar="DIR", help="default: results"
    )
    parser.add_argument(
        "--readme", type=any_path, default="README.md", metavar="FILE", help="default: README.md"
    )
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Return 0, or 1 when anything is missing, damaged or (with --check) stale."""
    args = make_parser().parse_args(argv)
    found = read_collection(Path(args.results_dir))
    outputs = render(found, Path(args.readme))
    if args.check:
        stale = [path for path, output in outputs.items() if not is_fresh(path, output)]
        found.faults += [f"{path}: stale; renew it with python report.py" for path in stale]
    else:
        for path, output in outputs.items():
            found.attempt(write, path, output)
        print(f"wrote {', '.join(map(str, outputs))}")
    for note in found.notes:
        print(f"note: {note}")
    for fault in found.faults:
        print(fault, file=sys.stderr)
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
