"""ensemble.py end to end: members trained on tiny data, and made-up finished runs."""

import os

import numpy as np
import pytest
import torch
from helpers import base_flags, probabilities, refusal, without_seconds

import ensemble
import train_cnn
from data import load, split
from evaluation.ensemble.library import VALIDATION
from evaluation.ensemble.selection import COMBINATIONS, average
from models import read_model
from utils.runs.folder import RunFolder, summarise

FIGURES = {"mistakes"}
LINEAR = ("--model", "linear", "--epochs", "2", "--batch-size", "64")


def run(data, results, *flags):
    return ensemble.main(base_flags(data, results, *flags))


def train(data, results, *flags):
    """Two linear members, two epochs, in results/ensemble/run."""
    return run(data, results, *LINEAR, "--members", "2", "--name", "run", *flags)


def saved(folder):
    return RunFolder(folder).predictions()


def make_runs(folder, data, count, val_seed=0, test_labels=None, **changes):
    """Finished members that only their predictions tell from trained ones: the higher the seed the better."""
    train_set, test_set = load("mnist", data)
    _, val = split(train_set.labels, 0.1, val_seed)
    labels = train_set.labels[val].numpy()
    test_labels = test_set.labels.numpy() if test_labels is None else test_labels
    for seed in range(count):
        part = RunFolder(folder / f"member-{seed}")
        part.folder.mkdir(parents=True)
        arrays = {"val_labels": labels, "val_indices": val.numpy(), "test_labels": test_labels}
        for name, y in (("val", labels), ("test", test_set.labels.numpy())):
            arrays[f"{name}_probabilities"] = probabilities(y, 1 + 0.3 * seed, (seed, len(y)))
        arrays = {key: value for key, value in {**arrays, **changes}.items() if value is not None}
        part.save_predictions(**arrays)
        arguments = {"dataset": "mnist", "model": "made-up"}
        config = {"script": "ensemble", "name": "x", "device": "none", "arguments": arguments}
        part.write_json("config.json", config)
        summarise(part, [{"seed": seed, "train_images": 180, "seconds": 2.0}])
    return str(folder)


# --- Which members are trained, on which images and by which settings ---


def arguments(*flags):
    return ensemble.parse(base_flags("unused", "unused", *flags))[0]


def test_a_snapshot_run_shares_the_recipes_epochs_out_over_its_cycles():
    labels = torch.arange(20_000) % 10
    own = ensemble.member_config(arguments("--mode", "snapshot", "--members", "5"), "lenet", labels)
    assert (own.fit.epochs, own.fit.schedule, own.plain_epochs) == (2, "cosine", 0)
    assert ensemble.member_config(arguments("--members", "5"), "lenet", labels).fit.epochs == 10
    assert ensemble.member_config(arguments(), "lenet", labels[:96]).passes == 33


def test_all_members_share_the_validation_images_and_bagging_samples_again():
    plain, bagging, labels = arguments(), arguments("--mode", "bagging"), torch.arange(200) % 10
    train, val = ensemble.choose_images(plain, labels, {"seed": 0})
    for seed in (1, 2):
        assert torch.equal(ensemble.choose_images(plain, labels, {"seed": seed})[0], train)
        sample, same_val = ensemble.choose_images(bagging, labels, {"seed": seed})
        assert torch.equal(same_val, val)
        assert len(sample) == len(train)
        assert not torch.equal(sample, train)
        assert torch.isin(sample, train).all()


# --- Training members ---


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_dir):
    """The metrics and the folder of a library of three members, with its figures."""
    results = tmp_path_factory.mktemp("library")
    more = ("--label-smoothing", "0.3", "--model", "linear,fast", "--members", "3")
    return train(tiny_dir, results, *more), results / "ensemble" / "run"


def test_a_library_of_two_models_writes_all_its_files(library, tiny_dir):
    metrics, folder = library
    names = {"config.json", "metrics.json", "history.jsonl", "predictions.npz", "curves.png"}
    members = [folder / f"member-{seed}" for seed in range(3)]
    assert set(os.listdir(folder)) == {*names, *(f"{x}.png" for x in FIGURES), *(m.name for m in members)}
    (record,) = metrics["runs"]
    assert record["library"] == ["linear 0", "fast 1", "linear 2"]
    assert [read_model(m / "best.pt").model.head.in_features for m in members] == [784, 64, 784]
    parts = [saved(m) for m in members]
    # All members validate on the same images, and none of them has seen those.
    _, val = split(load("mnist", tiny_dir)[0].labels, 0.1, 0)
    assert all(np.array_equal(part["val_indices"], val.numpy()) for part in parts)
    assert record["train_images"] == 180
    # The run's own figures and predictions are those of the plain average.
    mean = average(np.stack([part["test_probabilities"] for part in parts]))
    assert np.array_equal(saved(folder)["test_probabilities"], mean)
    right = (mean.argmax(1) == parts[0]["test_labels"]).mean()
    assert record["test_accuracy"] == record["average_test_accuracy"] == right
    assert (record["average_test_gain"], record["average_test_mcnemar_p"]) == (0, 1)
    for name in COMBINATIONS:
        assert record[f"{name}_test_accuracy"] <= record["oracle_test_accuracy"]
        assert metrics["mean"][f"{name}_test_scaled_ece"] >= 0
    lines = RunFolder(folder).history()
    assert [(line["seed"], line["epoch"]) for line in lines] == [(s, e) for s in range(3) for e in (1, 2)]


def test_a_member_is_what_train_cnn_gives_for_its_seed_and_split(library, tmp_path, tiny_dir, no_figures):
    # Seed 0 gives the split of the library, too.
    train_cnn.main(base_flags(tiny_dir, tmp_path, *LINEAR, "--label-smoothing", "0.3"))
    ours, alone = saved(library[1] / "member-0"), saved(tmp_path / "cnn/linear")
    assert all(np.array_equal(ours[key], alone[key]) for key in alone)


def test_a_snapshot_run_ends_every_cycle_at_a_rate_of_zero_and_goes_on_from_there(
    tmp_path, tiny_dir, no_figures
):
    train(tiny_dir, tmp_path, "--mode", "snapshot", "--lr", "1e-9", "--members", "3")
    folder = tmp_path / "ensemble" / "run"
    rates = [line["lr"] for line in RunFolder(folder).history()]
    # Two epochs of three steps a cycle: the last steps of its epochs are steps 3 and 6 of 6.
    half = 0.5 * (1 + np.cos(np.pi * 2 / 5)) * 1e-9
    assert rates == pytest.approx([half, 0] * 3, abs=1e-18)
    first, _, last = (saved(folder / f"member-{seed}")["test_probabilities"] for seed in range(3))
    assert first == pytest.approx(last, abs=1e-5)


@pytest.mark.parametrize("mode", ensemble.OF_LOGITS)
def test_fusion_and_boosting_report_the_mean_of_logits(tmp_path, tiny_dir, no_figures, mode):
    (record,) = train(tiny_dir, tmp_path, "--mode", mode)["runs"]
    folder = tmp_path / "ensemble" / "run"
    assert record["test_accuracy"] == record["log_average_test_accuracy"]
    members = [read_model(folder / f"member-{seed}" / "best.pt").model.eval() for seed in range(2)]
    _, test_set = load("mnist", tiny_dir)
    with torch.no_grad():
        x = test_set.normalise(test_set.images / 255)
        expected = (sum(member(x) for member in members) / 2).softmax(1).numpy()
    assert saved(folder)["test_probabilities"] == pytest.approx(expected, abs=1e-5)


def test_a_boosted_member_is_trained_on_what_the_finished_ones_before_it_leave(
    tmp_path, tiny_dir, no_figures
):
    flags = ("--mode", "boosting", "--epochs", "30", "--lr", "0.01", "--weight-decay", "0", "--members", "3")
    whole, folder = train(tiny_dir, tmp_path, *flags), tmp_path / "ensemble" / "run"
    losses = [line["train_loss"] for line in RunFolder(folder).history() if line["epoch"] == 30]
    assert max(losses[1:]) < losses[0]  # what is left to do
    (folder / "member-2" / "predictions.npz").unlink()
    assert without_seconds(train(tiny_dir, tmp_path, *flags, "--resume")) == without_seconds(whole)


def test_a_pair_at_strength_zero_is_two_networks_on_the_same_batches(tmp_path, tiny_dir, no_figures):
    pair = ("--mode", "adversarial", "--epochs", "1", "--name")
    train(tiny_dir, tmp_path, *pair, "pair", "--strength", "0")
    train(tiny_dir, tmp_path, "--epochs", "1")
    ours, alone = (saved(tmp_path / "ensemble" / name / "member-0") for name in ("pair", "run"))
    assert ours["test_probabilities"] == pytest.approx(alone["test_probabilities"], abs=1e-6)
    (line,) = RunFolder(tmp_path / "ensemble" / "pair").history()
    assert 0 < line["train_discriminator_accuracy"] < 1


def test_runs_are_libraries_of_members_of_their_own_and_resume_member_by_member(
    tmp_path, tiny_dir, no_figures, monkeypatch
):
    libraries = ("--runs", "2", "--seed", "4", "--mode", "bagging")
    whole = train(tiny_dir, tmp_path / "whole", *libraries)
    assert [record["seed"] for record in whole["runs"]] == [4, 5]
    names = [["linear 4", "linear 5"], ["linear 6", "linear 7"]]
    assert [record["library"] for record in whole["runs"]] == names
    assert whole["std"]["test_accuracy"] is not None
    original, trained, folder = ensemble.create_member, [], tmp_path / "whole" / "ensemble" / "run"
    (folder / "member-6" / "metrics.json").unlink()

    def create(classes, job, *rest):
        trained.append(job["seed"])
        return original(classes, job, *rest)

    monkeypatch.setattr(ensemble, "create_member", create)
    resumed = train(tiny_dir, tmp_path / "whole", *libraries, "--resume")
    assert trained == [6]
    assert without_seconds(resumed) == without_seconds(whole)


# --- Finished runs ---


def test_libraries_are_drawn_from_a_pool_by_seed(tmp_path, tiny_dir, no_figures):
    pool = make_runs(tmp_path / "pool", tiny_dir, 6)
    flags = ("--from", pool, "--members", "4", "--runs", "3", "--name")
    metrics = run(tiny_dir, tmp_path, *flags, "a")
    libraries = [record["library"] for record in metrics["runs"]]
    assert all(len(set(library)) == 4 for library in libraries)
    assert len(set(map(tuple, libraries))) > 1
    assert metrics["runs"] == run(tiny_dir, tmp_path, *flags, "b")["runs"]
    assert metrics["runs"][0]["seconds"] == 8.0
    assert RunFolder(tmp_path / "ensemble" / "a").history() == []


def test_finished_runs_of_any_script_are_members_by_folder_or_by_name(tmp_path, tiny_dir, no_figures):
    train_cnn.main(base_flags(tiny_dir, tmp_path, *LINEAR, "--name", "a"))
    probe = tmp_path / "cnn" / "b" / "member-0" / "config.json"
    make_runs(probe.parents[1], tiny_dir, 1)
    probe.write_text(probe.read_text().replace('"script": "ensemble"', '"script": "train_moco"'))
    (record,) = run(tiny_dir, tmp_path, "--from", str(tmp_path / "cnn" / "a"), "cnn/b")["runs"]
    assert record["library"] == ["linear 0", "moco made-up 0"]
    # An ensemble is a member, too.
    (record,) = run(tiny_dir, tmp_path, "--from", "cnn/a", "ensemble/from-a-b", "--name", "c")["runs"]
    assert record["library"] == ["linear 0", "from-a-b 0"]


def test_members_that_trained_on_all_images_are_averaged_and_nothing_is_chosen(tmp_path, tiny_dir):
    pool = make_runs(tmp_path / "cnn" / "all", tiny_dir, 3, **dict.fromkeys(VALIDATION))
    metrics = run(tiny_dir, tmp_path, "--from", "cnn/all", "--name", "all")
    folder, (record,) = tmp_path / "ensemble" / "all", metrics["runs"]
    parts = [saved(f"{pool}/member-{seed}") for seed in range(3)]
    mean = average(np.stack([part["test_probabilities"] for part in parts]))
    assert np.array_equal(saved(folder)["test_probabilities"], mean)
    assert record["test_accuracy"] == (mean.argmax(1) == parts[0]["test_labels"]).mean()
    assert (record["train_images"], record["val_images"]) == (180, 0)
    chosen = ("best_single", "greedy", "bagged")
    assert not [key for key in record if key.startswith(chosen) or "val_acc" in key or "temperature" in key]
    assert {"average_test_loss", "log_average_test_loss", "vote_test_loss"} <= record.keys()
    assert {path.stem for path in folder.glob("*.png")} == FIGURES


# --- Bad input ---


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--model", "linear,mlp,lenet", "--members", "2"], "fewer than the 3 names"),
        (["--mode", "fusion", "--model", "linear,mlp"], "one model"),
        (["--mode", "adversarial", "--members", "3"], "has 2 --members"),
        (["--strength", "1"], "--strength is for --mode adversarial"),
        (["--from", "nowhere"], "no such run"),
        (["--from", "{pool}", "--model", "cnn"], "leave out --model"),
        (["--from", "{pool}", "--runs", "2"], "needs --members"),
        (["--from", "{pool}", "--members", "9"], "from 3 members"),
        (["--from", "{pool}", "--members", "3", "--runs", "2"], "from 3 members"),
        (["--from", "{pool}/member-0"], "at least 2 members, found 1"),
        (["--from", "{pool}", "{other}"], "share one validation split"),
        (["--from", "{unequal}"], "are not those of mnist"),
        (["--from", "{pool}", "{pool}/../pool/member-1"], "named twice"),
        (["--from", "{pool}", "{lacking}"], "no or impossible val_probabilities"),
        (["--from", "{all}", "--combine", "greedy_loss"], "--combine average, log_average, vote"),
        (["--from", "{pool}", "{wide}"], "unequal shapes"),
        (["--from", "{pool}", "{foreign}"], "--dataset kmnist"),
        (["--from", "{pool}", "{unfinished}"], "train it here first"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(tmp_path, pools, wrong, said, capsys):
    data, folders = pools
    argv = base_flags(data, tmp_path, *(word.format(**folders) for word in wrong))
    assert said in refusal(ensemble.main, argv, capsys)
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def pools(tmp_path_factory, tiny_dir):
    root = tmp_path_factory.mktemp("pools")
    wide = np.full((100, 11), 1 / 11, np.float32)
    folders = {
        "pool": make_runs(root / "pool", tiny_dir, 3),
        "other": make_runs(root / "other", tiny_dir, 1, val_seed=1),
        "unequal": make_runs(root / "unequal", tiny_dir, 2, test_labels=np.zeros(100, int)),
        "lacking": make_runs(root / "lacking", tiny_dir, 1, val_probabilities=None),
        "all": make_runs(root / "all", tiny_dir, 2, **dict.fromkeys(VALIDATION)),
        "wide": make_runs(root / "wide", tiny_dir, 1, test_probabilities=wide),
        "unfinished": make_runs(root / "unfinished", tiny_dir, 1),
        "foreign": make_runs(root / "foreign", tiny_dir, 1),
    }
    config = root / "foreign" / "member-0" / "config.json"
    config.write_text(config.read_text().replace('"mnist"', '"kmnist"'))
    (root / "unfinished" / "member-0" / "predictions.npz").unlink()
    return tiny_dir, folders


@pytest.mark.slow
def test_accuracy_on_the_real_mnist(tmp_path, mnist_dir):
    argv = ["--data-dir", str(mnist_dir), "--results-dir", str(tmp_path), "--model", "fast,lenet"]
    mean = ensemble.main([*argv, "--members", "2", "--epochs", "1"])["mean"]
    assert mean["average_test_accuracy"] >= 0.98
    assert mean["oracle_test_accuracy"] > mean["average_test_accuracy"]
