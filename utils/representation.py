"""What a frozen encoder's features are worth: k-NN, linear probe, clustering; with all and few labels."""

import copy
import functools
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from data import POLICIES
from utils.evaluate import in_order, outputs

# scikit-learn and scipy are imported where they are used: loading them takes seconds that --help needn't.

# Chosen on validation images.
NEIGHBOURS, GRAPH_NEIGHBOURS, KNN_TEMPERATURE = 5, 10, 0.1
DECAY = 1e-3
# The augmented probe sees so many altered copies of every image beside it.
COPIES = 2


class Features(NamedTuple):
    """Features (N, D) float32 and labels (N,) of the three splits, on the device."""

    train: torch.Tensor
    train_labels: torch.Tensor
    val: torch.Tensor
    val_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor

    @torch.no_grad()
    def map(self, function):
        """These features after a function of (N, D) tensors."""
        return self._replace(train=function(self.train), val=function(self.val), test=function(self.test))


def encode(encoder, data, train_idx, val_idx, precision):
    """The Features of an encoder, in eval mode. data: (train, test) ImageSets."""
    train_set, test_set = data
    splits = (in_order(train_set, train_idx), in_order(train_set, val_idx), in_order(test_set))
    return Features(*(part for split in splits for part in outputs(encoder, split, precision)))


# --- Classifiers on features ---


def neighbours(queries, reference, k, chunk=1000):
    """Cosine similarities and indices of the k nearest rows of `reference`, both (N, k), nearest first."""
    reference = F.normalize(reference, dim=1)
    found = [(F.normalize(part, dim=1) @ reference.T).topk(k) for part in queries.split(chunk)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def knn(reference, labels, queries, k=NEIGHBOURS, temperature=KNN_TEMPERATURE, classes=10):
    """Class probabilities (N, classes) of a weighted vote of the k nearest by cosine (Wu et al., 2018).

    reference: (M, D) features with labels (M,), or with class probabilities (M, classes). queries: (N, D). A
    neighbour's vote is exp(cosine / temperature). With fewer than k references all of them vote.
    """
    cosine, nearest = neighbours(queries, reference, min(k, len(reference)))
    known = F.one_hot(labels, classes) if labels.ndim == 1 else labels
    votes = known[nearest] * ((cosine - 1) / temperature).exp().unsqueeze(2)
    return F.normalize(votes.sum(1), p=1, dim=1)


class Probe(nn.Module):
    """Multinomial logistic regression on features standardised by given means and deviations."""

    def __init__(self, mean, std, classes=10):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.linear = nn.Linear(len(mean), classes).to(mean.device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features):
        return self.linear((features - self.mean) / self.std)

    def rescaled(self, factor):
        """This probe for features that are `factor` times as long."""
        probe = copy.deepcopy(self)
        probe.mean, probe.std = factor * self.mean, factor * self.std
        return probe


def statistics(features):
    """Mean and standard deviation of every feature; a constant feature keeps its scale."""
    std, mean = torch.std_mean(features, 0)
    return mean, torch.where(std > 1e-6, std, 1.0)


def common_scale(features):
    """Mean of every feature, and the deviation (root mean square) of all of them together for each.

    Features that hardly vary stay small: from few labels nobody can tell what they are worth.
    """
    std, mean = torch.std_mean(features, 0)
    return mean, std.square().mean().sqrt().clamp(min=1e-6).expand_as(std)


def fit_probe(features, labels, statistics, decay, steps=100):
    """The Probe with the least mean cross-entropy plus decay / 2 * |weights|^2, by L-BFGS.

    features: (N, D). labels: (N,). statistics: mean and standard deviation (D,), of unlabelled features.
    """
    probe = Probe(*statistics)
    inputs, weight = (features - probe.mean) / probe.std, probe.linear.weight
    optimizer = torch.optim.LBFGS(
        probe.linear.parameters(), max_iter=steps, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(probe.linear(inputs), labels) + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return probe.requires_grad_(False)


def accuracy(found, labels):
    """Share of rows whose largest entry is at the label."""
    return float((found.argmax(1) == labels).float().mean())


def augmented(encoder, images, indices, copies, precision):
    """Features of altered copies of the images at `indices`, copy after copy: (copies * N, D)."""
    views = (in_order(images, indices, POLICIES["affine"], seed) for seed in range(copies))
    return torch.cat([outputs(encoder, view, precision)[0] for view in views])


def on_sphere(features):
    """These Features, each of length one: what the cosines of the contrastive loss and of k-NN compare."""
    return features.map(functools.partial(F.normalize, dim=1))


def few_label_probe(f, chosen, statistics):
    """The probe from the training features at `chosen` alone; the statistics of all need no labels."""
    return fit_probe(f.train[chosen], f.train_labels[chosen], statistics, DECAY)


# --- Without labels ---


def cluster(features, queries, clusters=10, seed=0):
    """k-means on the unit sphere, fitted on (N, D) features: the cluster of each feature and each query."""
    from sklearn.cluster import KMeans

    means = KMeans(clusters, n_init=10, random_state=seed)
    found = means.fit_predict(F.normalize(features, dim=1).cpu().numpy())
    return found, means.predict(F.normalize(queries, dim=1).cpu().numpy())


def match_clusters(clusters, labels, classes=10):
    """The class of each cluster that makes most labels right, one to one (Kuhn, 1955): (classes,)."""
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (clusters, labels), 1)
    return linear_sum_assignment(counts, maximize=True)[1]


def plane(features, seed=0):
    """A map of (N, D) features in two dimensions, (N, 2) NumPy, by t-SNE on cosine distances."""
    from sklearn.manifold import TSNE

    return TSNE(metric="cosine", init="pca", random_state=seed).fit_transform(features.cpu().numpy())


def neighbour_graph(features, k=GRAPH_NEIGHBOURS, temperature=KNN_TEMPERATURE):
    """The symmetric k-NN graph of (N, D) features as a normalised sparse matrix D^-1/2 W D^-1/2.

    W holds exp((cosine - 1) / temperature), the mean of both directions.
    """
    from scipy import sparse

    cosine, nearest = neighbours(features, features, k + 1)  # the first is the image itself
    rows = np.repeat(np.arange(len(features)), k)
    weights = ((cosine[:, 1:] - 1) / temperature).exp().cpu().numpy().ravel()
    columns = nearest[:, 1:].cpu().numpy().ravel()
    graph = sparse.csr_array((weights, (rows, columns)), (len(features), len(features)))
    graph = (graph + graph.T) / 2
    scale = sparse.diags_array(np.maximum(graph.sum(1), 1e-12) ** -0.5)
    return scale @ graph @ scale


def spread_labels(graph, labelled, labels, classes=10, alpha=0.99, steps=200):
    """Label spreading (Zhou et al., 2004) over a neighbour_graph: class probabilities (N, classes) float32.

    labelled: (L,) indices of the nodes with labels (L,), on whose device the result lies. The columns are
    scaled to the same mass, as for classes that are equally frequent (class mass normalisation, Zhu et al.,
    2003).
    """
    known = np.zeros((graph.shape[0], classes), np.float32)
    known[labelled.cpu().numpy(), labels.cpu().numpy()] = 1
    found = known
    for _ in range(steps):
        found = alpha * (graph @ found) + (1 - alpha) * known
    found = found / np.maximum(found.sum(0), 1e-12)
    found = found / np.maximum(found.sum(1, keepdims=True), 1e-12)
    return torch.from_numpy(found.astype(np.float32)).to(labels.device)


# --- Scores: dicts named <split>_<what>_accuracy ---


def frozen_scores(f):
    """k-NN and linear probe with all training labels: the accuracies, and the probe."""
    probe = fit_probe(f.train, f.train_labels, statistics(f.train), DECAY)
    found = {}
    for split, features, labels in (("val", f.val, f.val_labels), ("test", f.test, f.test_labels)):
        found[f"{split}_knn_accuracy"] = accuracy(knn(f.train, f.train_labels, features), labels)
        found[f"{split}_linear_accuracy"] = accuracy(probe(features), labels)
    return found, probe


def augmented_probe_scores(encoder, f, images, train_idx, precision):
    """The linear probe on features of altered copies of the training images, beside the images themselves."""
    copies = augmented(encoder, images, train_idx, COPIES, precision)
    rows, labels = torch.cat([f.train, copies]), f.train_labels.repeat(1 + COPIES)
    probe = fit_probe(rows, labels, statistics(f.train), DECAY)
    return {
        "val_linear_augmented_accuracy": accuracy(probe(f.val), f.val_labels),
        "test_linear_augmented_accuracy": accuracy(probe(f.test), f.test_labels),
    }


def clustering_scores(f, clusters):
    """Accuracy and normalised mutual information (NMI) of `clusters`, found by `cluster` in train and test.

    The clusters are fitted on the training features without labels, and named one to one by the training
    labels, so that the test labels are used for the score alone.
    """
    from sklearn.metrics import normalized_mutual_info_score

    train, test = clusters
    known, labels = f.train_labels.cpu().numpy(), f.test_labels.cpu().numpy()
    names = match_clusters(train, known)
    return {
        "train_kmeans_accuracy": float((names[train] == known).mean()),
        "test_kmeans_accuracy": float((names[test] == labels).mean()),
        "test_kmeans_nmi": float(normalized_mutual_info_score(labels, test)),
    }
