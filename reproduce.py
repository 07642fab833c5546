"""Run the README's experiments again, from nothing to its tables and figures.

    python reproduce.py                      all of results/experiments.json
    python reproduce.py cnn                  those of train_cnn.py
    python reproduce.py cnn/fast cnn/wide    these two
    python reproduce.py --list               only show the commands and the time they take

Stopped by whatever, the same command goes on where it was. A run that came with the repository is replaced:
git shows what changed, `git checkout results` brings it back. The report is rewritten at the end.
"""

import shlex
import subprocess
import sys
from pathlib import Path

import report
from utils.cli import Parser, command
from utils.errors import UserError
from utils.runs.results import Experiment, read_experiments


def choose(experiments, wanted):
    """One experiment per run's folder, all or those that `wanted` names: "cnn" or "cnn/wide"."""
    first: dict[str, Experiment] = {}
    for experiment in experiments:
        first.setdefault(experiment.folder, experiment)
    for name in wanted:
        if not any(name in (folder, folder.partition("/")[0]) for folder in first):
            raise UserError(f"no experiment {name}: choose from {', '.join(first)}")
    return [
        experiment
        for folder, experiment in first.items()
        if not wanted or folder in wanted or folder.partition("/")[0] in wanted
    ]


def minutes(experiments, kind):
    total = sum(experiment.minutes.get(kind, 0) for experiment in experiments)
    return report.duration(60 * total)


def show_plan(experiments):
    for experiment in experiments:
        cpu, gpu = (minutes([experiment], kind) for kind in ("cpu", "gpu"))
        print(f"{experiment.folder:20} {cpu:>7} on 2 CPU cores, {gpu:>7} on a GPU   {experiment.command}")
    cpu, gpu = (minutes(experiments, kind) for kind in ("cpu", "gpu"))
    print(f"all together: about {cpu} on 2 CPU cores, {gpu} on a GPU", flush=True)


def run(experiment, args):
    """Run one command to its end; UserError when it fails. Ctrl-C reaches it, too."""
    _, script, *flags = shlex.split(experiment.command)
    words = [sys.executable, str(Path(__file__).parent / script), *flags, "--name", experiment.name]
    words += ["--results-dir", str(args.results_dir), "--data-dir", args.data_dir, "--resume"]
    if args.device:
        words += ["--device", args.device]
    print(f"\n{experiment.command}", flush=True)
    process = subprocess.Popen(words)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        sys.exit(130)
    if code:
        raise UserError(
            f"{experiment.folder} ended with exit code {code}; the same command goes on from here"
        )


def make_parser():
    parser = Parser(prog="reproduce.py", description=__doc__)
    add = parser.add_argument
    add("experiments", nargs="*", metavar="EXPERIMENT", help="a folder of results/, or one run in it")
    add("--list", action="store_true", help="run nothing")
    add("--data-dir", default="datasets", metavar="DIR", help="default: datasets")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), help="default: the best that is there")
    add("--results-dir", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    add("--readme", type=Path, default=Path("README.md"), metavar="FILE", help="default: README.md")
    return parser


@command
def main(argv=None):
    args = make_parser().parse_args(argv)
    experiments = choose(read_experiments(args.results_dir), args.experiments)
    show_plan(experiments)
    if args.list:
        return 0
    for experiment in experiments:
        run(experiment, args)
    print()
    return report.main(["--results-dir", str(args.results_dir), "--readme", str(args.readme)])


if __name__ == "__main__":
    sys.exit(main())
