"""Bags of digits for multiple instance learning: a set of images and one label, "does it hold the target?"

Only the label of a bag is trained on. The labels of its instances are kept for the evaluation.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch

from data.augment import Augment
from data.batches import generator, prepare
from data.errors import DataError
from data.images import ImageSet

BUILDERS = ("balanced", "natural")
# Which bags of `build_shortcut` carry the extra digit; networks are trained on the first.
CARRIERS = ("negative", "none", "both", "positive")


class Bags(NamedTuple):
    """B bags with n instances in all; all tensors on the CPU.

    indices: (n,) int64, positions in an ImageSet, bag after bag. lengths: (B,) int64, at least 1, with sum
    n. keys: (n,) bool, true for a key instance: one of the target class.
    """

    indices: torch.Tensor
    lengths: torch.Tensor
    keys: torch.Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def owners(self) -> torch.Tensor:
        """The bag of each instance: (n,) int64."""
        return torch.repeat_interleave(torch.arange(len(self)), self.lengths)

    @property
    def labels(self) -> torch.Tensor:
        """Whether a bag has a key instance: (B,) bool."""
        return torch.zeros(len(self), dtype=torch.int64).index_add_(0, self.owners, self.keys.long()) > 0

    @property
    def mask(self) -> torch.Tensor:
        """The places that hold an instance when bags are padded to the longest, N: (B, N) bool."""
        return torch.arange(int(self.lengths.max())) < self.lengths.unsqueeze(1)

    def select(self, chosen: torch.Tensor) -> "Bags":
        """Return the bags at `chosen` (K,) int64, in that order."""
        lengths = self.lengths[chosen]
        starts = (self.lengths.cumsum(0) - self.lengths)[chosen]
        first = lengths.cumsum(0) - lengths  # where each bag starts in the new order
        places = torch.arange(int(lengths.sum())) + torch.repeat_interleave(starts - first, lengths)
        return Bags(self.indices[places], lengths, self.keys[places])

    def add(self, chosen: torch.Tensor, images: torch.Tensor) -> "Bags":
        """Return the bags with one more instance, no key instance, in each bag at `chosen`.

        chosen: (K,) int64, all different. images: (K,) int64, the image that each of them gets.
        """
        order = torch.cat([self.owners, chosen]).argsort(stable=True)
        keys = torch.cat([self.keys, torch.zeros(len(chosen), dtype=torch.bool)])
        lengths = self.lengths.index_add(0, chosen, torch.ones_like(chosen))
        return Bags(torch.cat([self.indices, images])[order], lengths, keys[order])


def build(
    labels: torch.Tensor,
    pool: torch.Tensor,
    count: int,
    *,
    target: int = 9,
    mean_length: float = 10,
    std_length: float = 2.0,
    builder: str = "balanced",
    seed: int | tuple[int, ...] = 0,
) -> Bags:
    """Build `count` bags of images drawn with replacement from `pool`; equal seeds give equal bags.

    labels: (N,) int64, of all images. pool: int64 positions. Lengths are normal with the given mean and
    standard deviation, rounded, at least 1.

    builder: "natural" draws every instance independently, as the simple loader of Ilse et al. (2018) does;
    long bags are nearly always positive. With "balanced" every other bag is positive, whatever its length:
    positive bags are natural bags that contain the target, negative bags are natural bags that don't.

    Raises DataError for arguments out of range, or when the pool lacks images for balanced bags.
    """
    if target < 0:
        raise DataError(f"the target is a class, counted from 0, not {target}")
    if count < 1:
        raise DataError(f"there must be at least 1 bag, not {count}")
    if not mean_length >= 1:
        raise DataError(f"the mean length of a bag must be at least 1, not {mean_length}")
    if not std_length >= 0:
        raise DataError(f"the standard deviation of the length must be at least 0, not {std_length}")
    if builder not in BUILDERS:
        raise DataError(f"unknown builder {builder!r}: choose from {', '.join(BUILDERS)}")
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
        raise DataError(f"balanced bags need images of class {target} and of others to draw from")
    positive = torch.arange(count) % 2 == 1
    negative = ~positive[bags.owners]
    indices[negative] = draw(others, int(negative.sum()))
    while (lacking := positive & ~Bags(indices, lengths, is_target[indices]).labels).any():
        again = lacking[bags.owners]  # whole bags are drawn again: that keeps the distribution
        indices[again] = draw(pool, int(again.sum()))
    return Bags(indices, lengths, is_target[indices])


def build_shortcut(
    labels: torch.Tensor,
    pool: torch.Tensor,
    count: int,
    *,
    shortcut: int,
    carriers: str = "negative",
    seed: int | tuple[int, ...] = 0,
    **kind,
) -> Bags:
    """Build balanced bags without the class `shortcut`, then add one image of it to some of them.

    carriers: which bags carry it, one of CARRIERS: "negative" in training, anything else in a test. Equal
    seeds give the same bags but for the added image. The other arguments are those of `build`.

    The image is perfect evidence in training, but a network that keeps to the MIL assumption can't use it: a
    bag is positive by what it holds, and no instance makes it negative. This is algorithm 1 of Raff and Holt
    (NeurIPS 2023) with digits: they train with "negative" and test with "positive".

    Raises DataError as `build`, and when the shortcut is the target or the pool has no image of it.
    """
    if carriers not in CARRIERS:
        raise DataError(f"unknown carriers {carriers!r}: choose from {', '.join(CARRIERS)}")
    pool = pool.cpu()
    is_shortcut = labels.cpu()[pool] == shortcut
    if shortcut == kind.get("target", 9) or not is_shortcut.any():
        raise DataError(f"the shortcut must be a class with images other than the target, not {shortcut}")
    bags = build(labels, pool[~is_shortcut], count, seed=seed, **kind)
    gen = generator(*(seed if isinstance(seed, tuple) else (seed,)), 1)
    extra = pool[is_shortcut]
    extra = extra[torch.randint(len(extra), (count,), generator=gen)]
    positive = bags.labels
    carries = {"negative": ~positive, "none": positive & ~positive, "both": positive | ~positive}
    chosen = carries.get(carriers, positive).nonzero().squeeze(1)
    return bags.add(chosen, extra[chosen])


class BagLoader:
    """Shuffled, augmented, normalised batches of bags.

    `epoch(e)` yields (mask, images, labels): mask (B, N) bool on the CPU, images (n, 1, 28, 28) float32
    without padding, bag after bag, labels (B,) float32, 0 or 1. The mask is true where a padded bag would
    hold an instance. Order and augmentation depend only on (seed, e), on every device.

    bags_per_epoch: bags in an epoch. With more than there are, bags repeat; with fewer, an epoch is a random
    choice. None or 0: every bag once.
    """

    def __init__(
        self,
        images: ImageSet,
        bags: Bags,
        batch_size: int,
        *,
        seed: int = 0,
        augment: Augment | None = None,
        bags_per_epoch: int | None = None,
    ):
        if batch_size < 1:
            raise DataError(f"the batch size must be at least 1, not {batch_size}")
        self.set, self.bags, self.seed, self.augment = images, bags, seed, augment
        self.count = bags_per_epoch or len(bags)
        self.batch_size = min(batch_size, self.count)
        self.labels = bags.labels.float().to(images.images.device)

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch_size)

    def epoch(self, number: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield the batches of epoch `number` (from 0)."""
        gen = generator(self.seed, number)
        device, size = self.set.images.device, self.set.images.shape[-1]
        rounds = math.ceil(self.count / len(self.bags))
        order = torch.cat([torch.randperm(len(self.bags), generator=gen) for _ in range(rounds)])
        for chosen in order[: self.count].split(self.batch_size):
            batch = self.bags.select(chosen)
            params = self.augment.sample(len(batch.indices), gen, size) if self.augment else None
            indices = batch.indices.to(device, non_blocking=True)
            images = prepare(self.set, indices, self.augment, params)
            yield batch.mask, images, self.labels[chosen.to(device, non_blocking=True)]


def statistics(bags: Bags) -> dict[str, float]:
    """Describe a set of bags by numbers: {name: number}."""
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
