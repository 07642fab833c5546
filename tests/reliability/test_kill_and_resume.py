"""Every script and mode, killed between two changes of a file and resumed: the same result, bit for bit."""

import numpy as np
import pytest
import trials
from trials import CRASH, Crash, content

import ensemble
import train_cnn
import train_few_labels
import train_mil
import train_moco
import train_simclr
import train_triplet

pytestmark = pytest.mark.reliability

CLASSIFIER = "--model linear --epochs 3 --batch-size 64 --lr 0.01"
MEMBERS = f"{CLASSIFIER} --members 2"
ENCODER = "--model fast --epochs 2 --batch-size 90 --knn-every 5"
BAGS = "--model linear --mean-length 3 --std-length 1 --train-bags 8 --val-bags 4 --test-bags 8"
BAGS += " --bags-per-epoch 0"
TRIPLET = "--classes 0,1,2 --images-per-class 15 --model fast --epochs 2 --steps 2 --batch-classes 3"
MODES = {
    "folds": (train_cnn, f"{CLASSIFIER} --folds 2"),
    "average of weights": (train_cnn, f"{CLASSIFIER} --ema 0.9 --schedule plateau"),
    "voting": (ensemble, MEMBERS),
    "bagging of folds": (ensemble, f"{MEMBERS} --mode bagging --folds 2"),
    "snapshots": (ensemble, f"{MEMBERS} --mode snapshot"),
    "fusion": (ensemble, f"{MEMBERS} --mode fusion"),
    "SimCLR": (train_simclr, ENCODER),
    "SupCon": (train_simclr, f"{ENCODER} --method supcon"),
    "MoCo": (train_moco, f"{ENCODER} --queue 100"),
    "bags": (train_mil, f"{BAGS} --epochs 3"),
    "sweep of bags": (train_mil, f"{BAGS} --epochs 1 --sweep 6,4 --method mean"),
    "triplets": (train_triplet, f"{TRIPLET} --batch-images 4 --episodes 3 --copies 0"),
    "study of few labels": (train_few_labels, "--labels 10,100 --draws 2 --methods pixels-knn,pixels-linear"),
}
POINTS = 3  # of each mode


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No figures, which tests of their own cover."""
    trials.replace_figures(monkeypatch, {script for script, _ in MODES.values()}, lambda *args: None)


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_run_resumes_to_the_same_result(tmp_path, tiny_dir, mode):
    script, text = MODES[mode]

    def train(results):
        where = ["--data-dir", str(tiny_dir), "--results-dir", str(results), "--device", "cpu"]
        script.main([*where, "--precision", "fp32", "--quiet", "--name", "run", "--resume", *text.split()])

    train(tmp_path / "loaded")  # so that the trials find everything loaded
    whole = trials.run(lambda: train(tmp_path / "whole"), Crash(tmp_path / "whole"))
    assert whole.code == 0, whole.err
    expected = content(tmp_path / "whole")
    assert content(tmp_path / "loaded") == expected
    generator = np.random.default_rng(list(mode.encode()))
    for at in 1 + generator.choice(whole.changes, POINTS, replace=False):
        results = tmp_path / str(at)
        killed = trials.run(lambda results=results: train(results), Crash(results, at))
        assert killed.code == CRASH, (at, killed.err)
        resumed = trials.run(lambda results=results: train(results))
        assert resumed.code == 0, (at, resumed.err)
        assert content(results) == expected, at
