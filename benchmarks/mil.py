"""Bags trained per second, against the reference code for attention-based MIL."""

from itertools import chain

import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

import train_mil
from benchmarks.measure import descend, rate_of, training_rate, versus
from data import load
from data.batches import prepare
from models.mil import create_mil
from utils.training.fit import FitConfig

ENCODER, METHOD = "lenet-mil", "attention"
# Bags per step: sixteen hardly occupy a GPU.
BATCH = {"cpu": 16, "cuda": 64}
TARGET = {"cpu": 5, "cuda": 50}
STANDARD = (
    "the same network in float32 with a DataLoader, one bag a step, Adam, a second forward pass for the "
    "error, loss and error read after every step"
)


def mil(data_dir, device, repeats, bags=200, passes=5):
    """Bags trained per second, against the reference code for attention-based MIL: one bag a step.

    The same network and the same bags, `passes` times, without augmentation. Ours takes 16 bags a step, on a
    GPU 64. The goal: 5 times as many bags a second, on a GPU 50 times.
    """
    flags = ["--model", ENCODER, "--method", METHOD, "--train-bags", str(bags), "--augment", "none"]
    flags += ["--bags-per-epoch", str(passes * bags), "--batch-size", str(BATCH[device.type])]
    flags += ["--quiet", "--device", device.type]
    args = train_mil.parse(flags)[0]
    data = load("mnist", data_dir, device)
    train_mil.find_classes(args, data[0].classes)
    chosen = train_mil.make_bags(args, data)["train"]
    model, step, batches = train_mil.build_training(args, data, chosen)
    parts = zip(chosen.indices.split(chosen.lengths.tolist()), chosen.labels.float(), strict=True)
    dataset = [(prepare(data[0], part.to(device)).cpu(), label) for part, label in parts]
    loader: DataLoader = DataLoader(dataset, shuffle=True, pin_memory=device.type == "cuda")  # type: ignore
    their_step = standard_step(device)
    config = FitConfig.from_values(vars(args))
    ours = training_rate(model, step, config, batches, passes * bags, device)
    sides = ours, lambda repeat: rate_of(chain(*[loader] * passes), device, their_step)
    content = versus("mil", repeats, "bags/s", *sides, STANDARD, TARGET[device.type])
    facts = {"bags": bags, "passes": passes, "batch_size": args.batch_size, "precision": args.precision}
    return content | facts


def standard_step(device: torch.device):
    """Return the reference code's step on one bag."""
    model = create_mil(ENCODER, METHOD).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, weight_decay=1e-4)
    total = {"loss": 0.0, "error": 0.0}

    def step(bag, label):
        mask = torch.ones(bag.shape[:2], dtype=torch.bool)
        loss = binary_cross_entropy_with_logits(model(bag[0], mask).logits, label)
        total["loss"] += loss.item()
        total["error"] += ((model(bag[0], mask).logits > 0) != (label > 0)).float().mean().item()
        descend(optimizer, loss)

    return step
