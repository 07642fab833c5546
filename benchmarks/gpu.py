"""What a GPU has to show: speed and memory of every training, the same seed twice, a killed run."""

import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

import ensemble
import train_mil
import train_moco
import train_simclr
import train_triplet
from benchmarks.cnn import FASTEST, our_training, timed_trainings
from benchmarks.measure import compare, row, training_rate
from data import load
from models import Fusion, create
from utils.console import aligned
from utils.runs.folder import RunFolder
from utils.training.cnn import classifier_batches
from utils.training.fit import FitConfig, classification_step

GOAL, STANDARD = 0.5, "half a second; compilation is not timed, the first training of a form includes it"
# {form of a training: options of torch.compile, None without}; "reduce-overhead" captures CUDA graphs.
FORMS: dict[str, dict | None] = {"eager": None, "compiled": {}, "CUDA graphs": {"mode": "reduce-overhead"}}
TRAININGS: dict[str, tuple] = {  # script, what it trains on, flags
    "SimCLR": (train_simclr, "images/s"),
    "MoCo": (train_moco, "images/s"),
    "MIL": (train_mil, "bags/s"),
    "triplet": (train_triplet, "images/s", "--recipe", "few", "--images-per-class", "30"),
    "ensemble of ten": (ensemble, "images/s", "--mode", "fusion"),
}
ROOT = Path(__file__).parents[1]


def gpu(data_dir, device, repeats, steps=None):
    """A GPU: seconds to 99 %, speed and memory of each training in bf16, the same seed, a killed run.

    A training should wait for the GPU once an epoch. On a CPU, where both differences are 0, this is a try: a
    step in place of a training to 99 %, and two steps of the others, not 100.
    """
    on_gpu, data, rows, programs = device.type == "cuda", load("mnist", data_dir, device), [], {}
    for form, options in FORMS.items():
        programs[form] = our_training(data, device, options, [] if on_gpu else ["--dry-run"])
        rows.append(row(f"{form}, first training", "s", [programs[form](0)["train_seconds"]]))
    sides = {"goal": ("s", lambda seed: GOAL)} | timed_trainings(programs)[0]
    ratios = [(f"goal / {form}", "goal", form, STANDARD, 1 if on_gpu else None) for form in FORMS]
    content = compare(f"{FASTEST} to 99 %", repeats, sides, ratios)
    for name in TRAININGS:
        rows += training_rows(name, data, device, repeats, steps or (100 if on_gpu else 2))
    rows = [*content["rows"], *rows, *repeated(device)]
    print(*aligned([[each["name"], str(each["median"]), each["unit"]] for each in rows]), sep="\n")
    return content | {"rows": rows, "precision": "bf16"}


def build(script, args, data) -> tuple:
    """Return model, step and batches of a script's training."""
    images, everything = data[0], torch.arange(len(data[0].labels))
    if script is train_mil:
        train_mil.find_classes(args, images.classes)
        return train_mil.build_training(args, data, train_mil.make_bags(args, data)["train"])
    if script is train_triplet:
        return train_triplet.build_training(args, images, train_triplet.choose_images(args, images.labels)[0])
    if script is not ensemble:
        return *script.build(args), train_simclr.make_views(args, images, everything, seed=0)
    config = ensemble.member_config(args, args.models[0], images.labels)
    vars(args).update(vars(config.fit))
    model = Fusion([create(config.model, len(images.classes)) for _ in range(args.members)])
    return model, classification_step(model), classifier_batches(config, images, everything, seed=0)


def training_rows(name: str, data, device: torch.device, repeats: int, steps: int) -> list[dict]:
    """Return the rate of a training and, on a GPU, memory, waits for the GPU, and how busy that is."""
    script, unit, *flags = TRAININGS[name]
    args = script.parse([*flags, "--device", device.type, "--precision", "bf16", "--quiet"])[0]
    model, step, batches = build(script, args, data)
    steps, config = min(steps, len(batches)), FitConfig.from_values(vars(args))
    count = sum(len(batch[0]) for batch, _ in zip(batches.epoch(), range(steps), strict=False))
    rate = training_rate(model, step, config, batches, count, device, steps)
    rows = [row(f"{name}, training", unit, [rate(repeat) for repeat in range(repeats)])]
    if device.type == "cpu":
        return rows
    torch.cuda.reset_peak_memory_stats()
    with warnings.catch_warnings(record=True) as caught, profile(activities=[ProfilerActivity.CUDA]) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        rate(0)
        torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchronizing" in str(warning.message) for warning in caught)
    kernels = [e for e in seen.key_averages() if e.device_type.name == "CUDA" and not e.is_user_annotation]
    busy = sum(kernel.self_device_time_total for kernel in kernels) / 1e6 * rows[0]["median"] / count
    rows.append(row(f"{name}, peak memory", "MB", [torch.cuda.max_memory_allocated() / 1e6]))
    rows.append(row(f"{name}, waits for the GPU", "in an epoch", [waits]))
    return [*rows, row(f"{name}, GPU busy", "of the time", [busy])]


def repeated(device: torch.device) -> list[dict]:
    """Return how far metrics are from those of the same training, in one go, and killed and resumed."""
    words = [sys.executable, "train_cnn.py", "--dataset", "mnist-5k", "--model", FASTEST, "--epochs", "30"]
    with tempfile.TemporaryDirectory() as folder:
        words += ["--device", device.type, "--quiet", "--results-dir", folder, "--name"]
        process, means = subprocess.Popen([*words, "killed"], cwd=ROOT), []
        while process.poll() is None and not Path(folder, "cnn/killed/last.pt").exists():
            time.sleep(0.01)
        process.kill()
        assert process.wait() < 0, "it ended before it was killed"
        for name, *more in (["whole"], ["again"], ["killed", "--resume"]):
            subprocess.run([*words, name, *more], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            means.append(RunFolder(Path(folder, "cnn", name)).read_json("metrics.json")["mean"])
    gaps = [max(abs(mean[key] - means[0][key]) for key in mean if "seconds" not in key) for mean in means[1:]]
    names = [f"{label}, largest difference" for label in ("same seed twice", "killed and resumed")]
    return [row(name, "of a metric", [gap]) for name, gap in zip(names, gaps, strict=True)]
