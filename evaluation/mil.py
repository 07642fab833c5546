"""Evaluation of bags: predicted once, every metric computed from the predictions."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from data import Data, ImageSet
from data.batches import prepare
from data.mil import Bags
from evaluation.cnn import wilson_interval
from models.mil import MIL, places
from utils.training.fit import Validate
from utils.training.forward import evaluation_mode

# scikit-learn is imported where it is used: loading it takes seconds that --help needn't.

# Places for instances, padding included, that are forwarded at a time.
INSTANCES = 2000


@torch.no_grad()
def predict_bags(model: MIL, images: ImageSet, bags: Bags, precision: str = "fp32") -> dict[str, np.ndarray]:
    """Predict bags of images; return float32 arrays by name, in order.

    logits, probabilities: (B,), of a positive bag. attention, instances: (n,), the share of each instance in
    its bag's logit, and its own log-odds. Of more than two classes all but the attention have a column each.
    precision: of the encoder, "fp32" or "bf16"; the pooling is fp32.
    """
    device = images.images.device
    at_a_time = max(1, INSTANCES // int(bags.lengths.max()))
    parts = []
    with evaluation_mode(model), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        for chosen in torch.arange(len(bags)).split(at_a_time):
            batch = bags.select(chosen)
            pooled = model(prepare(images, batch.indices.to(device, non_blocking=True)), batch.mask)
            filled = places(batch.mask, device)
            attention, instances = (x.flatten(0, 1)[filled] for x in (pooled.attention, pooled.instances))
            parts.append((pooled.logits, attention, instances))
    logits, attention, instances = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    tensors = {"logits": logits, "attention": attention, "instances": instances}
    tensors["probabilities"] = logits.sigmoid() if logits.ndim == 1 else logits.softmax(1)
    return {name: column.numpy() for name, column in tensors.items()}


def bag_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross-entropy of log-odds (B,), exact where probabilities round, or logits (B, C)."""
    if logits.ndim == 2:
        return float(cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))
    return float(np.logaddexp(0, np.where(labels, -logits, logits), dtype=np.float64).mean())


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the area under the ROC curve, ties counting half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def key_auc(scores: np.ndarray, bags: Bags) -> float | None:
    """Return the mean AUC of (n,) scores for key instances within bags; None if every bag is of one kind."""
    ends, values = bags.lengths.cumsum(0).numpy()[:-1], []
    for score, key in zip(np.split(scores, ends), np.split(bags.keys.numpy() > 0, ends), strict=True):
        if 0 < key.sum() < len(key):
            gap = score[key][:, None] - score[~key]  # all pairs: faster for a bag than scikit-learn's AUC
            values.append(((gap > 0) + 0.5 * (gap == 0)).mean())
    return float(np.mean(values)) if values else None


def best_threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the threshold with the most bags right, half-way between two predictions, nearest to 0.5."""
    p = probabilities.astype(np.float64)
    edges = np.concatenate([[0.0], np.unique(p), [1 + 1e-6]])  # the last: above a probability of 1
    cuts = np.concatenate([[0.5], (edges[1:] + edges[:-1]) / 2])
    positive, negative = np.sort(p[labels]), np.sort(p[~labels])
    right = len(positive) - np.searchsorted(positive, cuts) + np.searchsorted(negative, cuts)
    best = cuts[right == right.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def bag_scores(predictions: dict[str, np.ndarray], bags: Bags, prefix: str, threshold: float) -> dict:
    """Compute the metrics of `predict_bags`, named `<prefix>_<metric>`; without a key_auc that is undefined.

    accuracy: at the threshold. key_auc, instance_auc: how well the attention, or the log-odds of
    the instances, find the target in positive bags. The bags must be of both kinds. Of more than two classes
    the likeliest is the answer, and there is no AUC.
    """
    labels, probabilities = bags.labels.numpy(), predictions["probabilities"]
    several = probabilities.ndim == 2
    # In float32 the threshold could round to the prediction next to it.
    answers = probabilities.argmax(1) if several else probabilities.astype(np.float64) >= threshold
    right = int((answers == labels).sum())
    low, high = wilson_interval(right, len(labels))
    values = {
        "auc": None if several else auc(probabilities, labels),
        "accuracy": right / len(labels),
        "accuracy_low": low,
        "accuracy_high": high,
        "loss": bag_loss(predictions["logits"], labels),
        "key_auc": key_auc(predictions["attention"], bags),
        "instance_auc": None if several else key_auc(predictions["instances"], bags),
    }
    return {f"{prefix}_{name}": value for name, value in values.items() if value is not None}


def evaluate_bags(
    model: MIL, data: Data, bags: dict[str, Bags], precision: str
) -> tuple[dict, dict[str, np.ndarray]]:
    """Evaluate a trained model; return the metrics, and predictions and bags as {"test_probabilities": ...}.

    bags: "test" and, optionally, "val", which chooses the threshold of the accuracy; without it that is 0.5.
    For further test bags, "test_<name>", only the AUC is computed.
    """
    metrics: dict = {"threshold": 0.5}
    arrays = {}
    for part in ("val", "test") if "val" in bags else ("test",):
        own = bags[part]
        predictions = predict_bags(model, data[part == "test"], own, precision)
        if part == "val" and predictions["probabilities"].ndim == 1:
            metrics["threshold"] = best_threshold(predictions["probabilities"], own.labels.numpy())
        metrics |= bag_scores(predictions, own, part, metrics["threshold"])
        for name, value in {**predictions, "labels": own.labels, **own._asdict()}.items():
            arrays[f"{part}_{name}"] = np.asarray(value)
    for name in (name for name in bags if name.startswith("test_")):
        probabilities = predict_bags(model, data[1], bags[name], precision)["probabilities"]
        metrics[f"{name}_auc"] = auc(probabilities, bags[name].labels.numpy())
    return metrics, arrays


def validate_bags(images: ImageSet, bags: Bags, precision: str) -> Validate:
    """Return a `validate` for `fit`: loss and AUC (or accuracy) of bags; val_error, the criterion, is 1 - it.

    The loss would prefer early epochs: a network becomes overconfident before its ranking gets worse.
    """
    labels = bags.labels.numpy()

    def validate(model, epoch):
        predictions = predict_bags(model, images, bags, precision)
        probabilities, loss = predictions["probabilities"], bag_loss(predictions["logits"], labels)
        if probabilities.ndim == 2:
            accuracy = float((probabilities.argmax(1) == labels).mean())
            return {"val_loss": loss, "val_accuracy": accuracy, "val_error": 1 - accuracy}
        area = auc(probabilities, labels)
        return {"val_loss": loss, "val_auc": area, "val_error": 1 - area}

    return validate
