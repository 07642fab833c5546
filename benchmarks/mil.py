"""Bags trained per second, against the manner of the reference code for attention-based MIL."""

import torch
from tqdm import tqdm

import train_mil
from benchmarks.measure import clock, ratio, row
from data import load
from data.bags import BagLoader
from data.batches import prepare
from models.mil import create_mil
from utils.training.config import FitConfig
from utils.training.fit import Training

ENCODER, METHOD = "lenet-mil", "attention"
# Bags a step. A GPU is hardly busy with sixteen.
BATCH = {"cpu": 16, "cuda": 64}
TARGET = {"cpu": 5, "cuda": 50}


def mil(data_dir, device, repeats, bags=200, passes=5):
    """Bags per second over `passes` passes; the same network and the same bags, no augmentation.

    Ours: the training of train_mil.py, several bags a step on the instances packed, metrics read once a
    pass. The standard way: a DataLoader, one bag a step, Adam, one forward pass for the loss and one for
    the error, both read after every step, in float32. Each side trains for one pass before it is timed.
    """
    flags = ("--model", ENCODER, "--method", METHOD, "--train-bags", str(bags), "--augment", "none")
    flags += ("--batch-size", str(BATCH[device.type]), "--bags-per-epoch", "0", "--quiet")
    args, _, _ = train_mil.parse([*flags, "--epochs", str(passes + 1), "--device", device.type])
    data = load("mnist", data_dir, device)
    chosen, _, _ = train_mil.make_bags(args, data, {"seed": 0})
    ours, standard = [], []
    for repeat in range(repeats):
        ours.append(our_rate(data[0], chosen, args, passes))
        standard.append(standard_rate(data[0], chosen, device, passes))
        print(f"mil, repeat {repeat + 1}: ours {ours[-1]:,.0f}/s, standard {standard[-1]:,.0f}/s", flush=True)
    return {
        "what": "Bags of ten digits trained per second, attention pooling on the reference LeNet.",
        "rows": [row("ours", "bags/s", ours), row("standard way", "bags/s", standard)],
        "ratios": [ratio("ours / standard way", ours, standard, target=TARGET[device.type])],
        "bags": bags,
        "passes": passes,
        "batch_size": args.batch_size,
        "precision": args.precision,
    }


def our_rate(images, bags, args, passes):
    device = images.images.device
    torch.manual_seed(0)
    model = create_mil(ENCODER, METHOD).to(device, memory_format=torch.channels_last)
    batches = BagLoader(images, bags, args.batch_size)
    training = Training(model, FitConfig.from_args(args), len(batches))
    step = train_mil.mil_step(model, METHOD)
    for training.epoch in range(1, passes + 2):
        if training.epoch == 2:
            start = clock(device)
        training.train_epoch(step, batches, len(batches), tqdm(disable=True))
    return passes * len(bags) / (clock(device) - start)


def standard_rate(images, bags, device, passes):
    torch.manual_seed(0)
    model = create_mil(ENCODER, METHOD).to(device)
    parts = zip(bags.indices.split(bags.lengths.tolist()), bags.labels.float(), strict=True)
    dataset = [(prepare(images, part.to(device)).cpu(), label) for part, label in parts]
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=1, shuffle=True, pin_memory=device.type == "cuda"
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, weight_decay=1e-4)
    for count in range(passes + 1):
        if count == 1:
            start = clock(device)
        total_loss = total_error = 0.0
        for bag, label in loader:
            bag, label = bag.to(device), label.to(device)
            mask = torch.ones(bag.shape[:2], dtype=torch.bool)
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(bag, mask).logits, label)
            total_loss += loss.item()
            total_error += ((model(bag, mask).logits > 0) != (label > 0)).float().mean().item()
            loss.backward()
            optimizer.step()
    return passes * len(bags) / (clock(device) - start)
