"""Bags trained per second, against the manner of the reference code for attention-based MIL."""

from argparse import Namespace

import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

import train_mil
from benchmarks.measure import alternate, clock, ratio, row, timed_training
from data import ImageSet, load
from data.batches import prepare
from data.mil import BagLoader, Bags
from models.mil import create_mil
from utils.training.config import FitConfig

ENCODER, METHOD = "lenet-mil", "attention"
# Bags a step. A GPU is hardly busy with sixteen.
BATCH = {"cpu": 16, "cuda": 64}
TARGET = {"cpu": 5, "cuda": 50}
STANDARD = (
    "the same network in float32 with a DataLoader, one bag a step, Adam, a second forward pass for the "
    "error, loss and error read after every step"
)


def mil(data_dir, device, repeats, bags=200, passes=5):
    """Bags per second over `passes` passes; the same network and the same bags, no augmentation.

    Ours: the training of train_mil.py, several bags a step on the instances packed, metrics read once a
    pass. Each side trains for one pass before it is timed.
    """
    flags = ["--model", ENCODER, "--method", METHOD, "--train-bags", str(bags), "--augment", "none"]
    flags += ["--batch-size", str(BATCH[device.type]), "--bags-per-epoch", "0", "--quiet"]
    args, _ = train_mil.parse([*flags, "--epochs", str(passes + 1), "--device", device.type])
    data = load("mnist", data_dir, device)
    chosen, _, _ = train_mil.make_bags(args, data, {"seed": 0})
    found = alternate(
        "mil",
        repeats,
        {
            "ours": lambda repeat: our_rate(data[0], chosen, args, passes),
            "standard way": lambda repeat: standard_rate(data[0], chosen, device, passes),
        },
        show="{:,.0f} bags/s".format,
    )
    return {
        "what": "Bags of ten digits trained per second, attention pooling on the reference LeNet.",
        "rows": [row(side, "bags/s", values) for side, values in found.items()],
        "ratios": [
            ratio("ours / standard way", found["ours"], found["standard way"], STANDARD, TARGET[device.type])
        ],
        "bags": bags,
        "passes": passes,
        "batch_size": args.batch_size,
        "precision": args.precision,
    }


def our_rate(images: ImageSet, bags: Bags, args: Namespace, passes: int) -> float:
    torch.manual_seed(0)
    model = create_mil(ENCODER, METHOD).to(args.device).to(memory_format=torch.channels_last)
    batches, config = BagLoader(images, bags, args.batch_size), FitConfig.from_args(args)
    train = timed_training(model, train_mil.mil_step(model, METHOD), config, len(batches))
    train(batches)  # warm-up
    return passes * len(bags) / sum(train(batches, epoch) for epoch in range(2, passes + 2))


def standard_rate(images: ImageSet, bags: Bags, device: torch.device, passes: int) -> float:
    torch.manual_seed(0)
    model = create_mil(ENCODER, METHOD).to(device)
    parts = zip(bags.indices.split(bags.lengths.tolist()), bags.labels.float(), strict=True)
    dataset = [(prepare(images, part.to(device)).cpu(), label) for part, label in parts]
    loader: DataLoader = DataLoader(
        dataset,  # type: ignore[arg-type]  # any sequence will do
        batch_size=1,
        shuffle=True,
        pin_memory=device.type == "cuda",
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, weight_decay=1e-4)
    start = 0.0
    for count in range(passes + 1):
        if count == 1:  # the first pass is a warm-up
            start = clock(device)
        total_loss = total_error = 0.0
        for bag, label in loader:
            bag, label = bag.to(device), label.to(device)
            mask = torch.ones(bag.shape[:2], dtype=torch.bool)
            optimizer.zero_grad()
            loss = binary_cross_entropy_with_logits(model(bag, mask).logits, label)
            total_loss += loss.item()
            total_error += ((model(bag, mask).logits > 0) != (label > 0)).float().mean().item()
            loss.backward()
            optimizer.step()
    return passes * len(bags) / (clock(device) - start)
