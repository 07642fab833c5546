"""SHA-256 hashes of what every script computes on tiny data. A change that means to keep results keeps them.

    python tests/fingerprint.py            compares with tests/fingerprint.json, names what differs
    python tests/fingerprint.py --write    writes the table; say in the commit which entries change and why

One thread and instruction sets that most processors share, so that sums come out the same. Seconds, devices
and paths are left out.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
}
if __name__ == "__main__" and os.environ.get("FINGERPRINT") != "ready":
    os.environ.update(ENVIRONMENT, FINGERPRINT="ready")
    os.execv(sys.executable, [sys.executable, *sys.argv])

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "fingerprint.json"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

LENET = "--model lenet --epochs 2 --batch-size 32"
PRETRAIN = "--model fast --epochs 2 --batch-size 45"
TRIPLET = "--model fast --episodes 20 --copies 1 --steps 2 --epochs 2 --batch-images 3"
SWEPT = "--mean-length 4 --std-length 1 --val-bags 8 --test-bags 12 --epochs 2 --batch-size 4 "
SWEPT += "--bags-per-epoch 0"
BAGS = f"{SWEPT} --train-bags 12"
ENCODER = "{results}/simclr/simclr/encoder.pt"
# What is run, in this order: a run may use what an earlier one saved.
MODES = {
    "cnn": f"train_cnn {LENET}",
    "cnn-folds": "train_cnn --model linear --epochs 2 --folds 2 --schedule plateau --patience 1",
    "cnn-runs": f"train_cnn {LENET} --runs 2 --optimizer sgd --schedule step --augment strong",
    "cnn-all": "train_cnn --model fast --epochs 1 --val-fraction 0 --shifts 1 --ema 0.9 --clip-norm 1",
    "ensemble": "ensemble --members 3 --model linear,lenet --epochs 1 --combine greedy_loss",
    "ensemble-bagging": "ensemble --members 2 --model linear --epochs 1 --mode bagging",
    "ensemble-snapshot": "ensemble --members 2 --model linear --mode snapshot",
    "ensemble-fusion": "ensemble --members 2 --model linear --epochs 1 --mode fusion",
    "ensemble-boosting": "ensemble --members 2 --model linear --epochs 1 --mode boosting",
    "ensemble-soft": "ensemble --members 2 --model linear --epochs 1 --mode soft-boosting",
    "ensemble-apart": "ensemble --model lenet --epochs 1 --mode adversarial",
    "ensemble-from": "ensemble --from ensemble/ensemble --members 2 --runs 2",
    "simclr": f"train_simclr {PRETRAIN} --views affine,elastic,blur",
    "supcon": f"train_simclr {PRETRAIN} --method supcon --views affine,stroke,erase,crop",
    "moco": f"train_moco {PRETRAIN} --queue 100 --views affine,elastic,blur",
    "few-labels": f"train_few_labels --dry-run --labels 40 --draws 1 --encoders own={ENCODER}",
    "triplet": f"train_triplet {TRIPLET} --classes 0,1,2 --images-per-class 10",
    "triplet-pairs": f"train_triplet {TRIPLET} --loss contrastive",
    "triplet-hard": f"train_triplet {TRIPLET} --loss triplet --mining batch-hard --head mlp",
    "triplet-semi-hard": f"train_triplet {TRIPLET} --loss triplet --compare {ENCODER} --floors",
    "triplet-original": f"train_triplet {TRIPLET} --recipe original --classes 0,1,2",
    "triplet-sweep": f"train_triplet {TRIPLET} --sweep --images-per-class 10 --steps 1 --epochs 1",
    "mil": f"train_mil {BAGS} --runs 2",
    "mil-natural": f"train_mil {BAGS} --builder natural --model linear --val-bags 0 --bags-per-epoch 30",
    "mil-frozen": f"train_mil {BAGS} --method instance-max --encoder {ENCODER} --freeze",
    "mil-tuned": f"train_mil {BAGS} --method loss-attention --encoder {ENCODER}",
    "mil-sweep": f"train_mil {SWEPT} --builder shortcut --model linear --sweep 10 --epochs 1",
    "robustness": "robustness --images 20 --models lenet={results}/cnn/cnn simclr={results}/simclr/simclr",
    "insights": "insights --label-errors --flip 0.05 --networks linear --folds 2 --epochs 2",
}
NOT_COMPARED = ("seconds", "device", "command", "versions", "commit")


def digest(parts):
    """SHA-256 of bytes and texts, shortened."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part if isinstance(part, bytes) else part.encode())
    return whole.hexdigest()[:16]


def comparable(content):
    """JSON without what depends on machine and moment."""
    if isinstance(content, dict):
        kept = {k: v for k, v in content.items() if not any(word in k for word in NOT_COMPARED)}
        return {key: comparable(kept[key]) for key in sorted(kept)}
    return [comparable(value) for value in content] if isinstance(content, list) else content


def arrays_digest(paths):
    """Hash of the weights in .pt files or of the arrays in .npz files."""
    import numpy as np
    import torch

    parts = []
    for path in paths:
        arrays = torch.load(path, weights_only=True)["weights"] if path.suffix == ".pt" else np.load(path)
        for key in arrays if path.suffix == ".pt" else sorted(arrays):
            value = arrays[key]
            parts += [key, str(value.dtype), str(tuple(value.shape)), np.asarray(value).tobytes()]
    return digest(parts)


def json_digest(paths):
    lines = [line for path in paths for line in path.read_text().splitlines()]
    whole = ["\n".join(lines)] if paths and paths[0].suffix == ".json" and len(paths) == 1 else lines
    return digest(json.dumps(comparable(json.loads(text))) for text in whole)


def run_digests(folder):
    """Hashes of the files of a run and of the trainings inside it."""
    found = {}
    for name, patterns, hashed in (
        ("weights", ("best.pt", "encoder.pt"), arrays_digest),
        ("predictions", ("predictions.npz",), arrays_digest),
        ("history", ("history.jsonl",), json_digest),
        ("metrics", ("metrics.json",), json_digest),
        ("sweep", ("sweep.json",), json_digest),
    ):
        paths = sorted(path for pattern in patterns for path in folder.rglob(pattern))
        if name in ("history", "metrics"):
            paths = [path for path in paths if path.parent == folder]
        if paths:
            found[name] = hashed(paths)
    return found


def page_digests():
    """Hashes of every page as report.py renders it from the committed results."""
    from report.pages import render
    from report.results import read_results

    os.chdir(ROOT)
    outputs = render(read_results(Path("results")), Path("README.md"))
    return {str(path): digest([text]) for path, text in outputs.items() if isinstance(text, bytes)}


def compute(folder, only=()):
    """Run all modes with their results in `folder`; return {mode: {file: hash}}."""
    import importlib

    import torch
    from helpers import tiny_idx
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    import data.images
    import train_triplet
    from evaluation import few_labels
    from evaluation.contrastive import clustering

    torch.set_num_threads(1)
    FigureCanvasAgg.draw = lambda self: self.get_renderer()  # an empty figure: pixels are not compared
    data.images.CHECKSUMS.clear()
    for name in ("FINETUNE", "DISTIL"):
        setattr(few_labels, name, {**getattr(few_labels, name), "epochs": 1})
    few_labels.FINETUNE_IMAGES, clustering.HEAD_STEPS = 64, 20
    train_triplet.SWEEP_DIGITS, train_triplet.SWEEP_IMAGES = (2, 3), (12,)
    images, results = tiny_idx(folder / "data"), folder / "results"
    shared = f"--data-dir {images} --results-dir {results} --device cpu --quiet"
    table = {}
    for mode, command in MODES.items():
        if only and mode not in only:
            continue
        script, *words = command.format(results=results).split()
        name = [] if "--dry-run" in words else ["--name", mode]
        name += [] if script == "robustness" else ["--precision", "fp32"]
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(script).main([*words, *shared.split(), *name])
        group = script.removeprefix("train_")
        table[mode] = run_digests(results / group / ("dry-run" if "--dry-run" in words else mode))
    return table if only else {**table, "pages": page_digests()}


def machine():
    """What the sums may depend on besides the code."""
    import numpy
    import torch

    from utils.runs.folder import device_name

    return f"{device_name('cpu')}, torch {torch.__version__}, numpy {numpy.__version__}"


def differences(expected, found):
    """A line for every entry that is not in both tables with one hash."""
    return [
        f"{mode}: {name}"
        for mode in sorted(expected.keys() | found.keys())
        for name in sorted(expected.get(mode, {}).keys() | found.get(mode, {}).keys())
        if expected.get(mode, {}).get(name) != found.get(mode, {}).get(name)
    ]


def main():
    whole = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=whole)
    parser.add_argument("--write", action="store_true", help="write the table")
    parser.add_argument("--only", nargs="+", default=[], metavar="MODE", help="compare these modes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        table = compute(Path(temporary).resolve(), args.only)
    content = {"machine": machine(), "table": table}
    if args.write:
        TABLE.write_text(json.dumps(content, indent=1) + "\n")
        return 0
    known = json.loads(TABLE.read_text())
    expected = {mode: known["table"].get(mode, {}) for mode in args.only} if args.only else known["table"]
    lines = differences(expected, table)
    if lines and known["machine"] != content["machine"]:
        lines.append(f"the table is from another machine: {known['machine']}")
    print("\n".join(lines) or "the same")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
