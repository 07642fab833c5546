"""The share of the machine's matrix-product peak that a training step of cnn and wide reaches."""

import os
import statistics
from collections.abc import Callable

import torch

from benchmarks.measure import SameBatch, alternate, clock, ratio, recipe_arguments, row, timed_training
from data import POLICIES, BatchLoader, ImageSet, load
from models import create
from utils.training.config import FitConfig
from utils.training.fit import classification_step

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
STANDARD = "the best rate of square matrix products in {}"


def roofline(data_dir, device, repeats, models=("cnn", "wide"), sizes=None, steps=None):
    """Arithmetic rates of training steps against square matrix products, and where a step's time goes.

    A step is that of `fit` by the model's recipe, on one batch that is there already. Counted is the
    arithmetic of convolutions and linear layers, forward and backward, two operations per multiply-add.
    Peaks are measured in the training precision, and in fp32 as well.
    """
    sizes, steps = sizes or SIZES[device.type], steps or STEPS[device.type]
    train_set, _ = load("mnist", data_dir, device)
    trainings = {name: training_steps(name, train_set, device) for name in models}
    facts = {name: {"flop_per_step": count_flop(take), **found} for name, (take, found) in trainings.items()}
    precisions = sorted({"fp32"} | {found["precision"] for found in facts.values()})
    for take, _ in trainings.values():
        take(3)  # warm-up

    def peak(precision):
        return lambda repeat: {"rate": matrix_peak(device, DTYPES[precision], sizes)}

    def step(take):
        def measure_step(repeat):
            seconds = take(steps) / steps
            return {"seconds": seconds, "shares": operator_shares(take, seconds, device)}

        return measure_step

    sides = {f"peak {p}": peak(p) for p in precisions}
    sides |= {name: step(take) for name, (take, _) in trainings.items()}
    found = alternate("roofline", repeats, sides, show=step_or_peak)
    peaks = {p: [value["rate"] for value in found[f"peak {p}"]] for p in precisions}
    rows = [row(f"peak, {p}", "GFLOP/s", [v / 1e9 for v in values]) for p, values in peaks.items()]
    ratios = []
    for name in models:
        seconds, shares = ([value[key] for value in found[name]] for key in ("seconds", "shares"))
        rates = [facts[name]["flop_per_step"] / s for s in seconds]
        rows += step_rows(name, rates, seconds, shares)
        for p, values in peaks.items():
            ratios.append(ratio(f"{name}: share of the {p} peak", rates, values, STANDARD.format(p)))
        facts[name]["bound"] = bound(rates, shares, peaks[facts[name]["precision"]])
    return {
        "what": "Share of the machine's matrix-product peak that a training step reaches.",
        "rows": rows,
        "ratios": ratios,
        "models": facts,
        "matrix_sizes": list(sizes),
        "steps": steps,
    }


def step_or_peak(value: dict) -> str:
    return f"{value['rate'] / 1e9:.0f} GFLOP/s" if "rate" in value else f"{1e3 * value['seconds']:.1f} ms"


def training_steps(
    name: str, train_set: ImageSet, device: torch.device
) -> tuple[Callable[[int], float], dict]:
    """Return take(n), the seconds of n training steps of the model by its recipe, and facts about them."""
    args = recipe_arguments(name, device)
    everything = torch.arange(len(train_set.labels))
    loader = BatchLoader(train_set, everything, args.batch_size, augment=POLICIES[args.augment])
    batch = next(loader.epoch())
    torch.manual_seed(0)
    model = create(name).to(device).to(memory_format=torch.channels_last)
    step = classification_step(model, args.label_smoothing)
    train = timed_training(model, step, FitConfig.from_args(args), len(loader))
    facts = {"batch_size": len(batch[0]), "precision": args.precision}
    return lambda count: train(SameBatch(batch, count)), facts


def count_flop(take):
    """Floating-point operations of one step's matrix products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        take(1)
    return counter.get_total_flops()


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
        wall = take(PROFILED_STEPS) / PROFILED_STEPS
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
    arithmetic = [share["convolution"] + share["linear layers"] for share in shares]
    busy = statistics.median(arithmetic)
    idle = statistics.median(share[IDLE] for share in shares)
    within = statistics.median(r / p / a for r, p, a in zip(rates, peaks, arithmetic, strict=True))
    parts = {
        "convolutions and linear layers": busy,
        "operators that only pass over memory": 1 - busy - idle,
        "the time between operators (Python, launches)": idle,
    }
    most = max(parts, key=lambda part: parts[part])
    return (
        f"mostly {most}: {parts[most]:.0%} of the step's time; "
        f"while they run, convolutions and linear layers reach {within:.0%} of the peak"
    )
