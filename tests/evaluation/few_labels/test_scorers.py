"""Fine-tuning, distillation and self-training of an encoder with few labels."""

import pytest
import torch

from data import few_labels, in_order, split
from evaluation.contrastive.clustering import neighbour_graph, spread_labels
from evaluation.contrastive.features import encode, few_label_probe, knn, statistics
from evaluation.contrastive.options import EncoderOptions
from evaluation.few_labels import scorers as few
from models import create
from utils.training.forward import forward_all

OPTIONS = EncoderOptions(student="lenet")


@pytest.fixture(scope="module")
def case(digits):
    """An encoder whose batch statistics are those of no batch; the data and a split."""
    torch.manual_seed(0)
    encoder = create("fast", 0)
    encoder(digits.normalise(digits.images[:64] / 255))
    data = (digits, digits._replace(images=digits.images[:50], labels=digits.labels[:50]))
    return encoder, data, split(digits.labels, 0.2, 0)


def test_fine_tuning_starts_as_the_probe_and_leaves_the_encoder_alone(case, monkeypatch):
    encoder, data, (train_idx, val_idx) = case
    f = encode(encoder, data, train_idx, val_idx, "fp32")
    chosen = few_labels(f.train_labels, 4, 0)
    probe = few_label_probe(f, chosen, statistics(f.train))
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    monkeypatch.setattr(few, "train_classifier", lambda model, *rest: model)
    start = few.finetune(encoder, probe, data[0], train_idx[chosen], OPTIONS, 0, few.FINETUNE)
    logits, _ = forward_all(start, in_order(data[1]))
    torch.testing.assert_close(logits, probe(f.test), rtol=1e-3, atol=1e-3)
    monkeypatch.undo()
    monkeypatch.setattr(few, "FINETUNE_IMAGES", 200)
    recipe = few.FINETUNE | {"epochs": 2}
    tuned = few.finetune(encoder, probe, data[0], train_idx[chosen], OPTIONS, 0, recipe)
    assert not torch.equal(tuned.head.weight, start.head.weight)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_a_student_learns_from_probabilities_alone(case, monkeypatch):
    _, (train_set, _), (train_idx, _) = case
    monkeypatch.setattr(few, "DISTIL", few.DISTIL | {"epochs": 15, "batch_size": 32, "ema": 0.0})
    wrong = (train_set.labels + 1) % 10  # the student must believe its teacher, not the labels
    targets = torch.eye(10)[wrong[train_idx]]
    student = few.distil(targets, "lenet", train_set, train_idx, OPTIONS, 0)
    logits, _ = forward_all(student, in_order(train_set, train_idx))
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

    first, train, last = few.self_train(start, respread, OPTIONS, data, train_idx, 0)
    assert len(students) == few.ROUNDS == 2
    test = in_order(data[1])
    torch.testing.assert_close(first, forward_all(students[0], test)[0])
    features = [forward_all(student.encoder, in_order(data[0], train_idx))[0] for student in students]
    spread = [respread(f, neighbour_graph(f)) for f in features]
    assert torch.equal(taught[0], start)
    torch.testing.assert_close(taught[1], spread[0])
    torch.testing.assert_close(train, spread[1])
    torch.testing.assert_close(last, knn(features[1], spread[1], forward_all(students[1].encoder, test)[0]))


def few_scores(case, monkeypatch, draws=2, seed=0, distill=False):
    """The scores without any training: networks that are fine-tuned or distilled stay as they start."""
    encoder, data, (train_idx, val_idx) = case
    monkeypatch.setattr(few, "train_classifier", lambda model, *rest: model)
    f = encode(encoder, data, train_idx, val_idx, "fp32")
    options = EncoderOptions(draws=draws, distill=distill, student="lenet")
    features = {"": f, "pixels_": f.map(lambda rows: rows[:, :3])}
    graph = neighbour_graph(f.train)
    scores = few.few_label_scores(features, {"": encoder}, graph, data, train_idx, options, seed)
    return {key: value for key, value in scores.items() if not key.endswith("_seconds")}


def test_only_features_with_a_network_are_fine_tuned_and_only_the_first_spread(case, monkeypatch):
    scores = few_scores(case, monkeypatch)
    names = {key[5:-9] for key in scores if key.endswith("_accuracy")}  # test_<name>_accuracy
    plain = {"knn", "linear", "pixels_knn", "pixels_linear", "finetuned", "spread"}
    assert names == {f"{what}_{n}" for what in plain for n in (1, 10)}
    for key in scores:
        if key.endswith("accuracies"):
            assert scores[key.replace("accuracies", "accuracy")] == pytest.approx(sum(scores[key]) / 2)


def test_distillation_is_for_scarce_labels(case, monkeypatch):
    monkeypatch.setattr(few, "LABELS_PER_CLASS", (1, 4))
    monkeypatch.setattr(few, "DISTILLED", (1,))
    scores = few_scores(case, monkeypatch, draws=1, distill=True)
    assert {"test_distilled_1_accuracy", "test_self_trained_1_accuracy"} <= set(scores)
    assert not {"test_distilled_4_accuracy", "test_self_trained_4_accuracy"} & set(scores)


def test_more_draws_keep_the_first_ones_of_seed_0_and_seeds_share_none(case, monkeypatch):
    seen = []
    draw = few.few_labels
    monkeypatch.setattr(few, "LABELS_PER_CLASS", (1,))
    monkeypatch.setattr(few, "few_labels", lambda labels, n, seed: seen.append(seed) or draw(labels, n, seed))
    two, three = (few_scores(case, monkeypatch, draws)["test_knn_1_accuracies"] for draws in (2, 3))
    assert three[:2] == two
    seen.clear()
    for seed in range(2):
        few_scores(case, monkeypatch, 2, seed)
    assert sorted(set(seen)) == [0, 1, 2, 3]
