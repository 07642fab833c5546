"""What a frozen encoder is worth: every score of it, the files it leaves, and what its figures show."""

from argparse import Namespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from data import Data, ImageSet, generator, in_order, view_batches
from evaluation.contrastive.clustering import cluster, clustering_scores, neighbour_graph, tsne_map
from evaluation.contrastive.features import (
    Features,
    Probe,
    accuracy,
    augmented_probe_scores,
    encode,
    frozen_scores,
    knn,
    neighbours,
)
from evaluation.contrastive.options import EncoderOptions, stopwatch
from evaluation.few_labels.scorers import few_label_scores, finetuned_score, spread_cluster_scores
from models import create, load_encoder
from utils.plots import contrastive as plots
from utils.runs.folder import RunFolder
from utils.training.fit import Validate
from utils.training.forward import forward_all

# The k-NN accuracy that is watched during training has this many training images as reference.
WATCHED_REFERENCE = 10_000
# What the figures show: test images on the map, neighbours of a query, pairs of views.
MAPPED, SHOWN_NEIGHBOURS, SHOWN_PAIRS = 2000, 10, 24
MAP_HEADER = "digit,x,y,pixels_x,pixels_y\n"


class EncoderScores(NamedTuple):
    """The record of an evaluation, the features of the encoder and the probe with all labels."""

    record: dict
    features: Features
    probe: Probe


def evaluate_encoder(
    encoder: nn.Module,
    data: Data,
    splits: tuple[torch.Tensor, torch.Tensor],
    options: EncoderOptions,
    seed: int = 0,
    head: nn.Module | None = None,
) -> EncoderScores:
    """Score a frozen encoder (B, 1, 28, 28) -> (B, D) in every way that the options ask for.

    data: (train, test) ImageSets. splits: (training, validation) indices of the training images. head: a
    projection head, whose outputs are scored as well. Metrics are named test_<prefix><what>_accuracy; the
    prefix is "random_" for a random encoder, "pixels_" for raw pixels and "head_" for the outputs of the
    head. <part>_seconds is the time that a part of the evaluation takes: features, frozen (k-NN and probe),
    graph, kmeans, kmeans_spread (with self-training, if asked for), finetuned, and, per draw of few labels,
    <what>_<n>.
    """
    train_idx, encoders = splits[0], {"": encoder}
    record: dict[str, Any] = {}
    probes: dict[str, Probe] = {}
    with stopwatch(record, "features"):
        own = encode(encoder, data, *splits, options.precision)
    features = {"": own}
    if options.floors:
        torch.manual_seed(seed)
        floor = create(str(encoder.name), 0)
        encoders["random_"] = floor.to(data[0].images.device).to(memory_format=torch.channels_last)
        features["random_"] = encode(encoders["random_"], data, *splits, options.precision)
        features["pixels_"] = encode(nn.Flatten(), data, *splits, "fp32")
    for prefix in features:
        with stopwatch(record, f"{prefix}frozen"):
            scores, probes[prefix] = frozen_scores(features[prefix])
        record |= with_prefix(prefix, scores)
    if options.clustering or options.few_labels:
        with stopwatch(record, "graph"):
            graph = neighbour_graph(own.train)
    if options.clustering:
        with stopwatch(record, "kmeans"):
            clusters = cluster(own.train, own.test, own.classes)
        record |= clustering_scores(own, clusters)
        with stopwatch(record, "kmeans_spread"):
            record |= spread_cluster_scores(own, graph, clusters[0], data, train_idx, options, seed)
    if options.augmented_probe:
        record |= augmented_probe_scores(encoder, own, data[0], train_idx, options.precision)
    if options.finetune:
        for prefix, network in encoders.items():
            with stopwatch(record, f"{prefix}finetuned"):
                scores = finetuned_score(network, probes[prefix], data, train_idx, options, seed)
            record |= with_prefix(prefix, scores)
    if head is not None:
        record |= with_prefix("head_", head_scores(own.map(head.eval()), options))
    if options.few_labels:
        record |= few_label_scores(features, encoders, graph, data, train_idx, options, seed)
    return EncoderScores(record, own, probes[""])


def head_scores(after: Features, options: EncoderOptions) -> dict[str, float]:
    """Score the outputs of the projection head."""
    scores = frozen_scores(after)[0]
    if options.clustering:
        scores |= clustering_scores(after, cluster(after.train, after.test, after.classes))
    return scores


def with_prefix(prefix: str, scores: dict) -> dict:
    """Rename test_knn_accuracy to test_<prefix>knn_accuracy, and so on."""
    return {key.replace("_", f"_{prefix}", 1): value for key, value in scores.items()}


def watch_knn(
    train_set: ImageSet,
    splits: tuple[torch.Tensor, torch.Tensor],
    every: int,
    epochs: int,
    precision: str,
) -> Validate:
    """Return a `validate` for `fit`: the k-NN accuracy of model.encoder on the validation images.

    It is computed every `every` epochs and after the last one.
    """
    train_idx, val_idx = splits
    reference, queries = in_order(train_set, train_idx[:WATCHED_REFERENCE]), in_order(train_set, val_idx)

    def validate(model, epoch):
        if epoch % every and epoch < epochs:
            return {}
        known, known_labels = forward_all(model.encoder, reference, precision)
        features, labels = forward_all(model.encoder, queries, precision)
        votes = knn(known, known_labels, features, classes=len(train_set.classes))
        return {"val_knn_accuracy": accuracy(votes, labels)}

    return validate


def save_encoder(run: RunFolder, encoder: nn.Module, train_set: ImageSet) -> nn.Module:
    """Write encoder.pt and return a fresh copy of the encoder, on the device of the images.

    Under torchrun the trained encoder has synchronised layers, which wait for the other ranks; the copy has
    none.
    """
    run.save_model("encoder.pt", encoder, str(encoder.name), train_set.description, num_classes=0)
    copy = load_encoder(run.path("encoder.pt"))
    return copy.to(train_set.images.device).to(memory_format=torch.channels_last)


def save_predictions(
    run: RunFolder, scores: EncoderScores, splits: tuple[torch.Tensor, torch.Tensor], **more: np.ndarray
) -> None:
    """Save the probabilities of the probe, as a classifier's, what the figures show, and `more`."""
    f, probe = scores.features, scores.probe
    train_idx, val_idx = splits
    mapped = torch.randperm(len(f.test), generator=generator(0))[:MAPPED]
    queries = torch.stack([(f.test_labels == label).nonzero()[0, 0] for label in f.test_labels.unique()])
    nearest = neighbours(f.test[queries], f.train, min(SHOWN_NEIGHBOURS, len(f.train)))[1]
    arrays = {
        "test_probabilities": probe(f.test).softmax(1),
        "test_labels": f.test_labels,
        "val_probabilities": probe(f.val).softmax(1),
        "val_labels": f.val_labels,
        "val_indices": val_idx,
        "queries": queries,
        "nearest": train_idx[nearest.cpu()],
        "mapped": mapped,
        "map_features": f.test[mapped],
    }
    run.save_predictions(**{key: value.cpu().numpy() for key, value in arrays.items()}, **more)


def draw_views(run: RunFolder, args: Namespace, images: ImageSet) -> None:
    """Draw views.png: pairs of views of the first images, as --views and --strength make them."""
    shown = torch.arange(min(SHOWN_PAIRS, len(images.labels)))
    pairs = view_batches(images, shown, SHOWN_PAIRS, args.views, args.strength, seed=args.seed)
    views, _ = next(pairs.epoch())
    plots.plot_views(views.squeeze(2).cpu().numpy(), run.path("views.png"))


def draw_encoder(run: RunFolder, first: RunFolder, data: Data, title: str) -> None:
    """Draw neighbours.png and map.png of a run, and write map.csv, from the predictions in folder `first`."""
    train_set, test_set = data
    saved = first.predictions()
    queries, nearest = torch.from_numpy(saved["queries"]), torch.from_numpy(saved["nearest"])
    plots.plot_neighbours(
        test_set.images.cpu()[queries].squeeze(1).numpy(),
        train_set.images.cpu()[nearest].squeeze(2).numpy(),
        test_set.labels.cpu()[queries].numpy(),
        train_set.labels.cpu()[nearest].numpy(),
        run.path("neighbours.png"),
    )
    mapped = torch.from_numpy(saved["mapped"])
    labels = test_set.labels.cpu()[mapped].numpy()
    pixels = tsne_map(test_set.images.cpu()[mapped].flatten(1).float())
    features = tsne_map(torch.from_numpy(saved["map_features"]))
    run.write_text("map.csv", map_csv(labels, features, pixels))
    named = (("t-SNE of raw pixels", pixels), (f"t-SNE of {title}", features))
    maps = [{"title": name, "points": points, "labels": labels} for name, points in named]
    plots.plot_maps(maps, run.path("map.png"), classes=test_set.classes)


def report_encoder(metrics: dict, run: RunFolder) -> None:
    """Print the accuracies of a pre-trained encoder, the time and where everything is."""
    mean = metrics["mean"]
    print(
        f"test accuracy on frozen features: linear {mean['test_linear_accuracy']:.2%}, k-NN "
        f"{mean['test_knn_accuracy']:.2%}; {metrics['seconds']:.0f} s of pre-training; figures and metrics "
        f"in {run.folder}/"
    )


def map_csv(digits: np.ndarray, features: np.ndarray, pixels: np.ndarray) -> str:
    """Format the maps of features and of raw pixels as CSV, one line per image."""
    rows = zip(digits.tolist(), features.tolist(), pixels.tolist(), strict=True)
    return MAP_HEADER + "".join(
        f"{digit},{x:.1f},{y:.1f},{px:.1f},{py:.1f}\n" for digit, (x, y), (px, py) in rows
    )
