"""A library of finished runs: parts in order, every combination scored by hand.

What is refused in sentences is in test_ensemble.py.
"""

import numpy as np
import pytest
from helpers import probabilities

from evaluation.cnn import calibration_error, mcnemar, scale
from evaluation.ensemble import library as runs
from evaluation.ensemble.selection import COMBINATIONS, average, choose, combine, oracle
from utils.errors import UserError
from utils.training.forward import cross_entropy


def test_parts_are_sorted_by_number_and_members_come_before_seeds(tmp_path):
    assert runs.part_folders(tmp_path) == [tmp_path]
    for name in ("seed-10", "seed-9"):
        (tmp_path / name).mkdir()
    assert [path.name for path in runs.part_folders(tmp_path)] == ["seed-9", "seed-10"]
    for name in ("member-10", "member-2"):
        (tmp_path / name).mkdir()
    assert [path.name for path in runs.part_folders(tmp_path)] == ["member-2", "member-10"]


def first(value):
    """Return the change of an array's first value."""

    def change(array):
        array.flat[0] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("test_probabilities", first(-0.1)),
        ("val_probabilities", first(0.9)),
        ("test_probabilities", np.log),
        ("val_probabilities", lambda p: p[:0]),
        ("test_labels", first(3)),
        ("val_indices", first(2)),
    ],
)
def test_predictions_of_another_kind_are_refused(name, change):
    y = np.arange(12) % 3
    val_p, test_p = (probabilities(y, 1, seed, 3) for seed in (0, 1))
    arrays = {"val_probabilities": val_p, "val_labels": y, "val_indices": np.arange(12) * 2}
    arrays |= {"test_probabilities": test_p, "test_labels": y.copy()}
    runs.check_predictions(arrays, "run")
    arrays[name] = change(arrays[name])
    with pytest.raises(UserError, match=f"^run: predictions.npz .* impossible {name};"):
        runs.check_predictions(arrays, "run")


@pytest.fixture
def library(tmp_path):
    val_y, test_y = np.arange(90) % 3, np.arange(60) % 3
    val_p, test_p = (
        np.stack([probabilities(y, strength, (seed, len(y)), 3) for seed, strength in enumerate((1, 2, 1.5))])
        for y in (val_y, test_y)
    )
    members = [
        runs.Member(tmp_path, f"m {i}", {"seconds": 2.0 + i, "train_images": 100.4}, {}) for i in range(3)
    ]
    return runs.Library(members, val_p, val_y, np.arange(90), test_p, test_y)


def test_calibration_lowers_every_loss_on_validation_images_and_keeps_the_decisions(library):
    scaled = library.calibrated()
    for plain, member in zip(library.val_p, scaled, strict=True):
        assert cross_entropy(member, library.val_y) <= cross_entropy(plain, library.val_y) + 1e-9
        assert np.array_equal(member.argmax(1), plain.argmax(1))
    assert np.array_equal(library.choose(np.array([2, 0])).calibrated(), scaled[[2, 0]])


def test_every_combination_is_scored_with_weights_chosen_on_validation(library):
    record, saved = runs.evaluate_library(library, "vote", {"seed": 4})
    weights = choose(library.calibrated(), library.val_y, 4)
    plain = average(library.test_p).argmax(1) == library.test_y
    for name in COMBINATIONS:
        p = combine(name, library.test_p, weights)
        right, scaled = p.argmax(1) == library.test_y, scale(p, record[f"{name}_temperature"])
        assert record[f"{name}_test_accuracy"] == right.mean()
        assert record[f"{name}_test_loss"] == pytest.approx(cross_entropy(p, library.test_y))
        assert record[f"{name}_test_gain"] == pytest.approx(right.mean() - plain.mean())
        assert record[f"{name}_test_mcnemar_p"] == mcnemar(right, plain)
        assert record[f"{name}_test_scaled_loss"] == pytest.approx(cross_entropy(scaled, library.test_y))
        assert record[f"{name}_test_scaled_ece"] == calibration_error(scaled, library.test_y)
    assert np.array_equal(saved["test_probabilities"], combine("vote", library.test_p, weights))
    assert record["test_accuracy"] == record["vote_test_accuracy"]
    assert record["oracle_test_accuracy"] == oracle(library.test_p, library.test_y).mean()
    assert (record["seed"], record["members"], record["train_images"]) == (4, 3, 100)
    assert record["seconds"] == 9.0
    assert record["library"] == ["m 0", "m 1", "m 2"]
    singles = [(p.argmax(1) == library.test_y).mean() for p in library.test_p]
    assert record["mean_single_test_accuracy"] == pytest.approx(np.mean(singles))


def test_test_labels_choose_nothing(library):
    other = library._replace(test_y=np.roll(library.test_y, 1))
    a, b = (runs.evaluate_library(x, "average", {"seed": 0})[0] for x in (library, other))
    chosen = [key for key in a if key.endswith(("_weights", "_temperature", "_val_loss"))]
    assert all(a[key] == b[key] for key in chosen)
    assert a["test_accuracy"] != b["test_accuracy"]
