"""A library of finished runs: parts in order, folds joined, members scaled; refusals are in test_ensemble."""

import numpy as np
import pytest

from evaluation.cnn import cross_entropy
from evaluation.ensemble.library import Library, Member, check_predictions, out_of_fold, part_folders
from utils.errors import UserError


def probabilities(labels, strength, seed):
    logits = np.random.default_rng(seed).normal(size=(len(labels), 3))
    logits[np.arange(len(labels)), labels] += strength
    powers = np.exp(logits)
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def fold(k, indices, labels, test_labels):
    arrays = {
        "val_probabilities": probabilities(labels[indices], 1, k),
        "val_labels": labels[indices],
        "val_indices": indices,
        "test_probabilities": probabilities(test_labels, 1, 10 + k),
        "test_labels": test_labels,
    }
    record = {"seed": 4, "fold": k, "seconds": 1.5, "train_images": 100 + k}
    return Member([f"fold-{k}"], "cnn 4", record, arrays)


def test_parts_are_sorted_by_number_and_members_come_before_seeds(tmp_path):
    assert part_folders(tmp_path) == [tmp_path]
    for name in ("seed-10", "seed-9"):
        (tmp_path / name).mkdir()
    assert [path.name for path in part_folders(tmp_path)] == ["seed-9", "seed-10"]
    for name in ("member-2-fold-1", "member-10", "member-2-fold-0"):
        (tmp_path / name).mkdir()
    names = [path.name for path in part_folders(tmp_path)]
    assert names == ["member-2-fold-0", "member-2-fold-1", "member-10"]


def test_folds_become_one_member_whose_validation_predictions_are_out_of_fold():
    labels, test_labels = np.arange(12) % 3, np.arange(6) % 3
    halves = np.array([1, 3, 4, 7, 8, 11]), np.array([0, 2, 5, 6, 9, 10])
    folds = [fold(k, indices, labels, test_labels) for k, indices in enumerate(halves)]
    member = out_of_fold(folds)
    assert member.arrays["val_indices"].tolist() == list(range(12))
    assert member.arrays["val_labels"].tolist() == labels.tolist()
    for part, indices in zip(folds, halves, strict=True):
        found = member.arrays["val_probabilities"][indices]
        assert np.array_equal(found, part.arrays["val_probabilities"])
    tests = [part.arrays["test_probabilities"] for part in folds]
    assert member.arrays["test_probabilities"] == pytest.approx(np.mean(tests, 0))
    assert (member.record["seconds"], member.record["train_images"]) == (3.0, 100.5)
    assert member.folders == ["fold-0", "fold-1"]


def predictions():
    y = np.arange(12) % 3
    return {
        "val_probabilities": probabilities(y, 1, 0),
        "val_labels": y,
        "val_indices": np.arange(12) * 2,
        "test_probabilities": probabilities(y, 1, 1),
        "test_labels": y.copy(),
    }


def one(name, value):
    """A change of the first value of an array."""

    def change(arrays):
        arrays[name].flat[0] = value

    return change


def logits(arrays):
    arrays["test_probabilities"] = np.log(arrays["test_probabilities"])


def as_text(name):
    return lambda arrays: arrays.update({name: arrays[name].astype(str)})


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (one("val_probabilities", np.nan), "val_probabilities"),
        (one("test_probabilities", np.inf), "test_probabilities"),
        (one("test_probabilities", -0.1), "test_probabilities"),
        (one("val_probabilities", 0.9), "val_probabilities"),
        (logits, "test_probabilities"),
        (as_text("val_probabilities"), "val_probabilities"),
        (as_text("test_labels"), "test_labels"),
        (as_text("val_indices"), "val_indices"),
        (one("test_labels", 3), "test_labels"),
        (one("val_labels", -1), "val_labels"),
        (one("val_indices", 2), "val_indices"),
        (lambda arrays: arrays.update(val_labels=np.arange(11) % 3), "val_labels"),
        (lambda arrays: arrays.update(val_indices=np.arange(11)), "val_indices"),
        (lambda arrays: arrays.update(val_probabilities=np.zeros((0, 3))), "val_probabilities"),
    ],
)
def test_predictions_of_another_kind_are_refused(change, name):
    arrays = predictions()
    check_predictions(arrays, "run")
    change(arrays)
    with pytest.raises(UserError, match=f"^run: predictions.npz .*: {name} must be "):
        check_predictions(arrays, "run")


@pytest.fixture
def library():
    y = np.arange(60) % 3
    p = np.stack([probabilities(y, strength, seed) for seed, strength in enumerate((0.5, 2, 4))])
    members = [Member([], f"m {i}", {"seconds": float(i)}, {}) for i in range(3)]
    return Library(members, p, y, np.arange(60), p[:, ::2], y[::2])


def test_a_library_of_some_members(library):
    some = library.choose(np.array([2, 0]))
    assert some.names == ["m 2", "m 0"]
    assert np.array_equal(some.val_p, library.val_p[[2, 0]])
    assert np.array_equal(some.test_p, library.test_p[[2, 0]])
    assert some.mean("seconds") == 1.0


def test_calibration_lowers_every_loss_on_validation_images_and_keeps_the_decisions(library):
    scaled = library.calibrated()
    for plain, member in zip(library.val_p, scaled, strict=True):
        assert cross_entropy(member, library.val_y) <= cross_entropy(plain, library.val_y) + 1e-9
        assert np.array_equal(member.argmax(1), plain.argmax(1))
    assert np.array_equal(library.choose(np.array([2, 0])).calibrated(), scaled[[2, 0]])
