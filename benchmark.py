"""Measure how fast this is, side by side with the standard way.

    python benchmark.py                           all of them; about 35 minutes on 2 CPU cores
    python benchmark.py --only augment roofline   two minutes
    python benchmark.py --device cuda --list      what would be measured there; needs no GPU
    python benchmark.py --device cuda --compile

fast       seconds of training to 99.0 % accuracy: the recipe `fast` against the usual PyTorch program;
           images per second of either network in either loop
augment    augmented training images per second, against torchvision's per-image transforms
simclr     pre-training images per second, against PIL views from a DataLoader; the contrastive loss
moco       the same of momentum contrast
mil        bags trained per second, against one bag a step with a DataLoader
roofline   the share of the machine's matrix-product peak that a training step of cnn and wide reaches
ensemble   seconds to train ten members, against torchensemble (skipped when that is not installed:
           requirements-benchmark.txt), and to select from a thousand cached members
triplet    the triplet loss and its miners against one tensor of all triplets and against
           pytorch-metric-learning (skipped when that is not installed); images trained per second
layers     the gain of hand-written layers for a whole training step
epochs     seconds of one training epoch of every recipe, on one thread

The last one writes results/times.json, the others results/benchmarks/<name>.json: every measured value,
medians, and ratios of medians with the range of the ratios of each repeat. Ours and the standard way take
turns, so that a slower hour of the machine meets both. Close other programs first.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.augment import augment
from benchmarks.ensemble import ensemble
from benchmarks.epochs import epochs
from benchmarks.fast import GPU_SECONDS, fast
from benchmarks.layers import layers
from benchmarks.measure import line
from benchmarks.mil import BATCH, TARGET, mil
from benchmarks.moco import moco
from benchmarks.roofline import SIZES, roofline
from benchmarks.simclr import simclr
from benchmarks.triplet import triplet
from report.results import FORMS, read_experiments, read_json
from utils.arguments import Number, any_path
from utils.cli import Parser, choice, command, command_line, resolve_device
from utils.errors import UserError
from utils.runs.folder import FORMAT, RunFolder, device_name, git_commit

BENCHMARKS = {f.__name__: f for f in (fast, augment, simclr, moco, mil, roofline, ensemble, triplet, layers)}
# What is different on a GPU. Everywhere the clock is read when the GPU has finished, and ours trains in bf16.
ON_GPU = {
    "fast": f"goal: {GPU_SECONDS} s, after a training that loads the kernels and is not counted",
    "simclr": "memory: the peak of CUDA's allocator",
    "mil": f"{BATCH['cuda']} bags a step; goal: {TARGET['cuda']} times the standard way",
    "roofline": f"the peak is that of products of up to {max(SIZES['cuda']):,} rows",
    "triplet": "memory: the peak of CUDA's allocator",
    "layers": "Dropout is torch's own there: a ratio of 1",
    "epochs": "one CPU thread feeds the GPU",
}


def make_parser() -> Parser:
    parser = Parser(prog="benchmark.py", description=__doc__)
    add = parser.add_argument
    names = (*BENCHMARKS, "epochs")
    choice(add, "--only", names, "benchmarks to run (default: all)", nargs="+", default=list(names))
    add(
        "--repeats",
        type=Number(int, 1, 1000),
        default=5,
        metavar="N",
        help="measurements of each side (default: 5); of `epochs` always one",
    )
    add("--compile", action="store_true", help="torch.compile the network of `fast`")
    add("--list", action="store_true", help="say what would be measured, measure nothing")
    choice(add, "--device", ("auto", "cpu", "cuda"), "device (default: auto)", default="auto")
    add(
        "--data-dir",
        type=any_path,
        default="datasets",
        metavar="DIR",
        help="where the raw MNIST is (default: datasets)",
    )
    add("--results-dir", type=any_path, default="results", metavar="DIR", help="default: results")
    return parser


def open_folder(results_dir: Path | str) -> RunFolder:
    """Return results/benchmarks; UserError before half an hour of measuring when it cannot be written."""
    folder = Path(results_dir) / "benchmarks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    return RunFolder(folder)


def plan(names: Sequence[str], device: str, repeats: int) -> str:
    """Say in a few lines what these benchmarks measure on a device, which need not be there."""
    lines = [f"on {device}, {repeats} repeats of each side:"]
    for name, measure in {**BENCHMARKS, "epochs": epochs}.items():
        if name in names:
            module = sys.modules[measure.__module__]
            lines.append(f"{name:9} {(module.__doc__ or '').splitlines()[0]}")
            if device == "cuda" and name in ON_GPU:
                lines.append(f"{'':9} {ON_GPU[name]}")
    return "\n".join(lines)


@command
def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    shown = command_line(parser, args)
    no_gpu = args.device == "auto" and not torch.cuda.is_available()
    name = "cpu" if no_gpu else args.device
    if args.list:
        print(plan(args.only, "cuda" if name == "auto" else name, args.repeats))
        return
    device = resolve_device(name)
    results = open_folder(args.results_dir)
    machine = {"device": device_name(device), "cpu": device_name("cpu"), "threads": torch.get_num_threads()}
    head = {"repeats": args.repeats, "torch": torch.__version__, "commit": git_commit(), "command": shown}
    for name in [name for name in BENCHMARKS if name in args.only]:
        options = {"compile": args.compile} if name == "fast" else {}
        content = BENCHMARKS[name](args.data_dir, device, args.repeats, **options)
        content = {"format": FORMAT, "benchmark": name, **machine, **head, **content}
        results.write_json(f"{name}.json", content)
        print(*[f"{name}: {line(found)}" for found in content["ratios"]], sep="\n", flush=True)
        print(f"{name}: all values in {results.path(f'{name}.json')}", flush=True)
    if "epochs" in args.only:
        parent = RunFolder(results.folder.parent)
        content = read_json(parent.path("times.json"), FORMS["times"])
        experiments = read_experiments(parent.folder)
        content["times"] = epochs(args.data_dir, experiments, device, content["times"])
        parent.write_json("times.json", content)
        print(f"epochs: all values in {parent.path('times.json')}")


if __name__ == "__main__":
    main()
