"""Does a model know when it doesn't know? Sets of answers, answers left to a person, images of no digit."""

import itertools
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch

from data import ImageSet, in_order
from evaluation.contrastive.features import neighbours
from models import Classifier
from utils.training.forward import forward_all

Predictions = tuple[np.ndarray, np.ndarray]  # probabilities (N, classes) and labels (N,)
COVERAGES, RISKS = (0.99, 0.995, 0.999), (1000, 10_000)
DIRECTIONS, SEEN = 32, 5000  # at most, of the features; training images that show them


def prediction_sets(known: Predictions, p: np.ndarray, coverage: float) -> np.ndarray:
    """Return (N, classes) bool: sets that hold the true class with this probability, by split conformal.

    known: of images like the N. A set has the classes that are at least as probable as the true one of a
    share `coverage` of these (Sadinle et al., 2019). It may be empty.
    """
    true = np.sort(known[0][np.arange(len(known[1])), known[1]])
    rank = int((len(true) + 1) * (1 - coverage) + 1e-9)
    return p >= (true[rank - 1] if rank else 0)


def errors_left(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the share of images that stays wrong when a person answers the k least sure: (N + 1,), by k."""
    wrong = (p.argmax(1) != y)[np.argsort(p.max(1), kind="stable")]
    return np.append(wrong[::-1].cumsum()[::-1], 0) / len(y)


def doubts(known: Predictions, p: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Score the doubts of probabilities p (N, classes) about test images, labels y, calibrated on `known`.

    test_sets_C_accuracy, test_sets_C_size: how many sets of coverage C % hold the label, and their mean size.
    test_asked_R_share: images that a person must answer, the least sure first, for one error in R images.
    """
    metrics = {}
    for coverage in COVERAGES:
        sets, name = prediction_sets(known, p, coverage), f"test_sets_{100 * coverage:g}"
        metrics[f"{name}_accuracy"] = float(sets[np.arange(len(y)), y].mean())
        metrics[f"{name}_size"] = float(sets.sum(1).mean())
    left = errors_left(p, y)
    return metrics | {f"test_asked_{r}_share": float((left > 1 / r).sum() / len(y)) for r in RISKS}


@torch.no_grad()
def acquaint(model: Any, images: ImageSet, indices: torch.Tensor) -> Classifier:
    """Return the classifier with the main directions of the features of training images at `indices`.

    Its `evidence` then tells images of other kinds better.
    """
    from scipy.linalg import eigh  # PyTorch's may not converge; here, because --help needn't load it

    features = forward_all(model.encoder, in_order(images, indices[:SEEN]))[0]
    count = min(DIRECTIONS, features.shape[1] // 2)
    known = Classifier(model.encoder, features.shape[1], model.head.out_features, count).to(features.device)
    known.head = model.head
    away = features.nan_to_num().cpu().double().numpy()  # of a diverged network, which is refused later
    away -= away.mean(0)
    main = eigh(away.T @ away, subset_by_index=[len(away.T) - count, len(away.T) - 1])[1]
    known.centre.copy_(features.mean(0))
    known.directions.copy_(torch.from_numpy(main.T.copy()))
    return known


@torch.no_grad()
def logits_and_evidence(
    model: Any, images: ImageSet, indices: torch.Tensor | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return a classifier's logits (N, classes) and `evidence` (N,) of images, by default of all."""
    features = forward_all(model.encoder, in_order(images, indices))[0]
    return model.head(features).cpu().numpy(), model.evidence(features).cpu().numpy()


def unlikeness(logits: torch.Tensor, features: torch.Tensor, known: torch.Tensor) -> dict[str, torch.Tensor]:
    """Score how unlike the training images N images are; return (N,) by name, higher for less alike.

    logit: minus the largest of the logits (N, classes). energy: Liu et al. (2020). entropy: of the answer.
    distance: of the features (N, D) from the nearest of the training images' (M, D), by cosine.
    """
    entropy = torch.special.entr(logits.softmax(1)).sum(1)
    scores = {"logit": -logits.amax(1), "energy": -logits.logsumexp(1), "entropy": entropy}
    return scores | {"distance": -neighbours(features, known, 1)[0][:, 0]}


def separations(scores: dict[str, dict[str, torch.Tensor]]) -> dict[str, float]:
    """Return how well scores, {kind of image: {name: (N,)}}, tell each kind from "digits", the lower ones.

    <kind>_<name>_auc: area under the ROC curve. <kind>_<name>_passed_share: images below the score that 95 %
    of the digits don't exceed.
    """
    from sklearn.metrics import roc_auc_score  # here, because it takes seconds that --help needn't

    metrics: dict[str, float] = {}
    for kind, name in itertools.product([kind for kind in scores if kind != "digits"], scores["digits"]):
        pair = [scores[part][name].cpu().numpy() for part in ("digits", kind)]
        auc = roc_auc_score(np.repeat([0, 1], [*map(len, pair)]), np.concatenate(pair))
        passed = (pair[1] <= np.quantile(pair[0], 0.95)).mean()
        metrics |= {f"{kind}_{name}_auc": float(auc), f"{kind}_{name}_passed_share": float(passed)}
    return metrics


@torch.no_grad()
def unknown_metrics(trainings: Sequence[tuple[Classifier, dict[str, ImageSet]]]) -> dict[str, float]:
    """Return the mean `separations` of trainings of a model, and those by their disagreement.

    Each comes with the images "training" and "digits", and those of other kinds. evidence: what predict.py
    goes by. disagreement: the entropy of the mean probabilities minus the mean entropy.
    """
    rows: list[dict[str, float]] = []
    votes: dict[str, list[torch.Tensor]] = {}
    for network, sets in trainings:
        features = {kind: forward_all(network.encoder, in_order(images))[0] for kind, images in sets.items()}
        known, scores = features.pop("training"), {}
        for kind, x in features.items():
            logits = network.head(x)
            scores[kind] = unlikeness(logits, x, known) | {"evidence": -network.evidence(x)}
            votes.setdefault(kind, []).append(logits.softmax(1))
        rows.append(separations(scores))
    means = {key: fmean(row[key] for row in rows) for key in rows[0]}
    if len(rows) == 1:
        return means
    entr, scores = torch.special.entr, {}
    for kind, own in votes.items():
        p = torch.stack(own)
        scores[kind] = {"disagreement": entr(p.mean(0)).sum(1) - entr(p).sum(2).mean(0)}
    return means | separations(scores)
