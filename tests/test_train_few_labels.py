"""train_few_labels.py end to end on tiny data on the CPU."""

import json
import os

import pytest
import torch
from helpers import FACTS, base_flags, refusal

import train_few_labels
from data import load
from evaluation import few_labels as few
from models import create, save_model

METHODS = ["pixels-knn", "mlp1", "simclr-linear", "simclr-spread"]


def flags(data, results, *more):
    return base_flags(data, results, "--labels", "10,100", "--draws", "2", *more)


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("encoder") / "encoder.pt"
    save_model(path, create("fast", 0), "fast", FACTS, num_classes=0)
    return path


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(few, "FEW_LABELS_STEPS", 20)


def test_a_study_writes_all_its_files(tmp_path, tiny_dir, encoder_file, capsys):
    how = ("--encoders", f"simclr={encoder_file}", "--methods", ",".join(METHODS), "--name", "one")
    whole = train_few_labels.main(flags(tiny_dir, tmp_path, *how))
    folder = tmp_path / "few_labels" / "one"
    assert set(os.listdir(folder)) == {"config.json", "sweep.json", "records-0.jsonl", "labels.png"}
    assert whole["trainings"] == [16, 16]
    cells = {(cell["method"], cell["labels"]): cell for cell in whole["cells"]}
    assert set(cells) == {(m, n) for m in METHODS for n in (10, 100)}
    assert all([row["seed"] for row in cell["runs"]] == [0, 1] for cell in cells.values())
    accuracies = {key: cell["mean"]["test_accuracy"] for key, cell in cells.items()}
    assert accuracies["pixels-knn", 10] < accuracies["pixels-knn", 100] <= 1
    assert [cells[m, 10]["mean"]["train_images"] for m in ("mlp1", "simclr-spread")] == [10, 180]
    record = json.loads((folder / "records-0.jsonl").read_text().splitlines()[0])
    assert len(record["wrong"]) == round(100 * (1 - record["test_accuracy"]))
    assert "simclr-linear" in capsys.readouterr().out


def test_tuning_scores_validation_images_with_other_draws(tmp_path, tiny_dir):
    how = ("--methods", "pixels-knn", "--labels", "50")
    tuned = train_few_labels.main(flags(tiny_dir, tmp_path, *how, "--tune"))
    assert "val_accuracy" in tuned["cells"][0]["mean"]
    assert "test_accuracy" not in tuned["cells"][0]["mean"]
    args = [train_few_labels.parse(flags(tiny_dir, tmp_path, *how, *more))[0] for more in ((), ("--tune",))]
    tested, validated = (train_few_labels.make_study(each, load("mnist", tiny_dir)) for each in args)
    job = {"labels": 50, "seed": 0}
    samples = [train_few_labels.sample_labels(a, tested, job) for a in args]
    assert not torch.equal(*samples)
    assert (len(tested.data[1].labels), len(validated.data[1].labels)) == (100, 20)
    assert not set(validated.splits[0].tolist()) & set(validated.splits[1].tolist())


def test_draws_take_turns_with_the_encoders_and_a_dry_run_is_short(
    tmp_path, tiny_dir, encoder_file, monkeypatch
):
    torch.manual_seed(1)
    other = encoder_file.with_name("other.pt")
    save_model(other, create("fast", 0), "fast", FACTS, num_classes=0)

    def fake(args, method, source, job):
        weight = next(source.encoder.parameters()).detach().flatten()[0]
        return {**job, "test_accuracy": float(weight), "seconds": 0.0}

    with monkeypatch.context() as patch:
        patch.setattr(train_few_labels, "run_job", fake)
        how = ("--methods", "own-knn", "--labels", "50", "--draws", "3", "--encoders")
        how = base_flags(tiny_dir, tmp_path / "r", *how, f"own={encoder_file},{other}")
        first, second, third = (
            run["test_accuracy"] for run in train_few_labels.main(how)["cells"][0]["runs"]
        )
    assert first == third != second
    dry = ("--dry-run", "--methods", "pixels-linear,cnn")  # one draw of few labels
    assert train_few_labels.main(flags(tiny_dir, tmp_path, *dry))["trainings"] == [2, 2]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--labels", "200"], "must be from 1 to 18"),
        (["--labels", "15"], "multiple of the 10 classes"),
        (["--encoders", "pixels=x.pt"], "'pixels' is taken"),
        (["--encoders", "a=x.pt", "a=y.pt"], "'a' is taken"),
        (["--methods", "simclr-knn"], "others need --encoders"),
        (["--methods", "mlp1", "--labels", "0"], "nothing to do"),
        (["--hands", "3"], "only MNIST's writers are known"),
        (["--methods", "svm"], "no method 'svm'"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(tmp_path, tiny_dir, wrong, said, capsys):
    assert said in refusal(train_few_labels.main, flags(tiny_dir, tmp_path, *wrong), capsys)
    assert not any(tmp_path.iterdir())
