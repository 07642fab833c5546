"""Measure how fast this is, each figure side by side with the standard way, in one run.

    python benchmark.py                           all three; about 20 minutes on 2 CPU cores
    python benchmark.py --only augment roofline   two minutes
    python benchmark.py --device cuda --compile

fast       seconds of training to 99.0 % accuracy: the recipe `fast` against the usual PyTorch program
augment    augmented training images per second, against torchvision's per-image transforms
roofline   the share of the machine's matrix-product peak that a training step of cnn and wide reaches

Each writes results/benchmarks/<name>.json: every measured value, medians, and the medians of the ratios of
each repeat. Ours and the standard way take turns, so that a slower hour of the machine meets both. Close
other programs first.
"""

import importlib
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.functional import nll_loss
from tqdm import tqdm

import train_cnn
from data import POLICIES, BatchLoader, load
from models import create
from utils.cli import BOOKKEEPING, Parser, command, command_line, number, resolve_device
from utils.errors import Fault
from utils.fit import Training
from utils.run import FORMAT, Run, device_name, git_commit

# The program that ours is compared with, as tutorials write it.
STANDARD_BATCH, STANDARD_EPOCHS, WORKERS = 64, 8, 2
OUR_EPOCHS = (1, 2)
AUGMENT_BATCH = 256
# Square matrix sizes for the peak, and training steps per measurement.
SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
STEPS = {"cpu": 10, "cuda": 100}
PROFILED_STEPS = 5
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

# Operator classes by parts of their names, the first that fits; what fits none is "other".
OPERATORS = {
    "convolution": ("conv",),
    "linear layers": ("::mm", "addmm", "linear"),
    "batch norm": ("batch_norm",),
    "ReLU": ("relu", "clamp_min", "threshold"),
    "pooling": ("pool", "amax", "::mean"),
    "optimizer and weight average": ("optimizer", "adam", "sgd", "lerp"),
    "copies and type casts": ("copy",),
}
IDLE = "no operator running"


def clock(device):
    """Seconds, read when everything that was queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def digits(value, count=5):
    """A number with as many significant digits as a measurement has; None stays None."""
    return None if value is None else float(f"{value:.{count}g}")


def median(values):
    """The median; None when one of the values is None, a goal that was not reached."""
    return None if None in values else statistics.median(values)


def row(name, unit, values, **facts):
    values = [digits(value) for value in values]
    return {"name": name, "unit": unit, "values": values, "median": median(values), **facts}


def ratio(name, numerators, denominators, target=None):
    """The median of the repeats' ratios, not the ratio of medians: each was measured side by side."""
    pairs = zip(numerators, denominators, strict=True)
    values = [digits(a / b) if a and b else None for a, b in pairs]
    return {"name": name, "value": median(values), "values": values, "target": target}


def recipe_arguments(model, device, *flags):
    """The arguments of `python train_cnn.py --model MODEL`, on all of the training images."""
    flags = ("--model", model, "--device", device.type, "--val-fraction", "0", "--quiet", *flags)
    return train_cnn.parse(flags)[0]


# --- fast: seconds of training to 99.0 % ----------------------------------------------------------------


def fast(data_dir, device, repeats, compile=False, target=0.99, standard_epochs=STANDARD_EPOCHS):
    """Seconds of training to `target` test accuracy, ours and the standard way, one seed per repeat.

    A speed benchmark: the test set says on both sides when to stop, and its evaluation is not timed. The
    standard way trains until it gets there. Ours has a schedule that ends after a fixed number of epochs,
    so it counts the shortest whole recipe, of one epoch or else of two, that gets there. All 60,000 images
    are trained on, on both sides.
    """
    importlib.import_module("torchvision.datasets")  # takes seconds, and is none of the loading
    torch.zeros(1, device=device)  # so does the start of CUDA
    start = clock(device)
    data = load("mnist", data_dir, device)
    loaded = clock(device)
    standard_data = [standard_dataset(data_dir, train) for train in (True, False)]
    loading = {"ours": digits(loaded - start), "standard": digits(clock(device) - loaded)}
    facts = {"loading_seconds": loading}
    if device.type == "cuda" or compile:
        facts["warm_up_seconds"] = warm_up(data, standard_data, device, compile)
    ours, standard = [], []
    for seed in range(repeats):
        ours.append(our_trainings(data, device, seed, target, compile))
        standard.append(standard_training(*standard_data, device, seed, target, standard_epochs))
        print(f"fast, repeat {seed + 1}: ours {ours[-1][-1]}, standard {standard[-1][-1]}", flush=True)
    times = [[seconds_to(target, runs) for runs in side] for side in (ours, standard)]
    accuracies = [[runs[-1]["test_accuracy"] for runs in side] for side in (ours, standard)]
    # The goals: 30 times on a CPU; half a second on a GPU, whatever the standard way takes there.
    on_cpu = device.type == "cpu"
    return {
        "what": f"Seconds of training until {target:.1%} of the test images are right, loading apart.",
        "rows": [
            row("ours", "s", times[0], target=None if on_cpu else 0.5),
            row("standard way", "s", times[1]),
            row("ours, test accuracy", "of the images", accuracies[0]),
            row("standard way, test accuracy", "of the images", accuracies[1]),
        ],
        "ratios": [ratio("standard way / ours", times[1], times[0], target=30 if on_cpu else None)],
        "target_accuracy": target,
        "compiled": compile,
        "workers": WORKERS,
        **facts,
        "ours": ours,
        "standard": standard,
    }


def seconds_to(target, runs):
    """The seconds of the last run if it reached the target, else None."""
    return runs[-1]["seconds"] if runs[-1]["test_accuracy"] >= target else None


def warm_up(data, standard_data, device, compile):
    """Seconds of a first training by the recipe, kernels loaded and network compiled in it."""
    small = torch.utils.data.Subset(standard_data[0], range(STANDARD_BATCH))
    standard_training(small, standard_data[1], device, seed=0, target=0, max_epochs=1)
    start = clock(device)
    our_trainings(data, device, seed=0, target=0, compile=compile)
    return digits(clock(device) - start)


def our_trainings(data, device, seed, target, compile):
    """The recipe `fast`, of one epoch, then of two if need be: a dict per training, the last one counts."""
    runs = []
    for epochs in OUR_EPOCHS:
        flags = ["--epochs", str(epochs)] + ["--compile"] * compile
        args = recipe_arguments("fast", device, *flags)
        with tempfile.TemporaryDirectory() as folder:
            record = train_cnn.train(args, data, {"seed": seed}, Run(folder))
        values = {"seconds": record["train_seconds"], "test_accuracy": record["test_accuracy"]}
        runs.append({"epochs": epochs, **values})
        if record["test_accuracy"] >= target:
            break
    return runs


def standard_dataset(data_dir, train, *augmentation):
    """MNIST as tutorials load it: one PIL image at a time, transformed when it is asked for."""
    from torchvision import datasets, transforms  # here, because importing it takes seconds

    normalise = transforms.Normalize((0.1307,), (0.3081,))
    transform = transforms.Compose([*augmentation, transforms.ToTensor(), normalise])
    return datasets.MNIST(data_dir, train=train, transform=transform)


def standard_training(train_set, test_set, device, seed, target, max_epochs):
    """The usual first PyTorch program: a dict per epoch, with the seconds of training so far."""
    torch.manual_seed(seed)
    options = {"num_workers": WORKERS, "pin_memory": device.type == "cuda"}
    train_loader = torch.utils.data.DataLoader(train_set, STANDARD_BATCH, shuffle=True, **options)
    test_loader = torch.utils.data.DataLoader(test_set, 1000, **options)
    model = standard_network().to(device)
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    epochs, seconds = [], 0.0
    for epoch in range(max_epochs):
        start = clock(device)
        model.train()
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            nll_loss(model(images), labels).backward()
            optimizer.step()
        schedule.step()
        seconds = digits(seconds + clock(device) - start)
        accuracy = standard_accuracy(model, test_loader, device)
        epochs.append({"epochs": epoch + 1, "seconds": seconds, "test_accuracy": accuracy})
        if accuracy >= target:
            break
    return epochs


def standard_network():
    """conv 32, conv 64, max pooling, dense 128, with dropout; gives log-probabilities."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(12 * 12 * 64, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
        nn.LogSoftmax(1),
    )


@torch.no_grad()
def standard_accuracy(model, loader, device):
    model.eval()
    right = sum(
        (model(images.to(device)).argmax(1) == labels.to(device)).sum().item() for images, labels in loader
    )
    return right / len(loader.dataset)


# --- augment: augmented images per second ---------------------------------------------------------------


def augment(data_dir, device, repeats, images=20_000):
    """Augmented, normalised images per second on the device; no training.

    Ours: a whole epoch. The standard way: `images` images, timed from the second batch on, so that the
    start of the worker processes is not counted (and the few batches that they made meanwhile are free).
    """
    train_set, _ = load("mnist", data_dir, device)
    batches = BatchLoader(
        train_set, torch.arange(len(train_set.labels)), AUGMENT_BATCH, augment=POLICIES["affine"]
    )
    standard_set = standard_dataset(data_dir, True, standard_affine(POLICIES["affine"]))
    standard_set = torch.utils.data.Subset(standard_set, range(min(images, len(standard_set))))
    our_rate(batches, device, 0)
    ours, standard = [], []
    for repeat in range(repeats):
        ours.append(our_rate(batches, device, repeat))
        standard.append(standard_rate(standard_set, device))
        print(
            f"augment, repeat {repeat + 1}: ours {ours[-1]:,.0f}/s, standard {standard[-1]:,.0f}/s",
            flush=True,
        )
    return {
        "what": "Augmented and normalised training images per second: rotation, shift, zoom and shear.",
        "rows": [row("ours", "images/s", ours), row("standard way", "images/s", standard)],
        "ratios": [ratio("ours / standard way", ours, standard, target=8 if device.type == "cpu" else None)],
        "batch_size": AUGMENT_BATCH,
        "workers": WORKERS,
        "images": {"ours": len(train_set.labels), "standard": len(standard_set)},
    }


def standard_affine(policy):
    """torchvision's per-image transform with the ranges of an affine Augment."""
    from torchvision import transforms

    return transforms.RandomAffine(
        degrees=policy.rotate,
        translate=(policy.translate, policy.translate),
        scale=(1 - policy.scale, 1 + policy.scale),
        shear=(-policy.shear, policy.shear, -policy.shear, policy.shear),
        interpolation=transforms.InterpolationMode.BILINEAR,
    )


def our_rate(batches, device, epoch):
    """Images per second over one epoch of a BatchLoader."""
    start = clock(device)
    count = sum(len(images) for images, _ in batches.epoch(epoch))
    return count / (clock(device) - start)


def standard_rate(dataset, device):
    """Images per second of a DataLoader from its second batch on, each batch moved to the device."""
    loader = torch.utils.data.DataLoader(
        dataset, AUGMENT_BATCH, shuffle=True, num_workers=WORKERS, pin_memory=device.type == "cuda"
    )
    batches = iter(loader)
    next(batches)
    start = clock(device)
    count = sum(len(images.to(device)) for images, _ in batches)
    return count / (clock(device) - start)


# --- roofline: the share of the matrix-product peak -----------------------------------------------------


def roofline(data_dir, device, repeats, models=("cnn", "wide"), sizes=None, steps=None):
    """Arithmetic rates of training steps against square matrix products, and where a step's time goes.

    A step is that of `fit` by the model's recipe: forward, backward, optimiser and, where the recipe has
    one, the weight average; on one batch that is there already. Counted is the arithmetic of convolutions
    and linear layers, forward and backward, two operations per multiply-add. Peaks are measured in the
    training precision, and in fp32 as well.
    """
    sizes, steps = sizes or SIZES[device.type], steps or STEPS[device.type]
    train_set, _ = load("mnist", data_dir, device)
    trainings = {name: training_steps(name, train_set, device) for name in models}
    facts = {name: {"flop_per_step": count_flop(take), **found} for name, (take, found) in trainings.items()}
    precisions = sorted({"fp32"} | {found["precision"] for found in facts.values()})
    for take, _ in trainings.values():
        take(3)  # warm-up
    peaks = {precision: [] for precision in precisions}
    seconds, shares = ({name: [] for name in models} for _ in range(2))
    for repeat in range(repeats):
        for precision in precisions:
            peaks[precision].append(matrix_peak(device, DTYPES[precision], sizes))
        for name, (take, _) in trainings.items():
            seconds[name].append(step_seconds(take, steps, device))
            shares[name].append(operator_shares(take, seconds[name][-1], device))
        print(
            f"roofline, repeat {repeat + 1}: a step takes", {k: v[-1] for k, v in seconds.items()}, flush=True
        )
    rows = [row(f"peak, {p}", "GFLOP/s", [v / 1e9 for v in values]) for p, values in peaks.items()]
    ratios = []
    for name, found in facts.items():
        rates = [found["flop_per_step"] / s for s in seconds[name]]
        rows += step_rows(name, rates, seconds[name], shares[name])
        ratios += [ratio(f"{name}: share of the {p} peak", rates, values) for p, values in peaks.items()]
        found["bound"] = bound(rates, shares[name], peaks[found["precision"]])
    return {
        "what": "Share of the machine's matrix-product peak that a training step reaches.",
        "rows": rows,
        "ratios": ratios,
        "models": facts,
        "matrix_sizes": list(sizes),
        "steps": steps,
    }


def training_steps(name, train_set, device):
    """take(n), which makes n training steps of the model by its recipe, and facts about them."""
    args = recipe_arguments(name, device)
    everything = torch.arange(len(train_set.labels))
    loader = BatchLoader(train_set, everything, args.batch_size, augment=POLICIES[args.augment])
    batch = next(loader.epoch())
    torch.manual_seed(0)
    model = create(name).to(device, memory_format=torch.channels_last)
    training = Training(model, args, len(loader))
    same = SimpleNamespace(epoch=lambda number: itertools.repeat(batch))
    step = train_cnn.classification_step(model, args.label_smoothing)

    def take(count):
        training.train_epoch(step, same, count, tqdm(disable=True))

    return take, {"batch_size": len(batch[0]), "precision": args.precision}


def count_flop(take):
    """Floating-point operations of one step's matrix products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        take(1)
    return counter.get_total_flops()


def step_seconds(take, steps, device):
    start = clock(device)
    take(steps)
    return (clock(device) - start) / steps


def matrix_peak(device, dtype, sizes, tries=3):
    """The best FLOP/s of a square matrix product."""
    best = 0.0
    for size in sizes:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        a @ b  # warm-up
        for _ in range(tries):
            start = clock(device)
            a @ b
            best = max(best, 2 * size**3 / (clock(device) - start))
    return best


def operator_shares(take, seconds, device):
    """{operator class: share of the step's time}, and the share in which no operator ran.

    On a GPU the operators' time is that of their kernels, and `seconds`, one step's time without the
    profiler, is the whole: the profiler slows Python but not the kernels.
    """
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would report on itself
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu) as profiled:
        wall = step_seconds(take, PROFILED_STEPS, device)
    times = dict.fromkeys([*OPERATORS, "other"], 0.0)
    for event in profiled.key_averages():
        # On a GPU the kernels are listed once more, under their own names and the device's type.
        if event.device_type == DeviceType.CPU:
            spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            times[operator_class(event.key)] += spent / 1e6 / PROFILED_STEPS
    busy = sum(times.values())
    whole = max(busy, seconds if on_gpu else wall)
    return {**{name: spent / whole for name, spent in times.items()}, IDLE: 1 - busy / whole}


def operator_class(name):
    name = name.lower()
    fitting = (kind for kind, parts in OPERATORS.items() if any(part in name for part in parts))
    return next(fitting, "other")


def step_rows(name, rates, seconds, shares):
    """A model's rows: time of a step, arithmetic rate, and the share of the time by operator class."""
    rows = [
        row(f"{name}: step", "ms", [1e3 * s for s in seconds]),
        row(f"{name}: arithmetic", "GFLOP/s", [rate / 1e9 for rate in rates]),
    ]
    for kind in shares[0]:
        rows.append(row(f"{name}: {kind}", "of the step's time", [share[kind] for share in shares]))
    return rows


def bound(rates, shares, peaks):
    """In words, what takes most of a step's time, and how well the arithmetic goes while it runs."""
    part = {kind: median([share[kind] for share in shares]) for kind in shares[0]}
    arithmetic = [share["convolution"] + share["linear layers"] for share in shares]
    within = ratio("", [r / p for r, p in zip(rates, peaks, strict=True)], arithmetic)["value"]
    parts = {
        "convolutions and linear layers": median(arithmetic),
        "operators that only pass over memory": 1 - median(arithmetic) - part[IDLE],
        "the time between operators (Python, launches)": part[IDLE],
    }
    most = max(parts, key=parts.get)
    return (
        f"mostly {most}: {parts[most]:.0%} of the step's time; "
        f"while they run, convolutions and linear layers reach {within:.0%} of the peak"
    )


# --- The command line -----------------------------------------------------------------------------------

BENCHMARKS = {"fast": fast, "augment": augment, "roofline": roofline}


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
    """The Run of results/benchmarks; Fault now, not after half an hour, when nothing can be written there."""
    folder = Path(results_dir) / "benchmarks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise Fault(f"cannot write to {folder}: {error.strerror or error}") from error
    return Run(folder)


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
    shown = command_line(parser, args, leave_out=BOOKKEEPING | {"only"})
    shown += f" --only {' '.join(args.only)}" if args.only else ""
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
