"""How runs are born, refused, replaced; two starters; what a resumption records."""

import errno
import json
import os
import subprocess
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from helpers import ROOT

from utils.arguments import run_name
from utils.errors import UserError
from utils.runs import folder as opening
from utils.runs.folder import RunFolder, close_runs, device_name, open_run, open_runs, summarise


@pytest.fixture(autouse=True)
def released():
    """A run that a test opens is closed at its end."""
    yield
    close_runs()


def start(folder, script="train_cnn", **changes):
    flags = {"name": None, "resume": False, "overwrite": False, "dry_run": False, "quiet": True}
    given = {"results_dir": str(folder), **flags, "dataset": "mnist", "device": "cpu", "lr": 0.1, **changes}
    return open_run(script, SimpleNamespace(**given), "cnn", f"python {script}.py")


def finish(run):
    run.save_predictions(x=np.zeros(1))
    summarise(run, [{"seed": 0, "test_accuracy": 0.5, "seconds": 1.0}])
    return run


def names(folder):
    return sorted(path.name for path in (folder / "cnn").iterdir())


def test_unnamed_runs_take_the_next_free_name(tmp_path):
    (tmp_path / "cnn" / "cnn-2").mkdir(parents=True)
    (tmp_path / "cnn" / "cnn-2" / "thesis.txt").touch()
    assert [start(tmp_path).folder.name for _ in range(3)] == ["cnn", "cnn-3", "cnn-4"]
    assert names(tmp_path) == ["cnn", "cnn-2", "cnn-3", "cnn-4"]  # and no hidden folder is left


def test_unnamed_runs_on_other_data_begin_with_its_name(tmp_path):
    sets = ("kmnist", "/data/My shapes (2)", "../letters.npz", "/.hidden/...")
    expected = ["kmnist-cnn", "My-shapes-2-cnn", "letters-cnn", "cnn"]
    assert [start(tmp_path, dataset=name).folder.name for name in sets] == expected
    assert all(run_name(name) == name for name in expected)
    assert start(tmp_path, dataset="kmnist", name="mine").folder.name == "mine"


def test_git_sees_no_run_that_is_not_added_by_force():
    runs = ["results/cnn/photos-cnn/metrics.json", "results/mil/x/seed-0/history.jsonl", "results/cnn/.x"]
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository")
    words = ["git", "check-ignore", "--no-index", *runs, "results/cnn/README.md", "results/cnn/a.png"]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.split() == runs


def test_config_says_what_made_the_run(tmp_path):
    config = start(tmp_path).read_json("config.json")
    known = {key: config[key] for key in ("format", "script", "name", "command", "device")}
    assert list(known.values()) == [1, "train_cnn", "cnn", "python train_cnn.py", device_name("cpu")]
    # Where results lie and how much is printed change no metric.
    assert config["arguments"] == {"dry_run": False, "dataset": "mnist", "device": "cpu", "lr": 0.1}
    assert {"python", "torch", "torchvision", "numpy"} == set(config["versions"])


def test_a_taken_name_is_refused_and_an_overwritten_run_is_renamed(tmp_path, capsys):
    finish(start(tmp_path, name="mine"))
    with pytest.raises(UserError, match="--resume .* --overwrite"):
        start(tmp_path, name="mine")
    for lr in (0.2, 0.3):
        run = start(tmp_path, name="mine", overwrite=True, lr=lr, quiet=False)
        assert os.listdir(run.folder) == ["config.json"]
        finish(run)
    mine, *old = names(tmp_path)
    rates = [RunFolder(tmp_path / "cnn" / name).read_json("config.json")["arguments"]["lr"] for name in old]
    assert (mine, rates) == ("mine", [0.1, 0.2])
    told = capsys.readouterr().out.splitlines()
    assert told == [f"the old run is kept in {tmp_path / 'cnn' / name}" for name in old]


@pytest.mark.parametrize("flag", ["{}", "simclr={}", "both=other.pt+{}"])
def test_a_run_does_not_replace_what_it_reads(tmp_path, flag):
    run = finish(start(tmp_path, name="mine"))
    encoder = run.path("encoder.pt")
    encoder.touch()
    close_runs()
    with pytest.raises(UserError, match="can't be replaced by a run that reads"):
        start(tmp_path, name="mine", overwrite=True, encoders=[flag.format(encoder)])
    assert encoder.exists()


@pytest.mark.parametrize("flag", ["resume", "overwrite"])
def test_a_run_in_which_nothing_was_trained_is_begun_again_in_its_place(tmp_path, flag):
    start(tmp_path, name="mine")
    run = start(tmp_path, name="mine", lr=0.2, **{flag: True})
    assert names(tmp_path) == ["mine"]
    assert run.read_json("config.json")["arguments"]["lr"] == 0.2


def test_resume_needs_the_same_arguments(tmp_path):
    finish(start(tmp_path, name="mine", views=["affine", "blur"]))
    assert start(tmp_path, name="mine", resume=True, views=["affine", "blur"]).finished
    with pytest.raises(UserError, match=r"--lr was 0\.1, now 0\.2, --views was affine,blur, now blur"):
        start(tmp_path, name="mine", resume=True, views=["blur"], lr=0.2)
    # A flag that is younger than the run may be left out.
    assert start(tmp_path, name="mine", resume=True, views=["affine", "blur"], younger=False).finished
    with pytest.raises(UserError, match="--younger was None, now True"):
        start(tmp_path, name="mine", resume=True, views=["affine", "blur"], younger=True)
    with pytest.raises(UserError, match="--resume and --overwrite need --name"):
        start(tmp_path, resume=True)


def test_resume_starts_a_run_that_is_not_there_or_has_metrics_only(tmp_path):
    run = finish(start(tmp_path, name="new", resume=True))
    run.path("predictions.npz").unlink()  # not committed, so absent in a fresh clone
    again = start(tmp_path, name="new", resume=True, lr=0.2)
    assert not again.path("metrics.json").exists()
    assert [name[:8] for name in names(tmp_path)] == ["new", "new.old-"]


def test_a_dry_run_replaces_the_last_one_and_touches_no_other(tmp_path):
    finish(start(tmp_path, name="wide"))
    for _ in range(2):
        run = start(tmp_path, name="wide", dry_run=True)
        assert not run.finished
        finish(run)
    assert names(tmp_path) == ["dry-run", "wide"]
    finish(start(tmp_path / "other", name="dry-run"))
    with pytest.raises(UserError, match="holds a run that is no dry run"):
        start(tmp_path / "other", dry_run=True)


def test_a_results_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "results").touch()
    with pytest.raises(NotADirectoryError, match="results"):
        start(tmp_path / "results")
    (tmp_path / "cnn").mkdir()
    (tmp_path / "cnn/mine").symlink_to("nowhere")
    with pytest.raises(UserError, match="mine is a link to a folder that is gone"):
        start(tmp_path, name="mine")


FOREIGN = {"format": 1, "arguments": {}, "versions": {}, "script": "train_cnn"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "is not the folder of a run"),
        ("{", "config.json: not valid JSON; restore it, or move the folder away"),
        ('{"architectures": ["Bert"], "model_type": "bert"}', "is not a run of train_cnn.py"),
        (json.dumps({**FOREIGN, "script": "train_mil"}), "is not a run of train_cnn.py"),
        (json.dumps({**FOREIGN, "format": 2}), "is not a run of train_cnn.py"),
        (json.dumps({**FOREIGN, "arguments": []}), "is not a run of train_cnn.py"),
    ],
)
@pytest.mark.parametrize("flag", ["resume", "overwrite"])
def test_the_folder_of_something_else_is_refused_and_untouched(tmp_path, config, said, flag):
    folder = tmp_path / "cnn" / "mine"
    folder.mkdir(parents=True)
    (folder / "last.pt").write_text("precious")
    if config:
        (folder / "config.json").write_text(config)
    before = sorted(os.listdir(folder))
    with pytest.raises(UserError, match=said):
        start(tmp_path, name="mine", **{flag: True})
    assert sorted(os.listdir(folder)) == before
    assert names(tmp_path) == ["mine"]


def test_an_open_run_may_be_opened_again_also_on_a_file_system_without_locks(tmp_path, monkeypatch):
    finish(start(tmp_path, name="mine"))
    assert start(tmp_path, name="mine", resume=True).finished
    assert [run.folder for run in open_runs()] == [tmp_path / "cnn" / "mine"]
    close_runs()
    monkeypatch.setattr("fcntl.flock", lambda *args: os.close(-1))  # a file system without locks
    assert start(tmp_path, name="mine", resume=True).finished
    close_runs()
    monkeypatch.setattr(opening, "fcntl", None)  # a system without them
    assert start(tmp_path, name="mine", resume=True).finished
    assert len(open_runs()) == 1


# --- What a resumption records ---


def test_a_resumption_with_other_code_or_threads_is_recorded_and_told(tmp_path, monkeypatch, capsys):
    run = start(tmp_path, name="mine")
    run.save_checkpoint({})
    first = run.read_json("config.json")
    assert "resumed" not in start(tmp_path, name="mine", resume=True).read_json("config.json")
    monkeypatch.setattr(opening, "git_commit", lambda: "later")
    monkeypatch.setattr(opening, "device_name", lambda device: "a CPU, 7 threads")
    for _ in range(2):  # the second time nothing changed
        run = start(tmp_path, name="mine", resume=True, quiet=False)
        now = {"commit": "later", "device": "a CPU, 7 threads", "versions": first["versions"]}
        assert run.read_json("config.json") == {**first, "resumed": [now]}
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "may differ" in told
    assert f"commit was {first['commit']}, now later; device was" in told


def test_ranks_that_share_a_training_are_recorded_and_told(tmp_path, monkeypatch, capsys):
    for script, told in (("train_cnn", ""), ("train_simclr", "ranks was 1, now 2")):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        start(tmp_path, script=script, name="mine").save_checkpoint({})
        monkeypatch.setenv("WORLD_SIZE", "2")
        start(tmp_path, script=script, name="mine", resume=True, quiet=False)
        assert capsys.readouterr().err.strip().endswith(told)
    assert RunFolder(tmp_path / "simclr/mine").read_json("config.json")["resumed"][0]["ranks"] == 2


def test_a_run_in_the_image_of_a_container_is_copied_aside(tmp_path, monkeypatch):
    finish(start(tmp_path, name="mine"))
    monkeypatch.setattr(os, "rename", Mock(side_effect=OSError(errno.EXDEV, "")))
    start(tmp_path, name="mine", overwrite=True)
    new, old = sorted((tmp_path / "cnn").iterdir())
    assert os.listdir(new) == ["config.json"]
    assert RunFolder(old).finished


def test_a_finished_run_is_not_marked_as_resumed(tmp_path, monkeypatch):
    run = finish(start(tmp_path, name="mine"))
    first = run.read_json("config.json")
    monkeypatch.setattr(opening, "git_commit", lambda: "later")
    assert start(tmp_path, name="mine", resume=True).read_json("config.json") == first
    run.path("metrics.json").unlink()
    run.write_json("sweep.json", {"trainings": [2, 2]})
    assert start(tmp_path, name="mine", resume=True).read_json("config.json") == first
    run.write_json("sweep.json", {"trainings": [1, 2]})
    assert "resumed" in start(tmp_path, name="mine", resume=True).read_json("config.json")
