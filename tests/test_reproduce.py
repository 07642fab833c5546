"""reproduce.py on a made-up results tree, with a script that only notes how it was called."""

import re
from unittest.mock import Mock

import pytest
from helpers import ROOT, load_script
from made_up import classifier_records, make_run, write_json, write_lists

import reproduce
from report.results import Experiment

EXPERIMENTS = [
    {"name": "wide", "command": "python train_cnn.py --runs 3 --model wide"},
    {"name": "fast", "command": "python train_cnn.py --model fast"},
    {"name": "old", "command": "python train_cnn.py --labels 9", "retired": "abcdef"},
    {"name": "later", "command": "python train_mil.py"},
]
SCRIPT = """
import sys
from pathlib import Path
words = sys.argv[1:]
with (Path(__file__).parent / "calls.txt").open("a") as file:
    file.write(" ".join(word for word in words if "/" not in word) + "\\n")
sys.exit(int(words[words.index("--fail") + 1]) if "--fail" in words else 0)
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    write_lists(results := tmp_path / "results", *EXPERIMENTS)
    make_run(results / "cnn" / "wide", classifier_records([0.9974, 0.9976, 0.9978], 1200), model="wide")
    make_run(results / "cnn" / "fast", classifier_records([0.99], 60), model="fast")
    (tmp_path / "train_cnn.py").write_text(SCRIPT)
    monkeypatch.setattr(reproduce, "__file__", str(tmp_path / "reproduce.py"))
    monkeypatch.chdir("/")  # any folder: what it reads by default lies beside it
    return tmp_path


def calls(tree):
    return (tree / "calls.txt").read_text().splitlines()


def test_the_list_shows_commands_and_what_the_committed_runs_took(tree, monkeypatch, capsys):
    monkeypatch.chdir(tree.parent)
    assert reproduce.main(["--list", "--results-dir", f"{tree.name}/results"]) == 0
    assert load_script("report").make_parser().parse_args([]).results_dir == ROOT / "results"
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "cnn/wide ≤ 60 min python train_cnn.py --runs 3 --model wide",
        "cnn/fast ≤ 60 s python train_cnn.py --model fast",
        "cnn/old not run yet python train_cnn.py --labels 9 (of commit abcdef: not repeated)",
        "mil/later not run yet python train_mil.py",
        "CPU time of all together: ≤ 61 min",
    ]
    assert not (tree / "calls.txt").exists()


def test_runs_are_resumed_and_the_report_renewed(tree, monkeypatch):
    run = Mock(return_value=Mock(returncode=3))
    monkeypatch.setattr(reproduce.subprocess, "run", run)
    assert reproduce.main(["cnn"]) == 3
    assert calls(tree) == [
        "--runs 3 --model wide --name wide --results-dir results --data-dir datasets --resume",
        "--model fast --name fast --results-dir results --data-dir datasets --resume",
    ]
    assert run.call_args[0][0][1:3] == ["report.py", "--results-dir"]


def test_a_run_is_repeated_at_the_precision_of_its_record_and_so_is_one_that_it_needs(tree, monkeypatch):
    commands = {
        "wide": "train_cnn.py --encoder results/cnn/fast/best.pt",
        "fast": "train_cnn.py --precision fp32",
        "models": "robustness.py --models cnn=results/cnn/new",
        "new": "train_cnn.py",
    }
    write_lists(tree / "results", *({"name": key, "command": f"python {commands[key]}"} for key in commands))
    (tree / "robustness.py").write_text(SCRIPT)
    for run, precision in (("cnn/fast", "bf16"), ("cnn/wide", "fp32"), ("robustness/models", "fp32")):
        write_json(tree / "results" / run / "config.json", arguments={"precision": precision})
    monkeypatch.setattr(reproduce.subprocess, "run", Mock(return_value=Mock(returncode=0)))
    reproduce.main(["cnn/wide", "robustness"])
    ends = [re.sub(r".*--name (\S+) .*--resume", r"\1", line) for line in calls(tree)]
    assert ends == ["fast --precision=bf16", "wide --precision=fp32", "new", "models"]


def test_it_stops_at_the_first_failure_and_at_unknown_names(tree, capsys):
    """A training that ends with exit code 2 has said why itself."""
    for code in (2, 3):
        command = f"python train_cnn.py --fail {code}"
        write_lists(tree / "results", {**EXPERIMENTS[0], "command": command}, EXPERIMENTS[1])
        with pytest.raises(SystemExit, match="2"):
            reproduce.main([])
        told = capsys.readouterr().err.splitlines()
        assert len(told) == (code == 3)
    assert "cnn/wide ended with exit code 3; the same command resumes" in told[0]
    with pytest.raises(SystemExit):
        reproduce.main(["mil"])
    assert "no experiment mil; reproduce.py --list shows them" in capsys.readouterr().err
    assert len(calls(tree)) == 2


def test_a_run_comes_after_those_that_its_command_names():
    commands = {
        "best": "python ensemble.py --from ensemble/pool simclr/supcon/seed-0 ensemble/ten",
        "ten": "python ensemble.py --from ensemble/pool --members 10",
        "pool": "python ensemble.py --members 16",
        "bags": "python train_mil.py --encoder results/simclr/supcon/seed-0/encoder.pt",
        "supcon": "python train_simclr.py",
        "pool-2": "python ensemble.py --members 3",
    }
    experiments = [Experiment(name, command) for name, command in commands.items()]
    ordered = [e.name for e in reproduce.choose(experiments, [])]
    assert ordered == ["pool", "ten", "supcon", "best", "bags", "pool-2"]
    chosen = reproduce.choose(experiments, ["ensemble/ten", "mil"])
    assert [e.name for e in chosen] == ["pool", "ten", "supcon", "bags"]
