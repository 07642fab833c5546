"""Bags of digits for multiple instance learning: a set of images and one label, "does it hold the target?"

Only the label of a bag is trained on. The labels of its instances are kept for the evaluation. Bags are built
in four ways, BUILDERS:

natural: every instance is sampled independently, as in the simple loader of Ilse et al. (2018); long
    bags are nearly always positive.
balanced: every other bag is positive, whatever its length. Positive bags are natural bags that contain
    the target, negative bags are natural bags that don't.
shortcut: balanced bags without the class `shortcut`, each with one place more. It holds an image of that
    class in the bags that `carriers` names, "negative" (in training), "positive", "both" or "none", in
    the others one that is not of the target: lengths tell nothing. Equal seeds give the same bags but
    for that image. It is perfect evidence in training, but a network that keeps to the MIL assumption
    can't use it: no instance makes a bag negative (Raff and Holt, NeurIPS 2023, algorithm 1).
exclusive: natural bags of several targets, one kind in each, see `exclusive_bags`.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from data.augment import Augment
from data.batches import generator, prepare
from data.errors import DataError
from data.images import ImageSet

BUILDERS = ("balanced", "natural", "shortcut", "exclusive")


class Bags(NamedTuple):
    """B bags with n instances in all; all tensors on the CPU.

    indices: (n,) int64, positions in an ImageSet, bag after bag. lengths: (B,) int64, at least 1, with sum
    n. keys: (n,) bool, true for a key instance: one of the target class. With several targets int64: the
    number of its target, from 1, or 0.
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
        """Whether a bag has a key instance, or the number of its target: (B,), of the type of `keys`."""
        none = torch.zeros(len(self), dtype=torch.int64)
        return none.scatter_reduce(0, self.owners, self.keys.long(), "amax").to(self.keys.dtype)

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

    def add(self, images: torch.Tensor) -> "Bags":
        """Return the bags with one more image each, (B,) indices, at the end; none is a key instance."""
        order = torch.cat([self.owners, torch.arange(len(images))]).argsort(stable=True)
        keys = torch.cat([self.keys, torch.zeros(len(images), dtype=torch.bool)])
        return Bags(torch.cat([self.indices, images])[order], self.lengths + 1, keys[order])


def build(
    labels: torch.Tensor,
    pool: torch.Tensor,
    count: int,
    *,
    target: int | Sequence[int] = 9,
    mean_length: float = 10,
    std_length: float = 2.0,
    builder: str = "balanced",
    shortcut: int | None = None,
    carriers: str = "negative",
    seed: tuple[int, ...] = (0,),
) -> Bags:
    """Build `count` bags of images sampled with replacement from `pool`; equal seeds give equal bags.

    labels: (N,) int64, of all images. pool: int64 positions. Lengths are normal with the given mean (at
    least 1) and standard deviation, rounded, at least 1. builder: one of BUILDERS, described at the top of
    this file.

    Raises DataError when the pool lacks the images, or the shortcut is the target.
    """
    labels, pool, gen = labels.cpu(), pool.cpu(), generator(*seed)
    is_shortcut = labels[pool].eq(shortcut if shortcut is not None and builder == "shortcut" else -1)
    if builder == "shortcut" and (shortcut == target or not is_shortcut.any()):
        raise DataError(f"the shortcut must be a class with images other than the target, not {shortcut}")
    images, pool = pool[is_shortcut], pool[~is_shortcut]
    most = mean_length - (builder == "shortcut")  # whose last place is filled at the end
    lengths = (most + std_length * torch.randn(count, generator=gen)).round().clamp(min=1).long()

    def sample(members, number):
        return members[torch.randint(len(members), (number,), generator=gen)]

    def bags_of(indices):
        return Bags(indices, lengths, labels[indices] == torch.as_tensor(target))

    if builder == "exclusive":
        return exclusive_bags(labels, pool, torch.as_tensor(target), lengths, gen)
    indices = sample(pool, int(lengths.sum()))
    if builder == "natural":
        return bags_of(indices)
    others = pool[labels[pool] != target]
    if len(others) == 0 or (count > 1 and len(others) == len(pool)):
        raise DataError(f"balanced bags need images of class {target} and of others")
    positive = torch.arange(count) % 2 == 1
    owners = bags_of(indices).owners
    negative = ~positive[owners]
    indices[negative] = sample(others, int(negative.sum()))
    while (lacking := positive & ~bags_of(indices).labels).any():
        again = lacking[owners]  # whole bags: replacing single images would bias them
        indices[again] = sample(pool, int(again.sum()))
    if builder == "balanced":
        return bags_of(indices)
    gen = generator(*seed, 1)
    carried, plain = sample(images, count), sample(others, count)
    chosen = {"negative": ~positive, "positive": positive, "both": positive | True, "none": positive & False}
    return bags_of(indices).add(torch.where(chosen[carriers], carried, plain))


def exclusive_bags(
    labels: torch.Tensor,
    pool: torch.Tensor,
    targets: torch.Tensor,
    lengths: torch.Tensor,
    gen: torch.Generator,
) -> Bags:
    """Build natural bags, each without the images of all targets but one, chosen at random.

    targets: (T,), classes. lengths: (B,). The label of a bag is the number of its target, from 1, or 0 if it
    has none: the public code of Shi et al. (2020), whose targets are 3, 5 and 9.
    """
    numbers = torch.arange(1, len(targets) + 1)
    kinds = (labels.unsqueeze(1) == targets).long() @ numbers
    kept = numbers[torch.randint(len(targets), (len(lengths),), generator=gen)].repeat_interleave(lengths)
    indices = torch.empty(len(kept), dtype=torch.int64)
    for kind in numbers:
        members, places = pool[(kinds[pool] == 0) | (kinds[pool] == kind)], kept == kind
        indices[places] = members[torch.randint(len(members), (int(places.sum()),), generator=gen)]
    return Bags(indices, lengths, kinds[indices])


class BagLoader:
    """Shuffled, augmented, normalised batches of bags.

    `epoch(e)` yields (mask, images, labels): mask (B, N) bool on the CPU, see `Bags`, images (n, 1, 28, 28)
    float32 without padding, bag after bag, labels (B,) float32, see `Bags`. Order and augmentation depend
    only on (seed, e). bags_per_epoch: with more than there are, bags repeat; with fewer, an epoch is a
    random choice. None or 0: every bag once.
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
