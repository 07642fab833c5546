"""Scores of features: against slow versions, scikit-learn and features whose answer is known."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelSpreading

from data import few_labels, split
from models import create
from utils import few
from utils.evaluate import in_order, outputs
from utils.representation import (
    Features,
    Probe,
    augmented,
    cluster,
    clustering_scores,
    common_scale,
    encode,
    few_label_probe,
    fit_probe,
    frozen_scores,
    knn,
    match_clusters,
    neighbour_graph,
    neighbours,
    on_sphere,
    plane,
    spread_labels,
    statistics,
)


def blobs(count, classes=3, spread=0.3, seed=0):
    """(N, 8) features in well separated directions, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = 3 * torch.eye(8)[labels]
    return centres + spread * torch.randn(count, 8, generator=generator), labels


def slow_knn(reference, labels, query, k, temperature):
    cosine = [float(query @ r / query.norm() / r.norm()) for r in reference]
    votes = np.zeros(10)
    for i in sorted(range(len(cosine)), key=lambda i: -cosine[i])[:k]:
        votes[labels[i]] += np.exp(cosine[i] / temperature)
    return votes / votes.sum()


def test_knn_is_the_weighted_vote_of_the_nearest():
    reference, labels = blobs(30, spread=2.0)
    queries, _ = blobs(7, spread=2.0, seed=1)
    found = knn(reference, labels, queries, k=5, temperature=0.2)
    for row, query in zip(found, queries, strict=True):
        np.testing.assert_allclose(row, slow_knn(reference, labels, query, 5, 0.2), atol=1e-5)


def test_knn_takes_probabilities_for_labels_and_all_of_a_small_reference():
    reference, labels = blobs(6)
    one_hot = torch.eye(10)[labels]
    torch.testing.assert_close(knn(reference, one_hot, reference), knn(reference, labels, reference))
    assert knn(reference, labels, reference, k=100).shape == (6, 10)


def test_neighbours_do_not_depend_on_the_chunks():
    reference, _ = blobs(50, spread=1.0)
    for whole, parts in zip(
        neighbours(reference, reference, 4), neighbours(reference, reference, 4, 7), strict=True
    ):
        torch.testing.assert_close(whole, parts)


def test_the_probe_is_scikit_learn_s_logistic_regression():
    features, labels = blobs(60, spread=1.5)
    mean, std = statistics(features)
    decay = 0.05
    probe = fit_probe(features, labels, (mean, std), decay, steps=500)
    expected = LogisticRegression(C=1 / (decay * len(features)), tol=1e-8, max_iter=2000)
    expected.fit((features - mean) / std, labels)
    np.testing.assert_allclose(
        probe(features).softmax(1)[:, :3], expected.predict_proba((features - mean) / std), atol=0.02
    )
    assert (probe(features).argmax(1).numpy() == expected.predict((features - mean) / std)).all()
    assert not any(p.requires_grad for p in probe.parameters())


def test_a_constant_feature_does_no_harm():
    features, labels = blobs(30)
    features[:, 5] = 4.0
    for scale in (statistics, common_scale):
        probe = fit_probe(features, labels, scale(features), 1e-2)
        assert probe(features).isfinite().all()


def test_a_common_scale_is_the_root_of_the_mean_variance():
    features = torch.tensor([[0.0, 1.0], [6.0, 1.0], [0.0, 9.0], [6.0, 9.0]])
    mean, std = common_scale(features)
    assert mean.tolist() == [3, 5]
    torch.testing.assert_close(std, torch.tensor(((12 + 64 / 3) / 2) ** 0.5).expand(2))


def test_a_rescaled_probe_gives_longer_features_the_same_logits():
    features, labels = blobs(30)
    probe = fit_probe(features, labels, common_scale(features), 1e-2)
    torch.testing.assert_close(probe.rescaled(3.0)(3 * features), probe(features))


def test_features_on_the_sphere_have_length_one_and_their_direction():
    rows = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    f = on_sphere(Features(rows, None, rows[:1], None, 10 * rows, None))
    torch.testing.assert_close(f.train, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    torch.testing.assert_close(f.test, f.train)


def test_clusters_are_named_so_that_most_labels_are_right():
    clusters, labels = np.array([2, 2, 0, 0, 1, 1, 1]), np.array([5, 5, 3, 3, 9, 9, 3])
    names = match_clusters(clusters, labels)
    assert (names[:3] == [3, 9, 5]).all()
    assert sorted(names) == list(range(10))


def test_clustering_of_ten_clear_blobs_is_perfect():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 10
    features = torch.eye(10)[(labels + 3) % 10] + 0.02 * torch.randn(200, 10, generator=generator)
    f = Features(
        features[:120], labels[:120], features[120:150], labels[120:150], features[150:], labels[150:]
    )
    assert clustering_scores(f, cluster(f.train, f.test)) == {
        "train_kmeans_accuracy": 1.0,
        "test_kmeans_accuracy": 1.0,
        "test_kmeans_nmi": 1.0,
    }


def test_images_in_the_wrong_cluster_are_mended_by_their_neighbours():
    labels = torch.arange(200) % 10
    generator = torch.Generator().manual_seed(0)
    features = torch.eye(10)[labels] + 0.05 * torch.randn(200, 10, generator=generator)
    clusters = (labels.numpy() + 3) % 10
    clusters[:30] = (clusters[:30] + 1) % 10  # three of twenty, in every class
    spread = few.spread_clusters(clusters, neighbour_graph(features), "cpu")
    torch.testing.assert_close(spread.sum(1), torch.ones(200))
    assert (spread.argmax(1) == (labels + 3) % 10).all()
    f = Features(features, labels, features, labels, features, labels)
    assert few.named_accuracy(spread, spread, f) == 1
    assert few.named_accuracy(spread, spread.roll(1, 1), f) == 0


def test_labels_spread_like_scikit_learn_s_over_the_same_graph():
    features, labels = blobs(60, spread=1.0)
    graph = neighbour_graph(features, k=5)
    assert abs(graph - graph.T).max() < 1e-6
    labelled = torch.tensor([0, 1, 2, 3])
    found = spread_labels(graph, labelled, labels[labelled], classes=3, alpha=0.8)
    known = np.full(60, -1)
    known[labelled] = labels[labelled]
    theirs = LabelSpreading(kernel=lambda a, b: _affinity(features), alpha=0.8, max_iter=500, tol=1e-9)
    theirs.fit(features, known)
    mass = theirs.label_distributions_
    raw = _spread(graph, labelled, labels[labelled])
    np.testing.assert_allclose(raw / raw.sum(1, keepdims=True), mass, atol=1e-4)
    balanced = raw / raw.sum(0)
    np.testing.assert_allclose(found, balanced / balanced.sum(1, keepdims=True), atol=1e-4)
    assert (found.argmax(1) == labels).float().mean() > 0.9


def _affinity(features, k=5, temperature=0.1):
    z = features / features.norm(dim=1, keepdim=True)
    weights = ((z @ z.T - 1) / temperature).exp().fill_diagonal_(0)
    kept = torch.zeros_like(weights).scatter_(1, weights.topk(k).indices, 1) * weights
    return ((kept + kept.T) / 2).numpy()


def _spread(graph, labelled, labels, alpha=0.8):
    """The limit of the iteration: (1 - alpha) (I - alpha S)^-1 Y."""
    known = np.zeros((graph.shape[0], 3))
    known[labelled, labels] = 1
    return (1 - alpha) * np.linalg.solve(np.eye(len(known)) - alpha * graph.toarray(), known)


def test_the_map_has_a_point_for_every_feature():
    features, _ = blobs(60)
    assert plane(features).shape == (60, 2)


# --- On images ---


@pytest.fixture(scope="module")
def case(digits):
    """An encoder whose batch statistics are those of no batch; the data and a split."""
    torch.manual_seed(0)
    encoder = create("fast", 0)
    encoder(digits.normalise(digits.images[:64] / 255))
    data = (digits, digits._replace(images=digits.images[:50], labels=digits.labels[:50]))
    return encoder, data, split(digits.labels, 0.2, 0)


def test_features_are_the_encoder_s_of_the_named_images(case):
    encoder, (train_set, test_set), (train_idx, val_idx) = case
    f = encode(encoder, (train_set, test_set), train_idx, val_idx, "fp32")
    with torch.no_grad():
        expected = encoder.eval()(train_set.normalise(train_set.images[val_idx] / 255))
    torch.testing.assert_close(f.val, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(f.train_labels, train_set.labels[train_idx])
    assert f.test.shape == (50, 64)
    doubled = f.map(lambda rows: 2 * rows)
    torch.testing.assert_close(doubled.test, 2 * f.test)
    assert torch.equal(doubled.test_labels, f.test_labels)


def test_a_probe_changes_no_parameter_and_no_statistic_of_the_encoder(case):
    encoder, data, (train_idx, val_idx) = case
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    f = encode(encoder.train(), data, train_idx, val_idx, "fp32")
    scores, _ = frozen_scores(f)
    augmented(encoder, data[0], train_idx, 2, "fp32")
    few_label_probe(f, few_labels(f.train_labels, 2, 0), statistics(f.train))
    assert set(scores) == {f"{s}_{w}_accuracy" for s in ("val", "test") for w in ("knn", "linear")}
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert encoder.training
    assert all(p.grad is None for p in encoder.parameters())


class Args:
    """What train_classifier reads of a script's arguments."""

    device, precision, compile, dry_run, student = "cpu", "fp32", False, False, "lenet"


def test_fine_tuning_starts_as_the_probe_and_leaves_the_encoder_alone(case, monkeypatch):
    encoder, data, (train_idx, val_idx) = case
    f = encode(encoder, data, train_idx, val_idx, "fp32")
    chosen = few_labels(f.train_labels, 4, 0)
    probe = few_label_probe(f, chosen, statistics(f.train))
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    monkeypatch.setattr(few, "train_classifier", lambda model, *rest: model)
    start = few.finetune(encoder, probe, data[0], train_idx[chosen], Args, 0)
    logits, _ = outputs(start, in_order(data[1]))
    torch.testing.assert_close(logits, probe(f.test), rtol=1e-3, atol=1e-3)
    monkeypatch.undo()
    monkeypatch.setattr(few, "FINETUNE", few.FINETUNE | {"epochs": 2})
    monkeypatch.setattr(few, "FINETUNE_IMAGES", 200)
    tuned = few.finetune(encoder, probe, data[0], train_idx[chosen], Args, 0)
    assert not torch.equal(tuned.head.weight, start.head.weight)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_a_student_learns_from_probabilities_alone(case, monkeypatch):
    _, (train_set, _), (train_idx, _) = case
    monkeypatch.setattr(few, "DISTIL", few.DISTIL | {"epochs": 15, "batch_size": 32, "ema": 0.0})
    wrong = (train_set.labels + 1) % 10  # the student must believe its teacher, not the labels
    targets = torch.eye(10)[wrong[train_idx]]
    student = few.distil(targets, "lenet", train_set, train_idx, Args, 0)
    logits, _ = outputs(student, in_order(train_set, train_idx))
    assert (logits.argmax(1) == wrong[train_idx]).float().mean() > 0.5


def test_rounds_of_self_training_spread_the_labels_over_each_students_features(case, monkeypatch):
    _, data, (train_idx, _) = case
    labels = data[0].labels[train_idx]
    chosen = few_labels(labels, 2, 0)
    taught, students = [], []

    def learn(targets, *rest):
        taught.append(targets)
        torch.manual_seed(len(taught))
        students.append(create("lenet"))
        return students[-1]

    monkeypatch.setattr(few, "distil", learn)
    start = torch.full((len(labels), 10), 0.1)

    def respread(features, graph):
        return spread_labels(graph, chosen, labels[chosen])

    first, train, last = few.self_train(start, respread, Args, data, train_idx, 0)
    assert len(students) == few.ROUNDS == 2
    test = in_order(data[1])
    torch.testing.assert_close(first, outputs(students[0], test)[0])
    features = [outputs(student.encoder, in_order(data[0], train_idx))[0] for student in students]
    spread = [respread(f, neighbour_graph(f)) for f in features]
    assert torch.equal(taught[0], start)
    torch.testing.assert_close(taught[1], spread[0])
    torch.testing.assert_close(train, spread[1])
    torch.testing.assert_close(last, knn(features[1], spread[1], outputs(students[1].encoder, test)[0]))


def test_a_probe_is_linear_in_standardised_features():
    mean, std = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])
    probe = Probe(mean, std, classes=3)
    probe.linear.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    torch.testing.assert_close(probe(torch.tensor([[3.0, 6.0]])), torch.tensor([[1.0, 1.0, 2.0]]))
