"""Batches as slices of a device-resident tensor: no worker process, no copy from host memory."""

import zlib
from collections.abc import Iterator

import numpy as np
import torch

from data.augment import Augment
from data.errors import DataError
from data.images import ImageSet

# Images per batch where nothing is trained.
IN_ORDER_BATCH = 1000
# Random draws that images share out by their pixels: each is deformed alone as it is among others.
POOL = 4096


def generator(*key: int) -> torch.Generator:
    """Return a CPU generator seeded by integers, e.g. (seed, epoch); keys of one length are independent."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def draw_of(images: torch.Tensor) -> torch.Tensor:
    """Return which of POOL random draws each image (N, ...) uint8 gets, by its pixels alone: (N,) int64."""
    return torch.tensor([zlib.crc32(image) % POOL for image in images.contiguous().cpu().numpy()])


def prepare(
    images: ImageSet,
    chosen: torch.Tensor,
    augment: Augment | None = None,
    params: dict[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Return the images at `chosen`, normalised float32, augmented when there are parameters."""
    pixels = images.images[chosen].float().div_(255)
    return images.normalise(augment.apply(pixels, params) if augment and params else pixels)


class BatchLoader:
    """Shuffled, augmented, normalised batches of the images at `indices`.

    `epoch(e)` yields (x, y) on the device of the images: x (B, 1, 28, 28) float32, normalised, y (B,) int64.
    Order and augmentation depend only on (seed, e), on every device; without shuffling the augmentation of an
    image depends on (seed, e) and its pixels, not on its place. The last, shorter batch is kept; but a
    shuffled epoch drops a last batch of a single image, of which batch normalisation has no statistics.

    With world > 1 every rank gets its piece of each batch; together they see what one process sees. A last
    batch without two images for every rank is dropped.

    plain_from: epochs from this number on are not augmented. views: with more than one, x is
    (B, views, 1, 28, 28), and every view of an image has its own augmentation. passes: over the images, in
    an epoch; each has an order of its own.
    """

    def __init__(
        self,
        images: ImageSet,
        indices: torch.Tensor,
        batch_size: int,
        *,
        seed: int = 0,
        augment: Augment | None = None,
        plain_from: int | None = None,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        views: int = 1,
        passes: int = 1,
    ):
        if batch_size < world:
            raise DataError(f"a batch of {batch_size} cannot be shared out over {world} ranks")
        self.set, self.indices, self.batch_size = images, indices.cpu(), batch_size
        self.seed, self.augment, self.plain_from = seed, augment, plain_from
        self.shuffle, self.rank, self.world, self.views, self.passes = shuffle, rank, world, views, passes

    def __len__(self) -> int:
        whole, rest = divmod(self.passes * len(self.indices), self.batch_size)
        least = 2 if self.shuffle and whole else 1
        return whole + (rest >= least * self.world)

    def epoch(self, number: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of epoch `number` (from 0)."""
        gen = generator(self.seed, number)
        order = self.indices
        if self.shuffle:
            orders = [torch.randperm(len(order), generator=gen) for _ in range(self.passes)]
            order = order[torch.cat(orders)]
        augment = self.augment if self.plain_from is None or number < self.plain_from else None
        images, labels = self.set.images, self.set.labels
        pool = augment.sample(POOL, gen, images.shape[-1]) if augment and not self.shuffle else {}
        for chosen in order.to(images.device, non_blocking=True).split(self.batch_size)[: len(self)]:
            chosen = chosen.repeat_interleave(self.views)
            if pool:
                rows = (draw_of(images[chosen]) + torch.arange(len(chosen)) % self.views) % POOL
                params = {key: draws[rows] for key, draws in pool.items()}
            else:
                params = augment.sample(len(chosen), gen, images.shape[-1]) if augment else {}
            if self.world > 1:
                chosen, params = self._piece(chosen), {k: self._piece(v) for k, v in params.items()}
            pixels, y = prepare(self.set, chosen, augment, params), labels[chosen[:: self.views]]
            yield (pixels.unflatten(0, (-1, self.views)) if self.views > 1 else pixels), y

    def _piece(self, rows):
        """Return this rank's piece of the rows of a batch, all views of an image together."""
        return rows.unflatten(0, (-1, self.views)).tensor_split(self.world)[self.rank].flatten(0, 1)


def in_order(
    images: ImageSet, indices: torch.Tensor | None = None, augment: Augment | None = None, seed: int = 0
) -> BatchLoader:
    """Return a BatchLoader over all images, or those at `indices`, that keeps their order."""
    if indices is None:
        indices = torch.arange(len(images.labels))
    return BatchLoader(images, indices, IN_ORDER_BATCH, seed=seed, augment=augment, shuffle=False)


class ClassBatches:
    """P x K batches for metric learning: P random classes and K random images of each.

    `epoch(e)` yields (x, y) like BatchLoader, with x (P * K, 1, 28, 28), the K images of a class one after
    the other. Within a batch no image occurs twice. Order and augmentation depend only on (seed, e).

    classes_per_batch: P, at least 2. images_per_class: K, at least 2. batches_per_epoch: by default as many
    as one pass over the images needs. Raises DataError for more classes or images than there are.
    """

    def __init__(
        self,
        images: ImageSet,
        indices: torch.Tensor,
        classes_per_batch: int,
        images_per_class: int,
        *,
        batches_per_epoch: int | None = None,
        seed: int = 0,
        augment: Augment | None = None,
    ):
        labels = images.labels.cpu()[indices.cpu()]
        self.members = [indices.cpu()[labels == value] for value in labels.unique()]
        classes, smallest = len(self.members), min(map(len, self.members), default=0)
        for count, most, what, flag in (
            (classes_per_batch, classes, "classes (there are no more)", "classes"),
            (images_per_class, smallest, "images per class (the smallest class has no more)", "images"),
        ):
            if not 2 <= count <= most:
                raise DataError(f"a batch needs from 2 to {most} {what}, not {count}: set --batch-{flag}")
        self.set, self.seed, self.augment = images, seed, augment
        self.classes_per_batch, self.images_per_class = classes_per_batch, images_per_class
        self.count = batches_per_epoch or -(-len(indices) // (classes_per_batch * images_per_class))

    def __len__(self) -> int:
        return self.count

    def epoch(self, number: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of epoch `number` (from 0)."""
        gen = generator(self.seed, number)
        for _ in range(self.count):
            classes = torch.randperm(len(self.members), generator=gen)[: self.classes_per_batch]
            members = [self.members[value] for value in classes.tolist()]
            orders = (torch.randperm(len(own), generator=gen)[: self.images_per_class] for own in members)
            chosen = torch.cat([own[order] for own, order in zip(members, orders, strict=True)])
            pixels, y = self._images(chosen.to(self.set.images.device, non_blocking=True), gen)
            if self.augment:
                params = self.augment.sample(len(pixels), gen, pixels.shape[-1])
                pixels = self.augment.apply(pixels, params)
            yield self.set.normalise(pixels), y

    def _images(self, chosen: torch.Tensor, gen: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the pixels in [0, 1] of the images at `chosen`, and their labels."""
        return self.set.images[chosen].float().div_(255), self.set.labels[chosen]
