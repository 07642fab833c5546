"""How well an embedding recognises classes it may never have seen: episodes, retrieval, verification."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from data import Augment, ImageSet, few_labels, generator, in_order
from data.triplet.episodes import Episodes, draw_episodes
from data.triplet.letters import letters
from evaluation.contrastive.clustering import tsne_map
from evaluation.contrastive.encoder import with_prefix
from evaluation.contrastive.features import accuracy, neighbours
from evaluation.triplet.metrics import (
    best_threshold,
    equal_error_rate,
    mean_interval,
    ranking_metrics,
    rates_at,
    verification_roc,
)
from models import create, load_encoder
from models.triplet import TRIPLET_ENCODERS
from utils.plots import triplet as plots
from utils.runs.folder import RunFolder
from utils.runs.repeat import parts
from utils.training.fit import Validate
from utils.training.forward import forward_all

SHOTS = (1, 5)
# Support images are drawn from this many training images of each class.
SUPPORT_POOL = 500
# Pairs of each kind, for verification; random references of each class, for the table of accept rates.
PAIRS, REFERENCES = 20_000, 100
# Queries ranked at a time, and episodes classified at a time.
CHUNK = 500
# What the figures show: test images on the map, test images beside a support image.
MAPPED, SHOWN = 2000, 6
# The deformed copies of an image whose embeddings are averaged, and those of the floor "deformed".
COPY = Augment(rotate=8, translate=0.03, scale=0.08, shear=8, elastic=1.0)
DEFORMED, DEFORMED_COPIES = Augment(rotate=12, translate=0.06, scale=0.12, shear=12, elastic=2.0), 32


@dataclass(frozen=True)
class RetrievalOptions:
    """Options of `evaluate_retrieval`.

    seen: the classes that were trained on. unit: compare directions of embeddings (cosine), not positions.
    copies: deformed copies of every image whose embeddings are averaged with its own. episodes: their
    number, with 1 and with 5 shots. precision: "fp32" or "bf16".
    """

    seen: tuple[int, ...]
    unit: bool = True
    copies: int = 0
    episodes: int = 1000
    queries: int = 15
    precision: str = "fp32"

    @classmethod
    def from_args(cls, args: Namespace, seen: Sequence[int]) -> "RetrievalOptions":
        unit = args.loss == "supcon" or args.distance.startswith("unit-")
        return cls(tuple(seen), unit, args.copies, args.episodes, precision=args.precision)


class Embedded(NamedTuple):
    """Embeddings (N, D) and labels (N,) of one set of images."""

    rows: torch.Tensor
    labels: torch.Tensor


class Scores(NamedTuple):
    """The record of an evaluation, and the arrays that its figures show."""

    record: dict
    arrays: dict[str, np.ndarray]


def embed(
    encoder: nn.Module, images: ImageSet, indices: torch.Tensor | None, options: RetrievalOptions
) -> Embedded:
    """Embed the images at `indices` (None: all), each averaged over its deformed copies."""
    rows, labels = forward_all(encoder, in_order(images, indices), options.precision)
    rows = _unit(rows, options)
    for copy in range(options.copies):
        deformed = in_order(images, indices, COPY, seed=copy)
        rows = rows + _unit(forward_all(encoder, deformed, options.precision)[0], options)
    return Embedded(_unit(rows / (1 + options.copies), options), labels)


def _unit(rows, options):
    return F.normalize(rows, dim=-1) if options.unit else rows


def evaluate_retrieval(
    encoder: nn.Module,
    data: tuple[ImageSet, ImageSet],
    val_idx: torch.Tensor,
    options: RetrievalOptions,
    seed: int = 0,
) -> Scores:
    """Score a frozen encoder (B, 1, 28, 28) -> (B, D) by episodes, rankings and verification.

    data: (train, test) ImageSets. val_idx: training images that were not trained on; they choose the
    threshold of the verification. Metrics are named test_<what> for all classes, test_seen_<what> and
    test_unseen_<what> where there are both kinds.
    """
    train_set, test_set = data
    pool = support_pool(train_set, seed)
    support = embed(encoder, train_set, pool, options)
    test, val = embed(encoder, test_set, None, options), embed(encoder, train_set, val_idx, options)
    groups = class_groups(len(test_set.classes), options.seen)
    record: dict = episode_scores(support, test, groups, options, seed)
    record |= ranking_scores(test, groups)
    found, pairs = verification_scores(val, test, groups, seed)
    record |= letter_scores(encoder, train_set, options, seed)
    record |= found | class_rates(support, test, found["val_threshold"], len(test_set.classes), seed)
    first = torch.stack([(support.labels == value).nonzero()[0, 0] for value in groups[""]])
    arrays = {
        "seen": torch.tensor(options.seen),
        "test_labels": test.labels,
        "embeddings": test.rows.half(),
        "shown_support": pool[first.cpu()],
        "shown_distances": torch.cdist(support.rows[first], test.rows).half(),
    }
    return Scores(record, pairs | {key: value.cpu().numpy() for key, value in arrays.items()})


def support_pool(train_set: ImageSet, seed: int) -> torch.Tensor:
    """Return the indices of the training images that support images are drawn from."""
    smallest = int(train_set.labels.bincount().min())
    return few_labels(train_set.labels, min(SUPPORT_POOL, smallest), seed)


def class_groups(classes: int, seen: Sequence[int]) -> dict[str, list[int]]:
    """Return {"": all classes, "seen_": ..., "unseen_": ...}; only the first if all are seen."""
    groups = {"": list(range(classes))}
    unseen = [value for value in range(classes) if value not in seen]
    return groups | {"seen_": list(seen), "unseen_": unseen} if unseen else groups


# --- Episodes ---


def episode_accuracies(
    support: torch.Tensor, queries: torch.Tensor, episodes: Episodes, unit: bool
) -> np.ndarray:
    """Classify the queries of each episode by the nearest mean of a class's support; return accuracies (E,).

    support: (S, D), queries: (Q, D) embeddings, which the episodes index. unit: compare with the direction
    of the mean.
    """
    found = []
    for some, wanted in zip(episodes.support.split(CHUNK), episodes.queries.split(CHUNK), strict=True):
        means = support[some.to(support.device)].mean(2)
        means = F.normalize(means, dim=2) if unit else means
        asked = queries[wanted.to(queries.device)]  # (E, N, q, D)
        nearest = torch.cdist(asked.flatten(1, 2), means).argmin(2).view(asked.shape[:3])
        truth = torch.arange(nearest.shape[1], device=nearest.device).view(1, -1, 1)
        found.append((nearest == truth).float().mean((1, 2)))
    return torch.cat(found).cpu().numpy()


def drawn_episodes(
    support: torch.Tensor, test: torch.Tensor, groups: dict, options: RetrievalOptions, seed: int
) -> dict[str, Episodes]:
    """Draw the episodes of an evaluation from labels (S,) and (Q,): {"unseen_7way_1shot": Episodes, ...}.

    Episodes over the seen classes alone are left out; those say little.
    """
    queries = min(options.queries, int(test.bincount().min()))
    return {
        f"{group}{len(classes)}way_{shots}shot": draw_episodes(
            support, test, classes, shots=shots, queries=queries, count=options.episodes, seed=seed
        )
        for group, classes in groups.items()
        if group != "seen_" and len(classes) > 1
        for shots in SHOTS
    }


def episode_scores(
    support: Embedded, test: Embedded, groups: dict, options: RetrievalOptions, seed: int
) -> dict[str, float]:
    """Return the mean accuracy over the episodes of every kind and its 95 % interval over episodes."""
    record = {}
    for name, episodes in drawn_episodes(support.labels, test.labels, groups, options, seed).items():
        accuracies = episode_accuracies(support.rows, test.rows, episodes, options.unit)
        key = f"test_{name}_accuracy"
        record[key], record[f"{key}_low"], record[f"{key}_high"] = mean_interval(accuracies)
    return record


def letter_scores(
    encoder: nn.Module, like: ImageSet, options: RetrievalOptions, seed: int
) -> dict[str, float]:
    """Return the accuracy of 10-way episodes over printed letters, which no encoder is trained on.

    It is what to tune by: it knows neither test images nor digits that are to be unseen.
    """
    images = letters(like)
    found, record = embed(encoder, images, None, options), {}
    for shots in SHOTS:
        episodes = draw_episodes(
            found.labels.cpu(),
            None,
            range(len(images.classes)),
            shots=shots,
            queries=options.queries,
            ways=10,
            count=options.episodes,
            seed=seed,
        )
        accuracies = episode_accuracies(found.rows, found.rows, episodes, options.unit)
        record[f"val_letters_10way_{shots}shot_accuracy"] = float(accuracies.mean())
    return record


# --- Rankings ---


def ranking_scores(test: Embedded, groups: dict) -> dict[str, float]:
    """Rank all other test images by their distance to each; average the metrics over each group's queries."""
    labels, values = test.labels.cpu().numpy(), []
    for start in range(0, len(labels), CHUNK):
        queries = np.arange(start, min(start + CHUNK, len(labels)))
        distances = torch.cdist(test.rows[queries], test.rows).cpu().numpy()
        others = np.ones(distances.shape, bool)
        others[np.arange(len(queries)), queries] = False
        shape = (len(queries), len(labels) - 1)
        relevant = labels[queries, None] == labels
        values.append(ranking_metrics(distances[others].reshape(shape), relevant[others].reshape(shape)))
    return {
        f"test_{group}{name}": float(
            np.concatenate([v[name] for v in values])[np.isin(labels, classes)].mean()
        )
        for group, classes in groups.items()
        for name in values[0]
    }


# --- Verification: are these two of one class? ---


def pair_distances(found: Embedded, classes: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw PAIRS random pairs of one class and as many of two; return distances and which are the former."""
    gen = generator(seed, len(classes))
    labels = found.labels.cpu()
    members = [(labels == value).nonzero().squeeze(1) for value in classes]
    sizes = torch.tensor([len(m) for m in members])
    offsets, rows = sizes.cumsum(0) - sizes, torch.cat(members)
    first = torch.randint(len(classes), (2 * PAIRS,), generator=gen)
    step = torch.randint(1, len(classes), (2 * PAIRS,), generator=gen)
    same = torch.arange(2 * PAIRS) < PAIRS
    second = torch.where(same, first, (first + step) % len(classes))
    place = (torch.rand(2 * PAIRS, generator=gen) * sizes[first]).long()
    # Two images of one class must differ: the second is some steps further round the class.
    turn = 1 + (torch.rand(2 * PAIRS, generator=gen) * (sizes[second] - 1)).long()
    other = torch.where(same, (place + turn) % sizes[second], turn - 1)
    a, b = rows[offsets[first] + place], rows[offsets[second] + other]
    return (found.rows[a] - found.rows[b]).norm(dim=1).cpu().numpy(), same.numpy()


def verification_scores(
    val: Embedded, test: Embedded, groups: dict, seed: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return equal error rate, and at the threshold of the validation pairs accuracy and false-accept rate.

    Pairs of one class and of two are equally many; a group of one class has none. Also returns the distances
    of the test pairs, by group.
    """
    seen = sorted(set(val.labels.tolist()))
    threshold = best_threshold(verification_roc(*pair_distances(val, seen, seed)))
    record, arrays = {"val_threshold": threshold}, {}
    for group, classes in groups.items():
        if len(classes) < 2:
            continue
        distances, same = pair_distances(test, classes, seed)
        roc = verification_roc(distances, same)
        accepted, falsely = rates_at(distances, same, threshold)
        record[f"test_{group}equal_error_rate"] = equal_error_rate(roc)
        record[f"test_{group}verification_accuracy"] = (accepted + 1 - falsely) / 2
        record[f"test_{group}false_accept_rate"] = falsely
        arrays[f"{group}pair_distances"] = distances.astype(np.float32)
        arrays[f"{group}pair_same"] = same
    return record, arrays


def class_rates(
    support: Embedded, test: Embedded, threshold: float, classes: int, seed: int
) -> dict[str, list[float]]:
    """Return, per class, which shares of its own and of all other test images a reference accepts.

    It accepts what is within the threshold. test_class_accept_rates, test_class_false_accept_rates: means
    over REFERENCES random support images of the class, none of them picked by hand.
    """
    gen, labels, rates = generator(seed), support.labels.cpu(), []
    for value in range(classes):
        members = (labels == value).nonzero().squeeze(1)
        chosen = members[torch.randperm(len(members), generator=gen)[:REFERENCES]]
        chosen = chosen.to(support.rows.device, non_blocking=True)
        within, own = torch.cdist(support.rows[chosen], test.rows) <= threshold, test.labels == value
        shares = [(within & kind).sum() / (kind.sum() * len(chosen)) for kind in (own, ~own)]
        rates.append(torch.stack(shares))
    accepts, false_accepts = torch.stack(rates, 1).cpu().double().numpy().round(5).tolist()
    return {"test_class_accept_rates": accepts, "test_class_false_accept_rates": false_accepts}


# --- Floors: what needs no training on digits, or other data ---


def floor_scores(
    args: Namespace, data: tuple[ImageSet, ImageSet], options: RetrievalOptions, seed: int
) -> dict[str, float]:
    """Score what the trained encoder has to beat, on the same episodes and rankings.

    With args.floors: pixels_, raw pixels; untrained_, the encoder args.encoder with random weights;
    deformed_, nearest neighbour on pixels among DEFORMED_COPIES deformed copies of each support image,
    episodes only. With args.compare: other_, the encoder in that file, e.g. pre-trained by SimCLR on other
    data. All compare directions (cosine).
    """
    train_set, test_set = data
    device, encoders = train_set.images.device, {}
    if args.floors:
        torch.manual_seed(seed)
        encoders = {"pixels_": nn.Flatten(), "untrained_": create(args.encoder, 0, TRIPLET_ENCODERS)}
    if args.compare:
        encoders["other_"] = load_encoder(args.compare)
    options = replace(options, unit=True, copies=0)
    groups, pool = class_groups(len(test_set.classes), options.seen), support_pool(train_set, seed)
    record: dict[str, float] = {}
    for prefix, encoder in encoders.items():
        encoder = encoder.to(device)
        support = embed(encoder, train_set, pool, options)
        test = embed(encoder, test_set, None, options)
        scores = episode_scores(support, test, groups, options, seed) | ranking_scores(test, groups)
        record |= with_prefix(prefix, scores)
    if not args.floors:
        return record
    labels = train_set.labels[pool.to(device)], test_set.labels
    for name, episodes in drawn_episodes(*labels, groups, options, seed).items():
        accuracies = deformed_accuracies(train_set, pool, test_set, episodes, seed)
        key = f"test_deformed_{name}_accuracy"
        record[key], record[f"{key}_low"], record[f"{key}_high"] = mean_interval(accuracies)
    return record


def deformed_accuracies(
    train_set: ImageSet, pool: torch.Tensor, test_set: ImageSet, episodes: Episodes, seed: int
) -> np.ndarray:
    """Classify queries by the nearest deformed copy of a support image, on pixels; return accuracies (E,)."""
    images, gen, found = train_set.images[pool.to(train_set.images.device)], generator(seed), []
    queries = F.normalize(test_set.images.flatten(1).float(), dim=1)
    for support, wanted in zip(episodes.support, episodes.queries, strict=True):
        pixels = images[support.flatten().to(images.device)].float().repeat_interleave(DEFORMED_COPIES, 0)
        pixels = DEFORMED.apply(pixels, DEFORMED.sample(len(pixels), gen, pixels.shape[-1]))
        copies = F.normalize(pixels.flatten(1), dim=1)
        nearest = (queries[wanted.flatten().to(queries.device)] @ copies.T).argmax(1)
        classes = nearest // (DEFORMED_COPIES * support.shape[1])
        truth = torch.arange(len(wanted), device=classes.device).repeat_interleave(wanted.shape[1])
        found.append((classes == truth).float().mean())
    return torch.stack(found).cpu().numpy()


# --- During the training, and figures ---


def watch_precision(
    train_set: ImageSet, val_idx: torch.Tensor, every: int, epochs: int, precision: str
) -> Validate:
    """Return a `validate` for `fit`: P@1 of model.encoder, by cosine among the validation images.

    It is computed every `every` epochs and after the last one.
    """
    images = in_order(train_set, val_idx)

    def validate(model, epoch):
        if epoch % every and epoch < epochs:
            return {}
        rows, labels = forward_all(model.encoder, images, precision)
        nearest = neighbours(rows, rows, 2)[1]
        # The nearest is the image itself, or its equal.
        itself = torch.arange(len(rows), device=rows.device)
        other = torch.where(nearest[:, 0] == itself, nearest[:, 1], nearest[:, 0])
        return {"val_precision_at_1": accuracy(F.one_hot(labels[other]), labels)}

    return validate


def draw_retrieval(run: RunFolder, args: Namespace, data: tuple[ImageSet, ImageSet]) -> None:
    """Draw the figures of a run: curves of all trainings, embeddings of the first."""
    folder = parts(run, args)[0]
    saved, record = folder.predictions(), folder.records()[0]
    labels, seen = saved["test_labels"], saved["seen"].tolist()
    plots.plot_embedding_curves(run.history(), run.path("curves.png"))
    rows = torch.from_numpy(saved["embeddings"]).float()
    mapped = torch.randperm(len(rows), generator=generator(0))[:MAPPED]
    title = f"t-SNE of the embeddings of {len(mapped):,} test digits"
    points, classes = tsne_map(rows[mapped]), data[1].classes
    plots.plot_embedding_map(points, labels[mapped], seen, classes, run.path("map.png"), title)
    groups = class_groups(len(data[1].classes), seen)
    pairs = {}
    for group in (group for group, members in groups.items() if len(members) > 1):
        distances, same = saved[f"{group}pair_distances"], saved[f"{group}pair_same"]
        roc = verification_roc(distances, same)
        pairs[group] = distances, same, (roc.false_accepts, roc.accepts)
    plots.plot_distances(pairs, record["val_threshold"], run.path("distances.png"))
    draw_support(run, saved, data)


def draw_support(run: RunFolder, saved: dict[str, np.ndarray], data: tuple[ImageSet, ImageSet]) -> None:
    """Draw support.png: one support image of each class between its nearest and farthest test images."""
    train_set, test_set = (part.images.squeeze(1).cpu().numpy() for part in data)
    labels, seen, support = saved["test_labels"], saved["seen"], saved["shown_support"]
    near, far, wrong = [], [], []
    for value, row in enumerate(saved["shown_distances"].astype(np.float32)):
        order, own = row.argsort(kind="stable"), np.flatnonzero(labels == value)
        near.append(order[:SHOWN])
        far.append(own[row[own].argsort(kind="stable")[-SHOWN:][::-1]])
        wrong.append(labels[order[:SHOWN]] != value)
    unseen = ~np.isin(np.arange(len(support)), seen)
    found = train_set[support], test_set[np.array(near)], test_set[np.array(far)], np.array(wrong)
    plots.plot_support(*found, unseen, run.path("support.png"))


def draw_sweep(run: RunFolder, content: dict, ways: int) -> None:
    """Draw accuracy.png of a sweep: episodes against the number of digits, and of images of three digits.

    ways: the number of classes in an episode, which is that of the data set.
    """
    base = content["cells"][0]["images"]
    series = (
        ("digits", "digits trained on", f"{base:,} images of each", lambda c: c["images"] == base),
        ("images", "images per class", "digits 0, 1, 2", lambda c: c["digits"] == 3),
    )
    panels = []
    for key, xlabel, title, chosen in series:
        cells = sorted((c for c in content["cells"] if chosen(c)), key=lambda c: c[key])
        curves = []
        for shots in SHOTS:
            name = f"test_{ways}way_{shots}shot_accuracy"
            points = [[c[key], [line[name] for line in c["runs"]]] for c in cells]
            curves.append({"label": f"{ways}-way {shots}-shot", "points": points})
        panels.append({"xlabel": xlabel, "title": title, "log": key == "images", "curves": curves})
    plots.plot_accuracy(panels, run.path("accuracy.png"))
