"""Measure the speed of this code side by side with the standard way.

    python benchmark.py                           all of them; about half an hour on 2 CPU cores
    python benchmark.py --only augment mil        two minutes
    python benchmark.py --device cuda
    python benchmark.py --only gpu                not one of them: what a GPU has to show, in six minutes

Ours and the standard way alternate, so that a slow phase of the machine affects both. Close other programs
first. results/benchmarks/<name>.json gets every measured value, medians, and ratios of medians with the range
of the ratios of each repeat.
"""

import inspect
import tempfile
from pathlib import Path

import torch

from benchmarks.cnn import augment, fast
from benchmarks.contrastive import simclr
from benchmarks.gpu import gpu
from benchmarks.mil import mil
from report.benchmarks import ratio_texts
from utils.arguments import Number, any_path
from utils.cli import Parser, command, command_line, resolve_device
from utils.runs.folder import FORMAT, RunFolder, device_name, git_commit

BENCHMARKS = {f.__name__: f for f in (fast, augment, simclr, mil, gpu)}


def make_parser() -> Parser:
    parser = Parser(prog="benchmark.py", description=__doc__)
    add = parser.add_argument
    usual = [*BENCHMARKS][:-1]
    add("--only", choices=BENCHMARKS, default=usual, nargs="+", help="what to run (default: all but gpu)")
    add("--repeats", type=Number(int, 1, 1000), default=5, help="number of measurements of each side")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    add("--data-dir", type=any_path, default="datasets", metavar="DIR", help="folder that holds MNIST")
    add("--results-dir", type=any_path, default="results", metavar="DIR", help="folder for the results")
    return parser


@command
def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    head = {"repeats": args.repeats, "torch": torch.__version__, "commit": git_commit()}
    head["command"] = command_line(parser, args)
    device = resolve_device(args.device if args.device != "auto" or torch.cuda.is_available() else "cpu")
    results = RunFolder(Path(args.results_dir) / "benchmarks")
    results.folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=results.folder).close()  # an error now, not after half an hour
    machine = {"device": device_name(device), "cpu": device_name("cpu"), "threads": torch.get_num_threads()}
    for name in dict.fromkeys(args.only):
        content = BENCHMARKS[name](args.data_dir, device, args.repeats)
        what = (inspect.getdoc(BENCHMARKS[name]) or "").partition("\n")[0]
        content = {"format": FORMAT, "benchmark": name, **machine, **head, "what": what, **content}
        results.write_json(f"{name}.json", content)
        for ratio in content["ratios"]:
            print(f"{name}: {ratio['name']}: {', '.join(filter(None, ratio_texts(ratio)))}")
        print(f"{name}: all values in {results.path(f'{name}.json')}", flush=True)


if __name__ == "__main__":
    main()
