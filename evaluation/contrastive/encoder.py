"""What a frozen encoder is worth: k-NN, linear probe and clustering, and what its figures show."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from data import Data, ImageSet, generator, in_order
from evaluation.contrastive import clustering
from evaluation.contrastive.features import Features, Probe, accuracy, encode, frozen_scores, knn, neighbours
from models import create
from utils.training.fit import Validate
from utils.training.forward import forward_all

# The k-NN accuracy that is watched during training has this many training images as reference.
WATCHED_REFERENCE = 10_000
# What the figures show: test images on the map, neighbours of a query.
MAPPED, SHOWN_NEIGHBOURS = 2000, 10


class EncoderScores(NamedTuple):
    """The record of an evaluation and the arrays of predictions.npz."""

    record: dict[str, Any]
    arrays: dict[str, np.ndarray]


@contextlib.contextmanager
def stopwatch(record: dict, name: str) -> Iterator[None]:
    """Add the seconds that the block takes, work on a GPU included, to record["<name>_seconds"]."""
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    wait()
    start = time.perf_counter()
    yield
    wait()
    key = f"{name}_seconds"
    record[key] = round(record.get(key, 0.0) + time.perf_counter() - start, 3)


def evaluate_encoder(
    encoder: nn.Module,
    data: Data,
    splits: tuple[torch.Tensor, torch.Tensor],
    precision: str = "fp32",
    seed: int = 0,
    head: nn.Module | None = None,
) -> EncoderScores:
    """Score a frozen encoder (B, 1, 28, 28) -> (B, D) by k-NN, linear probe and clustering.

    data: (train, test) ImageSets. splits: (training, validation) indices of the training images. precision:
    of the forward passes. head: the projection head, whose outputs are scored as well.

    Metrics are named test_<prefix><what>_accuracy; the prefix is "random_" for a random encoder, "pixels_"
    for raw pixels and "head_" for the outputs of the head. <part>_seconds is the time of a part: features,
    frozen (k-NN and probe), graph, kmeans and kmeans_spread.
    """
    record: dict[str, Any] = {}
    with stopwatch(record, "features"):
        own = encode(encoder, data, *splits, precision)
    torch.manual_seed(seed)
    floor = create(str(encoder.name), 0).to(data[0].images.device).to(memory_format=torch.channels_last)
    random = encode(floor, data, *splits, precision)
    pixels = encode(nn.Flatten(), data, *splits, "fp32")
    probes = {}
    for prefix, features in {"": own, "random_": random, "pixels_": pixels}.items():
        with stopwatch(record, f"{prefix}frozen"):
            scores, probes[prefix] = frozen_scores(features)
        record |= with_prefix(prefix, scores)
    with stopwatch(record, "graph"):
        graph = clustering.neighbour_graph(own.train)
    with stopwatch(record, "kmeans"):
        clusters = clustering.cluster(own.train, own.test, own.classes)
    record |= clustering.clustering_scores(own, *clusters)
    with stopwatch(record, "kmeans_spread"):
        record["test_kmeans_spread_accuracy"] = clustering.spread_accuracy(own, graph, clusters[0])
    if head is not None:
        after = own.map(head.eval())
        clusters = clustering.cluster(after.train, after.test, after.classes)
        scores = frozen_scores(after)[0] | clustering.clustering_scores(after, *clusters)
        record |= with_prefix("head_", scores)
    return EncoderScores(record, figure_arrays(own, probes[""], splits))


def figure_arrays(
    f: Features, probe: Probe, splits: tuple[torch.Tensor, torch.Tensor]
) -> dict[str, np.ndarray]:
    """Return the probabilities of the probe, as a classifier's, and what the figures show.

    queries: a test image of each class; nearest: the training images next to it. mapped: test images for
    the map.
    """
    mapped = torch.randperm(len(f.test), generator=generator(0))[:MAPPED]
    queries = torch.stack([(f.test_labels == label).nonzero()[0, 0] for label in f.test_labels.unique()])
    nearest = neighbours(f.test[queries], f.train, min(SHOWN_NEIGHBOURS, len(f.train)))[1]
    arrays = {
        "test_probabilities": probe(f.test).softmax(1),
        "test_labels": f.test_labels,
        "val_probabilities": probe(f.val).softmax(1),
        "val_labels": f.val_labels,
        "val_indices": splits[1],
        "queries": queries,
        "nearest": splits[0][nearest.cpu()],
        "mapped": mapped,
        "map_features": f.test[mapped],
    }
    return {key: value.cpu().numpy() for key, value in arrays.items()}


def map_columns(arrays: dict[str, np.ndarray], images: ImageSet) -> dict[str, np.ndarray]:
    """Map the test images arrays["mapped"] by t-SNE of their features (x, y) and of their pixels."""
    mapped = torch.from_numpy(arrays["mapped"])
    pixels = clustering.tsne_map(images.images.cpu()[mapped].flatten(1).float())
    features = clustering.tsne_map(torch.from_numpy(arrays["map_features"]))
    columns = (images.labels.cpu()[mapped].numpy(), *features.T, *pixels.T)
    return dict(zip(("digit", "x", "y", "pixels_x", "pixels_y"), columns, strict=True))


def with_prefix(prefix: str, scores: dict) -> dict:
    """Rename test_knn_accuracy to test_<prefix>knn_accuracy, and so on."""
    return {key.replace("_", f"_{prefix}", 1): value for key, value in scores.items()}


def watch_knn(
    images: ImageSet, splits: tuple[torch.Tensor, torch.Tensor], every: int, epochs: int, precision: str
) -> Validate:
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
