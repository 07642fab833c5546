"""k-NN and probes on features: against slow versions, scikit-learn and features whose answer is known."""

import numpy as np
import torch
from helpers import blobs
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy

from evaluation.contrastive import features as frozen


def slow_knn(reference, labels, query, k):
    cosine = [float(query @ r / query.norm() / r.norm()) for r in reference]
    votes = np.zeros(10)
    for i in sorted(range(len(cosine)), key=lambda i: -cosine[i])[:k]:
        votes[labels[i]] += np.exp(cosine[i] / frozen.KNN_TEMPERATURE)
    return votes / votes.sum()


def test_knn_is_the_weighted_vote_of_the_nearest_or_of_all():
    reference, labels = blobs(30, spread=2.0)
    queries, _ = blobs(7, spread=2.0, seed=1)
    votes = frozen.knn(reference, labels, queries, k=5)
    expected = [slow_knn(reference, labels, query, 5) for query in queries]
    np.testing.assert_allclose(votes, np.array(expected), atol=1e-5)
    # It takes probabilities for labels, and all of a small reference.
    reference, labels = blobs(6)
    votes = frozen.knn(reference, labels, reference)
    torch.testing.assert_close(frozen.knn(reference, torch.eye(10)[labels], reference), votes)
    assert frozen.knn(reference, labels, reference, k=100).shape == (6, 10)


def test_the_probe_is_scikit_learn_s_logistic_regression():
    features, labels = blobs(60, spread=1.5)
    mean, std = frozen.statistics(features)
    decay = 0.05
    probe = frozen.fit_probe(features, labels, (mean, std), decay)
    expected = LogisticRegression(C=1 / (decay * len(features)), tol=1e-8, max_iter=2000)
    expected.fit((features - mean) / std, labels)
    np.testing.assert_allclose(
        probe(features).softmax(1)[:, :3], expected.predict_proba((features - mean) / std), atol=0.02
    )
    assert (probe(features).argmax(1).numpy() == expected.predict((features - mean) / std)).all()
    assert not any(p.requires_grad for p in probe.parameters())
    # That of random features converges.
    noise = torch.Generator().manual_seed(0)
    latent = torch.randn(600, 20, generator=noise)
    labels = (latent[:, :3] > 0).long() @ torch.tensor([1, 2, 4])
    features = (latent @ torch.randn(20, 300, generator=noise)).relu()
    probe = frozen.fit_probe(features, labels, frozen.statistics(features), 1e-3).requires_grad_()
    loss = cross_entropy(probe(features), labels) + 5e-4 * probe.linear.weight.square().sum()
    gradient = torch.autograd.grad(loss, probe.linear.parameters())
    assert max(g.abs().max() for g in gradient) < 2e-5  # after 100 steps it is 5e-5 or more


def test_a_constant_feature_does_no_harm_and_a_common_scale_is_the_root_of_the_mean_variance():
    features, labels = blobs(30)
    features[:, 5] = 4.0
    for scale in (frozen.statistics, frozen.common_scale):
        probe = frozen.fit_probe(features, labels, scale(features), 1e-2)
        assert probe(features).isfinite().all()
    mean, std = frozen.common_scale(torch.tensor([[0.0, 1.0], [6.0, 1.0], [0.0, 9.0], [6.0, 9.0]]))
    assert mean.tolist() == [3, 5]
    torch.testing.assert_close(std, torch.tensor(((12 + 64 / 3) / 2) ** 0.5).expand(2))


def test_an_encoder_under_its_probe_is_one_classifier(digits):
    features, labels = blobs(60)
    probe = frozen.fit_probe(features, labels, frozen.statistics(features), classes=3)
    torch.testing.assert_close(frozen.classifier(torch.nn.Identity(), probe)(features), probe(features))
    model = frozen.probed(torch.nn.Flatten(), digits, torch.arange(120))
    outputs = model(digits.normalise(digits.images[:120].float() / 255))
    assert outputs.shape == (120, 10)
    assert (outputs.argmax(1) == digits.labels[:120]).float().mean() > 0.95


def test_features_are_the_encoder_s_of_the_named_images_and_leave_it_as_it_was(encoder, data, splits):
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    f = frozen.encode(encoder.train(), data, *splits, "fp32")
    frozen.frozen_scores(f)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert encoder.training
    with torch.no_grad():
        expected = encoder.eval()(data[0].normalise(data[0].images[splits[1]] / 255))
    torch.testing.assert_close(f.val, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(f.train_labels, data[0].labels[splits[0]])
    assert f.test.shape == (100, 64)
