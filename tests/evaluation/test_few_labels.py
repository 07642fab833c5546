"""The few-label study: who is labelled, who validates, what every method returns; anchored training."""

import math

import pytest
import torch
from helpers import noise
from torch.nn.functional import cross_entropy

from data import POLICIES, few_labels, in_order
from evaluation import few_labels as few
from evaluation.contrastive import clustering
from models import create
from utils.training.forward import forward_all

TABLE = few.method_table(["own"])


@pytest.fixture
def short(monkeypatch):
    """Every training is a few steps."""
    for name in ("FINETUNE", "DISTIL", "SUPCON"):
        monkeypatch.setattr(few, name, getattr(few, name) | {"epochs": 1})
    for name, value in {"FINETUNE_IMAGES": 64, "SUPCON_IMAGES": 64, "STUDENT": "fast"}.items():
        monkeypatch.setattr(few, name, value)
    monkeypatch.setattr(few, "FEW_LABELS_STEPS", 20)
    monkeypatch.setattr(clustering, "HEADS", 2)
    monkeypatch.setattr(clustering, "HEAD_STEPS", 10)


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
    networks = "mlp1", "mlp", "mlp_128_64", "mlp_512_128_64", "cnn"
    scratch = [f"{network}{suffix}" for network in networks for suffix in ("", "-augmented")]
    assert few.method_table(["a", "b"])["b-spread"] == (TABLE["own-spread"][0], "b")
    without = {name for name, (method, _) in TABLE.items() if not method.needs_labels}
    assert without == {"own-clusters", "own-self_labelled"}
    assert TABLE["own-self_labelled"][0].needs_labels is None  # with and without
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
    alike = "cnn", "mlp-", "mlp_", "mlp1-", "supcon-l"  # as others that are tried
    for name, (method, _) in TABLE.items():
        if method.needs_labels is not False and not name.startswith(alike):
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


def test_the_student_is_named_by_the_labelled_images_which_then_anchor_it(source, chosen, short, monkeypatch):
    """On tiny data the clusters are poor, but the names come from the draw and are the best for it."""
    seen = []
    make = few.AnchoredBatches
    monkeypatch.setattr(few, "AnchoredBatches", lambda *args: seen.extend(args) or make(*args))
    _, probabilities = source.student
    run("own-self_labelled", source, chosen)
    labels, rows = source.study.pool_labels[chosen], torch.arange(40)
    names = source.cluster_of_class(probabilities[chosen], chosen)
    given = seen[0].labels[source.train_idx]
    assert torch.equal(given[chosen], labels)
    others = torch.ones(len(given), dtype=torch.bool).index_fill(0, chosen, False)
    assert torch.equal(given[others], probabilities[:, names].argmax(1)[others])
    assert torch.equal(seen[1], source.train_idx[chosen])
    right = probabilities[chosen][:, names][rows, labels].sum()
    shuffled = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    for order in (torch.arange(10), torch.arange(10).flip(0), shuffled):
        assert right >= probabilities[chosen][:, order][rows, labels].sum() - 1e-4


def test_without_labels_the_student_answers_by_names_of_all_training_labels(source, short):
    student, probabilities = source.student
    before = source.study.outputs(student)
    answers = run("own-self_labelled", source, torch.empty(0, dtype=torch.int64))
    assert torch.equal(answers, before[:, source.cluster_of_class(probabilities.argmax(1), few.ALL)])
    assert torch.equal(source.study.outputs(student), before)  # which the draws share


def test_the_time_of_what_draws_share_is_that_of_its_parts(source, short):
    """The graph costs those nothing that don't need it, whoever comes first."""
    spread, knn, linear, own = (
        source.prepare(TABLE[f"own-{name}"][0].shares)
        for name in ("spread", "knn", "linear", "self_labelled")
    )
    parts = [source.seconds[part] for part in ("features", "graph", "neighbours", "student")]
    assert spread == pytest.approx(sum(parts[:3]))
    assert knn == linear == parts[0]
    assert own == pytest.approx(parts[0] + parts[1] + parts[3])


def test_fine_tuning_starts_as_the_probe_and_leaves_the_encoder_alone(source, chosen, short):
    before = {k: v.clone() for k, v in source.encoder.state_dict().items()}
    probe = source.probe(chosen, source.labels(chosen))
    logits = source.study.outputs(source.classifier(probe))
    raw, _ = forward_all(source.encoder, in_order(source.study.data[1]))
    torch.testing.assert_close(logits, probe(raw / source.length), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(run("own-finetuned", source, chosen), logits, atol=1e-2)
    assert all(torch.equal(value, before[key]) for key, value in source.encoder.state_dict().items())


def test_the_student_learns_the_clusters_and_no_label(source, monkeypatch):
    monkeypatch.setattr(few, "DISTIL", few.DISTIL | {"epochs": 15, "ema": 0.0})
    for name, value in {"STUDENT": "lenet", "DISTIL_BATCH": 32, "STUDENT_AUGMENT": POLICIES["none"]}.items():
        monkeypatch.setattr(few, name, value)
    wrong = (source.study.pool_labels + 1) % 10
    monkeypatch.setattr(source, "spread_head", lambda seed: torch.eye(10)[wrong])
    assert (source.student[1].argmax(1) == wrong).float().mean() > 0.5


def test_training_from_scratch_learns_its_labels(data, splits, monkeypatch):
    monkeypatch.setattr(few, "FEW_LABELS_STEPS", 100)
    chosen = few_labels(data[0].labels[splits[0]], 10, 0)
    own = data[0]._replace(images=data[0].images[splits[0][chosen]], labels=data[0].labels[splits[0][chosen]])
    answers = run("mlp1", few.Source(few.Study((data[0], own), splits), None), chosen).argmax(1)
    assert (answers == own.labels).float().mean() > 0.9


# --- Training with anchors ---


@pytest.mark.parametrize("q", [0.001, 0.3, 0.7, 1.0])
def test_the_loss_equals_a_loop_over_images(q):
    logits, labels = 2 * noise(40, 5).double(), torch.arange(40) % 5
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        total += (1 - (math.exp(row[label]) / sum(map(math.exp, row))) ** q) / q
    loss = float(few.generalised_cross_entropy(logits, labels, q))
    assert loss == pytest.approx(total / 40, abs=1e-9)
    if q < 0.01:
        assert loss == pytest.approx(float(cross_entropy(logits, labels)), rel=0.01)


def batches(digits, augment=POLICIES["none"]):
    every = torch.arange(len(digits.labels))
    return few.AnchoredBatches(digits, every[:20], every, (50, 16), augment, seed=3)


def test_an_epoch_covers_all_images_once_and_repeats_the_anchors(digits):
    loader = batches(digits)
    found = list(loader.epoch(1))
    assert len(found) == len(loader) == 4
    assert all(anchors.shape == (16, 1, 28, 28) for _, _, anchors, _ in found)
    for part, count in ((0, len(digits.labels)), (2, 20)):
        seen = torch.cat([batch[part] for batch in found]).flatten(1)
        expected = digits.normalise(digits.images[:count].float() / 255).flatten(1)
        assert torch.equal(seen.unique(dim=0), expected.unique(dim=0))
    first, other = next(batches(digits, POLICIES["shift"]).epoch()), found[0]
    assert not torch.equal(first[0], other[0])


def test_a_step_adds_the_loss_of_the_anchors_where_there_are_any(digits):
    torch.manual_seed(0)
    model = create("fast").eval()
    images, labels, anchors, known = next(batches(digits).epoch())
    loss, metrics = few.anchored_step(model)(images, labels, anchors, known)
    alone, _ = few.anchored_step(model)(images, labels)
    torch.testing.assert_close(alone, few.generalised_cross_entropy(model(images), labels))
    weighted = few.ANCHOR_WEIGHT * cross_entropy(model(anchors), known)
    torch.testing.assert_close(loss, alone + weighted)
    assert metrics["accuracy"] == (model(images).argmax(1) == labels).float().mean()
