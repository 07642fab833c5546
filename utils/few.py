"""From few labels to a classifier on top of a pre-trained encoder: fine-tuning and self-training."""

import copy
from statistics import fmean
from types import SimpleNamespace

import torch
from tqdm import tqdm

from data import POLICIES, BatchLoader, few_labels
from models import Classifier, create
from utils.evaluate import in_order, outputs
from utils.fit import classification_step, fit
from utils.representation import (
    accuracy,
    cluster,
    common_scale,
    few_label_probe,
    knn,
    match_clusters,
    neighbour_graph,
    on_sphere,
    spread_labels,
)
from utils.run import Run

LABELS_PER_CLASS = (1, 10, 100)
# Distillation is for labels that are scarce: with more of them fine-tuning alone does it.
DISTILLED = (1, 10)

# Chosen on validation images. With few labels, whatever their number, an "epoch" is so many images in turn.
FINETUNE = {"epochs": 6, "batch_size": 64, "lr": 1e-3, "weight_decay": 0.02, "ema": 0.99}
FINETUNE_IMAGES = 1600
# With all labels, the same but for a budget of two passes.
FINETUNE_ALL = {**FINETUNE, "epochs": 2, "batch_size": 256}
ROUNDS = 2  # of self-training
DISTIL = {"epochs": 4, "batch_size": 256, "lr": 5e-3, "weight_decay": 0.02, "ema": 0.998}
COMMON = {
    "optimizer": "adamw",
    "schedule": "one-cycle",
    "clip_norm": 0.0,
    "patience": 0,
    "track": "none",
    "quiet": True,
}


def train_classifier(model, images, indices, recipe, args, seed):
    """Train `model` with strong augmentation on the images at `indices`; nothing is written anywhere.

    images: an ImageSet whose labels may be probabilities. args: device, precision, compile and dry_run are
    taken from it.
    """
    settings = {key: getattr(args, key) for key in ("precision", "compile", "dry_run")}
    settings = SimpleNamespace(**COMMON | recipe | settings)
    batches = BatchLoader(images, indices, settings.batch_size, seed=seed, augment=POLICIES["strong"])
    silent = Run("unused", writes=False)
    fit(model, classification_step(model, 0.0), batches, settings, silent)
    return model


def finetune(encoder, probe, images, labelled, args, seed, recipe=FINETUNE):
    """A Classifier: a copy of the encoder under the probe, both trained on the labelled images.

    Starting from the fitted probe, not from random weights, keeps the features of the few labels from being
    torn up by the first steps (Kumar et al., 2022).
    """
    torch.manual_seed(seed)
    model = Classifier(copy.deepcopy(encoder), encoder.num_features, 10).to(args.device)
    weight = probe.linear.weight / probe.std
    model.head.load_state_dict({"weight": weight, "bias": probe.linear.bias - weight @ probe.mean})
    repeated = labelled.repeat(max(1, FINETUNE_IMAGES // len(labelled)))
    return train_classifier(model, images, repeated, recipe, args, seed)


def finetuned_score(encoder, probe, data, train_idx, args, seed):
    """Test accuracy of encoder and probe, fine-tuned together with all labels of the training split."""
    train_set, test_set = data
    model = finetune(encoder, probe, train_set, train_idx, args, seed, FINETUNE_ALL)
    logits, labels = outputs(model, in_order(test_set))
    return {"test_finetuned_accuracy": accuracy(logits, labels)}


def distil(probabilities, student, images, indices, args, seed):
    """Self-training: a fresh Classifier, by name, on all the images, labelled by probabilities (N, 10)."""
    targets = probabilities.new_zeros(len(images.labels), probabilities.shape[1])
    targets[indices.to(targets.device)] = probabilities
    torch.manual_seed(seed)
    model = create(student).to(args.device, memory_format=torch.channels_last)
    return train_classifier(model, images._replace(labels=targets), indices, DISTIL, args, seed)


def self_train(spread, respread, args, data, train_idx, seed):
    """Rounds of self-training: a student learns the spread labels, which then spread anew over its features.

    spread: (N, 10) probabilities of the training images. respread: makes such of (N, D) features of theirs
    and the neighbour_graph of these. Returns the test logits of the first round's student, the distillation
    of SimCLRv2 (Chen et al., 2020b); and after the last round the training probabilities, and those of the
    test images: k-NN on the features of the last student.
    """
    train_set, test_set = data
    first = None
    for _ in range(ROUNDS):
        student = distil(spread, args.student, train_set, train_idx, args, seed)
        if first is None:
            first, _ = outputs(student, in_order(test_set))
        features, _ = outputs(student.encoder, in_order(train_set, train_idx), args.precision)
        spread = respread(features, neighbour_graph(features))
    test_features, _ = outputs(student.encoder, in_order(test_set), args.precision)
    return first, spread, knn(features, spread, test_features)


def spread_clusters(clusters, graph, device):
    """The clusters (N,) of all nodes, spread over a neighbour_graph: probabilities (N, 10) on the device.

    What lies at the edge of a cluster goes to the cluster of its neighbours.
    """
    return spread_labels(graph, torch.arange(len(clusters)), torch.from_numpy(clusters).long().to(device))


def spread_cluster_scores(args, data, train_idx, f, graph, clusters, seed):
    """Test accuracies without a label: of clusters spread over the graph; with --distill, self-trained too.

    graph, clusters: the neighbour_graph and the k-means clusters of f.train. Clusters are named like those
    of clustering_scores, by the training labels.
    """

    def respread(features, graph):
        return spread_clusters(cluster(features, features[:1])[0], graph, features.device)

    train = spread_clusters(clusters, graph, f.train.device)
    found = {"test_kmeans_spread_accuracy": named_accuracy(train, knn(f.train, train, f.test), f)}
    if args.distill:
        _, train, test = self_train(train, respread, args, data, train_idx, seed)
        found["test_kmeans_self_trained_accuracy"] = named_accuracy(train, test, f)
    return found


def named_accuracy(train, test, f):
    """Test accuracy of cluster probabilities (N, 10) that are named by the training images."""
    names = match_clusters(train.argmax(1).cpu().numpy(), f.train_labels.cpu().numpy())
    return float((names[test.argmax(1).cpu().numpy()] == f.test_labels.cpu().numpy()).mean())


def few_label_scores(args, data, train_idx, features, graph, encoders, seed):
    """Test accuracies with 1, 10 and 100 labels a class, over args.draws draws of the labels.

    features: {prefix: Features} to put k-NN and a probe on. encoders: {prefix: encoder} to fine-tune. On the
    features of prefix "" labels are spread over `graph`, their training images', as well, and with
    --distill the spread labels teach fresh students. The training images stand in for unlabelled ones;
    none of their other labels is used. Numbers that a class does not have are left out.

    Returns test_<prefix><what>_<n>_accuracies, one for each draw, and ..._accuracy, their mean.
    """
    train_set, test_set = data
    labels = features[""].train_labels
    lengths = {prefix: f.train.norm(dim=1).mean() for prefix, f in features.items()}
    features = {prefix: on_sphere(f) for prefix, f in features.items()}
    scales = {prefix: common_scale(f.train) for prefix, f in features.items()}
    there = labels.bincount(minlength=10).min()
    todo = [(n, draw) for n in LABELS_PER_CLASS if n <= there for draw in range(args.draws)]
    found = {}

    def add(what, n, outputs):
        key = f"test_{what}_{n}_accuracies"
        found.setdefault(key, []).append(accuracy(outputs, test_set.labels))

    for n, draw in tqdm(todo, desc="few labels", disable=args.quiet):
        chosen = few_labels(labels, n, seed * args.draws + draw)
        for prefix, f in features.items():
            add(f"{prefix}knn", n, knn(f.train[chosen], f.train_labels[chosen], f.test))
            probe = few_label_probe(f, chosen, scales[prefix])
            add(f"{prefix}linear", n, probe(f.test))
            if prefix in encoders:
                start = probe.rescaled(lengths[prefix])
                model = finetune(encoders[prefix], start, train_set, train_idx[chosen], args, draw)
                add(f"{prefix}finetuned", n, outputs(model, in_order(test_set))[0])

        def respread(_, graph, chosen=chosen):
            return spread_labels(graph, chosen, labels[chosen])

        spread = respread(features[""].train, graph)
        add("spread", n, knn(features[""].train, spread, features[""].test))
        if args.distill and n in DISTILLED:
            first, _, last = self_train(spread, respread, args, data, train_idx, draw)
            add("distilled", n, first)
            add("self_trained", n, last)
    means = {key.replace("accuracies", "accuracy"): fmean(values) for key, values in found.items()}
    return found | means
