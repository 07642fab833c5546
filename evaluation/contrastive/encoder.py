"""What a frozen encoder is worth: k-NN, linear probe and clustering, and a map of its features."""

import numpy as np
import torch
from torch import Tensor, nn

from data import Data, ImageSet, generator, in_order
from evaluation.contrastive import clustering
from evaluation.contrastive.features import accuracy, encode, frozen_scores, knn
from models import create
from utils.training.fit import Validate
from utils.training.forward import forward_all

WATCHED_REFERENCE = 10_000  # training images that `watch_knn` searches
MAPPED = 2000  # test images on the map
Splits = tuple[Tensor, Tensor]  # training and validation indices


def evaluate_encoder(
    encoder: nn.Module, data: Data, splits: Splits, precision: str, seed: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Score a frozen encoder (B, 1, 28, 28) -> (B, D) by k-NN, linear probe and clustering.

    data: (train, test) ImageSets. precision: of the forward passes.

    Returns the metrics and the arrays of predictions.npz. Metrics are named test_<prefix><score>_accuracy;
    the prefix is "random_" for a random encoder and "pixels_" for raw pixels.
    """
    own = encode(encoder, data, *splits, precision)
    torch.manual_seed(seed)
    floor = create(str(encoder.name), 0).to(data[0].images.device).to(memory_format=torch.channels_last)
    scores, probe = frozen_scores(own)
    scores |= with_prefix("random_", frozen_scores(encode(floor, data, *splits, precision))[0])
    scores |= with_prefix("pixels_", frozen_scores(encode(nn.Flatten(), data, *splits, "fp32"))[0])
    of_clusters, clusters = clustering.clustering_scores(own)
    scores |= of_clusters | {"test_kmeans_spread_accuracy": clustering.spread_accuracy(own, clusters)}
    mapped = torch.randperm(len(own.test), generator=generator(0))[:MAPPED]
    arrays = {
        "test_probabilities": probe(own.test).softmax(1),  # as those of a classifier
        "test_labels": own.test_labels,
        "val_probabilities": probe(own.val).softmax(1),
        "val_labels": own.val_labels,
        "val_indices": splits[1],
        "mapped": mapped,
        "map_features": own.test[mapped],
    }
    return scores, {key: value.cpu().numpy() for key, value in arrays.items()}


def map_table(arrays: dict[str, np.ndarray], images: ImageSet) -> str:
    """Return map.csv: the test images arrays["mapped"] by t-SNE of their features, and of their pixels."""
    mapped = torch.from_numpy(arrays["mapped"])
    pixels = clustering.tsne_map(images.images.cpu()[mapped].flatten(1).float())
    features = clustering.tsne_map(torch.from_numpy(arrays["map_features"]))
    points = np.concatenate([features, pixels], 1)
    rows = zip(images.labels.cpu()[mapped].tolist(), points.tolist(), strict=True)
    lines = [",".join([str(digit), *(f"{value:.1f}" for value in point)]) for digit, point in rows]
    return "\n".join(["digit,x,y,pixels_x,pixels_y", *lines]) + "\n"


def with_prefix(prefix: str, scores: dict) -> dict:
    """Rename test_knn_accuracy to test_<prefix>knn_accuracy, and so on."""
    return {key.replace("_", f"_{prefix}", 1): value for key, value in scores.items()}


def watch_knn(images: ImageSet, splits: Splits, every: int, epochs: int, precision: str) -> Validate:
    """Return a `validate` for `fit`: the k-NN accuracy of model.encoder on the validation images.

    It is computed every `every` epochs and after the last one.
    """
    reference, queries = in_order(images, splits[0][:WATCHED_REFERENCE]), in_order(images, splits[1])

    def validate(model, epoch):
        if epoch % every and epoch < epochs:
            return {}
        known, known_labels = forward_all(model.encoder, reference, precision)
        features, labels = forward_all(model.encoder, queries, precision)
        votes = knn(known, known_labels, features, classes=len(images.classes))
        return {"val_knn_accuracy": accuracy(votes, labels)}

    return validate
