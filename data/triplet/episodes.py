"""N-way k-shot episodes: few labelled support images of each class, and queries to classify by them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from data.batches import generator
from data.errors import DataError


class Episodes(NamedTuple):
    """E episodes over N classes each; int64 positions in the support and in the query images, on the CPU.

    support: (E, N, k), queries: (E, N, q); row n holds images of class classes[e, n], for classes (E, N).
    """

    classes: torch.Tensor
    support: torch.Tensor
    queries: torch.Tensor

    def __len__(self) -> int:
        return len(self.classes)


def draw_episodes(
    support_labels: torch.Tensor,
    query_labels: torch.Tensor | None,
    classes: Sequence[int],
    *,
    shots: int,
    queries: int = 15,
    ways: int | None = None,
    count: int = 1000,
    seed: int = 0,
) -> Episodes:
    """Draw `count` balanced episodes; equal seeds give equal episodes.

    support_labels: (S,), e.g. of the training images. query_labels: (Q,), e.g. of the test images; None
    draws the queries from the support images, none of which is then both in one episode. classes: those
    that may occur. ways: N, by default all of them; fewer are drawn anew for every episode. shots, queries:
    k and q, images per class.

    Raises DataError when a class has too few images, or for numbers out of range.
    """
    classes = list(classes)
    ways = len(classes) if ways is None else ways
    if not 2 <= ways <= len(classes):
        raise DataError(f"an episode needs from 2 to {len(classes)} classes, not {ways}")
    if min(shots, queries, count) < 1:
        raise DataError("an episode needs at least one support image and one query of each class")
    gen = generator(seed, shots, ways)
    chosen = torch.rand(count, len(classes), generator=gen).argsort(1)[:, :ways]
    support, query = [], []
    for value in classes:
        if query_labels is None:
            both = _draw(support_labels, value, shots + queries, count, gen)
            support.append(both[:, :shots])
            query.append(both[:, shots:])
        else:
            support.append(_draw(support_labels, value, shots, count, gen))
            query.append(_draw(query_labels, value, queries, count, gen))
    rows = torch.arange(count).unsqueeze(1)
    return Episodes(
        torch.tensor(classes)[chosen],
        torch.stack(support, 1)[rows, chosen],
        torch.stack(query, 1)[rows, chosen],
    )


def _draw(labels, value, each, count, gen):
    """Draw `each` different positions with the label `value` for each of `count` episodes: (count, each)."""
    members = (labels.cpu() == value).nonzero().squeeze(1)
    if len(members) < each:
        raise DataError(f"an episode needs {each} images of class {value}, but there are {len(members)}")
    order = torch.rand(count, len(members), generator=gen).topk(each, 1).indices
    return members[order]
