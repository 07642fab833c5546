"""Ten members trained, against torchensemble; and selection from a thousand cached members."""

import contextlib
import functools
import io
import tempfile

import numpy as np
import torch

import ensemble as script
from benchmarks import measure
from benchmarks.measure import clock, ratio, row, standard_dataset
from data import load
from models import create
from utils.metrics.selection import METRICS, average, greedy
from utils.runs.folder import open_run
from utils.runs.library import read_library

# One network and as many epochs on both sides, no augmentation: the work is the same.
FLAGS = ("--epochs", "1", "--augment", "none", "--plain-epochs", "0", "--ema", "0", "--label-smoothing", "0")


def ensemble(data_dir, device, repeats, members=10, library=(1000, 10_000)):
    """Seconds to train `members` members, ours and by torchensemble's VotingClassifier, one epoch each.

    Ours one by one and stacked; on the same 54,000 images, with validation and saved predictions counted in
    for ours only. Without torchensemble installed that side is skipped with a notice. Then seconds of greedy
    selection from library[0] made-up members of library[1] images.
    """
    model = "lenet" if device.type == "cpu" else "cnn"
    data = load("mnist", data_dir, device)
    try:
        import torchensemble
    except ImportError:
        torchensemble = None
        print("ensemble: no torchensemble to compare with; pip install -r requirements-benchmark.txt")
    sides = {"ours": [], "ours, stacked": [], "ours, one member": []}
    if torchensemble:
        sides["standard way"] = []
    accuracies = {side: [] for side in sides}
    takes = {
        "ours": functools.partial(our_training, data, data_dir, device, model, members),
        "ours, stacked": functools.partial(our_training, data, data_dir, device, model, members, "--stacked"),
        "ours, one member": functools.partial(our_training, data, data_dir, device, model, 1),
        "standard way": lambda seed: standard_training(torchensemble, data_dir, device, model, members, seed),
    }
    our_training(data, data_dir, device, model, 1, "--dry-run", 0)  # warm-up: imports, kernels
    for seed in range(repeats):
        for side in sides:
            seconds, accuracy = takes[side](seed)
            sides[side].append(seconds)
            accuracies[side].append(accuracy)
        print(f"ensemble, repeat {seed + 1}:", {k: v[-1] for k, v in sides.items()}, flush=True)
    rows = [row(side, "s", values) for side, values in sides.items()]
    rows += [row(f"{side}, test accuracy", "of the images", values) for side, values in accuracies.items()]
    on_gpu = device.type == "cuda"
    alone = [members * seconds for seconds in sides["ours, one member"]]
    ratios = [
        ratio(
            f"{members} x one member / {members} stacked",
            alone,
            sides["ours, stacked"],
            10 / 3 if on_gpu else None,
        )
    ]
    if torchensemble:
        ratios.insert(
            0, ratio("standard way / ours", sides["standard way"], sides["ours"], None if on_gpu else 3)
        )
    selection = selection_seconds(*library, repeats)
    rows += [
        row(f"ours, selection by {metric}", "s", values, target=10) for metric, values in selection.items()
    ]
    return {
        "what": f"Seconds to train {members} members of {model} for one epoch each, and to select greedily "
        f"from {library[0]:,} cached members of {library[1]:,} images.",
        "rows": rows,
        "ratios": ratios,
        "model": model,
        "members": members,
        "library": list(library),
        "workers": measure.WORKERS,
    }


def our_training(data, data_dir, device, model, members, *flags):
    """Seconds, and the test accuracy of the plain average, of a library as ensemble.py trains it."""
    *flags, seed = flags
    with tempfile.TemporaryDirectory() as folder:
        where = ("--data-dir", str(data_dir), "--results-dir", folder, "--device", device.type, "--quiet")
        args = script.parse(["--model", model, "--seed", str(seed), *FLAGS, *where, *flags])[0]
        args.members = members
        run = open_run("ensemble", args, model, "benchmark")
        start = clock(device)
        for jobs in script.training_units(args):
            script.train_unit(args, data, run, jobs)
        seconds = clock(device) - start
        library = read_library([run.folder], args.dataset)
    return seconds, float((average(library.test_p).argmax(1) == library.test_y).mean())


def standard_training(torchensemble, data_dir, device, model, members, seed):
    """The same by torchensemble, as its documentation shows it: a DataLoader, AdamW, one epoch."""
    own = script.member_args(script.parse(["--model", model, *FLAGS, "--device", device.type])[0], model)
    sets = [standard_dataset(data_dir, train) for train in (True, False)]
    labels = sets[0].targets
    train_idx, _ = script.choose_images(own, labels, {"seed": seed})
    options = {"num_workers": measure.WORKERS, "pin_memory": device.type == "cuda"}
    train_set = torch.utils.data.Subset(sets[0], train_idx.tolist())
    loader = torch.utils.data.DataLoader(train_set, own.batch_size, shuffle=True, **options)
    test_loader = torch.utils.data.DataLoader(sets[1], 1000, **options)
    torch.manual_seed(seed)
    voting = torchensemble.VotingClassifier(
        estimator=network_class(model), n_estimators=members, cuda=device.type == "cuda"
    )
    voting.set_optimizer("AdamW", lr=own.lr / 4, weight_decay=own.weight_decay)  # no warm-up: a lower rate
    with contextlib.redirect_stdout(io.StringIO()):
        start = clock(device)
        voting.fit(loader, epochs=1, log_interval=10**9, save_model=False)
        seconds = clock(device) - start
        with torch.no_grad():
            accuracy = voting.evaluate(test_loader) / 100
    return seconds, accuracy


def network_class(model):
    """A class whose instances are fresh networks: what torchensemble wants to be given."""

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = create(model)

        def forward(self, images):
            return self.network(images)

    return Network


def selection_seconds(members, images, repeats):
    """{metric: seconds of a selection} from members of unequal quality, which agree about hard images."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, images)
    shared = 2 * rng.standard_normal((images, 10), dtype=np.float32)
    shared[np.arange(images), y] += 8
    p = np.empty((members, images, 10), np.float32)
    for k, member in enumerate(p):
        logits = shared + (1 + 2 * k / members) * rng.standard_normal(shared.shape, dtype=np.float32)
        np.exp(logits - logits.max(1, keepdims=True), out=member)
        member /= member.sum(1, keepdims=True)
    seconds = {metric: [] for metric in METRICS}
    for _ in range(repeats):
        for metric in METRICS:
            start = clock(torch.device("cpu"))
            greedy(p, y, metric)
            seconds[metric].append(clock(torch.device("cpu")) - start)
    return seconds
