"""The page of robustness.py: its table, the counts of labels, faults in one line."""

import pytest
from made_up import make_run, write_json

from report.pages import make_page
from report.paradigms import PARADIGMS
from report.results import read_collection
from report.robustness import labels_section, robustness_section
from report.sections import EMPTY
from utils.errors import UserError

COUNTS = {"good_models": 4, "shared_mistakes": 9, "shared_reviewed": 3}
COUNTS |= {"kept_reviewed": 5, "agreed_reviewed": 8}


def model(name, accuracies, mces):
    record = {
        f"{name}_trainings": len(accuracies),
        f"{name}_accuracy": sum(accuracies) / len(accuracies),
        f"{name}_accuracies": accuracies,
        f"{name}_corrupted_accuracy": 0.7,
        f"{name}_corrupted_accuracies": [0.7] * len(accuracies),
        f"{name}_errors": [0.1, 0.2, 0.3, 0.4, 0.5] * 9,
    }
    return record | ({f"{name}_mces": mces, f"{name}_relative_mces": mces} if mces else {})


@pytest.fixture
def page(tmp_path):
    def make(**more):
        record = {"seed": 0, "seconds": 5.0, "corrupted_images": 2000, **COUNTS}
        record |= model("lenet", [0.99, 0.992], [1.02, 0.98]) | model("one", [0.997], None)
        record = {key: value for key, value in (record | more).items() if value is not None}
        models = ["lenet=results/cnn/lenet", "one=one.pt"]
        folder = tmp_path / "robustness" / "models"
        make_run(folder, [record], "robustness", models=models, baseline="lenet")
        rows = [{"label": "lenet", "metric": "lenet_corrupted_accuracy"}]
        entry = {"name": "models", "command": "python robustness.py", "rows": rows}
        write_json(tmp_path / "experiments.json", experiments=[entry])
        write_json(tmp_path / "references.json", references={})
        return make_page(read_collection(tmp_path), "robustness", PARADIGMS["robustness"])

    return make


def test_a_model_is_a_line_with_its_spread_and_its_errors_by_corruption(page):
    text = robustness_section(page())
    thirty = " 30.0 |" * 9
    assert f"| lenet, n = 2 | 99.10 ± 0.14 | 70.00 ± 0.00 | 100.0 ± 2.8 | 100.0 ± 2.8 |{thirty}" in text
    assert f"| one, n = 1 | 99.70 | 70.00 |  |  |{thirty}" in text
    assert "mCE: relative to lenet" in text
    assert "2,000 of them" in text
    assert "(models/errors.png)" in text


def test_labels_are_counted_in_words(page):
    text = labels_section(page())
    assert (
        "9 test digits are misread by all 4 models with a clean accuracy of at least 99%; 3 of these" in text
    )
    assert "For 5 of those 15 the models' joint answer is the given label." in text
    assert "For 10 the reviewers agreed on another label, which is the models' answer for 8." in text
    assert "(models/labels.png)" in text
    assert labels_section(page(good_models=None)) == EMPTY


def test_a_run_without_its_counts_or_models_is_one_line(page):
    with pytest.raises(UserError, match=r"metrics.json: lacks kept_reviewed$"):
        labels_section(page(kept_reviewed=None))
    with pytest.raises(UserError, match=r"metrics.json: lacks one_accuracy$"):
        robustness_section(page(one_accuracy=None))
