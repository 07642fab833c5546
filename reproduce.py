"""Repeat the experiments behind the tables, from the training to the pages.

    python reproduce.py                    all of results/experiments.json
    python reproduce.py cnn triplet/few    all of train_cnn.py, and a single one
    python reproduce.py --list             only print the commands, and the time that the committed runs took

After a stop the same command resumes. A committed run is renamed to <name>.old-<time>, not deleted, and
repeated at its --precision. All experiments take 26 hours on one CPU core.
"""

import os
import re
import shlex
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from report import text
from report.results import Experiment, Results, read_results
from utils.arguments import any_path
from utils.cli import Parser, command
from utils.errors import UserError
from utils.runs.files import read_object


def choose(experiments: list[Experiment], names: list[str]) -> list[Experiment]:
    """Return the named experiments, or all, each after those whose runs its command uses."""
    ordered: list[Experiment] = []

    def add(experiment):
        paths = f"{experiment.command.replace(' ', '/')}/"
        for needed in (each for each in experiments if f"/{each.folder}/" in paths):
            add(needed)
        if experiment not in ordered:
            ordered.append(experiment)

    unknown = set(names)
    for experiment in experiments:
        own = {experiment.folder, experiment.folder.partition("/")[0]}
        unknown -= own
        if not names or own & set(names):
            add(experiment)
    if unknown:
        raise UserError(f"no experiment {unknown.pop()}; reproduce.py --list shows them")
    return ordered


def print_commands(results: Results, experiments: list[Experiment]) -> None:
    """Print every command with the time of its committed run; an ensemble of finished runs takes none."""

    def time(seconds):  # an upper bound, because other work on a machine only adds to a time
        return f"≤ {text.duration(seconds)}" if seconds else "none"

    total = 0.0
    for experiment in experiments:
        result = results.runs.get(experiment.folder)
        seconds = result.seconds if result and not result.arguments.get("sources") else 0
        note = experiment.retired and f" (of commit {experiment.retired}: not repeated)"
        took = time(seconds) if result else "not run yet"
        print(f"{experiment.folder:31} {took:>12}   {experiment.command}{note}")
        total += seconds
    print(f"CPU time of all together: {time(total)}", flush=True)


def run(experiment: Experiment, args: Namespace) -> None:
    """Run one command to its end; UserError when it fails."""
    paths = re.sub("(?<=[ =+])results/", lambda _: f"{args.results_dir}/", experiment.command)
    _, script, *flags = shlex.split(paths)
    words = [sys.executable, str(Path(__file__).parent / script), *flags, "--name", experiment.name]
    words += ["--results-dir", args.results_dir, "--data-dir", args.data_dir, "--resume"]
    config = Path(args.results_dir) / experiment.folder / "config.json"
    trained = config.exists() and experiment.script != "robustness"  # which has no --precision
    recorded = read_object(config).get("arguments") if trained else None
    if isinstance(recorded, dict) and "precision" in recorded:  # "auto" differs by machine
        words.append(f"--precision={recorded['precision']}")
    print(f"\n{experiment.command}", flush=True)
    process = subprocess.Popen(words)
    try:
        code = process.wait()
    finally:  # a signal to this script ends the training, too, which resumes from its checkpoint
        process.kill()
        process.wait()
    if code == 2:
        sys.exit(2)  # the training has said why
    if code:
        raise UserError(f"{experiment.folder} ended with exit code {code}; the same command resumes")


def make_parser() -> Parser:
    parser = Parser(prog="reproduce.py", description=__doc__)
    add = parser.add_argument
    add("experiments", nargs="*", metavar="EXPERIMENT", help="a folder of results/, or one run in it")
    add("--list", action="store_true", help="print the commands, run nothing")
    add("--data-dir", type=any_path, default=Path("datasets"), metavar="DIR", help="folder of the data sets")
    add("--results-dir", type=any_path, default=Path("results"), metavar="DIR", help="folder for all runs")
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    vars(args).update((k, os.path.abspath(v)) for k, v in vars(args).items() if isinstance(v, str))
    os.chdir(Path(__file__).parent)  # to which commands and defaults are relative, wherever the user is
    results = read_results(Path(args.results_dir))
    if not results.experiments or any("experiments.json" in fault for fault in results.faults):
        raise UserError(results.faults[0])
    experiments = choose(results.experiments, args.experiments)
    print_commands(results, experiments)
    for experiment in [] if args.list else experiments:
        if not experiment.retired:
            run(experiment, args)
    words = [sys.executable, "report.py", "--results-dir", args.results_dir]
    return 0 if args.list else subprocess.run(words).returncode


if __name__ == "__main__":
    sys.exit(main())
