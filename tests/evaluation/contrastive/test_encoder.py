"""All scores of a frozen encoder, and what its figures show."""

import pytest
import torch

from data import in_order
from evaluation.contrastive.encoder import evaluate_encoder, map_table, watch_knn, with_prefix
from evaluation.contrastive.features import accuracy, encode, frozen_scores, knn
from models import ContrastiveModel
from utils.training.forward import forward_all

FROZEN = [f"{split}_{{}}{what}_accuracy" for split in ("val", "test") for what in ("knn", "linear")]
METRICS = {name.format(prefix) for name in FROZEN for prefix in ("", "random_", "pixels_")}
METRICS |= {"train_kmeans_accuracy", "test_kmeans_accuracy", "test_kmeans_nmi", "test_kmeans_spread_accuracy"}


@pytest.fixture(scope="module")
def scores(encoder, data, splits):
    return evaluate_encoder(encoder, data, splits, "fp32", 3)


def test_the_encoder_and_the_floors_are_scored(encoder, data, splits, scores):
    assert set(scores[0]) == METRICS
    assert all(0 <= value <= 1 for value in scores[0].values())
    own = encode(encoder, data, *splits, "fp32")
    pixels = encode(torch.nn.Flatten(), data, *splits, "fp32")
    for prefix, features in {"": own, "pixels_": pixels}.items():
        assert with_prefix(prefix, frozen_scores(features)[0]).items() <= scores[0].items()


def test_the_arrays_are_predictions_of_the_probe_and_what_the_map_shows(data, splits, scores):
    test, arrays = data[1], scores[1]
    right = arrays["test_probabilities"].argmax(1) == arrays["test_labels"]
    assert scores[0]["test_linear_accuracy"] == pytest.approx(right.mean())
    assert arrays["val_indices"].tolist() == splits[1].tolist()
    assert sorted(arrays["mapped"]) == list(range(100))
    head, *lines = map_table(arrays, test).splitlines()
    assert head == "digit,x,y,pixels_x,pixels_y"
    assert [int(line[0]) for line in lines] == test.labels[arrays["mapped"]].tolist()
    assert [line.count(".") for line in lines] == [4] * 100


def test_the_watched_accuracy_is_of_validation_images_every_few_epochs(encoder, data, splits):
    images, _ = data
    validate = watch_knn(images, splits, 3, 7, "fp32")
    metrics = [validate(ContrastiveModel(encoder, "mlp"), epoch) for epoch in range(1, 8)]
    assert [bool(each) for each in metrics] == [False, False, True, False, False, True, True]
    known = forward_all(encoder, in_order(images, splits[0]))
    queries, labels = forward_all(encoder, in_order(images, splits[1]))
    assert metrics[2] == {"val_knn_accuracy": accuracy(knn(*known, queries), labels)}
