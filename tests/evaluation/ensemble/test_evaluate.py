"""Every combination of a library's members, by hand; choices see validation predictions alone."""

import numpy as np
import pytest

from evaluation.cnn import calibration_error, cross_entropy, mcnemar, scale
from evaluation.ensemble.evaluate import combination_metrics, evaluate_library
from evaluation.ensemble.library import Library, Member
from evaluation.ensemble.selection import COMBINATIONS, average, choose, combine, oracle
from utils.runs.folder import RunFolder


def probabilities(labels, strength, seed):
    logits = np.random.default_rng(seed).normal(size=(len(labels), 3))
    logits[np.arange(len(labels)), labels] += strength
    powers = np.exp(logits)
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


@pytest.fixture
def library():
    val_y, test_y = np.arange(90) % 3, np.arange(60) % 3
    val_p, test_p = (
        np.stack([probabilities(y, strength, (seed, len(y))) for seed, strength in enumerate((1, 2, 1.5))])
        for y in (val_y, test_y)
    )
    members = [Member([], f"m {i}", {"seconds": 2.0, "train_images": 100.4}, {}) for i in range(3)]
    return Library(members, val_p, val_y, np.arange(90), test_p, test_y)


def test_every_combination_is_scored_with_weights_chosen_on_validation(library, tmp_path):
    run = RunFolder(tmp_path)
    record = evaluate_library(library, "vote", {"seed": 4}, run)
    weights = choose(library.calibrated(), library.val_y, 4)
    for name in COMBINATIONS:
        p = combine(name, library.test_p, weights)
        assert record[f"{name}_test_accuracy"] == (p.argmax(1) == library.test_y).mean()
        assert record[f"{name}_test_loss"] == pytest.approx(cross_entropy(p, library.test_y))
    saved = run.predictions()
    assert np.array_equal(saved["test_probabilities"], combine("vote", library.test_p, weights))
    assert record["test_accuracy"] == record["vote_test_accuracy"]
    assert record["oracle_test_accuracy"] == oracle(library.test_p, library.test_y).mean()
    assert (record["seed"], record["members"], record["train_images"]) == (4, 3, 100)
    assert record["seconds"] == 6.0
    assert record["library"] == ["m 0", "m 1", "m 2"]
    singles = [(p.argmax(1) == library.test_y).mean() for p in library.test_p]
    assert record["mean_single_test_accuracy"] == pytest.approx(np.mean(singles))


def test_test_labels_choose_nothing(library, tmp_path):
    other = library._replace(test_y=np.roll(library.test_y, 1))
    a, b = (evaluate_library(x, "average", {"seed": 0}, RunFolder(tmp_path)) for x in (library, other))
    chosen = [key for key in a if key.endswith(("_weights", "_temperature", "_val_loss"))]
    assert all(a[key] == b[key] for key in chosen)
    assert a["test_accuracy"] != b["test_accuracy"]


def test_gain_and_temperature_of_one_combination(library):
    p = [average(x[:2]) for x in (library.val_p, library.test_p)]
    plain = average(library.test_p).argmax(1) == library.test_y
    found = combination_metrics("pair", *p, library.val_y, library.test_y, plain)
    right = p[1].argmax(1) == library.test_y
    assert found["pair_test_gain"] == pytest.approx(right.mean() - plain.mean())
    assert found["pair_test_mcnemar_p"] == mcnemar(right, plain)
    scaled = scale(p[1], found["pair_temperature"])
    assert found["pair_test_scaled_loss"] == pytest.approx(cross_entropy(scaled, library.test_y))
    assert found["pair_test_scaled_ece"] == calibration_error(scaled, library.test_y)
