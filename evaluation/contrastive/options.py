"""What to evaluate of an encoder, with how much effort, and how long it takes."""

import contextlib
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class EncoderOptions:
    """Options of `evaluate_encoder`; k-NN and the linear probe are always scored.

    floors: score a random encoder and raw pixels, too. clustering: k-means and its spread over the graph.
    finetune: fine-tune with all labels. augmented_probe: probe on augmented copies of the images.
    few_labels: score `draws` draws of 1, 10 and 100 labels per class. distill: self-training with a fresh
    network `student`. precision, compile, max_steps: as in FitConfig.
    """

    floors: bool = True
    clustering: bool = True
    augmented_probe: bool = True
    finetune: bool = True
    few_labels: bool = True
    distill: bool = False
    draws: int = 10
    student: str = "fast"
    precision: str = "fp32"
    compile: bool = False
    max_steps: int | None = None
    quiet: bool = True

    @classmethod
    def from_args(cls, args: Namespace, **changes) -> "EncoderOptions":
        """Take the options from a script's arguments, see `cli.evaluation_flags`."""
        names = ("distill", "draws", "student", "precision", "compile", "quiet")
        options = {name: getattr(args, name) for name in names}
        return cls(**{**options, "max_steps": 1 if args.dry_run else None, **changes})


@contextlib.contextmanager
def stopwatch(record: dict, name: str) -> Iterator[None]:
    """Add the seconds that the block takes, work on a GPU included, to record["<name>_seconds"]."""
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    wait()
    start = time.perf_counter()
    yield
    wait()
    key = f"{name}_seconds"
    record[key] = round(record.get(key, 0.0) + time.perf_counter() - start, 3)
