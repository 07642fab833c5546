"""Evaluation of bags: predicted once, every metric computed from the predictions."""

import numpy as np
import torch

from data import ImageSet
from data.batches import prepare
from data.mil import Bags
from evaluation.cnn import wilson_interval
from models.mil import MIL, places
from utils.plots.mil import RATES
from utils.runs.folder import RunFolder
from utils.training.fit import Validate
from utils.training.forward import evaluation_mode

# Places for instances, padding included, that are forwarded at a time.
INSTANCES = 2000


@torch.no_grad()
def predict_bags(model: MIL, images: ImageSet, bags: Bags, precision: str = "fp32") -> dict[str, np.ndarray]:
    """Predict bags of images; return float32 arrays by name, in order.

    logits, probabilities: (B,), of a positive bag. attention, instances: (n,), the share of each instance in
    its bag's logit, and its own log-odds. precision: of the encoder, "fp32" or "bf16"; the pooling is fp32.
    """
    device = images.images.device
    at_a_time = max(1, INSTANCES // int(bags.lengths.max()))
    parts = []
    with evaluation_mode(model), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        for chosen in torch.arange(len(bags)).split(at_a_time):
            some = bags.select(chosen)
            pooled = model(prepare(images, some.indices.to(device, non_blocking=True)), some.mask)
            filled = places(some.mask, device)
            attention, instances = (x.flatten()[filled] for x in (pooled.attention, pooled.instances))
            parts.append((pooled.logits, attention, instances))
    names = ("logits", "attention", "instances")
    columns = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    found = dict(zip(names, columns, strict=True))
    found["probabilities"] = found["logits"].sigmoid()
    return {name: column.numpy() for name, column in found.items()}


def bag_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean binary cross-entropy in nats of (B,) log-odds of a positive bag.

    From probabilities it would be wrong where a network is so sure that float32 rounds them to 0 or 1.
    """
    return float(np.logaddexp(0, np.where(labels, -logits, logits), dtype=np.float64).mean())


def auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the area under the ROC curve, ties counting half; None when only one class is present."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores)) if 0 < labels.sum() < len(labels) else None


def key_auc(scores: np.ndarray, bags: Bags) -> float | None:
    """Return how well (n,) scores find the key instances of a positive bag: the mean AUC within bags.

    It is the chance that a key instance ranks above another instance of its bag. Bags with only key
    instances are left out; None if no bag is left.
    """
    keys = bags.keys.numpy()
    ends = bags.lengths.cumsum(0).numpy()[:-1]
    pairs = zip(np.split(scores, ends), np.split(keys, ends), strict=True)
    values = [pairwise_auc(score, key) for score, key in pairs if 0 < key.sum() < len(key)]
    return float(np.mean(values)) if values else None


def pairwise_auc(scores: np.ndarray, keys: np.ndarray) -> float:
    """Return the AUC of a few scores by comparing all pairs: faster for a bag than scikit-learn's."""
    gap = scores[keys][:, None] - scores[~keys][None, :]
    return ((gap > 0) + 0.5 * (gap == 0)).mean()


def best_threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the threshold with the most bags right, half-way between two predictions.

    It may be below or above all of them. Of equally good thresholds it is the nearest to 0.5.
    """
    p = probabilities.astype(np.float64)
    edges = np.concatenate([[0.0], np.unique(p), [1 + 1e-6]])  # the last: above a probability of 1
    cuts = np.concatenate([[0.5], (edges[1:] + edges[:-1]) / 2])
    positive, negative = np.sort(p[labels]), np.sort(p[~labels])
    right = len(positive) - np.searchsorted(positive, cuts) + np.searchsorted(negative, cuts)
    best = cuts[right == right.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def score_bags(predictions: dict[str, np.ndarray], bags: Bags, prefix: str, threshold: float) -> dict:
    """Compute the metrics of `predict_bags`, named `<prefix>_<metric>`; undefined ones are left out.

    auc, loss, accuracy at the threshold with its 95 % Wilson interval. key_auc, instance_auc: how well the
    attention, or the log-odds of the instances, find the target in positive bags.
    """
    labels, probabilities = bags.labels.numpy(), predictions["probabilities"]
    # In float32 the threshold could round to the prediction next to it.
    right = int(((probabilities.astype(np.float64) >= threshold) == labels).sum())
    low, high = wilson_interval(right, len(labels))
    values = {
        "auc": auc(probabilities, labels),
        "accuracy": right / len(labels),
        "accuracy_low": low,
        "accuracy_high": high,
        "loss": bag_loss(predictions["logits"], labels),
        "key_auc": key_auc(predictions["attention"], bags),
        "instance_auc": key_auc(predictions["instances"], bags),
    }
    return {f"{prefix}_{name}": value for name, value in values.items() if value is not None}


def evaluate_bags(
    model: MIL,
    data: tuple[ImageSet, ImageSet],
    val_bags: Bags | None,
    test_bags: Bags,
    precision: str,
) -> tuple[dict, dict]:
    """Evaluate a trained model on validation and test bags.

    The threshold of the accuracy is chosen on the validation bags; without any it is 0.5. Returns the
    metrics, and {"test" and maybe "val"}: (predictions, bags).
    """
    train_set, test_set = data
    predictions = {"test": (predict_bags(model, test_set, test_bags, precision), test_bags)}
    threshold = 0.5
    if val_bags:
        val = predict_bags(model, train_set, val_bags, precision)
        predictions["val"] = (val, val_bags)
        threshold = best_threshold(val["probabilities"], val_bags.labels.numpy())
    metrics: dict = {"threshold": threshold}
    for part, (outputs, bags) in predictions.items():
        metrics |= score_bags(outputs, bags, part, threshold)
    return metrics, predictions


def area_scores(model: MIL, images: ImageSet, tests: dict[str, Bags], precision: str) -> dict[str, float]:
    """Return the AUC of a trained model on several sets of test bags: {"test_<name>_auc": AUC}."""
    scores = {}
    for name, bags in tests.items():
        probabilities = predict_bags(model, images, bags, precision)["probabilities"]
        if (area := auc(probabilities, bags.labels.numpy())) is not None:
            scores[f"test_{name}_auc"] = area
    return scores


def save_bag_predictions(run: RunFolder, predictions: dict) -> None:
    """Save the predictions of `evaluate_bags` and the bags, named <part>_<array>."""
    arrays = {}
    for part, (outputs, bags) in predictions.items():
        for key, value in {**outputs, "labels": bags.labels, **bags._asdict()}.items():
            arrays[f"{part}_{key}"] = np.asarray(value)
    run.save_predictions(**arrays)


def validate_bags(images: ImageSet, bags: Bags, precision: str) -> Validate:
    """Return a `validate` for `fit`: loss and AUC of bags; val_error is 1 - AUC, the criterion.

    The loss would prefer early epochs: a network becomes overconfident before its ranking gets worse.
    """
    labels = bags.labels.numpy()

    def validate(model, epoch):
        found = predict_bags(model, images, bags, precision)
        metrics = {"val_loss": bag_loss(found["logits"], labels)}
        area = auc(found["probabilities"], labels)
        return metrics if area is None else {**metrics, "val_auc": area, "val_error": 1 - area}

    return validate


def roc_points(probabilities: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return the true-positive rates at the false-positive rates RATES; empty when one class is missing."""
    from sklearn.metrics import roc_curve  # here, because loading it takes seconds that --help needn't

    if not 0 < labels.sum() < len(labels):
        return []
    false, true, _ = roc_curve(labels, probabilities)
    return np.interp(RATES, false, true).round(5).tolist()
