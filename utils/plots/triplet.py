"""Figures of metric learning: training, error against the data."""

from collections.abc import Sequence
from pathlib import Path

from utils.plots import style
from utils.plots.style import PALETTE, TRAINING, VALIDATION, Panel


def plot_embedding_curves(history: Sequence[dict], path: Path | str) -> None:
    """Plot loss, active triplets and P@1, distances, and the norm of the embedding over the epochs."""
    share = [("train_active_triplets", "training: active triplets", TRAINING)]
    share += [("val_precision_at_1", "validation: P@1", VALIDATION)]
    distance = [("train_positive_distance", "anchor to positive", PALETTE[5])]
    distance += [("train_negative_distance", "anchor to negative", PALETTE[4])]
    panels = (
        Panel("loss", [("train_loss", "training", TRAINING)]),
        Panel("share (%)", share, "share"),
        Panel("mean distance in a training batch", distance),
        Panel("mean norm of an embedding", [("train_embedding_norm", "training", TRAINING)]),
    )
    style.plot_history(history, panels, path)


def plot_accuracy(panels: Sequence[dict], path: Path | str) -> None:
    """Plot the error of episodes against the training data, mean and standard deviation.

    panels: {"title", "xlabel", "log": bool, "curves"} each. curves: a list of {"label", "points": [[x,
    [accuracy, ...]], ...]}; the accuracies are those of single trainings.
    """
    fig, axes = style.figure(1, len(panels), size=(style.WIDTH, 4), sharey=True, squeeze=False)
    for ax, panel in zip(axes[0], panels, strict=True):
        looks = zip(panel["curves"], PALETTE, "os^Dv*PX", strict=False)
        curves = [curve | {"color": color, "marker": marker} for curve, color, marker in looks]
        style.error_lines(ax, curves, panel["xlabel"], xscale="log" if panel["log"] else "linear")
        ax.set_title(panel["title"])
    axes[0, 0].set_ylabel("test error over episodes (%, log scale)")
    note = "band: ± 1 SD of the trainings"
    fig.legend(handles=axes[0, 0].get_lines(), loc="outside lower center", ncols=4, title=note)
    style.save(fig, path)
