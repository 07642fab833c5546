"""train_mil.py end to end on tiny bags on the CPU: its files, its sweep, what it refuses."""

import json
import os
import re

import numpy as np
import pytest
import torch
from helpers import FACTS, no_network, run_two_ranks, without_seconds

import train_mil
from data import load
from evaluation.mil import predict_bags
from models import create, load_model, read_model, save_model
from models.mil import POOLINGS, create_mil
from utils.runs.folder import RunFolder

FILES = {
    "config.json",
    "history.jsonl",
    "metrics.json",
    "predictions.npz",
    "best.pt",
    "last.pt",
    "curves.png",
    "roc.png",
    "bags.png",
}


def flags(data, results, *more):
    """The smallest useful training: a linear encoder, a dozen short bags, on the CPU in float32."""
    return [
        *("--data-dir", str(data), "--results-dir", str(results), "--device", "cpu"),
        *("--precision", "fp32", "--model", "linear", "--epochs", "2", "--batch-size", "4", "--quiet"),
        *("--mean-length", "4", "--std-length", "1", "--train-bags", "12", "--val-bags", "8"),
        *("--test-bags", "12", "--bags-per-epoch", "0", *more),
    ]


DRAW = train_mil.plot_figures


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """The figures take longer than the trainings: only the tests of the files draw them."""
    monkeypatch.setattr(train_mil, "plot_figures", lambda *args: None)


@pytest.fixture
def small_sweep(monkeypatch):
    monkeypatch.setattr(train_mil, "POOLINGS", {"mean": None, "attention": None})


def test_a_run_writes_all_its_files(tmp_path, tiny_dir, capsys, monkeypatch):
    monkeypatch.setattr(train_mil, "plot_figures", DRAW)
    metrics = train_mil.main(flags(tiny_dir, tmp_path))
    folder = tmp_path / "mil" / "attention"
    assert set(os.listdir(folder)) == FILES
    assert metrics == json.loads((folder / "metrics.json").read_text())
    (run,) = metrics["runs"]
    assert run["train_bags"] == 12
    assert {"test_auc", "test_loss", "test_accuracy", "test_key_auc", "val_auc", "threshold"} <= set(run)
    lines = RunFolder(folder).history()
    assert [line["epoch"] for line in lines] == [1, 2]
    assert {"train_loss", "val_loss", "val_auc"} <= set(lines[0])
    least = max(line["val_auc"] for line in lines) - train_mil.AUC_ERROR
    assert run["best_epoch"] == [line["epoch"] for line in lines if line["val_auc"] > least][-1]
    assert f"test AUC {run['test_auc']:.4f}" in capsys.readouterr().out
    saved = RunFolder(folder).predictions()
    right = (saved["test_probabilities"] >= run["threshold"]) == saved["test_labels"]
    assert run["test_accuracy"] == right.mean()
    assert saved["test_labels"].sum() == 6
    assert saved["test_attention"].shape == saved["test_keys"].shape == saved["test_indices"].shape


def test_the_saved_network_gives_the_saved_predictions(tmp_path, tiny_dir):
    argv = flags(tiny_dir, tmp_path, "--method", "loss-attention", "--model", "fast")
    train_mil.main(argv)
    folder = tmp_path / "mil" / "loss-attention"
    data = load("mnist", tiny_dir)
    _, _, test_bags = train_mil.make_bags(train_mil.parse(argv)[0], data, {"seed": 0})
    found = predict_bags(load_model(folder / "best.pt", create_mil), data[1], test_bags)
    saved = RunFolder(folder).predictions()
    np.testing.assert_allclose(found["probabilities"], saved["test_probabilities"], atol=1e-4)
    np.testing.assert_allclose(found["attention"], saved["test_attention"], atol=1e-4)


def test_the_three_kinds_of_bags_share_no_image(tiny_dir):
    args, _ = train_mil.parse(flags(tiny_dir, "unused", "--train-bags", "300", "--val-bags", "300"))
    data = load("mnist", tiny_dir)
    train_bags, val_bags, test_bags = train_mil.make_bags(args, data, {"seed": 0})
    assert not set(train_bags.indices.tolist()) & set(val_bags.indices.tolist())
    # Test bags are numbers of test images, of which there are half as many.
    assert int(test_bags.indices.max()) < len(data[1].labels) == 100
    assert torch.equal(test_bags.keys, data[1].labels[test_bags.indices] == 9)


def test_it_learns(tmp_path, tiny_dir):
    more = ("--model", "fast", "--train-bags", "40", "--epochs", "8", "--target", "4", "--test-bags", "60")
    metrics = train_mil.main(flags(tiny_dir, tmp_path, *more))
    assert metrics["mean"]["test_auc"] > 0.9
    assert metrics["mean"]["test_key_auc"] > 0.7


def test_repeats_are_seeds_with_bags_of_their_own(tmp_path, tiny_dir):
    metrics = train_mil.main(flags(tiny_dir, tmp_path, "--repeats", "2", "--seed", "5", "--name", "two"))
    assert [run["seed"] for run in metrics["runs"]] == [5, 6]
    values = [run["test_auc"] for run in metrics["runs"]]
    assert metrics["std"]["test_auc"] == pytest.approx(np.std(values, ddof=1))
    folder = tmp_path / "mil" / "two"
    indices = [RunFolder(folder / f"seed-{s}").predictions()["test_indices"] for s in (5, 6)]
    assert not np.array_equal(*indices)
    command = RunFolder(folder).read_json("config.json")["command"]
    assert "--runs 2" in command
    assert "--repeats" not in command  # said once
    alone = train_mil.main(flags(tiny_dir, tmp_path, "--seed", "6", "--name", "alone"))
    assert without_seconds(alone) == without_seconds(metrics)[1:]


@pytest.mark.parametrize(("more", "methods"), [([], list(POOLINGS)), (["--method", "max"], ["max"])])
def test_a_sweep_goes_over_all_methods_or_the_given_one(tmp_path, tiny_dir, more, methods):
    args, _ = train_mil.parse(flags(tiny_dir, tmp_path, "--sweep", "8,4", "--repeats", "2", *more))
    expected = [(method, bags, seed) for seed in (0, 1) for bags in (8, 4) for method in methods]
    assert [tuple(job.values()) for job in train_mil.sweep_jobs(args)] == expected


def test_permuted_test_labels_change_no_weight(tmp_path, tiny_dir, monkeypatch):
    plain = train_mil.main(flags(tiny_dir, tmp_path, "--name", "plain"))

    def load_permuted(*args):
        train_set, test_set = load(*args)
        return train_set, test_set._replace(labels=test_set.labels.roll(1))

    monkeypatch.setattr("utils.cli.load", load_permuted)
    permuted = train_mil.main(flags(tiny_dir, tmp_path, "--name", "permuted"))
    a, b = (
        torch.load(tmp_path / "mil" / name / "best.pt", weights_only=True)["weights"]
        for name in ("plain", "permuted")
    )
    assert all(torch.equal(a[k], b[k]) for k in a)
    for key in ("best_epoch", "threshold", "val_auc"):
        assert plain["runs"][0][key] == permuted["runs"][0][key]
    assert plain["runs"][0]["test_loss"] != permuted["runs"][0]["test_loss"]


def test_a_finished_run_resumes_to_itself(tmp_path, tiny_dir):
    first = train_mil.main(flags(tiny_dir, tmp_path, "--name", "a"))
    assert first == train_mil.main(flags(tiny_dir, tmp_path, "--name", "a", "--resume"))


@pytest.mark.parametrize("name", ["fast", "lenet"])
def test_an_encoder_of_another_script_is_fine_tuned_at_a_lower_rate_or_frozen(tmp_path, tiny_dir, name):
    torch.manual_seed(1)
    classifier = create(name)
    save_model(tmp_path / "c.pt", classifier, name, FACTS)
    before = {k: v for k, v in classifier.encoder.state_dict().items() if v.is_floating_point()}
    moved = {}
    for how in (["--freeze"], ["--encoder-rate", "0.01"], ["--encoder-rate", "1"]):
        more = ("--encoder", str(tmp_path / "c.pt"), "--name", f"{name}{len(moved)}", "--ema", "0")
        train_mil.main(flags(tiny_dir, tmp_path, *more, *how, "--epochs", "1"))
        model = load_model(tmp_path / "mil" / f"{name}{len(moved)}" / "best.pt", create_mil)
        after = model.encoder.state_dict()
        weights = [k for k in before if k.endswith("weight")]
        moved[how[0] + how[-1]] = max(float((after[k] - before[k]).abs().max()) for k in weights)
        assert "running_mean" not in str(before.keys()) or (
            how != ["--freeze"] or all(torch.equal(after[k], before[k]) for k in before)
        )
    frozen, slow, full = moved.values()
    assert frozen == 0 < slow < full / 10


def test_a_dry_run_writes_everything(tmp_path, tiny_dir, monkeypatch):
    monkeypatch.setattr(train_mil, "plot_figures", DRAW)
    train_mil.main(flags(tiny_dir, tmp_path, "--dry-run", "--epochs", "9"))
    assert set(os.listdir(tmp_path / "mil" / "dry-run")) == FILES


def test_without_validation_bags_the_last_epoch_and_a_threshold_of_a_half_count(tmp_path, tiny_dir):
    metrics = train_mil.main(flags(tiny_dir, tmp_path, "--val-bags", "0", "--epochs", "3"))
    folder = RunFolder(tmp_path / "mil" / "attention")
    (record,) = metrics["runs"]
    assert (record["best_epoch"], record["epochs"]) == (3, 3)
    assert (record["threshold"], record["val_bags"]) == (0.5, 0)
    assert not any(key.startswith("val_") for key in record if key != "val_bags")
    assert not any(key.startswith("val_") for line in folder.history() for key in line)
    saved = folder.predictions()
    assert not any(key.startswith("val_") for key in saved)
    assert record["test_accuracy"] == ((saved["test_probabilities"] >= 0.5) == saved["test_labels"]).mean()


def test_validation_bags_choose_and_are_not_trained_on(tmp_path, tiny_dir):
    """The weights after the last epoch are the same with and without them."""
    for name, bags in (("with", "8"), ("without", "0")):
        train_mil.main(flags(tiny_dir, tmp_path, "--val-bags", bags, "--name", name))
    last = [RunFolder(tmp_path / "mil" / name).load_checkpoint()["model"] for name in ("with", "without")]
    assert all(torch.equal(value, last[1][key]) for key, value in last[0].items())


def test_a_finished_run_is_scored_again_without_training(tmp_path, tiny_dir, monkeypatch):
    how = flags(tiny_dir, tmp_path, "--name", "a", "--runs", "2")
    first = train_mil.main(how)

    def step(*batch):
        raise AssertionError("trained")

    monkeypatch.setattr(train_mil, "mil_step", lambda *args: step)
    assert train_mil.main([*how, "--rescore"]) == first
    assert "rescored" in RunFolder(tmp_path / "mil" / "a").read_json("config.json")


def test_a_saved_network_says_what_it_was_trained_on(tmp_path, tiny_dir):
    train_mil.main(flags(tiny_dir, tmp_path, "--dropout", "0.25"))
    saved = read_model(tmp_path / "mil" / "attention" / "best.pt", create_mil)
    assert (saved.name, saved.options["method"]) == ("linear", "attention")
    assert saved.data == load("mnist", tiny_dir)[0].description


# --- The bags alone ---


def test_the_bags_are_drawn_and_described_and_nothing_is_trained(tmp_path, tiny_dir, capsys):
    picture = tmp_path / "bags.png"
    more = ("--train-bags", "30", "--mean-length", "6", "--show-bags", str(picture))
    assert train_mil.main(flags(tiny_dir, tmp_path / "r", *more)) is None
    told = capsys.readouterr()
    assert not told.err
    assert "positive bags                    0.500" in told.out
    assert "bags                             30" in told.out
    assert str(picture) in told.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        ["--target", "10"],
        ["--train-bags", "0"],
        ["--data-dir", "/dev/null/nowhere"],
        ["--show-bags", "/dev/null/x.png"],
    ],
)
def test_bags_that_cannot_be_drawn_are_refused_in_one_line(tmp_path, tiny_dir, capsys, monkeypatch, wrong):
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(SystemExit) as stop:
        train_mil.main(flags(tiny_dir, tmp_path / "r", "--show-bags", str(tmp_path / "x.png"), *wrong))
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


# --- The sweep ----------------------------------------------------------------------------------------


def test_a_sweep_is_one_file_and_its_cells_are_the_single_runs(tmp_path, tiny_dir, small_sweep):
    content = train_mil.main(flags(tiny_dir, tmp_path, "--sweep", "4,8", "--repeats", "2"))
    folder = tmp_path / "mil" / "sweep"
    assert set(os.listdir(folder)) == {"config.json", "sweep.json", "records-0.jsonl", "auc.png", "roc.png"}
    assert content == json.loads((folder / "sweep.json").read_text())
    heads = [(cell["method"], cell["train_bags"]) for cell in content["cells"]]
    assert sorted(heads) == [("attention", 4), ("attention", 8), ("mean", 4), ("mean", 8)]
    cell = next(cell for cell in content["cells"] if (cell["method"], cell["train_bags"]) == ("mean", 8))
    assert [run["seed"] for run in cell["runs"]] == [0, 1]
    values = [run["test_auc"] for run in cell["runs"]]
    assert cell["mean"]["test_auc"] == pytest.approx(np.mean(values), abs=1e-5)
    assert cell["std"]["test_auc"] == pytest.approx(np.std(values, ddof=1), abs=1e-5)
    assert cell["mean_test_roc"][-1] == 1.0
    alone = train_mil.main(flags(tiny_dir, tmp_path, "--method", "mean", "--train-bags", "8", "--seed", "1"))
    assert alone["runs"][0]["test_auc"] == pytest.approx(values[1], abs=1e-5)  # six digits are kept


def test_a_stopped_sweep_goes_on_to_the_same_result(tmp_path, tiny_dir, small_sweep, monkeypatch, capsys):
    whole = train_mil.main(flags(tiny_dir, tmp_path / "whole", "--sweep", "4,8"))
    real, calls = train_mil.fit_bags, []

    def stopped_at_the_third(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(train_mil, "fit_bags", stopped_at_the_third)
    with pytest.raises(SystemExit) as stop:
        train_mil.main(flags(tiny_dir, tmp_path / "cut", "--sweep", "4,8"))
    assert stop.value.code == 130
    told = re.search(r"python train_mil\.py .*", capsys.readouterr().err).group()
    assert "--sweep 4,8" in told
    assert told.endswith("--name sweep --resume")
    with (tmp_path / "cut" / "mil" / "sweep" / "records-0.jsonl").open("a") as file:
        file.write('{"method": "mean", "tra')  # a line that the machine did not live to finish
    resumed = train_mil.main(told.split()[2:])
    assert len(calls) == 5  # two before, two after

    def metrics(content):
        return [(c["method"], c["train_bags"], c["mean"]["test_auc"]) for c in content["cells"]]

    assert metrics(resumed) == metrics(whole)


def test_two_ranks_share_a_sweep_out(tmp_path, tiny_dir):
    how = ("--sweep", "6", "--epochs", "1")
    one = train_mil.main(flags(tiny_dir, tmp_path / "one", *how))
    run_two_ranks("train_mil.py", flags(tiny_dir, tmp_path / "two", *how))
    folder = tmp_path / "two" / "mil" / "sweep"
    shares = [len((folder / f"records-{rank}.jsonl").read_text().splitlines()) for rank in (0, 1)]
    assert sorted(shares) == [3, 4]
    two = RunFolder(folder).read_json("sweep.json")
    assert [cell["mean"]["test_auc"] for cell in two["cells"]] == [
        c["mean"]["test_auc"] for c in one["cells"]
    ]


# --- A shortcut in training ---


def test_a_shortcut_sweep_tests_the_same_bags_with_the_digit_in_other_ones(tmp_path, tiny_dir, small_sweep):
    more = ("--builder", "shortcut", "--shortcut", "3", "--sweep", "12", "--repeats", "2")
    content = train_mil.main(flags(tiny_dir, tmp_path, *more))
    assert [cell["method"] for cell in content["cells"]] == ["mean", "attention"]
    for cell in content["cells"]:
        assert {"test_auc", "test_clean_auc", "test_both_auc", "test_poisoned_auc"} <= set(cell["mean"])
    assert RunFolder(tmp_path / "mil" / "sweep").read_json("config.json")["arguments"]["shortcut"] == 3
    assert (tmp_path / "mil" / "sweep" / "auc.png").exists()
    argv = flags(tiny_dir, tmp_path, *more[:4], "--method", "mean", "--name", "alone", "--repeats", "2")
    alone = train_mil.main([*argv, "--train-bags", "12"])
    for ours, theirs in zip(alone["runs"], content["cells"][0]["runs"], strict=True):
        assert ours["test_poisoned_auc"] == pytest.approx(theirs["test_poisoned_auc"], abs=1e-5)


def test_the_shortcut_is_by_default_the_first_class_but_the_target(tiny_dir):
    for target, shortcut in (("9", 0), ("0", 1)):
        args, _ = train_mil.parse(["--builder", "shortcut", "--target", target])
        train_mil.find_classes(args, tuple("0123456789"))
        assert (args.target, args.shortcut) == (int(target), shortcut)
    args, _ = train_mil.parse([])
    train_mil.find_classes(args, tuple("0123456789"))
    assert args.shortcut is None


# --- Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--target", "10"], "no such class; choose from 0, 1,"),
        (["--builder", "shortcut", "--shortcut", "9"], "other than the target, not 9"),
        (["--builder", "shortcut", "--shortcut", "12"], "--shortcut 12: no such class"),
        (["--shortcut", "3"], "needs --builder shortcut"),
        (["--sweep", "4", "--rescore", "--name", "a"], "a sweep saves none"),
        (["--val-bags", "1"], "0 or at least 2"),
        (["--val-bags", "0", "--schedule", "plateau"], "--val-bags above 0"),
        (["--rescore", "--name", "a"], "no finished run"),
        (["--freeze"], "needs --encoder"),
        (["--encoder", "/no/such/file.pt"], "no such file"),
        (["--encoder", "DAMAGED"], "not a model file"),
        (["--encoder", "FOREIGN"], "does not hold a 'cnn'"),
        (["--data-dir", "/dev/null/nowhere"], "--dataset mnist-5k"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(
    tmp_path, tiny_dir, capsys, monkeypatch, wrong, said
):
    files = {"DAMAGED": tmp_path / "damaged.pt", "FOREIGN": tmp_path / "foreign.pt"}
    files["DAMAGED"].write_bytes(b"no weights")
    save_model(files["FOREIGN"], create("lenet"), "cnn", FACTS)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(SystemExit) as stop:
        train_mil.main(flags(tiny_dir, tmp_path / "r", *(str(files.get(word, word)) for word in wrong)))
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "r").exists()


def test_help_names_the_flags(capsys):
    with pytest.raises(SystemExit) as stop:
        train_mil.main(["--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert all(flag in told for flag in ("--repeats", "--sweep", "--builder", "--freeze", "--mean-length"))


@pytest.mark.slow
def test_auc_on_the_real_mnist(tmp_path, mnist_dir):
    argv = ["--data-dir", str(mnist_dir), "--results-dir", str(tmp_path), "--method", "loss-attention"]
    metrics = train_mil.main([*argv, "--bags-per-epoch", "600"])
    # Below what these commands give with any seed, above what a broken loop gives.
    assert metrics["mean"]["test_auc"] >= 0.96
