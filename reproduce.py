"""Run the experiments behind the tables again, from nothing to the pages.

    python reproduce.py                      all of results/experiments.json
    python reproduce.py cnn                  those of train_cnn.py
    python reproduce.py cnn/fast cnn/wide    these two
    python reproduce.py --list               only show the commands, and what the committed runs took

After a stop the same command resumes. A run that came with the repository is replaced: git shows what
changed, `git checkout results` brings it back. The report is rewritten at the end.
"""

import shlex
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from report.pages import experiment_seconds
from report.results import Experiment, Results, read_experiments, read_results
from report.tables import time_text
from utils.arguments import any_path
from utils.cli import Parser, command
from utils.errors import UserError


def choose(experiments: list[Experiment], names: list[str]) -> list[Experiment]:
    """Return all experiments, or those that are named ("cnn" or "cnn/wide"), in an order that can run.

    An experiment comes behind those whose runs its command names: a pool, an encoder.
    """
    folders = [experiment.folder for experiment in experiments]
    for name in names:
        if not any(name in (folder, folder.partition("/")[0]) for folder in folders):
            raise UserError(f"no experiment {name}: choose from {', '.join(folders)}")
    left = [e for e in experiments if not names or {e.folder, e.folder.partition("/")[0]} & set(names)]
    ordered = []
    while left:
        ready = (e for e in left if not any(depends(e, other) for other in left if other is not e))
        ordered.append(next(ready, left[0]))
        left.remove(ordered[-1])
    return ordered


def depends(experiment: Experiment, other: Experiment) -> bool:
    return any(f"/{other.folder}/" in f"/{word}/" for word in experiment.command.split())


def show(results: Results, experiment: Experiment) -> None:
    """Print the command of an experiment with the time of its committed run."""
    seconds = experiment_seconds(results, experiment)
    time = "not run yet" if seconds is None else time_text(seconds)
    retired = f" (of commit {experiment.retired}: not repeated)" if experiment.retired else ""
    print(f"{experiment.folder:31} {time:>12}   {experiment.command}{retired}", flush=True)


def run(experiment: Experiment, args: Namespace) -> None:
    """Run one command to its end; UserError when it fails. What stops this script stops it, too."""
    _, script, *flags = shlex.split(experiment.command)
    words = [sys.executable, str(Path(__file__).parent / script), *flags, "--name", experiment.name]
    words += ["--results-dir", args.results_dir, "--data-dir", args.data_dir, "--resume"]
    words += ["--device", args.device] if args.device else []
    print(f"\n{experiment.command}", flush=True)
    process = subprocess.Popen(words)
    try:
        code = process.wait()
    except KeyboardInterrupt as stop:
        if stop.args == (128 + signal.SIGTERM,):  # Ctrl-C in a terminal reaches the training, too
            process.terminate()
        process.wait()
        raise
    if code:
        raise UserError(f"{experiment.folder} ended with exit code {code}; the same command resumes")


def make_parser() -> Parser:
    parser = Parser(prog="reproduce.py", description=__doc__)
    add = parser.add_argument
    add("experiments", nargs="*", metavar="EXPERIMENT", help="a folder of results/, or one run in it")
    add("--list", action="store_true", help="run nothing")
    add("--data-dir", type=any_path, default="datasets", metavar="DIR", help="default: datasets")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), help="default: the best that is there")
    add("--results-dir", type=any_path, default="results", metavar="DIR", help="default: results")
    add("--readme", type=any_path, default="README.md", metavar="FILE", help="default: README.md")
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    results = Path(args.results_dir)
    experiments = choose(read_experiments(results / "experiments.json"), args.experiments)
    results = read_results(results)
    for experiment in experiments:
        show(results, experiment)
    if args.list:
        return 0
    for experiment in experiments:
        if not experiment.retired:
            run(experiment, args)
    words = [sys.executable, "report.py", "--results-dir", args.results_dir, "--readme", args.readme]
    return subprocess.run(words).returncode


if __name__ == "__main__":
    sys.exit(main())
