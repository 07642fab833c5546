"""How runs are born, refused, replaced and repaired; two starters; what a resumption records."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from utils.runs.opening import close_runs, open_run, open_runs

from utils.errors import UserError
from utils.runs import opening
from utils.runs.folder import RunFolder, device_name, summarise


@pytest.fixture(autouse=True)
def let_go():
    """A run that a test opens is closed at its end."""
    yield
    opening._held.clear()


def arguments(folder, **changes):
    base = {
        "results_dir": str(folder),
        "name": None,
        "resume": False,
        "overwrite": False,
        "rescore": False,
        "dry_run": False,
        "dataset": "mnist",
        "device": "cpu",
        "lr": 0.1,
        "quiet": True,
    }
    return SimpleNamespace(**{**base, **changes})


def start(folder, reads=(), **changes):
    given = arguments(folder, **changes)
    return open_run("train_cnn", given, "cnn", "python train_cnn.py", reads=reads)


def finish(run):
    run.save_predictions(x=np.zeros(1))
    return summarise(run, [{"seed": 0, "test_accuracy": 0.5, "seconds": 1.0}])


def test_unnamed_runs_take_the_next_free_name(tmp_path):
    names = [start(tmp_path).folder.relative_to(tmp_path).as_posix() for _ in range(3)]
    assert names == ["cnn/cnn", "cnn/cnn-2", "cnn/cnn-3"]


def test_config_says_what_made_the_run(tmp_path):
    config = start(tmp_path).read_json("config.json")
    assert config["script"] == "train_cnn"
    assert config["command"] == "python train_cnn.py"
    assert config["arguments"]["lr"] == 0.1
    assert config["device"] == device_name("cpu")
    assert {"python", "torch", "torchvision", "numpy"} == set(config["versions"])
    # Where results lie and how much is printed change no metric.
    assert not {"results_dir", "quiet", "resume"} & set(config["arguments"])


def test_a_taken_name_is_refused_and_untouched(tmp_path):
    run = start(tmp_path, name="mine")
    finish(run)
    with pytest.raises(UserError, match="--resume .* --overwrite"):
        start(tmp_path, name="mine")
    assert run.finished


def test_overwrite_starts_from_nothing(tmp_path):
    finish(start(tmp_path, name="mine"))
    run = start(tmp_path, name="mine", overwrite=True)
    assert sorted(os.listdir(run.folder)) == ["config.json"]


def test_a_folder_that_is_no_run_is_never_deleted(tmp_path):
    (tmp_path / "cnn" / "mine").mkdir(parents=True)
    (tmp_path / "cnn" / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="is not the folder of a run"):
        start(tmp_path, name="mine", overwrite=True)
    assert (tmp_path / "cnn" / "mine" / "thesis.txt").read_text() == "precious"


def test_resume_goes_on_only_with_the_same_arguments(tmp_path):
    finish(start(tmp_path, name="mine"))
    assert start(tmp_path, name="mine", resume=True).finished
    with pytest.raises(UserError, match=r"--lr was 0\.1, now 0\.2"):
        start(tmp_path, name="mine", resume=True, lr=0.2)


def test_a_flag_that_is_younger_than_the_run_may_be_left_out(tmp_path):
    finish(start(tmp_path, name="mine"))
    assert start(tmp_path, name="mine", resume=True, younger=False).finished
    with pytest.raises(UserError, match="--younger was None, now True"):
        start(tmp_path, name="mine", resume=True, younger=True)


def test_resume_starts_a_run_that_is_not_there_or_has_metrics_only(tmp_path):
    assert not start(tmp_path, name="new", resume=True).finished
    run = start(tmp_path, name="cloned")
    finish(run)
    run.path("predictions.npz").unlink()  # not committed, so absent in a fresh clone
    again = start(tmp_path, name="cloned", resume=True, lr=0.2)
    assert not again.path("metrics.json").exists()
    assert again.read_json("config.json")["arguments"]["lr"] == 0.2


@pytest.mark.parametrize("flag", ["resume", "overwrite"])
def test_resume_and_overwrite_need_a_name(tmp_path, flag):
    with pytest.raises(UserError, match="need --name"):
        start(tmp_path, **{flag: True})


def test_a_dry_run_has_its_own_name_and_replaces_itself(tmp_path):
    finish(start(tmp_path, dry_run=True))
    run = start(tmp_path, dry_run=True)
    assert run.folder.name == "dry-run"
    assert not run.finished


def test_a_dry_run_never_touches_a_run(tmp_path):
    finish(start(tmp_path, name="wide"))
    run = start(tmp_path, name="wide", dry_run=True)
    assert run.folder.name == "dry-run"
    assert (tmp_path / "cnn" / "wide" / "metrics.json").exists()


def test_a_results_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "results").write_text("a file, not a folder")
    with pytest.raises(UserError, match="cannot write to"):
        start(tmp_path / "results")


# --- Scoring a finished run again ---


def finished_run(folder, *labels):
    """A run with its checkpoint: alone or, with labels, one per part."""
    run = start(folder, name="mine", draws=3)
    for part in [run.part(label) for label in labels] or [run]:
        part.write_json("config.json", run.read_json("config.json"))
        part.save_checkpoint({})
        finish(part)
    summarise(run, [{"seed": 0, "test_accuracy": 0.5, "seconds": 1.0}])
    return run


def rescore(folder, **changes):
    return start(folder, name="mine", rescore=True, **{"draws": 3, **changes})


def test_rescoring_keeps_who_trained_and_records_who_scored(tmp_path, monkeypatch):
    old = finished_run(tmp_path).read_json("config.json")
    monkeypatch.setattr("utils.runs.folder.git_commit", lambda: "later")
    monkeypatch.setattr("utils.runs.folder.device_name", lambda device: "another machine")
    run = rescore(tmp_path, draws=5)  # how it is evaluated may change
    new = run.read_json("config.json")
    assert {key: new[key] for key in ("commit", "device", "versions")} == {
        key: old[key] for key in ("commit", "device", "versions")
    }
    assert new["rescored"] == {"commit": "later", "versions": old["versions"]}
    assert new["arguments"] == {**old["arguments"], "draws": 5}
    assert run.path("last.pt").exists()


def test_rescoring_with_another_training_is_refused(tmp_path):
    run = finished_run(tmp_path)
    before = run.read_json("config.json")
    with pytest.raises(UserError, match=r"--lr was 0\.1, now 0\.2"):
        rescore(tmp_path, lr=0.2)
    assert run.read_json("config.json") == before


@pytest.mark.parametrize(("labels", "missing"), [([], "last.pt"), (["seed-0", "seed-1"], "seed-1/last.pt")])
def test_rescoring_without_every_checkpoint_is_refused_and_changes_nothing(tmp_path, labels, missing):
    run = finished_run(tmp_path, *labels)
    run.path(missing).unlink()
    before = run.read_json("config.json")
    with pytest.raises(UserError, match=f"--rescore needs .*{missing}, which is not committed"):
        rescore(tmp_path)
    assert run.read_json("config.json") == before


def test_rescoring_needs_a_finished_run_and_its_name(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        rescore(tmp_path)
    assert not (tmp_path / "cnn").exists()
    start(tmp_path, name="mine", draws=3)
    with pytest.raises(UserError, match="no finished run"):
        rescore(tmp_path)
    with pytest.raises(UserError, match="need --name"):
        start(tmp_path, rescore=True)


# --- Born, replaced, repaired ---


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_replaced_run_stays_until_the_new_one_has_something_to_keep(tmp_path):
    finish(start(tmp_path, name="mine"))
    close_runs()
    old = files(tmp_path)
    start(tmp_path, name="mine", overwrite=True, lr=0.2)
    close_runs()  # nothing was trained: a fault, or a stop
    assert files(tmp_path) == old
    assert RunFolder(tmp_path / "cnn/mine").read_json("config.json")["arguments"]["lr"] == 0.1
    start(tmp_path, name="mine", overwrite=True, lr=0.2).save_checkpoint({})
    close_runs()
    assert files(tmp_path) == ["cnn/mine/config.json", "cnn/mine/last.pt"]
    assert RunFolder(tmp_path / "cnn/mine").read_json("config.json")["arguments"]["lr"] == 0.2


def test_a_run_in_which_nothing_was_trained_leaves_nothing(tmp_path):
    start(tmp_path, name="mine")
    close_runs()
    assert list((tmp_path / "cnn").iterdir()) == []


def test_after_a_crash_the_replaced_run_is_back_or_gone(tmp_path):
    finish(start(tmp_path, name="mine"))
    close_runs()
    parent = tmp_path / "cnn"
    shutil.copytree(parent / "mine", parent / ".mine.new")  # half-deleted
    (parent / ".mine.new" / "config.json").unlink()
    (parent / "mine").rename(parent / ".mine.old")  # between the two renames
    assert start(tmp_path, name="mine", resume=True).finished
    close_runs()
    assert files(parent / "mine") == ["config.json", "metrics.json", "predictions.npz"]
    assert os.listdir(parent) == ["mine"]
    shutil.copytree(parent / "mine", parent / ".mine.old")  # the new run has work: the old one goes
    assert start(tmp_path, name="mine", resume=True).finished
    close_runs()
    assert [path.name for path in parent.iterdir()] == ["mine"]


def test_the_name_of_a_replaced_run_is_taken(tmp_path):
    finish(start(tmp_path))
    close_runs()
    (tmp_path / "cnn/cnn").rename(tmp_path / "cnn/.cnn.old")
    assert start(tmp_path).folder.name == "cnn-2"


# --- What is not deleted ---


def foreign_config(**content):
    return {"format": 1, "arguments": {}, "versions": {}, "commit": None, "device": "", **content}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architectures": ["Bert"], "model_type": "bert"}, "is not a run of train_cnn.py"),
        (foreign_config(script="train_mil"), "is not a run of train_cnn.py"),
        (foreign_config(script="train_cnn", format=2), "is not a run of train_cnn.py"),
        (foreign_config(script="train_cnn", arguments=[]), "is not a run of train_cnn.py"),
        ([], "config.json: not a JSON object; restore it, or move the folder away"),
        (None, "config.json: not valid JSON; restore it, or move the folder away"),
    ],
)
@pytest.mark.parametrize("flag", ["resume", "overwrite", "rescore"])
def test_the_folder_of_something_else_is_refused_and_untouched(tmp_path, config, said, flag):
    folder = tmp_path / "cnn" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{" if config is None else json.dumps(config))
    (folder / "metrics.json").write_text("{}")
    (folder / "last.pt").write_text("precious")
    with pytest.raises(UserError, match=said):
        start(tmp_path, name="mine", **{flag: True})
    close_runs()
    assert files(folder) == ["config.json", "last.pt", "metrics.json"]


def test_a_run_with_other_files_in_it_is_not_deleted(tmp_path):
    run = finish(start(tmp_path, name="mine")) and RunFolder(tmp_path / "cnn/mine")
    run.part("seed-0").path("notes.txt").write_text("precious")
    with pytest.raises(UserError, match="seed-0/notes.txt is not of a run; move it away"):
        start(tmp_path, name="mine", overwrite=True)
    close_runs()
    assert run.finished
    run.path("seed-0/notes.txt").rename(tmp_path / "notes.txt")
    assert not start(tmp_path, name="mine", overwrite=True).finished


@pytest.mark.parametrize("linked", ["cnn", "cnn/mine"])
def test_nothing_is_deleted_through_a_link(tmp_path, linked):
    finish(start(tmp_path / "elsewhere", name="mine"))
    close_runs()
    (tmp_path / linked).parent.mkdir(exist_ok=True)
    (tmp_path / linked).symlink_to(tmp_path / "elsewhere" / linked, target_is_directory=True)
    with pytest.raises(UserError, match=f"because {tmp_path / linked} is a link"):
        start(tmp_path, name="mine", overwrite=True)
    close_runs()
    assert RunFolder(tmp_path / "elsewhere/cnn/mine").finished
    assert start(tmp_path, name="mine", resume=True).finished  # it may be gone on with


def test_a_run_does_not_replace_what_it_reads(tmp_path):
    run = start(tmp_path, name="mine")
    finish(run)
    for path in (run.folder, run.path("member-1"), str(run.path("best.pt"))):
        with pytest.raises(UserError, match="can't be replaced by a run that reads"):
            start(tmp_path, name="mine", overwrite=True, reads=[None, path])
    assert run.finished
    start(tmp_path, name="mine", overwrite=True, reads=[None, tmp_path / "cnn/other"])


def test_a_dry_run_does_not_replace_a_run_of_its_name(tmp_path):
    run = start(tmp_path, name="dry-run")
    finish(run)
    close_runs()
    with pytest.raises(UserError, match="holds a run that is no dry run"):
        start(tmp_path, dry_run=True)
    assert run.finished


# --- Two processes ---


@pytest.fixture
def in_use(tmp_path):
    """The run cnn/mine, finished, with another process at work on it."""
    finish(start(tmp_path, name="mine"))
    close_runs()
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        start(tmp_path, name="mine", resume=True)
        os.write(ready[1], b"x")
        os.read(done[0], 1)  # until the test has ended
        os._exit(0)
    os.read(ready[0], 1)
    yield child
    os.write(done[1], b"x")
    os.waitpid(child, 0)
    for number in (*ready, *done):
        os.close(number)


@pytest.mark.parametrize("flag", ["resume", "overwrite", "rescore"])
def test_a_run_that_another_process_works_on_is_refused(tmp_path, in_use, flag):
    with pytest.raises(UserError, match=f"cnn/mine is in use by process {in_use} on .*: choose another"):
        start(tmp_path, name="mine", **{flag: True})
    assert open_runs() == []
    assert (tmp_path / "cnn" / ".mine.lock").exists()


def test_the_lock_of_a_dead_process_is_none(tmp_path):
    finish(start(tmp_path, name="mine"))
    close_runs()
    if (child := os.fork()) == 0:
        start(tmp_path, name="mine", resume=True)
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "cnn" / ".mine.lock").exists()
    assert start(tmp_path, name="mine", resume=True).finished
    close_runs()
    assert os.listdir(tmp_path / "cnn") == ["mine"]


# --- What a resumption records ---


def test_a_resumption_with_other_code_or_threads_is_recorded_and_told(tmp_path, monkeypatch, capsys):
    run = start(tmp_path, name="mine")
    run.save_checkpoint({})
    first = run.read_json("config.json")
    assert "resumed" not in start(tmp_path, name="mine", resume=True).read_json("config.json")
    monkeypatch.setattr("utils.runs.folder.git_commit", lambda: "later")
    monkeypatch.setattr("utils.runs.folder.device_name", lambda device: "a CPU, 7 threads")
    for _ in range(2):  # the second time nothing changed
        run = start(tmp_path, name="mine", resume=True, quiet=False)
        now = {"commit": "later", "device": "a CPU, 7 threads", "versions": first["versions"]}
        assert run.read_json("config.json") == {**first, "resumed": [now]}
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "may differ" in told
    assert f"commit was {first['commit']}, now later; device was" in told


def test_a_finished_run_is_not_marked_as_resumed(tmp_path, monkeypatch):
    run = start(tmp_path, name="mine")
    finish(run)
    first = run.read_json("config.json")
    monkeypatch.setattr("utils.runs.folder.git_commit", lambda: "later")
    assert start(tmp_path, name="mine", resume=True).read_json("config.json") == first
    run.path("metrics.json").unlink()
    run.write_json("sweep.json", {"trainings": [2, 2]})
    assert start(tmp_path, name="mine", resume=True).read_json("config.json") == first
    run.write_json("sweep.json", {"trainings": [1, 2]})
    assert "resumed" in start(tmp_path, name="mine", resume=True).read_json("config.json")
