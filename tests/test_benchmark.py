"""benchmark.py: the files that it writes, and its errors."""

import json

import pytest

import benchmark
from benchmarks import measure


@pytest.fixture(scope="module")
def small_dir(tmp_path_factory, tiny_idx):
    return tiny_idx(tmp_path_factory.mktemp("small"), train=600, test=50)


def test_main_writes_the_file_of_each_chosen_benchmark(small_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(measure, "WORKERS", 0)
    flags = ["--data-dir", str(small_dir), "--results-dir", str(tmp_path), "--device", "cpu"]
    benchmark.main(["--only", "augment", "--repeats", "2", *flags])
    files = list((tmp_path / "benchmarks").iterdir())
    assert [file.name for file in files] == ["augment.json"]
    content = json.loads(files[0].read_text())
    assert list(content)[:4] == ["format", "benchmark", "device", "cpu"]
    assert (content["format"], content["benchmark"], content["repeats"]) == (1, "augment", 2)
    assert "thread" in content["device"]
    assert content["threads"] >= 1
    assert content["torch"]
    assert content["command"] == "python benchmark.py --only augment --repeats 2 --device cpu"
    assert [row["name"] for row in content["rows"]] == ["ours", "standard way"]
    output = capsys.readouterr().out
    assert "augment, repeat 2 of 2:" in output
    assert "goal of 8: " in output


def test_epochs_writes_times_json(small_dir, tmp_path, monkeypatch):
    machine = {"threads": 1, "cpu": "made up"}

    def epochs(data_dir, experiments, device, known):
        new = {experiment.folder: {"seconds_per_epoch": 2.0, **machine} for experiment in experiments}
        return {**known, **new}

    monkeypatch.setattr(benchmark, "epochs", epochs)
    known = {"cnn/wide": {"seconds_per_epoch": 9.0, **machine}}
    times = {"format": 1, "fields": "what they mean", "times": known}
    (tmp_path / "times.json").write_text(json.dumps(times))
    experiments = {"format": 1, "experiments": [{"name": "linear", "command": "python train_cnn.py"}]}
    (tmp_path / "experiments.json").write_text(json.dumps(experiments))
    flags = ["--data-dir", str(small_dir), "--results-dir", str(tmp_path), "--device", "cpu"]
    benchmark.main(["--only", "epochs", *flags])
    written = json.loads((tmp_path / "times.json").read_text())
    assert written["fields"] == "what they mean"
    assert {run: entry["seconds_per_epoch"] for run, entry in written["times"].items()} == {
        "cnn/wide": 9.0,
        "cnn/linear": 2.0,
    }
    assert list((tmp_path / "benchmarks").iterdir()) == []


def test_what_would_be_measured_on_a_gpu_is_said_without_one(tmp_path, capsys):
    results = tmp_path / "results"
    benchmark.main(["--device", "cuda", "--list", "--results-dir", str(results)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "on cuda, 5 repeats of each side:"
    named = [line.split()[0] for line in lines[1:] if not line.startswith(" ")]
    assert named == [*benchmark.BENCHMARKS, "epochs"]
    assert set(benchmark.ON_GPU) < set(named)
    assert any("0.5 s" in line for line in lines)
    benchmark.main(["--device", "cpu", "--only", "fast", "--list"])
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert not results.exists()


@pytest.mark.parametrize("flags", [["--repeats", "0"], ["--only", "slow"], ["--device", "tpu"]])
def test_a_bad_flag_is_one_line_and_exit_code_2(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(flags)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_results_folder_that_cannot_be_made_is_said_before_measuring(small_dir, tmp_path, capsys):
    taken = tmp_path / "results"
    taken.write_text("a file")
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(["--data-dir", str(small_dir), "--results-dir", str(taken)])
    assert stopped.value.code == 2
    assert "cannot write to" in capsys.readouterr().err
