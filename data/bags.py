"""Bags of digits for multiple instance learning: a set of images, one label, "does it hold the target?"

    python -m data.bags                                  what the default flags of train_mil.py describe
    python -m data.bags --mean-length 50 --builder natural --output bags.png

A bag's label is known, its instances' labels are not trained on; here they are kept for the evaluation.
"""

import math
from typing import NamedTuple

import torch

from data.batches import generator, prepare

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
