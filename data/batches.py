"""Batches as slices of a device-resident tensor: no worker process, no copy from host memory."""

import numpy as np
import torch


def generator(*key):
    """A CPU generator seeded by whole numbers, e.g. (seed, epoch); keys of one length are independent."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def prepare(images, chosen, augment=None, params=None):
    """The images of an ImageSet at `chosen`: in [0, 1], augmented if there are parameters, normalised."""
    pixels = images.images[chosen].float().div_(255)
    return images.normalise(augment.apply(pixels, params) if params else pixels)


class SideBySide:
    """The batches of several equally long loaders at once: x (B, M, 28, 28), y (B, M) for M loaders.

    For networks that are trained together, each on its own order and augmentation (models.stack).
    """

    def __init__(self, loaders):
        self.loaders = loaders

    def __len__(self):
        return len(self.loaders[0])

    def epoch(self, number=0):
        for batches in zip(*(loader.epoch(number) for loader in self.loaders), strict=True):
            images, labels = zip(*batches, strict=True)
            yield torch.cat(images, 1), torch.stack(labels, 1)


class BatchLoader:
    """Shuffled, augmented, normalised batches of the images at `indices`.

    `epoch(e)` yields (x, y) on the images' device: x (B, 1, 28, 28) float32, normalised, y (B,) int64. The
    order and the augmentation depend on (seed, e) alone, on every device, so any epoch can be replayed.
    The last, shorter batch is kept.

    With world > 1 every rank gets its piece of each batch: together the ranks see what one process sees.
    A last batch with fewer images than ranks is dropped then.

    augment: an Augment or None. plain_from: the epochs from this one on are not augmented. views: with more
    than one, x is (B, views, 1, 28, 28), every view of an image with an augmentation of its own.
    """

    def __init__(
        self,
        images,
        indices,
        batch_size,
        *,
        seed=0,
        augment=None,
        plain_from=None,
        shuffle=True,
        rank=0,
        world=1,
        views=1,
    ):
        if batch_size < 1:
            raise ValueError(f"the batch size must be at least 1, not {batch_size}")
        if batch_size < world:
            raise ValueError(f"a batch of {batch_size} cannot be shared out over {world} ranks")
        if len(indices) == 0:
            raise ValueError("no images to make batches of")
        self.set, self.indices, self.batch_size = images, indices.cpu(), batch_size
        self.seed, self.augment, self.plain_from = seed, augment, plain_from
        self.shuffle, self.rank, self.world, self.views = shuffle, rank, world, views

    def __len__(self):
        whole, rest = divmod(len(self.indices), self.batch_size)
        return whole + (rest >= self.world)

    def epoch(self, number=0):
        """Yield the batches of epoch `number` (from 0)."""
        gen = generator(self.seed, number)
        order = self.indices
        if self.shuffle:
            order = order[torch.randperm(len(order), generator=gen)]
        augmented = self.augment and (self.plain_from is None or number < self.plain_from)
        images, labels = self.set.images, self.set.labels
        for chosen in order.to(images.device).split(self.batch_size)[: len(self)]:
            chosen = chosen.repeat_interleave(self.views)
            params = self.augment.draw(len(chosen), gen, images.shape[-1]) if augmented else {}
            if self.world > 1:
                chosen, params = self._piece(chosen), {k: self._piece(v) for k, v in params.items()}
            pixels, y = prepare(self.set, chosen, self.augment, params), labels[chosen[:: self.views]]
            yield (pixels.unflatten(0, (-1, self.views)) if self.views > 1 else pixels), y

    def _piece(self, rows):
        """This rank's piece of a batch's rows, all views of an image together."""
        return rows.unflatten(0, (-1, self.views)).tensor_split(self.world)[self.rank].flatten(0, 1)
