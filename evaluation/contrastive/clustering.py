"""Clusters of frozen features without labels: k-means, trained heads, the neighbour graph, t-SNE."""

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data import generator
from evaluation.contrastive.features import KNN_TEMPERATURE, Features, Probe, common_scale, knn, neighbours

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# scipy and scikit-learn are imported where they are used: loading them takes seconds that --help needn't.

GRAPH_NEIGHBOURS = 10  # chosen on validation images
# Of the cluster heads: as in SCAN, but on frozen features, where a head takes seconds.
HEADS, HEAD_STEPS, HEAD_BATCH, HEAD_RATE, ENTROPY_WEIGHT = 5, 1000, 2048, 0.01, 5.0


def match_clusters(clusters: np.ndarray, labels: np.ndarray, classes: int = 10) -> np.ndarray:
    """Name the clusters: return the one-to-one class of each cluster that makes most labels right.

    clusters: (N,), or their probabilities (N, classes), which break ties where labels are few. labels: (N,).
    """
    from scipy.optimize import linear_sum_assignment

    one_hot = np.eye(classes)
    shares = one_hot[clusters] if clusters.ndim == 1 else clusters
    return linear_sum_assignment(shares.T @ one_hot[labels], maximize=True)[1]


def neighbour_graph(features: Tensor, k: int = GRAPH_NEIGHBOURS) -> "csr_array":
    """Build the symmetric k-NN graph of (N, D) features, a matrix normalised to D^-1/2 W D^-1/2.

    W holds exp((cosine - 1) / KNN_TEMPERATURE), averaged over both directions. No image is its own neighbour.
    """
    from scipy import sparse

    k = min(k, len(features) - 1)
    cosine, nearest = neighbours(features, features, k + 1)
    # The image itself goes last, then away. Of many equal images it may not be among the first k + 1.
    itself = nearest == torch.arange(len(nearest), device=nearest.device).unsqueeze(1)
    others = itself.byte().argsort(dim=1, stable=True)[:, :k]
    rows = np.repeat(np.arange(len(features)), k)
    weights = ((cosine.gather(1, others) - 1) / KNN_TEMPERATURE).exp().cpu().numpy().ravel()
    columns = nearest.gather(1, others).cpu().numpy().ravel()
    graph = sparse.csr_array((weights, (rows, columns)), (len(features), len(features)))
    graph = (graph + graph.T) / 2
    scale = sparse.diags_array(np.maximum(graph.sum(1), 1e-12) ** -0.5)
    return scale @ graph @ scale


def spread_labels(
    graph: "csr_array", labelled: Tensor, labels: Tensor, classes: int = 10, alpha: float = 0.99
) -> Tensor:
    """Spread labels over a neighbour_graph (Zhou et al., 2004): class probabilities (N, classes) float32.

    labelled: (L,) indices of the nodes with labels (L,). The columns are scaled to equal mass, as for equally
    frequent classes (Zhu et al., 2003).
    """
    known = np.zeros((graph.shape[0], classes), np.float32)
    known[labelled.cpu().numpy(), labels.cpu().numpy()] = 1
    spread = known
    for _ in range(200):
        spread = alpha * (graph @ spread) + (1 - alpha) * known
    spread = spread / np.maximum(spread.sum(0), 1e-12)
    spread = spread / np.maximum(spread.sum(1, keepdims=True), 1e-12)
    return torch.from_numpy(spread.astype(np.float32)).to(labels.device)


def neighbour_loss(first: Tensor, second: Tensor, entropy_weight: float) -> Tensor:
    """Return the loss of neighbour-consistent clusters, equation 2 of Van Gansbeke et al. (2020), in nats.

    first, second: logits (B, clusters) of images and of a neighbour of each. -log <p, q> is small where both
    are sure of the same cluster; the entropy of the mean p, subtracted, keeps all clusters in use.
    """
    agreement = (first.log_softmax(1) + second.log_softmax(1)).logsumexp(1).mean()
    mean = first.softmax(1).mean(0)
    entropy = -(mean * mean.clamp(min=1e-12).log()).sum()
    return -agreement - entropy_weight * entropy


def cluster_head(features: Tensor, graph: "csr_array", clusters: int = 10, seed: int = 0) -> Probe:
    """Fit HEADS linear heads on features (N, D); return that of lowest `neighbour_loss` over all edges."""
    gen, scale, edges = generator(seed), common_scale(features), graph.tocoo()
    rows, columns = (torch.from_numpy(x).long().to(features.device) for x in (edges.row, edges.col))
    heads, losses = [], []
    for _ in range(HEADS):
        head = Probe(*scale, clusters)
        weight = torch.randn(head.linear.weight.shape, generator=gen) / len(head.mean) ** 0.5
        head.linear.weight.data.copy_(weight)
        optimizer = torch.optim.Adam(head.linear.parameters(), HEAD_RATE)
        for _ in range(HEAD_STEPS):
            batch = torch.randint(len(rows), (HEAD_BATCH,), generator=gen)
            batch = batch.to(features.device, non_blocking=True)
            loss = neighbour_loss(head(features[rows[batch]]), head(features[columns[batch]]), ENTROPY_WEIGHT)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        logits = head.requires_grad_(False)(features)
        heads.append(head)
        losses.append(neighbour_loss(logits[rows], logits[columns], ENTROPY_WEIGHT))
    return heads[int(torch.stack(losses).cpu().argmin())]


def clustering_scores(f: Features) -> tuple[dict[str, float], np.ndarray]:
    """Score k-means on the unit sphere by accuracy and mutual information; return the training clusters, too.

    Clusters are named by the training labels: the test labels are used for the scores alone.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score as nmi

    means = KMeans(f.classes, n_init=10, random_state=0)
    train = means.fit_predict(F.normalize(f.train, dim=1).cpu().numpy())
    test = means.predict(F.normalize(f.test, dim=1).cpu().numpy())
    known, labels = f.train_labels.cpu().numpy(), f.test_labels.cpu().numpy()
    names = match_clusters(train, known, f.classes)
    scores = {
        "train_kmeans_accuracy": float((names[train] == known).mean()),
        "test_kmeans_accuracy": float((names[test] == labels).mean()),
        "test_kmeans_nmi": float(nmi(labels, test)),
    }
    return scores, train


def spread_accuracy(f: Features, clusters: np.ndarray) -> float:
    """Return the test accuracy of clusters of f.train, named as above, spread over its graph, then k-NN."""
    labels = torch.from_numpy(clusters).long().to(f.train.device)
    spread = spread_labels(neighbour_graph(f.train), torch.arange(len(labels)), labels, f.classes)
    names = match_clusters(spread.argmax(1).cpu().numpy(), f.train_labels.cpu().numpy(), f.classes)
    test = knn(f.train, spread, f.test).argmax(1).cpu().numpy()
    return float((names[test] == f.test_labels.cpu().numpy()).mean())


def tsne_map(features: Tensor, seed: int = 0) -> np.ndarray:
    """Map (N, D) features to two dimensions, (N, 2), by t-SNE on cosine distances."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed)
    return tsne.fit_transform(features.cpu().numpy())
