"""From few labels to a classifier on top of a pre-trained encoder: probes, fine-tuning, self-training."""

import copy
import functools
from collections.abc import Callable
from statistics import fmean
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from data import POLICIES, BatchLoader, Data, ImageSet, few_labels, in_order, view_augment
from evaluation.contrastive.clustering import (
    cluster,
    cluster_head,
    match_clusters,
    named_accuracy,
    neighbour_graph,
    spread_clusters,
    spread_labels,
)
from evaluation.contrastive.features import (
    DECAY,
    NEIGHBOURS,
    Features,
    Probe,
    accuracy,
    common_scale,
    few_label_probe,
    fit_probe,
    knn,
    neighbours,
    on_sphere,
    vote,
)
from evaluation.contrastive.options import EncoderOptions, stopwatch
from models import Classifier, create
from utils.errors import UserError
from utils.training.config import FitConfig
from utils.training.few_labels import ConsistencyBatches, consistency_step
from utils.training.fit import classification_step, fit
from utils.training.forward import forward_all

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LABELS_PER_CLASS = (1, 10, 100)
# Self-training is for scarce labels: with more of them fine-tuning alone does it.
DISTILLED = (1, 10)

# Chosen on validation images. With few labels, whatever their number, an "epoch" has this many images.
FINETUNE = {"epochs": 6, "batch_size": 64, "lr": 1e-3, "weight_decay": 0.02, "ema": 0.99}
FINETUNE_IMAGES = 1600
# With all labels: the same, but two passes.
FINETUNE_ALL = {**FINETUNE, "epochs": 2, "batch_size": 256}
ROUNDS = 2  # of self-training
DISTIL = {"epochs": 4, "batch_size": 256, "lr": 5e-3, "weight_decay": 0.02, "ema": 0.998}
# Consistency training starts from a good network, hence the low rate. An epoch is one pass over the images.
CONSISTENCY = {"epochs": 4, "lr": 1e-3, "weight_decay": 0.02, "ema": 0.998}
CONSISTENCY_BATCH, LABELLED_BATCH, THRESHOLD = 256, 64, 0.95
WEAK, STRONG = POLICIES["shift"], view_augment(["affine", "elastic", "blur", "erase", "stroke"])


# --- Training ---


def train_classifier(
    model: Classifier,
    images: ImageSet,
    indices: torch.Tensor,
    recipe: dict,
    options: EncoderOptions,
    seed: int,
) -> Classifier:
    """Train `model` with strong augmentation on the images at `indices`; write nothing.

    images: an ImageSet whose labels may be probabilities (N, classes).
    """
    batches = BatchLoader(images, indices, recipe["batch_size"], seed=seed, augment=POLICIES["strong"])
    fit(model, classification_step(model), batches, fit_config(recipe, options))
    return model


def fit_config(recipe: dict, options: EncoderOptions) -> FitConfig:
    """Return the settings of a silent training by a recipe; its schedule is one-cycle unless it names one."""
    how = {"precision": options.precision, "compile": options.compile, "max_steps": options.max_steps}
    return FitConfig.from_values({"schedule": "one-cycle", **recipe, **how, "quiet": True})


def finetune(
    encoder: nn.Module,
    probe: Probe,
    images: ImageSet,
    labelled: torch.Tensor,
    options: EncoderOptions,
    seed: int,
    recipe: dict,
) -> Classifier:
    """Train a copy of the encoder under the probe on the labelled images; return the Classifier.

    Starting from the fitted probe instead of random weights keeps the first steps from distorting the
    features (Kumar et al., 2022).
    """
    torch.manual_seed(seed)
    model = with_probe(encoder, probe, images.images.device)
    repeated = labelled.repeat(max(1, FINETUNE_IMAGES // len(labelled)))
    return train_classifier(model, images, repeated, recipe, options, seed)


def with_probe(encoder: nn.Module, probe: Probe, device: torch.device) -> Classifier:
    """Return a copy of the encoder under a head that computes what the probe does."""
    model = Classifier(copy.deepcopy(encoder), len(probe.mean), len(probe.linear.bias)).to(device)
    weight = probe.linear.weight / probe.std
    model.head.load_state_dict({"weight": weight, "bias": probe.linear.bias - weight @ probe.mean})
    return model


def distil(
    probabilities: torch.Tensor,
    student: str,
    images: ImageSet,
    indices: torch.Tensor,
    options: EncoderOptions,
    seed: int,
) -> Classifier:
    """Train a fresh classifier `student` on images labelled by probabilities (N, classes)."""
    targets = probabilities.new_zeros(len(images.labels), probabilities.shape[1])
    targets[indices.to(targets.device)] = probabilities
    torch.manual_seed(seed)
    model = cast(Classifier, create(student, probabilities.shape[1]))
    model = model.to(images.images.device).to(memory_format=torch.channels_last)
    return train_classifier(model, images._replace(labels=targets), indices, DISTIL, options, seed)


def self_train(
    spread: torch.Tensor,
    respread: Callable[[torch.Tensor, "csr_array"], torch.Tensor],
    options: EncoderOptions,
    data: Data,
    train_idx: torch.Tensor,
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Self-train in rounds: a student learns the spread labels, which then spread over its features.

    spread: probabilities (N, classes) of the training images. respread: computes such probabilities from the
    student's features (N, D) and their neighbour_graph.

    Returns the test logits of the first student, which is the distillation of SimCLRv2 (Chen et al., 2020b),
    and the training and test probabilities after the last round; the latter by k-NN on its features.
    """
    train_set, test_set = data
    for number in range(ROUNDS):
        student = distil(spread, options.student, train_set, train_idx, options, seed)
        if number == 0:
            first, _ = forward_all(student, in_order(test_set))
        features, _ = forward_all(student.encoder, in_order(train_set, train_idx), options.precision)
        spread = respread(features, neighbour_graph(features))
    test_features, _ = forward_all(student.encoder, in_order(test_set), options.precision)
    return first, spread, knn(features, spread, test_features)


# --- Scores ---


def finetuned_score(
    encoder: nn.Module, probe: Probe, data: Data, train_idx: torch.Tensor, options: EncoderOptions, seed: int
) -> dict[str, float]:
    """Score encoder and probe, fine-tuned together with all labels of the training split."""
    train_set, test_set = data
    model = finetune(encoder, probe, train_set, train_idx, options, seed, FINETUNE_ALL)
    logits, labels = forward_all(model, in_order(test_set))
    return {"test_finetuned_accuracy": accuracy(logits, labels)}


def spread_cluster_scores(
    f: Features,
    graph: "csr_array",
    clusters: np.ndarray,
    data: Data,
    train_idx: torch.Tensor,
    options: EncoderOptions,
    seed: int,
) -> dict[str, float]:
    """Score without a label: clusters spread over the graph and, with options.distill, self-trained.

    graph, clusters: the neighbour_graph and the k-means clusters of f.train. The clusters are named as in
    `clustering_scores`, by the training labels.
    """

    def respread(features, graph):
        assigned, _ = cluster(features, features[:1], f.classes)
        return spread_clusters(assigned, graph, features.device, f.classes)

    train = spread_clusters(clusters, graph, f.train.device, f.classes)
    scores = {"test_kmeans_spread_accuracy": named_accuracy(train, knn(f.train, train, f.test), f)}
    if options.distill:
        _, train, test = self_train(train, respread, options, data, train_idx, seed)
        scores["test_kmeans_self_trained_accuracy"] = named_accuracy(train, test, f)
    return scores


def label_split(indices: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split indices (N,) into the labelled ones, at the positions `chosen`, and all others, unlabelled."""
    labelled = torch.zeros(len(indices), dtype=torch.bool)
    labelled[chosen.cpu()] = True
    return indices[labelled], indices[~labelled]


class FewLabels:
    """Scorers of one encoder's features with few labels; each returns {name: test outputs (N, classes)}.

    features: of all splits. chosen: positions of the labelled images among the training features; no other
    training label is used.
    """

    def __init__(
        self,
        features: Features,
        data: Data,
        train_idx: torch.Tensor,
        options: EncoderOptions,
    ):
        self.length = features.train.norm(dim=1).mean()
        self.features = on_sphere(features)
        self.scale = common_scale(self.features.train)
        self.data, self.train_idx, self.options = data, train_idx, options
        self._refined_clusters: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def frozen(self, chosen: torch.Tensor) -> dict[str, torch.Tensor]:
        """k-NN and linear probe."""
        f = self.features
        votes = knn(f.train[chosen], f.train_labels[chosen], f.test, classes=f.classes)
        return {"knn": votes, "linear": few_label_probe(f, chosen, self.scale)(f.test)}

    def finetuned(self, encoder: nn.Module, chosen: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
        """The encoder of the features and a probe, trained together."""
        train_set, test_set = self.data
        probe = few_label_probe(self.features, chosen, self.scale).rescaled(self.length)
        labelled = self.train_idx[chosen]
        model = finetune(encoder, probe, train_set, labelled, self.options, seed, FINETUNE)
        return {"finetuned": forward_all(model, in_order(test_set))[0]}

    def spread(self, chosen: torch.Tensor, graph: "csr_array") -> dict[str, torch.Tensor]:
        """Labels that spread over the graph of the training features, then k-NN."""
        return {"spread": self._vote(self._spread(chosen, graph))}

    def self_trained(self, chosen: torch.Tensor, graph: "csr_array", seed: int) -> dict[str, torch.Tensor]:
        """Students of the spread labels: after the first round and after the last."""

        def respread(_, graph):
            return self._spread(chosen, graph)

        spread = respread(None, graph)
        first, _, last = self_train(spread, respread, self.options, self.data, self.train_idx, seed)
        return {"distilled": first, "self_trained": last}

    def refined(self, chosen: torch.Tensor, graph: "csr_array", seed: int) -> dict[str, torch.Tensor]:
        """Students of the spread labels, over whose features the labels of all images spread, not the few.

        With the few alone, as in `self_trained`, a style that no labelled image has can change sides.
        """
        return {"refined": self._refine(self._spread(chosen, graph), seed)[1]}

    def consistent(
        self, encoder: nn.Module, chosen: torch.Tensor, graph: "csr_array", seed: int
    ) -> dict[str, torch.Tensor]:
        """FixMatch from the encoder of the features, under a probe fitted to the spread labels."""
        f, (train_set, test_set) = self.features, self.data
        guessed = self._spread(chosen, graph).argmax(1)
        probe = fit_probe(f.train, guessed, self.scale, DECAY, classes=f.classes).rescaled(self.length)
        torch.manual_seed(seed)
        model = with_probe(encoder, probe, f.train.device)
        split = label_split(self.train_idx, chosen)
        if not len(split[1]):
            raise UserError("FixMatch needs unlabelled images: use fewer --labels")
        batches = ConsistencyBatches(train_set, *split, CONSISTENCY_BATCH, LABELLED_BATCH, WEAK, STRONG, seed)
        fit(model, consistency_step(model, THRESHOLD), batches, fit_config(CONSISTENCY, self.options))
        return {"consistent": forward_all(model, in_order(test_set))[0]}

    def clusters(self, graph: "csr_array", seed: int) -> dict[str, torch.Tensor]:
        """Trained clusters, spread over the graph and named by the training labels; then k-NN."""
        spread = self._cluster(graph, seed)
        return {"clusters": self._vote(spread)[:, self._names(spread.argmax(1))]}

    def self_labelled(self, graph: "csr_array", seed: int) -> dict[str, torch.Tensor]:
        """`refined` from clusters. The training labels name them; nothing else here looks at those."""
        train, test = self.refined_clusters(graph, seed)
        return {"self_labelled": test[:, self._names(train.argmax(1))]}

    def named(self, chosen: torch.Tensor, graph: "csr_array", seed: int) -> dict[str, torch.Tensor]:
        """The clusters of `self_labelled`, named by the labelled images alone."""
        train, test = self.refined_clusters(graph, seed)
        return {"named": test[:, self._names(train[chosen], chosen)]}

    def refined_clusters(self, graph: "csr_array", seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Refine the clusters of a seed, once; return training and test probabilities (N, classes)."""
        if seed not in self._refined_clusters:
            self._refined_clusters[seed] = self._refine(self._cluster(graph, seed), seed)
        return self._refined_clusters[seed]

    def _refine(self, spread, seed):
        """Return the training and test probabilities of self-training in which all spread labels spread."""
        labels = spread.argmax(1).cpu().numpy()

        def respread(_, graph):
            return spread_clusters(labels, graph, spread.device, self.features.classes)

        return self_train(spread, respread, self.options, self.data, self.train_idx, seed)[1:]

    def _cluster(self, graph, seed):
        """Return the clusters of a cluster head, spread over the graph: probabilities (N, classes)."""
        f = self.features
        head = cluster_head(f.train, graph, f.classes, seed)
        assigned = head(f.train).argmax(1).cpu().numpy()
        return spread_clusters(assigned, graph, f.train.device, f.classes)

    def _names(self, clusters, chosen=slice(None)):
        """Return the cluster of each class, matched on the labels of the chosen training images."""
        labels = self.features.train_labels[chosen].cpu().numpy()
        names = match_clusters(clusters.cpu().numpy(), labels, self.features.classes)
        return torch.from_numpy(names).argsort()

    @functools.cached_property
    def test_neighbours(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The neighbours of the test images, which all draws share: most of the time of a spread."""
        f = self.features
        return neighbours(f.test, f.train, min(NEIGHBOURS, len(f.train)))

    def _vote(self, probabilities):
        """Return the k-NN outputs of the test images from probabilities (N, classes) of the training ones."""
        cosine, nearest = self.test_neighbours
        return vote(cosine, nearest, probabilities)

    def _spread(self, chosen, graph):
        return spread_labels(graph, chosen, self.features.train_labels[chosen], self.features.classes)


def few_label_scores(
    features: dict[str, Features],
    encoders: dict[str, nn.Module],
    graph: "csr_array",
    data: Data,
    train_idx: torch.Tensor,
    options: EncoderOptions,
    seed: int,
) -> dict:
    """Score 1, 10 and 100 labels per class on the test images, over options.draws draws of the labels.

    features: {prefix: Features} for k-NN and probe. encoders: {prefix: encoder} to fine-tune. Labels also
    spread over `graph`, the neighbour_graph of the training features of prefix "", and with options.distill
    they teach fresh students. Numbers of labels that a class does not have are left out.

    Returns test_<prefix><what>_<n>_accuracies, one for each draw, ..._accuracy, their mean, and the seconds
    that a draw takes.
    """
    _, test_set = data
    labels = features[""].train_labels
    smallest = labels.bincount(minlength=features[""].classes).min()
    draws = [(n, draw) for n in LABELS_PER_CLASS if n <= smallest for draw in range(options.draws)]
    scorers = {prefix: FewLabels(f, data, train_idx, options) for prefix, f in features.items()}
    scores: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}
    for n, draw in tqdm(draws, desc="few labels", disable=options.quiet):
        chosen = few_labels(labels, n, seed * options.draws + draw)
        outputs: dict[str, torch.Tensor] = {}
        for prefix, scorer in scorers.items():
            with stopwatch(seconds, f"{prefix}frozen_{n}"):
                own = scorer.frozen(chosen)
            if prefix in encoders:
                with stopwatch(seconds, f"{prefix}finetuned_{n}"):
                    own |= scorer.finetuned(encoders[prefix], chosen, draw)
            outputs |= {f"{prefix}{what}": values for what, values in own.items()}
        with stopwatch(seconds, f"spread_{n}"):
            outputs |= scorers[""].spread(chosen, graph)
        if options.distill and n in DISTILLED:
            with stopwatch(seconds, f"self_trained_{n}"):
                outputs |= scorers[""].self_trained(chosen, graph, draw)
        for what, values in outputs.items():
            scores.setdefault(f"test_{what}_{n}_accuracies", []).append(accuracy(values, test_set.labels))
    means = {key.replace("accuracies", "accuracy"): fmean(values) for key, values in scores.items()}
    per_draw = {key: round(value / options.draws, 3) for key, value in seconds.items()}
    return {**scores, **means, **per_draw}
