"""Write the tables, numbers and figures that README.md and the pages in results/ take from committed results.

    python report.py              rewrites README.md, results/*/README.md and the figures of several runs
    python report.py --check      writes nothing; exit code 1 and a line for everything that is stale
    python report.py --compare cnn/compact-all-shifts cnn/compact-all     the difference and its paired test

Reads the runs and benchmarks in results/, and what is kept by hand: runs and tables in experiments.json and
prior work in references.json. Needs no GPU, no weights and no data set. A missing or damaged file is named,
the rest is rendered, and the exit code is 1. Notes name missing metrics and runs to do.
"""

import sys
from pathlib import Path

from report.pages import PARADIGMS, is_fresh, render, write
from report.records import compare
from report.results import read_results
from utils.arguments import any_path
from utils.cli import Parser, command


def make_parser() -> Parser:
    parser = Parser(prog="report.py", description=__doc__)
    add = parser.add_argument
    add("--check", action="store_true", help="write nothing, name what is stale")
    add("--compare", nargs=2, metavar=("A", "B"), help="test two runs' difference, like mil/sweep/max/50")
    add("--metric", metavar="NAME", help="metric of --compare (default: the one that the page of A shows)")
    folder = Path(__file__).parent
    add("--results-dir", type=any_path, default=folder / "results", metavar="DIR", help="folder of all runs")
    add("--readme", type=any_path, default=folder / "README.md", metavar="FILE", help="the front page")
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Return 0, or 1 when anything is missing, damaged or (with --check) stale."""
    args = make_parser().parse_args(argv)
    results = read_results(Path(args.results_dir))
    if args.compare:
        metrics = {name.removeprefix("train_"): paradigm.metric for name, paradigm in PARADIGMS.items()}
        metric = args.metric or metrics.get(args.compare[0].partition("/")[0], "")
        print(f"{' - '.join(args.compare)}: {compare(results, args.compare, [metric])}")
        return 0
    outputs = render(results, Path(args.readme))
    for path, output in outputs.items():
        if not args.check:
            results.attempt(path, write, path, output)
        elif not is_fresh(path, output):
            results.faults.append(f"{path}: stale; renew it with python report.py")
    for note in dict.fromkeys(results.notes):
        print(f"note: {note}")
    for fault in dict.fromkeys(results.faults):
        print(fault, file=sys.stderr)
    return 1 if results.faults else 0


if __name__ == "__main__":
    sys.exit(main())
