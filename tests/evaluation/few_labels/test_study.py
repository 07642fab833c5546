"""The few-label study: who is labelled, who validates, and what every method returns."""

import pytest
import torch

from data import POLICIES, few_labels, load, split
from evaluation.contrastive import clustering
from evaluation.contrastive.options import EncoderOptions
from evaluation.few_labels import scorers as few
from evaluation.few_labels import study as module
from evaluation.few_labels.study import (
    ON_ENCODER,
    UNLABELLED,
    JoinedEncoders,
    Study,
    method_names,
    quarter,
    train_from_scratch,
)
from models import create
from utils.errors import UserError
from utils.training import config


@pytest.fixture
def short(monkeypatch):
    """Every training is a few steps."""
    monkeypatch.setattr(few, "FINETUNE", few.FINETUNE | {"epochs": 1})
    monkeypatch.setattr(few, "FINETUNE_IMAGES", 64)
    monkeypatch.setattr(few, "DISTIL", few.DISTIL | {"epochs": 1})
    monkeypatch.setattr(few, "CONSISTENCY", few.CONSISTENCY | {"epochs": 1})
    monkeypatch.setattr(few, "CONSISTENCY_BATCH", 90)
    monkeypatch.setattr(module, "SUPCON", module.SUPCON | {"epochs": 1})
    monkeypatch.setattr(module, "SUPCON_IMAGES", 64)
    monkeypatch.setattr(config, "FEW_LABELS_STEPS", 20)
    monkeypatch.setattr(clustering, "HEAD_STEPS", 30)


@pytest.fixture
def study(tiny_dir):
    data = load("mnist", tiny_dir)
    torch.manual_seed(0)
    encoder = create("fast", 0).eval()
    return Study(data, split(data[0].labels, 0.1, 0), {"simclr": encoder}, EncoderOptions())


def test_labelled_and_unlabelled_images_are_disjoint_and_together_everything():
    indices = torch.arange(100, 200)
    labelled, unlabelled = few.label_split(indices, torch.tensor([3, 50, 99]))
    assert labelled.tolist() == [103, 150, 199]
    assert sorted([*labelled.tolist(), *unlabelled.tolist()]) == indices.tolist()


def test_a_quarter_of_the_labels_validates_with_four_of_a_class(digits):
    labelled = few_labels(digits.labels, 10, 0)
    train, val = quarter(digits.labels, labelled, 0)
    assert (len(train), len(val)) == (75, 25)
    assert sorted([*train.tolist(), *val.tolist()]) == labelled.tolist()
    train, val = quarter(digits.labels, few_labels(digits.labels, 2, 0), 0)
    assert (len(train), len(val)) == (20, 0)


def test_every_method_returns_outputs_for_the_scored_images(study, short):
    names = [name for name in method_names(["simclr"]) if not name.startswith(("cnn", "mlp-"))]
    assert len([name for name in names if name.startswith("simclr")]) == len(ON_ENCODER) + len(UNLABELLED)
    chosen = few_labels(study.pool_labels, 4, 0)
    for name in names:
        shared = study.prepare(name, 0)
        assert (shared > 0) == name.startswith(("simclr", "pixels"))
        outputs = study(name, chosen, 0)
        assert outputs.shape == (100, 10)
        assert outputs.isfinite().all()


def test_joined_encoders_count_the_same(digits):
    parts = [create("fast", 0).eval(), create("lenet", 0).eval()]
    images = digits.normalise(digits.images[:8].float() / 255)
    features = JoinedEncoders(parts)(images)
    assert features.shape == (8, 64 + 60)
    for part, encoder in zip(features.split([64, 60], 1), parts, strict=True):
        torch.testing.assert_close(part.norm(dim=1), torch.ones(8))
        torch.testing.assert_close(part, torch.nn.functional.normalize(encoder(images), dim=1))


def test_no_label_but_the_drawn_ones_is_used(tiny_dir, short):
    """Wrong labels of all other images, validation and test included, change no output."""
    train_set, test_set = load("mnist", tiny_dir)
    splits = split(train_set.labels, 0.1, 0)
    chosen = few_labels(train_set.labels[splits[0]], 4, 1)
    hidden = torch.ones(len(train_set.labels), dtype=torch.bool)
    hidden[splits[0][chosen]] = False
    wrong = torch.where(hidden, (train_set.labels + 3) % 10, train_set.labels)
    sets = (
        (train_set, test_set),
        (train_set._replace(labels=wrong), test_set._replace(labels=1 - test_set.labels % 2)),
    )
    names = (
        "simclr-linear",
        "simclr-spread",
        "simclr-refined",
        "simclr-named",
        "simclr-consistent",
        "mlp1-augmented",
        "supcon-knn",
    )
    outputs = []
    for data in sets:
        torch.manual_seed(0)
        study = Study(data, splits, {"simclr": create("fast", 0).eval()}, EncoderOptions())
        for name in names:
            study.prepare(name, 0)
        outputs.append([study(name, chosen, 0) for name in names])
    for a, b in zip(*outputs, strict=True):
        assert torch.equal(a, b)


def test_supcon_sees_the_labelled_images_alone(study, short):
    chosen = few_labels(study.pool_labels, 4, 1)
    train_set, test_set = study.data
    hidden = torch.ones(len(train_set.labels), dtype=torch.bool)
    hidden[study.splits[0][chosen]] = False
    black = torch.where(hidden[:, None, None, None], 0, train_set.images)
    other = Study((train_set._replace(images=black), test_set), study.splits, {}, study.options)
    for name in ("supcon-knn", "supcon-linear"):
        assert torch.equal(study(name, chosen, 0), other(name, chosen, 0))


def test_clusters_are_named_by_the_labelled_images_alone(study, short):
    """On tiny data the clusters are poor, but the names come from the draw and are the best for it."""
    chosen = few_labels(study.pool_labels, 4, 1)
    study.prepare("simclr-named", 3)
    answers = study("simclr-named", chosen, 3)
    scorer = study.scorers["simclr"]
    train, test = scorer.refined_clusters(study.graphs["simclr"], 3)
    assert sorted(answers.sum(0).tolist()) == pytest.approx(sorted(test.sum(0).tolist()))
    labels = study.pool_labels[chosen]
    named = train[chosen][:, scorer._names(train[chosen], chosen)]
    right = named[torch.arange(40), labels].sum()
    shuffled = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    for order in (torch.arange(10), torch.arange(10).flip(0), shuffled):
        assert right >= train[chosen][:, order][torch.arange(40), labels].sum() - 1e-4
    assert study.prepare("simclr-named", 3) == study.prepare("simclr-self_labelled", 3)


def test_the_time_of_what_draws_share_is_that_of_its_parts(study):
    """The graph costs those nothing that don't need it, whoever comes first."""
    spread, knn = study.prepare("simclr-spread", 0), study.prepare("simclr-knn", 0)
    parts = [study.times[f"simclr-{part}_seconds"] for part in ("features", "graph", "neighbours")]
    assert spread == pytest.approx(sum(parts))
    assert knn == study.prepare("simclr-linear", 0) == parts[0]
    assert study.prepare("simclr-refined", 0) == pytest.approx(sum(parts[:2]))


def test_consistency_training_needs_unlabelled_images(study, short):
    study.prepare("simclr-consistent", 0)
    with pytest.raises(UserError, match="use fewer --labels"):
        study("simclr-consistent", torch.arange(len(study.splits[0])), 0)


def test_clusters_are_named_by_training_labels_and_change_with_no_other_label(study, short):
    study.prepare("simclr-clusters", 0)
    empty = torch.empty(0, dtype=torch.int64)
    outputs = study("simclr-self_labelled", empty, 0)
    train_set, test_set = study.data
    other = Study(
        (train_set, test_set._replace(labels=1 - test_set.labels % 2)),
        study.splits,
        {"simclr": study.encoders["simclr"]},
        study.options,
    )
    other.prepare("simclr-clusters", 0)
    assert torch.equal(outputs, other("simclr-self_labelled", empty, 0))


def test_training_from_scratch_learns_its_labels(digits, monkeypatch):
    monkeypatch.setattr(config, "FEW_LABELS_STEPS", 100)
    labelled = few_labels(digits.labels, 10, 0)
    model = train_from_scratch("mlp1", POLICIES["none"], digits, labelled, EncoderOptions(), 0).eval()
    images = digits.normalise(digits.images[labelled].float() / 255)
    assert (model(images).argmax(1) == digits.labels[labelled]).float().mean() > 0.9
