"""Momentum contrast: an encoder that learns, one that follows it slowly, and a queue of the latter's keys."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.contrastive import ContrastiveModel


class MoCo(nn.Module):
    """MoCo (He et al., 2020): images (B, 1, 28, 28) to queries (B, D) of length 1.

    encoder_q: the network that is trained, an encoder under a projection head. encoder_k: its copy, which
    gets no gradient and follows by `momentum_update`. queue: (K, D), the latest keys, one a row, as a ring;
    `pointer` is the row that is overwritten next, `filled` the number of rows that hold a key.

    head: see `projection_head`; "mlp-plain" is that of MoCo v2 (Chen et al., 2020c). momentum: in [0, 1), the
    share of encoder_k that a step keeps. splits: groups that a batch is forwarded in, each with batch
    statistics of its own. With `shuffled_order` this is the paper's shuffled batch normalisation: q and k are
    normalised with different images, or else they would recognise each other by the statistics they share.
    """

    queue: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        head: str,
        queue: int,
        momentum: float,
        splits: int = 1,
        dimensions: int = 128,
    ) -> None:
        super().__init__()
        self.encoder_q = ContrastiveModel(encoder, head, dimensions)
        self.encoder_k = copy.deepcopy(self.encoder_q).requires_grad_(False)
        self.momentum, self.splits = momentum, splits
        width: int = encoder.num_features if head == "none" else dimensions  # type: ignore[assignment]
        self.register_buffer("queue", torch.zeros(queue, width))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @property
    def encoder(self) -> nn.Module:
        return self.encoder_q.encoder

    @property
    def head(self) -> nn.Module:
        return self.encoder_q.head

    def forward(self, images: Tensor) -> Tensor:
        return self._project(self.encoder_q, images)

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """Return the keys (B, D) of images, of length 1 and without gradient."""
        return self._project(self.encoder_k, images)

    def _project(self, network, images):
        groups = min(self.splits, len(images) // 2) or 1  # one image alone has no batch statistics
        parts = [network(part) for part in images.tensor_split(groups)]
        return F.normalize(torch.cat(parts).float(), dim=1)

    @torch.no_grad()
    def momentum_update(self) -> None:
        """Let encoder_k follow: k <- m * k + (1 - m) * q (equation 2), but not in its batch statistics."""
        k, q = tuple(self.encoder_k.parameters()), tuple(self.encoder_q.parameters())
        torch._foreach_lerp_(k, q, 1 - self.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Put keys (B, D) into the queue in place of its B oldest, B at most K."""
        size = len(self.queue)
        rows = (self.pointer + torch.arange(len(keys), device=keys.device)) % size
        self.queue.index_copy_(0, rows, keys.to(self.queue.dtype))
        self.pointer.add_(len(keys)).remainder_(size)
        self.filled.add_(len(keys)).clamp_(max=size)


def shuffled_order(count: int, groups: int, device: torch.device | str = "cpu") -> Tensor:
    """Return an order (count,) in which the images g, g + groups, g + 2 * groups, ... stand together."""
    return (torch.arange(count, device=device) % groups).argsort(stable=True)


def info_nce(
    q: Tensor, k: Tensor, queue: Tensor, temperature: float, filled: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return InfoNCE, equation 1 of He et al. (2020), in nats, and the contrastive accuracy.

    q: (B, D) queries. k: (B, D), the key of each. queue: (K, D), the negatives of all. Rows have length 1;
    computed in float32 at least. temperature: above 0. filled: how many of the first rows of the queue hold a
    key, by default all. (From the random rows of the paper, a network without batch norm in its head learns
    that equal features are good.)

    With all features equal, at chance, the loss is log(1 + K). The accuracy is the share of queries that are
    nearer to their own key than to every key in the queue.
    """
    with torch.autocast(q.device.type, enabled=False):  # bf16 has 3 digits: too few for exp(q.k / t)
        q, k, queue = (rows if rows.dtype == torch.float64 else rows.float() for rows in (q, k, queue))
        positive = (q * k).sum(1, keepdim=True)
        negative = q @ queue.T
        if filled is not None:
            empty = torch.arange(len(queue), device=queue.device) >= filled
            negative = negative.masked_fill(empty, -torch.inf)
        logits = torch.cat([positive, negative], 1) / temperature
        loss = F.cross_entropy(logits, logits.new_zeros(len(q), dtype=torch.int64))
        accuracy = (positive.detach() > negative.detach().amax(1, keepdim=True)).float().mean()
    return loss, accuracy
