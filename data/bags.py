"""Bags of digits for multiple instance learning: a set of images, one label, "does it hold the target?"

    python -m data.bags                                  what the default flags of train_mil.py describe
    python -m data.bags --mean-length 50 --builder natural --output bags.png

A bag's label is known, its instances' labels are not trained on; here they are kept for the evaluation.
"""

import argparse
import math
import sys
from typing import NamedTuple

import torch

from data.batches import generator, prepare
from data.images import DATASETS, DataError, load

BUILDERS = ("balanced", "natural")


class Bags(NamedTuple):
    """Bags as runs of image numbers, and which of the images show the target digit.

    indices: (n,) int64, positions in an ImageSet, bag after bag. lengths: (B,) int64, at least 1, their sum
    is n. keys: (n,) bool, true for a key instance, one of the target's class. All on the CPU.
    """

    indices: torch.Tensor
    lengths: torch.Tensor
    keys: torch.Tensor

    def __len__(self):
        return len(self.lengths)

    @property
    def owners(self):
        """(n,) int64: the bag of each instance."""
        return torch.repeat_interleave(torch.arange(len(self)), self.lengths)

    @property
    def labels(self):
        """(B,) bool: whether any instance is of the target's class."""
        return torch.zeros(len(self), dtype=torch.int64).index_add_(0, self.owners, self.keys.long()) > 0

    @property
    def mask(self):
        """(B, N) bool, N the longest bag: the places that hold an instance when bags are padded."""
        return torch.arange(int(self.lengths.max())) < self.lengths.unsqueeze(1)

    def select(self, chosen):
        """The bags of the given numbers (K,) int64, in that order."""
        lengths = self.lengths[chosen]
        starts = (self.lengths.cumsum(0) - self.lengths)[chosen]
        first = lengths.cumsum(0) - lengths  # where each bag starts in the new order
        places = torch.arange(int(lengths.sum())) + torch.repeat_interleave(starts - first, lengths)
        return Bags(self.indices[places], lengths, self.keys[places])


def build(labels, pool, count, *, target=9, mean_length=10, std_length=2.0, builder="balanced", seed=0):
    """`count` Bags of images out of `pool`, the same for the same seed (whole number or tuple of them).

    labels: (N,) int64, the digits of all images. pool: int64 positions that may be drawn, with
    replacement. Lengths: normal with the given mean and standard deviation, rounded, at least 1.

    "natural" draws every instance independently, as the simple loader of Ilse et al.'s code does: long bags
    are nearly always positive. "balanced": every other bag is positive, whatever its length. The positive
    ones are natural bags given that the target is in there, the negative ones given that it is not.

    Raises ValueError for arguments out of range, or when the pool lacks what a balanced bag needs.
    """
    if not 0 <= target <= 9:
        raise ValueError(f"the target must be a digit from 0 to 9, not {target}")
    if count < 1:
        raise ValueError(f"there must be at least 1 bag, not {count}")
    if not mean_length >= 1:
        raise ValueError(f"the mean length of a bag must be at least 1, not {mean_length}")
    if not std_length >= 0:
        raise ValueError(f"the standard deviation of the length must be at least 0, not {std_length}")
    if builder not in BUILDERS:
        raise ValueError(f"unknown builder {builder!r}: choose from {', '.join(BUILDERS)}")
    gen = generator(*(seed if isinstance(seed, tuple) else (seed,)))
    pool, is_target = pool.cpu(), labels.cpu() == target
    lengths = (mean_length + std_length * torch.randn(count, generator=gen)).round().clamp(min=1).long()

    def draw(members, number):
        return members[torch.randint(len(members), (number,), generator=gen)]

    indices = draw(pool, int(lengths.sum()))
    bags = Bags(indices, lengths, is_target[indices])
    if builder == "natural":
        return bags
    others = pool[~is_target[pool]]
    if len(others) == 0 or (count > 1 and len(others) == len(pool)):
        raise ValueError(f"balanced bags need images of the digit {target} and of others to draw from")
    positive = torch.arange(count) % 2 == 1
    negative = ~positive[bags.owners]
    indices[negative] = draw(others, int(negative.sum()))
    while (lacking := positive & ~Bags(indices, lengths, is_target[indices]).labels).any():
        again = lacking[bags.owners]  # whole bags are drawn again: that keeps the distribution
        indices[again] = draw(pool, int(again.sum()))
    return Bags(indices, lengths, is_target[indices])


class BagLoader:
    """Shuffled, augmented, normalised batches of bags, like BatchLoader's of images.

    `epoch(e)` yields (mask (B, N) bool on the CPU, images (n, 1, 28, 28) float32, labels (B,) float32, 0 or
    1): the instances packed, bag after bag, without the padding whose places are false in the mask. The
    order and the augmentation depend on (seed, e) alone, on every device.

    bags_per_epoch: how many bags an epoch goes through: several times over the bags when there are fewer,
    a random choice of them when there are more. None: each bag once.
    """

    def __init__(self, images, bags, batch_size, *, seed=0, augment=None, bags_per_epoch=None):
        if batch_size < 1:
            raise ValueError(f"the batch size must be at least 1, not {batch_size}")
        self.set, self.bags, self.seed, self.augment = images, bags, seed, augment
        self.count = bags_per_epoch or len(bags)
        self.batch_size = min(batch_size, self.count)
        self.labels = bags.labels.float().to(images.images.device)

    def __len__(self):
        return math.ceil(self.count / self.batch_size)

    def epoch(self, number=0):
        """Yield the batches of epoch `number` (from 0)."""
        gen = generator(self.seed, number)
        device, size = self.set.images.device, self.set.images.shape[-1]
        rounds = math.ceil(self.count / len(self.bags))
        order = torch.cat([torch.randperm(len(self.bags), generator=gen) for _ in range(rounds)])
        for chosen in order[: self.count].split(self.batch_size):
            batch = self.bags.select(chosen)
            params = self.augment.draw(len(batch.indices), gen, size) if self.augment else None
            images = prepare(self.set, batch.indices.to(device), self.augment, params)
            yield batch.mask, images, self.labels[chosen.to(device)]


def statistics(bags):
    """What a set of bags looks like, {name: number}."""
    lengths, positive = bags.lengths.float(), bags.labels
    targets = torch.zeros(len(bags)).index_add_(0, bags.owners, bags.keys.float())
    return {
        "bags": len(bags),
        "instances": int(bags.lengths.sum()),
        "different images": len(bags.indices.unique()),
        "length, mean": float(lengths.mean()),
        "length, std": float(lengths.std(correction=0)),
        "length, least": int(lengths.min()),
        "length, greatest": int(lengths.max()),
        "positive bags": float(positive.float().mean()),
        "targets in a positive bag, mean": float(targets[positive].mean()) if positive.any() else 0.0,
    }


def make_parser():
    parser = argparse.ArgumentParser(
        prog="python -m data.bags", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", choices=DATASETS, default="mnist", help="default: mnist")
    add("--data-dir", default="datasets", metavar="DIR", help="default: datasets")
    add("--target", type=int, default=9, help="default: 9")
    add("--mean-length", type=float, default=10, help="default: 10")
    add("--std-length", type=float, default=2, help="default: 2")
    add("--builder", choices=BUILDERS, default="balanced", help="default: balanced")
    add("--bags", type=int, default=200, help="default: 200")
    add("--seed", type=int, default=0, help="default: 0")
    add("--output", default="bags.png", metavar="FILE", help="the drawing; default: bags.png")
    return parser


def main(argv=None):
    """Print the statistics of the bags that the flags describe, and draw the first of them."""
    args = make_parser().parse_args(argv)
    kind = {key: vars(args)[key] for key in ("target", "mean_length", "std_length", "builder", "seed")}
    try:
        images, _ = load(args.dataset, args.data_dir)
        bags = build(images.labels, torch.arange(len(images.labels)), args.bags, **kind)
        draw(images, bags, args.output)
    except (DataError, ValueError, OSError) as error:
        print(f"data.bags: error: {error}", file=sys.stderr)
        sys.exit(2)
    for name, value in statistics(bags).items():
        print(f"{name:32} {value:,.3f}" if isinstance(value, float) else f"{name:32} {value:,}")
    print(f"the first bags: {args.output}")


def draw(images, bags, path, rows=8, columns=20):
    """The first bags, one a row, as far as they fit; a key instance has a coloured frame."""
    from matplotlib.figure import Figure  # here, because loading it takes a second that training needn't

    shown = bags.select(torch.arange(min(rows, len(bags))))
    columns = min(columns, int(shown.lengths.max()))
    figure = Figure(figsize=(8, 0.3 + len(shown) * 8 / (columns + 2)), layout="constrained", dpi=110)
    axes = figure.subplots(len(shown), columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for row, label, numbers, keys in zip(
        axes,
        shown.labels,
        shown.indices.split(shown.lengths.tolist()),
        shown.keys.split(shown.lengths.tolist()),
        strict=True,
    ):
        for ax, number, key in zip(row, numbers, keys, strict=False):
            ax.imshow(images.images[number, 0].cpu(), cmap="gray_r", vmin=0, vmax=255)
            ax.set(xticks=[], yticks=[])
            ax.set_axis_on()
            ax.spines[:].set(color="#D55E00" if key else "#CCCCCC", linewidth=2.5 if key else 0.5)
        text = f"{'positive' if label else 'negative'}, {len(numbers)}"
        row[0].annotate(
            text, (0, 0.5), (-6, 0), "axes fraction", "offset points", ha="right", va="center", size=8
        )
    figure.savefig(path, format="png")


if __name__ == "__main__":
    main()
