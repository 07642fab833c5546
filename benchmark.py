"""Measure how fast this is, each figure side by side with the standard way, in one run.

    python benchmark.py                           all of them; about 40 minutes on 2 CPU cores
    python benchmark.py --only augment roofline   two minutes
    python benchmark.py --device cuda --compile

fast       seconds of training to 99.0 % accuracy: the recipe `fast` against the usual PyTorch program
augment    augmented training images per second, against torchvision's per-image transforms
simclr     pre-training images per second, against PIL views from a DataLoader; the contrastive loss
mil        bags trained per second, against one bag a step with a DataLoader
roofline   the share of the machine's matrix-product peak that a training step of cnn and wide reaches
ensemble   seconds to train ten members, against torchensemble (skipped when that is not installed:
           requirements-benchmark.txt), and to select from a thousand cached members

Each writes results/benchmarks/<name>.json: every measured value, medians, and the medians of the ratios of
each repeat. Ours and the standard way take turns, so that a slower hour of the machine meets both. Close
other programs first.
"""

import tempfile
from pathlib import Path

import torch

from benchmarks.augment import augment
from benchmarks.ensemble import ensemble
from benchmarks.fast import fast
from benchmarks.mil import mil
from benchmarks.roofline import roofline
from benchmarks.simclr import simclr
from utils.cli import Parser, command, command_line, number, resolve_device
from utils.errors import UserError
from utils.runs.folder import FORMAT, RunFolder, device_name, git_commit

BENCHMARKS = {
    "fast": fast,
    "augment": augment,
    "simclr": simclr,
    "mil": mil,
    "roofline": roofline,
    "ensemble": ensemble,
}


def make_parser():
    parser = Parser(prog="benchmark.py", description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", choices=tuple(BENCHMARKS), help="default: all")
    add("--repeats", type=number(int, 1), default=3, help="measurements of each side; default: 3")
    add("--compile", action="store_true", help="torch.compile the network of `fast`")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    add("--data-dir", default="datasets", metavar="DIR", help="default: datasets")
    add("--results-dir", default="results", metavar="DIR", help="default: results")
    return parser


def open_folder(results_dir):
    """The RunFolder of results/benchmarks; UserError now, not after half an hour, when nothing can be written there."""
    folder = Path(results_dir) / "benchmarks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    return RunFolder(folder)


def summary(name, ratios):
    """One line per ratio."""
    for found in ratios:
        value = "not reached" if found["value"] is None else f"{found['value']:.3g}"
        target = "" if found["target"] is None else f" (target: at least {found['target']})"
        print(f"{name}: {found['name']} {value}{target}", flush=True)


@command
def main(argv=None):
    parser = make_parser()
    args = parser.parse_args(argv)
    shown = command_line(parser, args)
    name = "cpu" if args.device == "auto" and not torch.cuda.is_available() else args.device
    device = resolve_device(name)
    results = open_folder(args.results_dir)
    for name in [name for name in BENCHMARKS if not args.only or name in args.only]:
        options = {"compile": args.compile} if name == "fast" else {}
        content = BENCHMARKS[name](args.data_dir, device, args.repeats, **options)
        head = {"format": FORMAT, "benchmark": name, "device": device_name(device)}
        head |= {"commit": git_commit(), "command": shown, "torch": torch.__version__}
        results.write_json(f"{name}.json", {**head, **content})
        summary(name, content["ratios"])
    print(f"measured values in {results.folder}/")


if __name__ == "__main__":
    main()
