"""How well an embedding recognises classes it may never have seen: episodes, retrieval, verification."""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from data import Augment, Data, ImageSet, few_labels, generator, in_order
from data.triplet import letters, sample_episodes
from utils.training.fit import Validate
from utils.training.forward import forward_all

# scikit-learn is imported where it is used: loading it takes seconds that --help needn't.

SHOTS = (1, 5)
# Support images are sampled from SUPPORT_POOL training images of each class; verification takes PAIRS pairs
# of one class and as many of two.
SUPPORT_POOL, PAIRS = 500, 20_000
# Queries ranked at a time, and episodes classified at a time.
CHUNK = 250
# The deformed copies of an image whose embeddings are averaged, and those of the floor "deformed".
COPY = Augment(rotate=8, translate=0.03, scale=0.08, shear=8, elastic=1.0)
DEFORMED, DEFORMED_COPIES = Augment(rotate=12, translate=0.06, scale=0.12, shear=12, elastic=2.0), 32
NORMAL_95 = 1.959964

Episodes = tuple[torch.Tensor, torch.Tensor]  # see data.triplet.sample_episodes


@dataclass(frozen=True)
class RetrievalOptions:
    """Options of `evaluate_retrieval`.

    classes: their number. seen: those that were trained on. unit: compare directions of embeddings (cosine),
    not positions. weights: (D,), of embeddings in a distance. order: 2 for Euclidean distances, 1 for L1.
    copies: deformed copies of every image whose embeddings are averaged with its own. episodes: their number
    of each kind. queries: per class and episode. precision: "fp32" or "bf16".
    """

    classes: int
    seen: Sequence[int]
    seed: int = 0
    unit: bool = True
    weights: torch.Tensor | None = None
    order: int = 2
    copies: int = 0
    episodes: int = 1000
    queries: int = 15
    precision: str = "fp32"

    @property
    def groups(self) -> dict[str, list[int]]:
        """{"": all classes, "seen_": ..., "unseen_": ...}; only the first if all are seen."""
        every = list(range(self.classes))
        unseen = [value for value in every if value not in self.seen]
        return {"": every} | ({"seen_": list(self.seen), "unseen_": unseen} if unseen else {})


class Embedded(NamedTuple):
    """Embeddings (N, D) and labels (N,) of one set of images."""

    rows: torch.Tensor
    labels: torch.Tensor


def evaluate_retrieval(
    encoder: nn.Module, data: Data, val_idx: torch.Tensor, options: RetrievalOptions
) -> tuple[dict, dict[str, np.ndarray]]:
    """Evaluate a frozen encoder (B, 1, 28, 28) -> (B, D); return its record, and the arrays to plot.

    val_idx: training images that were not trained on; they choose the threshold of the verification. Metrics
    are named test_<metric> for all classes, and test_seen_<metric>, test_unseen_<metric> if some are unseen.
    """
    train_set, test_set = data
    pool = support_pool(train_set, options.seed)
    support = embed(encoder, train_set, pool, options)
    test, val = embed(encoder, test_set, None, options), embed(encoder, train_set, val_idx, options)
    record = episode_scores(support, test, options) | ranking_scores(test, options)
    record |= letter_scores(encoder, train_set, options) | verification_scores(val, test, options)
    seen, embeddings = torch.tensor(options.seen), test.rows.half()
    arrays = {"seen": seen, "test_labels": test.labels, "embeddings": embeddings}
    return record, {key: value.cpu().numpy() for key, value in arrays.items()}


def evaluate_floors(
    encoders: dict[str, nn.Module], deformed: bool, data: Data, options: RetrievalOptions
) -> dict[str, float]:
    """Evaluate what a trained encoder has to beat on the same episodes and rankings, by cosine.

    Metrics are named test_<encoder>_<metric>, and test_deformed_<metric> for the nearest neighbour in pixels
    among DEFORMED_COPIES deformed copies of each support image (episodes only).
    """
    (train_set, test_set), options = data, replace(options, unit=True, weights=None, order=2, copies=0)
    pool = support_pool(train_set, options.seed)
    record: dict[str, float] = {}
    for name, encoder in encoders.items():
        support, test = embed(encoder, train_set, pool, options), embed(encoder, test_set, None, options)
        scores = episode_scores(support, test, options) | ranking_scores(test, options)
        record |= {key.replace("test_", f"test_{name}_"): value for key, value in scores.items()}
    if deformed:
        pool = pool.to(train_set.images.device)
        support, test = Embedded(train_set.images[pool], train_set.labels[pool]), Embedded(*test_set[:2])
        classify = functools.partial(deformed_accuracies, seed=options.seed)
        scores = episode_scores(support, test, options, classify)
        record |= {key.replace("test_", "test_deformed_"): value for key, value in scores.items()}
    return record


def embed(
    encoder: nn.Module, images: ImageSet, indices: torch.Tensor | None, options: RetrievalOptions
) -> Embedded:
    """Embed the images at `indices` (None: all), each averaged over its deformed copies."""

    def unit(rows):
        return F.normalize(rows, dim=-1) if options.unit else rows

    rows, labels = forward_all(encoder, in_order(images, indices), options.precision)
    total = unit(rows)
    for copy in range(options.copies):
        deformed = in_order(images, indices, COPY, seed=copy)
        total = total + unit(forward_all(encoder, deformed, options.precision)[0])
    rows = unit(total / (1 + options.copies))
    return Embedded(rows if options.weights is None else rows * options.weights, labels)


def support_pool(train_set: ImageSet, seed: int) -> torch.Tensor:
    """Return the indices of the training images that support images are sampled from."""
    smallest = int(train_set.labels.bincount().min())
    return few_labels(train_set.labels, min(SUPPORT_POOL, smallest), seed)


def distances(first: torch.Tensor, second: torch.Tensor, order: int = 2) -> torch.Tensor:
    """Return the distances (..., N, M) of rows (..., N, D) and (..., M, D), right to float32; L1 for order 1.

    |a|^2 + |b|^2 - 2ab in float32 is wrong for close rows (by 20 % at 1e-3 apart); in float64 it is as good
    as differences and many times faster. What is below its rounding error is 0, so that equal rows are equal.
    """
    if order == 1 or first.device.type == "mps":  # which has no float64
        return torch.cdist(first, second, order, compute_mode="donot_use_mm_for_euclid_dist")
    first, second = first.double(), second.double()
    lengths = first.square().sum(-1).unsqueeze(-1) + second.square().sum(-1).unsqueeze(-2)
    squares = lengths - 2 * (first @ second.mT)
    return squares.where(squares > 1e-13 * lengths, 0).sqrt_().float()


# --- Episodes ---


def episode_accuracies(
    support: torch.Tensor, queries: torch.Tensor, episodes: Episodes, unit: bool, order: int = 2
) -> np.ndarray:
    """Classify the queries of each episode by the nearest mean of a class's support: accuracies (E,)."""
    accuracies = []
    for chosen, asked in zip(*(part.split(CHUNK) for part in episodes), strict=True):
        means = support[chosen.to(support.device)].mean(2)
        means = F.normalize(means, dim=2) if unit and order == 2 else means
        rows = queries[asked.to(queries.device)]  # (E, N, q, D)
        nearest = distances(rows.flatten(1, 2), means, order).argmin(2).view(rows.shape[:3])
        truth = torch.arange(nearest.shape[1], device=nearest.device).view(1, -1, 1)
        accuracies.append((nearest == truth).float().mean((1, 2)))
    return torch.cat(accuracies).cpu().numpy()


def deformed_accuracies(
    images: torch.Tensor, queries: torch.Tensor, episodes: Episodes, seed: int
) -> np.ndarray:
    """Classify queries (Q, 1, 28, 28) by the nearest deformed copy of the support images (S, 1, 28, 28)."""
    gen, accuracies = generator(seed), []
    queries = F.normalize(queries.flatten(1).float(), dim=1)
    for support, asked in zip(*episodes, strict=True):
        pixels = images[support.flatten().to(images.device)].float().repeat_interleave(DEFORMED_COPIES, 0)
        pixels = DEFORMED.apply(pixels, DEFORMED.sample(len(pixels), gen, pixels.shape[-1]))
        copies = F.normalize(pixels.flatten(1), dim=1)
        nearest = (queries[asked.flatten().to(queries.device)] @ copies.T).argmax(1)
        classes = nearest // (DEFORMED_COPIES * support.shape[1])
        truth = torch.arange(len(asked), device=classes.device).repeat_interleave(asked.shape[1])
        accuracies.append((classes == truth).float().mean())
    return torch.stack(accuracies).cpu().numpy()


def episode_scores(
    support: Embedded, test: Embedded, options: RetrievalOptions, classify: Callable | None = None
) -> dict[str, float]:
    """Return the mean accuracy over episodes of all and of unseen classes, with its 95 % interval.

    classify: returns the accuracies of episodes; by default `episode_accuracies`.
    """
    classify = classify or functools.partial(episode_accuracies, unit=options.unit, order=options.order)
    record: dict[str, float] = {}
    queries, most = (int(part.labels.bincount().min()) for part in (test, support))
    queries = min(options.queries, queries)
    kind = {"queries": queries, "count": options.episodes, "seed": options.seed}
    for (group, classes), shots in itertools.product(options.groups.items(), SHOTS):
        if group == "seen_" or len(classes) < 2 or shots > most:
            continue
        episodes = sample_episodes(support.labels, test.labels, classes, shots=shots, **kind)
        values = classify(support.rows, test.rows, episodes)
        mean, half = float(values.mean()), NORMAL_95 * float(values.std(ddof=1)) / len(values) ** 0.5
        name = f"test_{group}{len(classes)}way_{shots}shot_accuracy"
        record |= {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}
    return record


def letter_scores(encoder: nn.Module, like: ImageSet, options: RetrievalOptions) -> dict[str, float]:
    """Return the accuracy of 10-way episodes over printed letters: the metric to tune by."""
    images = letters(like)
    (rows, labels), record = embed(encoder, images, None, options), {}
    kind = {"queries": options.queries, "ways": 10, "count": options.episodes, "seed": options.seed}
    for shots in SHOTS:
        episodes = sample_episodes(labels, None, range(len(images.classes)), shots=shots, **kind)
        accuracies = episode_accuracies(rows, rows, episodes, options.unit, options.order)
        record[f"val_letters_10way_{shots}shot_accuracy"] = float(accuracies.mean())
    return record


# --- Rankings ---


def ranking_metrics(distances: np.ndarray, relevant: np.ndarray) -> dict[str, np.ndarray]:
    """Score how well distances rank the relevant items of each query; one value per query, (Q,) each.

    distances: (Q, M) from queries to items, a query itself not among them. relevant: (Q, M) bool; a query
    has R relevant items. precision_at_1: whether the nearest item is relevant. r_precision: share of
    relevant items among the R nearest. map_at_r: mean over the ranks 1 to R of the precision at that rank
    where its item is relevant, else 0 (Musgrave et al., 2020). Of items at equal distance each metric is the
    mean over all orders, so that a constant embedding scores as chance does.
    """
    order = distances.argsort(1)
    hits, total = np.take_along_axis(relevant, order, 1), relevant.sum(1)
    size, first = _tied_groups(np.take_along_axis(distances, order, 1))
    keep = max(1, total.max())  # no rank above R counts, but a tied group may go on beyond it
    size, first, ranks = size[:, :keep], first[:, :keep], np.arange(keep)
    hits_above = np.pad(hits.cumsum(1), ((0, 0), (1, 0)))
    before = np.take_along_axis(hits_above, first, 1)
    inside = np.take_along_axis(hits_above, first + size, 1) - before
    share = inside / size  # the chance that the item at this rank is relevant
    # If it is, the relevant items at lower ranks: those before its group, and some within it.
    lower = before + (ranks - first) * (inside - 1) / np.maximum(size - 1, 1)
    counted = (ranks < total[:, None]) / np.maximum(total, 1)[:, None]
    return {
        "precision_at_1": share[:, 0],
        "r_precision": (share * counted).sum(1),
        "map_at_r": (share * (lower + 1) / (ranks + 1) * counted).sum(1),
    }


def _tied_groups(ordered):
    """Return size and first rank of the group of equal values of each item of sorted rows: (Q, M) each."""
    size, first = np.empty(ordered.shape, int), np.empty(ordered.shape, int)
    for query, row in enumerate(ordered):
        _, starts, counts = np.unique(row, return_index=True, return_counts=True)
        size[query], first[query] = counts.repeat(counts), starts.repeat(counts)
    return size, first


def ranking_scores(test: Embedded, options: RetrievalOptions) -> dict[str, float]:
    """Rank all other test images by their distance to each; average the metrics over each group's queries.

    An image that is the only one of its class is no query: there is nothing to find.
    """
    labels, values = test.labels.cpu().numpy(), []
    for queries in np.split(np.arange(len(labels)), range(CHUNK, len(labels), CHUNK)):
        apart = distances(test.rows[queries], test.rows, options.order).cpu().numpy()
        others, relevant = queries[:, None] != np.arange(len(labels)), labels[queries, None] == labels
        values.append(ranking_metrics(*(x[others].reshape(len(queries), -1) for x in (apart, relevant))))
    columns = {name: np.concatenate([value[name] for value in values]) for name in values[0]}
    partners = np.bincount(labels)[labels] > 1
    chosen = {group: np.isin(labels, classes) & partners for group, classes in options.groups.items()}
    return {
        f"test_{group}{name}": float(column[queries].mean())
        for group, queries in chosen.items()
        for name, column in columns.items()
        if queries.any()
    }


def watch_precision(
    train_set: ImageSet, val_idx: torch.Tensor, every: int, epochs: int, precision: str
) -> Validate:
    """Return a `validate` for `fit`: P@1 among the validation images, every `every` epochs and at the end."""
    images = in_order(train_set, val_idx)

    def validate(model, epoch):
        if epoch % every and epoch < epochs:
            return {}
        rows, labels = forward_all(model.encoder, images, precision)
        rows = F.normalize(rows, dim=1)
        nearest = (rows @ rows.T).fill_diagonal_(-torch.inf).argmax(1)
        return {"val_precision_at_1": float((labels[nearest] == labels).float().mean())}

    return validate


# --- Verification: are these two of one class? ---


def best_threshold(distances: np.ndarray, same: np.ndarray) -> float:
    """Return the distance (of n) that accepts most pairs of one class, `same` (n,) bool, fewest of two."""
    from sklearn.metrics import roc_curve

    falsely, genuine, scores = roc_curve(same, -distances, drop_intermediate=False)
    return float(-scores[1 + np.argmax((genuine - falsely)[1:])])  # the first accepts nothing


def equal_error_rate(distances: np.ndarray, same: np.ndarray) -> float:
    """Return the error rate at which as many genuine pairs are refused as false ones accepted."""
    from sklearn.metrics import roc_curve

    accepted, genuine, _ = roc_curve(same, -distances, drop_intermediate=False)
    refused = 1 - genuine
    at = int(np.argmax(accepted >= refused))
    (r0, r1), (a0, a1) = refused[at - 1 : at + 1], accepted[at - 1 : at + 1]
    return float(r0 + (r0 - a0) / ((r0 - a0) + (a1 - r1)) * (r1 - r0))


def pair_distances(
    images: Embedded, classes: Sequence[int], seed: int, order: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Sample PAIRS pairs of one class and as many of two; return distances and which are the former."""
    gen = generator(seed, len(classes))
    labels = images.labels.cpu()
    members = [(labels == value).nonzero().squeeze(1) for value in classes]
    sizes = torch.tensor([len(m) for m in members])
    offsets, rows = sizes.cumsum(0) - sizes, torch.cat(members)
    first = torch.randint(len(classes), (2 * PAIRS,), generator=gen)
    step = torch.randint(1, len(classes), (2 * PAIRS,), generator=gen)
    same = torch.arange(2 * PAIRS) < PAIRS
    several = (sizes > 1).nonzero().squeeze(1)  # a single image makes no pair of its class
    if len(several):  # else the image itself is its pair
        first = torch.where(same, several[first % len(several)], first)
    second = torch.where(same, first, (first + step) % len(classes))
    place = (torch.rand(2 * PAIRS, generator=gen) * sizes[first]).long()
    # Two images of one class must differ: the second is some steps further round the class.
    turn = 1 + (torch.rand(2 * PAIRS, generator=gen) * (sizes[second] - 1)).long()
    other = torch.where(same, (place + turn) % sizes[second], turn - 1)
    a, b = rows[offsets[first] + place], rows[offsets[second] + other]
    return (images.rows[a] - images.rows[b]).norm(order, dim=1).cpu().numpy(), same.numpy()


def verification_scores(val: Embedded, test: Embedded, options: RetrievalOptions) -> dict[str, float]:
    """Return equal error rate, and accuracy and false-accept rate at the best threshold of validation pairs.

    A group of one class, or with one test image of each, has none.
    """
    seen = sorted(set(val.labels.tolist()))
    threshold = best_threshold(*pair_distances(val, seen, options.seed, options.order))
    record = {"val_threshold": threshold}
    counts = test.labels.cpu().bincount(minlength=options.classes)
    for group, classes in options.groups.items():
        if len(classes) < 2 or counts[classes].max() < 2:
            continue
        distances, same = pair_distances(test, classes, options.seed, options.order)
        genuine, falsely = (float((distances[kind] <= threshold).mean()) for kind in (same, ~same))
        record[f"test_{group}equal_error_rate"] = equal_error_rate(distances, same)
        record[f"test_{group}verification_accuracy"] = (genuine + 1 - falsely) / 2
        record[f"test_{group}false_accept_rate"] = falsely
    return record
