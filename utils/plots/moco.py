"""Figures of momentum contrast."""

from collections.abc import Sequence
from pathlib import Path

from utils.plots.style import (
    PALETTE,
    REFERENCE,
    TRAINING,
    VALIDATION,
    WIDTH,
    curve_of,
    figure,
    save,
    split_runs,
    whole_numbers,
)

SHARES = (
    ("val_knn_accuracy", "k-NN, validation digits", VALIDATION),
    ("train_contrastive_accuracy", "own key against the queue", TRAINING),
    ("train_batch_accuracy", "own key within the batch", PALETTE[4]),
)


def plot_moco_curves(history: Sequence[dict], chance: float, path: Path | str) -> None:
    """Draw the loss beside its chance level, and contrastive beside k-NN accuracy, over the epochs.

    history: lines of history.jsonl, several runs told apart by "seed". chance: log(1 + K) nats, the loss of
    features that are all equal. An accuracy against the queue far above that within the batch means that
    queries know their keys by something else than the image: batch statistics, or keys that have drifted.
    """
    fig, (left, right) = figure(1, 2, size=(WIDTH, 3.6))
    for i, run in enumerate(split_runs(history)):
        left.plot(*curve_of(run, "train_loss"), color=TRAINING, label="training" if i == 0 else None)
        for key, label, color in SHARES:
            how = {"color": color, "label": label if i == 0 else None, "marker": "o", "ms": 4}
            right.plot(*curve_of(run, key), **how)
    left.axhline(chance, color=REFERENCE, linestyle=":", label="chance")
    left.set(title="InfoNCE (nats)", ylim=(0, None))
    right.set(title="share right", ylim=(0, 1.02))
    for ax in (left, right):
        whole_numbers(ax.xaxis)
        ax.set_xlabel("epoch")
        ax.legend()
    save(fig, path)
