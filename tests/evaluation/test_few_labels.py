"""The few-label study: who is labelled, who validates, and what every method returns."""

import pytest
import torch

from data import few_labels, in_order
from evaluation import few_labels as few
from evaluation.contrastive import clustering
from evaluation.contrastive.features import knn
from models import create
from utils.errors import UserError
from utils.training.forward import forward_all

TABLE = few.method_table(["own"])


@pytest.fixture
def short(monkeypatch):
    """Every training is a few steps."""
    for name in ("FINETUNE", "DISTIL", "CONSISTENCY", "SUPCON"):
        monkeypatch.setattr(few, name, getattr(few, name) | {"epochs": 1})
    for name, value in {"FINETUNE_IMAGES": 64, "SUPCON_IMAGES": 64, "CONSISTENCY_BATCHES": (64, 90)}.items():
        monkeypatch.setattr(few, name, value)
    monkeypatch.setattr(few, "FEW_LABELS_STEPS", 20)
    monkeypatch.setattr(clustering, "HEAD_STEPS", 30)


@pytest.fixture
def source(data, splits, encoder):
    return few.Source(few.Study(data, splits), encoder)


@pytest.fixture
def chosen(source):
    """Four labels of each class."""
    return few_labels(source.study.pool_labels, 4, 1)


def run(name, source, chosen, seed=0):
    return TABLE[name][0].run(source, chosen, seed)


def test_the_table_says_what_each_method_needs():
    scratch = [f"{m}{suffix}" for m in ("mlp1", "mlp", "cnn") for suffix in ("", "-augmented")]
    assert few.method_table(["a", "b"])["b-spread"] == (TABLE["own-spread"][0], "b")
    without = {name for name, (method, _) in TABLE.items() if not method.needs_labels}
    assert without == {"own-clusters", "own-self_labelled"}
    alone = {name for name, (method, _) in TABLE.items() if not method.sees_unlabelled}
    assert alone == {*scratch, "supcon-knn", "supcon-linear"}
    assert all(bool(method.shares) == method.sees_unlabelled for method, _ in TABLE.values())


@pytest.mark.parametrize(("labels", "train", "val"), [(10, 75, 25), (2, 20, 0)])
def test_a_quarter_of_four_labels_of_a_class_validates(source, short, monkeypatch, labels, train, val):
    indices, make = {"train": torch.empty(0), "val": torch.empty(0)}, few.BatchLoader
    monkeypatch.setattr(few, "validate_classifier", lambda _, index, __: indices.update(val=index))
    monkeypatch.setattr(few, "BatchLoader", lambda *a, **b: indices.update(train=a[1]) or make(*a, **b))
    chosen = few_labels(source.study.pool_labels, labels, 0)
    run("mlp1", source, chosen)
    assert (len(indices["train"]), len(indices["val"])) == (train, val)
    assert torch.cat(list(indices.values())).sort()[0].tolist() == source.train_idx[chosen].tolist()


def test_no_label_but_the_drawn_ones_is_used(source, data, splits, encoder, chosen, short):
    """Wrong labels of all other images, validation and test included, change no output of any method.

    Nor do black images in their place, where a method says that it sees the labelled images alone.
    """
    train_set, test_set = data
    hidden = torch.ones(len(train_set.labels), dtype=torch.bool)
    hidden[splits[0][chosen]] = False
    wrong = train_set._replace(labels=torch.where(hidden, (train_set.labels + 3) % 10, train_set.labels))
    black = wrong._replace(images=torch.where(hidden[:, None, None, None], 0, wrong.images))
    test_set = test_set._replace(labels=1 - test_set.labels % 2)
    unlabelled, unseen = (few.Source(few.Study((each, test_set), splits), encoder) for each in (wrong, black))
    for name, (method, _) in TABLE.items():
        if method.needs_labels and not name.startswith(("cnn", "mlp-")):
            other = unlabelled if method.sees_unlabelled else unseen
            true, changed = (method.run(each, chosen, 0) for each in (source, other))
            assert true.shape == (100, 10)
            assert true.isfinite().all()
            assert torch.equal(true, changed), name
    for name in ("own-clusters", "own-self_labelled"):  # which have the training labels for names
        other = few.Source(few.Study((train_set, test_set), splits), encoder)
        true, changed = (run(name, each, torch.empty(0, dtype=torch.int64)) for each in (source, other))
        assert true.shape == (100, 10)
        assert torch.equal(true, changed)


def test_clusters_are_named_by_the_labelled_images_alone(source, chosen, short):
    """On tiny data the clusters are poor, but the names come from the draw and are the best for it."""
    answers = run("own-named", source, chosen, 3)
    train, test = source.refined_clusters(3)
    assert sorted(answers.sum(0).tolist()) == pytest.approx(sorted(test.sum(0).tolist()))
    labels, rows = source.study.pool_labels[chosen], torch.arange(40)
    right = train[chosen][:, source.cluster_of_class(train[chosen], chosen)][rows, labels].sum()
    shuffled = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    for order in (torch.arange(10), torch.arange(10).flip(0), shuffled):
        assert right >= train[chosen][:, order][rows, labels].sum() - 1e-4


def test_the_time_of_what_draws_share_is_that_of_its_parts(source, short):
    """The graph costs those nothing that don't need it, whoever comes first."""
    spread, knn, linear, refined = (
        source.prepare(TABLE[f"own-{name}"][0].shares, 0) for name in ("spread", "knn", "linear", "refined")
    )
    parts = [source.seconds[part] for part in ("features", "graph", "neighbours")]
    assert spread == pytest.approx(sum(parts))
    assert knn == linear == parts[0]
    assert refined == pytest.approx(sum(parts[:2]))
    named = [source.prepare(TABLE["own-named"][0].shares, seed) for seed in (3, 4, 3)]
    assert named[0] == named[2]
    assert {"clusters-3", "clusters-4"} < set(source.seconds)


def test_fine_tuning_starts_as_the_probe_and_leaves_the_encoder_alone(source, chosen, short):
    before = {k: v.clone() for k, v in source.encoder.state_dict().items()}
    probe = source.probe(chosen, source.labels(chosen))
    logits = source.study.outputs(source.classifier(probe))
    raw, _ = forward_all(source.encoder, in_order(source.study.data[1]))
    torch.testing.assert_close(logits, probe(raw / source.length), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(run("own-finetuned", source, chosen), logits, atol=1e-2)
    assert all(torch.equal(value, before[key]) for key, value in source.encoder.state_dict().items())


def test_a_student_learns_from_probabilities_alone(source, monkeypatch):
    """It must believe its teacher, not the labels; what it learnt spreads over its features."""
    monkeypatch.setattr(few, "DISTIL", few.DISTIL | {"epochs": 15, "batch_size": 32, "ema": 0.0})
    monkeypatch.setattr(few, "STUDENT", "lenet")
    wrong, students = (source.study.pool_labels + 1) % 10, []
    monkeypatch.setattr(few, "create", lambda *args: students.append(create(*args)) or students[-1])
    train, test = source.self_train(torch.eye(10)[wrong], torch.arange(180), wrong, 0)
    assert len(students) == few.ROUNDS
    assert (train.argmax(1) == wrong).float().mean() > 0.5
    images, scored = source.study.data
    features = forward_all(students[-1].encoder, in_order(images, source.train_idx))[0]
    expected = clustering.spread_labels(clustering.neighbour_graph(features), torch.arange(180), wrong)
    torch.testing.assert_close(train, expected)
    torch.testing.assert_close(
        test, knn(features, expected, forward_all(students[-1].encoder, in_order(scored))[0])
    )


def test_consistency_training_needs_unlabelled_images(source, short):
    assert few.WEAK.stroke == few.STRONG.stroke == 0  # a 1 with a stroke is no 1, and labels are trained on
    with pytest.raises(UserError, match="use fewer --labels"):
        run("own-consistent", source, torch.arange(len(source.train_idx)))


def test_training_from_scratch_learns_its_labels(data, splits, monkeypatch):
    monkeypatch.setattr(few, "FEW_LABELS_STEPS", 100)
    chosen = few_labels(data[0].labels[splits[0]], 10, 0)
    own = data[0]._replace(images=data[0].images[splits[0][chosen]], labels=data[0].labels[splits[0][chosen]])
    answers = run("mlp1", few.Source(few.Study((data[0], own), splits), None), chosen).argmax(1)
    assert (answers == own.labels).float().mean() > 0.9
