"""Seconds of one epoch of every recipe, alone on one CPU thread: results/times.json."""

import shlex
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

import train_cnn
import train_mil
import train_simclr
from benchmarks.measure import digits, one_thread
from data import Data, load, split
from report.results import Experiment
from utils.runs.folder import RunFolder, device_name, git_commit
from utils.training.config import FitConfig

# Epochs shorter than this many seconds are timed again, as the mean of several.
SHORT, SEVERAL = 5, 10


def epochs(
    data_dir: str, experiments: list[Experiment], device: torch.device, known: dict[str, dict]
) -> dict[str, dict]:
    """Return {run: {"seconds_per_epoch", "epochs", "threads", "cpu", "commit"}}, added to those in `known`.

    One epoch of every experiment that has a recipe of its own is trained and validated by its own command;
    short epochs are timed again, as the mean of several. Left out are experiments timed as another one, and
    those that start from an encoder file that is missing.
    """
    data, times = load("mnist", data_dir, device), dict(known)
    with one_thread():
        cpu = device_name(device).partition(",")[0]
        for experiment in experiments:
            script = TRAININGS.get(experiment.script)
            if script is None or experiment.timed_as or needs_missing_file(experiment):
                continue
            flags = [*shlex.split(experiment.command)[2:], "--data-dir", str(data_dir)]
            flags += ["--device", device.type, "--runs", "1", "--quiet"]
            count, seconds = 1, script([*flags, "--epochs", "1"], data)
            if seconds < SHORT:
                count, seconds = SEVERAL, script([*flags, "--epochs", str(SEVERAL)], data) / SEVERAL
            entry = {"seconds_per_epoch": digits(seconds), "epochs": count, "threads": 1}
            times[experiment.folder] = {**entry, "cpu": cpu, "commit": git_commit()}
            print(f"epochs, {experiment.folder}: {seconds:.2f} s", flush=True)
    return times


def needs_missing_file(experiment: Experiment) -> bool:
    files = [word for word in shlex.split(experiment.command) if word.endswith(".pt")]
    return not all(Path(file).exists() for file in files)


def classifier(flags: list[str], data: Data) -> float:
    with tempfile.TemporaryDirectory() as folder:
        metrics = train_cnn.main([*flags, "--results-dir", folder])
    return metrics["runs"][0]["train_seconds"]


def contrastive(flags: list[str], data: Data) -> float:
    args = train_simclr.parse(flags)[0]
    splits = split(data[0].labels, train_simclr.VAL_FRACTION, args.seed)
    with tempfile.TemporaryDirectory() as folder:
        _, facts = train_simclr.pretrain(args, data[0], splits, args.seed, RunFolder(folder))
    return facts["train_seconds"]


def bags(flags: list[str], data: Data) -> float:
    args = train_mil.parse(flags)[0]
    job = {"seed": args.seed, "method": args.methods[0]}
    _, record, _ = train_mil.fit_bags(args, data, job, replace(FitConfig.from_args(args), quiet=True))
    return record["train_seconds"]


TRAININGS = {"train_cnn": classifier, "train_simclr": contrastive, "train_mil": bags}
