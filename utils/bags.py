"""Evaluation of bags: what the network says of them once, every metric from that."""

import numpy as np
import torch

from data.batches import prepare
from utils.evaluate import evaluating

# Instances that are forwarded at a time, about.
INSTANCES = 2000


@torch.inference_mode()
def predict_bags(model, images, bags, precision="fp32"):
    """What a models.MIL says of Bags out of an ImageSet: a dict of NumPy arrays, float32, in order.

    probabilities: (B,), of a positive bag. attention, instances: (n,), the share of each instance in its
    bag's logit and its own log-odds. precision: of the encoder, "fp32" or "bf16"; the pooling is float32.
    """
    device = images.images.device
    at_a_time = max(1, INSTANCES * len(bags) // int(bags.lengths.sum()))
    parts = []
    with evaluating(model), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        for chosen in torch.arange(len(bags)).split(at_a_time):
            some = bags.select(chosen)
            mask = some.mask
            found = model(prepare(images, some.indices.to(device)), mask)
            mask = mask.to(device)
            parts.append((found.logits.sigmoid(), found.attention[mask], found.instances[mask]))
    names = ("probabilities", "attention", "instances")
    columns = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    return dict(zip(names, columns, strict=True))


def bag_loss(probabilities, labels):
    """Mean binary cross-entropy of (B,) probabilities, nats; see utils.evaluate.cross_entropy."""
    right = np.where(labels, probabilities, 1 - probabilities).astype(np.float64)
    return float(-np.log(right.clip(1e-12)).mean())


def auc(scores, labels):
    """Area under the ROC curve, ties counting half; None when only one of the two classes is there."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores)) if 0 < labels.sum() < len(labels) else None


def key_auc(scores, bags):
    """How well (n,) scores find the key instances inside of a positive bag: the mean of the bags' AUCs.

    That is the chance that a key instance is ranked above another one of its own bag. Bags of key instances
    only say nothing and are left out; None if no bag is left.
    """
    keys = bags.keys.numpy()
    ends = bags.lengths.cumsum(0).numpy()[:-1]
    pairs = zip(np.split(scores, ends), np.split(keys, ends), strict=True)
    found = [pairwise_auc(score, key) for score, key in pairs if 0 < key.sum() < len(key)]
    return float(np.mean(found)) if found else None


def pairwise_auc(scores, keys):
    """AUC of a few scores, by comparing all pairs: without the start-up cost of scikit-learn's, for bags."""
    gap = scores[keys][:, None] - scores[~keys][None, :]
    return ((gap > 0) + 0.5 * (gap == 0)).mean()


def best_threshold(probabilities, labels):
    """The threshold that gets most bags right: half-way between the two predictions that it parts.

    Of equally good ones the nearest to 0.5.
    """
    ordered = np.unique(probabilities.astype(np.float64))
    cuts = np.concatenate([[0.5], (ordered[1:] + ordered[:-1]) / 2])
    right = ((probabilities[None, :] >= cuts[:, None]) == labels).sum(1)
    best = cuts[right == right.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def score_bags(found, bags, prefix, threshold):
    """Metrics of what `predict_bags` gave, named `<prefix>_<metric>`; one that is undefined is left out.

    auc, loss, accuracy at the threshold with its 95 % Wilson interval. key_auc, instance_auc: how well the
    attention, or the instances' own log-odds, find the target inside of positive bags.
    """
    from scipy.stats import binomtest

    labels = bags.labels.numpy()
    right = int(((found["probabilities"] >= threshold) == labels).sum())
    interval = binomtest(right, len(labels)).proportion_ci(0.95, method="wilson")
    values = {
        "auc": auc(found["probabilities"], labels),
        "accuracy": right / len(labels),
        "accuracy_low": float(interval.low),
        "accuracy_high": float(interval.high),
        "loss": bag_loss(found["probabilities"], labels),
        "key_auc": key_auc(found["attention"], bags),
        "instance_auc": key_auc(found["instances"], bags),
    }
    return {f"{prefix}_{name}": value for name, value in values.items() if value is not None}
