"""All scores of a frozen encoder, which of them the options switch off, and the files that it leaves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from data import in_order, split
from evaluation.contrastive.encoder import (
    draw_encoder,
    evaluate_encoder,
    map_csv,
    save_encoder,
    save_predictions,
    watch_knn,
    with_prefix,
)
from evaluation.contrastive.features import accuracy, encode, frozen_scores, knn
from evaluation.contrastive.options import EncoderOptions
from models import ContrastiveModel, create, read_model
from utils.runs.folder import RunFolder
from utils.training.forward import forward_all

NOTHING = EncoderOptions(
    floors=False, clustering=False, augmented_probe=False, finetune=False, few_labels=False, draws=1
)
FROZEN = {f"{s}_{w}_accuracy" for s in ("val", "test") for w in ("knn", "linear")}


@pytest.fixture(scope="module")
def case(digits):
    """An encoder whose batch statistics are those of no batch, the data and a split."""
    torch.manual_seed(0)
    encoder = create("fast", 0)
    encoder(digits.normalise(digits.images[:64] / 255))
    data = (digits, digits._replace(images=digits.images[:50], labels=digits.labels[:50]))
    return encoder, data, split(digits.labels, 0.2, 0)


def metrics(case, **options):
    """The record of an evaluation without the times."""
    record = evaluate_encoder(*case, replace(NOTHING, **options)).record
    return {key: value for key, value in record.items() if not key.endswith("_seconds")}


def keys(case, **options):
    return set(metrics(case, **options))


def test_with_everything_off_only_k_nn_and_probe_are_scored(case):
    scores = evaluate_encoder(*case, NOTHING)
    assert set(scores.record) == {*FROZEN, "features_seconds", "frozen_seconds"}
    encoder, data, splits = case
    f = encode(encoder, data, *splits, "fp32")
    expected, probe = frozen_scores(f)
    assert metrics(case) == expected
    assert torch.equal(scores.features.test, f.test)
    assert torch.equal(scores.probe.linear.weight, probe.linear.weight)


def test_floors_are_a_random_encoder_and_raw_pixels(case):
    prefixed = {key.replace("_", f"_{p}_", 1) for key in FROZEN for p in ("random", "pixels")}
    assert keys(case, floors=True) == FROZEN | prefixed


def test_clustering_adds_three_scores_and_the_spread(case):
    added = {"train_kmeans_accuracy", "test_kmeans_accuracy", "test_kmeans_nmi"}
    assert keys(case, clustering=True) == FROZEN | added | {"test_kmeans_spread_accuracy"}


def test_fine_tuning_and_the_augmented_probe_add_their_scores(case, short_evaluation):
    added = {f"{split}_linear_augmented_accuracy" for split in ("val", "test")}
    assert keys(case, augmented_probe=True) == FROZEN | added
    assert keys(case, finetune=True) == FROZEN | {"test_finetuned_accuracy"}


def test_few_labels_add_a_score_per_number_of_labels_and_draw(case, short_evaluation):
    record = metrics(case, few_labels=True, draws=2)
    whats = ("knn", "linear", "finetuned", "spread")
    added = {f"test_{w}_{n}_accurac{end}" for w in whats for n in (1, 10) for end in ("y", "ies")}
    assert set(record) == FROZEN | added
    assert all(len(record[key]) == 2 for key in added if key.endswith("ies"))


def test_a_head_is_scored_by_the_same_measures(case):
    encoder, data, splits = case
    head = nn.Linear(64, 8)
    record = evaluate_encoder(encoder, data, splits, replace(NOTHING, clustering=True), 0, head).record
    after = encode(encoder, data, *splits, "fp32").map(head)
    assert with_prefix("head_", frozen_scores(after)[0]).items() <= record.items()
    assert "test_head_kmeans_accuracy" in record


def test_everything_is_a_function_of_the_seed(case, short_evaluation):
    records = [evaluate_encoder(*case, EncoderOptions(draws=1), seed=3).record for _ in range(2)]
    first, again = ({k: v for k, v in record.items() if "seconds" not in k} for record in records)
    assert first == again


def test_a_prefix_goes_between_split_and_name():
    assert with_prefix("random_", {"test_knn_accuracy": 1}) == {"test_random_knn_accuracy": 1}
    assert with_prefix("", {"val_linear_accuracy": 1}) == {"val_linear_accuracy": 1}


def test_the_watched_accuracy_is_that_of_the_encoder_on_validation_images_every_few_epochs(case):
    encoder, (digits, _), splits = case
    model = ContrastiveModel(encoder, "mlp")
    validate = watch_knn(digits, splits, 3, 7, "fp32")
    found = [validate(model, epoch) for epoch in range(1, 8)]
    assert [bool(metrics) for metrics in found] == [False, False, True, False, False, True, True]
    known = forward_all(encoder, in_order(digits, splits[0]))
    queries, labels = forward_all(encoder, in_order(digits, splits[1]))
    assert found[2] == {"val_knn_accuracy": accuracy(knn(*known, queries), labels)}


def test_a_saved_encoder_says_what_it_was_trained_on_and_its_copy_computes_the_same(case, tmp_path):
    encoder, (digits, _), _ = case
    copy = save_encoder(RunFolder(tmp_path), encoder, digits)
    saved = read_model(tmp_path / "encoder.pt")
    assert (saved.name, saved.options, saved.data) == ("fast", {"num_classes": 0}, digits.description)
    assert copy is not encoder
    for ours, theirs in zip(copy.parameters(), encoder.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    batches = in_order(digits, torch.arange(20))
    torch.testing.assert_close(forward_all(copy, batches), forward_all(encoder, batches))


def test_predictions_are_those_of_the_probe_and_hold_what_the_figures_show(case, tmp_path):
    encoder, data, splits = case
    run = RunFolder(tmp_path)
    scores = evaluate_encoder(*case, NOTHING)
    save_predictions(run, scores, splits)
    saved = run.predictions()
    right = saved["test_probabilities"].argmax(1) == saved["test_labels"]
    assert scores.record["test_linear_accuracy"] == pytest.approx(right.mean())
    assert saved["val_indices"].tolist() == splits[1].tolist()
    assert data[1].labels[saved["queries"]].tolist() == list(range(10))  # a query of each class
    assert np.isin(saved["nearest"], splits[0].numpy()).all()
    assert sorted(saved["mapped"]) == list(range(50))
    draw_encoder(run, run, data, "features")
    lines = run.path("map.csv").read_text().splitlines()
    assert lines[0] == "digit,x,y,pixels_x,pixels_y"
    assert [int(line.split(",")[0]) for line in lines[1:]] == data[1].labels[saved["mapped"]].tolist()
    assert {path.name for path in tmp_path.glob("*.png")} == {"neighbours.png", "map.png"}


def test_a_map_is_written_with_one_digit_behind_the_point():
    points = np.array([[1.26, -2.0]])
    assert map_csv(np.array([7]), points, 2 * points).splitlines()[1] == "7,1.3,-2.0,2.5,-4.0"


def test_every_part_of_an_evaluation_is_timed(case, short_evaluation):
    record = evaluate_encoder(*case, EncoderOptions(draws=2, distill=True)).record
    parts = {"features", "graph", "kmeans", "kmeans_spread"}
    parts |= {f"{prefix}frozen" for prefix in ("", "random_", "pixels_")}
    parts |= {f"{prefix}finetuned" for prefix in ("", "random_")}
    for n in (1, 10):
        parts |= {f"{prefix}frozen_{n}" for prefix in ("", "random_", "pixels_")}
        parts |= {f"{prefix}finetuned_{n}" for prefix in ("", "random_")}
        parts |= {f"spread_{n}", f"self_trained_{n}"}
    assert {key.removesuffix("_seconds") for key in record if key.endswith("_seconds")} == parts
    assert all(record[f"{part}_seconds"] >= 0 for part in parts)
