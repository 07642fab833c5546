"""Run the experiments behind the tables again, from nothing to the pages.

    python reproduce.py                      all of results/experiments.json
    python reproduce.py cnn                  those of train_cnn.py
    python reproduce.py cnn/fast cnn/wide    these two
    python reproduce.py --list               only show the commands, and what the committed runs took

After a stop the same command resumes. A run that came with the repository is replaced: git shows what
changed, `git checkout results` brings it back. The report is rewritten at the end.
"""

import shlex
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from report.front import experiment_time
from report.results import Collection, Experiment, read_collection, read_experiments
from report.times import Time, total
from utils.arguments import any_path
from utils.cli import Parser, command, exit_code
from utils.errors import UserError

GRACE = 10  # seconds that a stopped training has to end


def choose(experiments: list[Experiment], wanted: list[str]) -> list[Experiment]:
    """Return all experiments, or those that `wanted` names: "cnn" or "cnn/wide"."""
    folders = [experiment.folder for experiment in experiments]
    for name in wanted:
        if not any(name in (folder, folder.partition("/")[0]) for folder in folders):
            raise UserError(f"no experiment {name}: choose from {', '.join(folders)}")
    chosen = [e for e in experiments if not wanted or {e.folder, e.folder.partition("/")[0]} & set(wanted)]
    return in_order(chosen)


def in_order(experiments: list[Experiment]) -> list[Experiment]:
    """Move every experiment behind those whose runs its command names: a pool, an encoder."""
    ordered, left = [], experiments
    while left:
        waiting = [e for e in left if any(names(e, other) for other in left if other is not e)]
        ready = [e for e in left if e not in waiting] or left  # a circle stays as it is
        ordered += ready
        left = [e for e in left if e not in ready]
    return ordered


def names(experiment: Experiment, other: Experiment) -> bool:
    return any(f"/{other.folder}/" in f"/{word}/" for word in shlex.split(experiment.command))


def show_plan(found: Collection, experiments: list[Experiment]) -> None:
    """Print every command with the time that its committed run took on a CPU."""
    times = [experiment_time(found, experiment) for experiment in experiments]
    for experiment, time in zip(experiments, times, strict=True):
        print(f"{experiment.folder:31} {time_text(time):>24}   {experiment.command}")
    everything = total([time for time in times if time])
    print(f"CPU time of all together: {everything.text} (≤: an upper bound)", flush=True)


def time_text(time: Time | None) -> str:
    if time is None:
        return "not run yet"
    return time.text if time.seconds else "no training"


def run(experiment: Experiment, args: Namespace) -> None:
    """Run one command to its end; UserError when it fails. What stops this script stops it, too."""
    _, script, *flags = shlex.split(experiment.command)
    words = [sys.executable, str(Path(__file__).parent / script), *flags, "--name", experiment.name]
    words += ["--results-dir", args.results_dir, "--data-dir", args.data_dir, "--resume"]
    if args.device:
        words += ["--device", args.device]
    print(f"\n{experiment.command}", flush=True)
    process = subprocess.Popen(words)
    try:
        code = process.wait()
    except KeyboardInterrupt as stop:
        if exit_code(stop) != 130:  # Ctrl-C in a terminal reaches the training, too
            process.terminate()
        end(process)
        raise
    if code:
        raise UserError(f"{experiment.folder} ended with exit code {code}; the same command resumes")


def end(process: subprocess.Popen) -> None:
    """Wait until a training has ended by itself; insist after a while."""
    for insist in (process.terminate, process.kill):
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            insist()
    process.wait()


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
    experiments = choose(read_experiments(args.results_dir), args.experiments)
    show_plan(read_collection(Path(args.results_dir)), experiments)
    if args.list:
        return 0
    for experiment in experiments:
        run(experiment, args)
    print()
    command = [sys.executable, "report.py", "--results-dir", args.results_dir, "--readme", args.readme]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
