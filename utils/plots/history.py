"""The history of a run: all that was logged, over the epochs."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from utils.plots import style
from utils.plots.style import PALETTE, REFERENCE, TEST, TRAINING, VALIDATION, method_color


class Panel(NamedTuple):
    """One axes of a history.

    curves: keys in the history. unit: "" as it is, "share" in per cent, or "error" in per cent of a share
    that is right, on a log axis. test: the metric of the records that is drawn where a training ends.
    """

    title: str
    curves: Sequence[str]
    unit: str = ""
    test: str = ""

    def convert(self, values: ArrayLike) -> np.ndarray:
        scaled = np.asarray(values) * (100 if self.unit else 1)
        return 100 - scaled if self.unit == "error" else scaled


PANELS = (
    Panel("loss", ["train_loss", "val_loss"]),
    Panel("error (%, log scale)", ["train_accuracy", "val_accuracy"], "error", "test_accuracy"),
    Panel("1 − AUC (%, log scale)", ["val_auc"], "error", "test_auc"),
    Panel("k-NN error on validation images (%)", ["val_knn_accuracy"], "error"),
    Panel(
        "views that find their partner (%)", ["train_contrastive_accuracy", "train_batch_accuracy"], "share"
    ),
    Panel("spread of the features, lower is better", ["train_alignment", "train_uniformity"]),
    Panel("share (%)", ["train_active_triplets", "val_precision_at_1"], "share"),
    Panel("mean distance in a training batch", ["train_positive_distance", "train_negative_distance"]),
    Panel("mean norm of an embedding", ["train_embedding_norm"]),
    Panel("learning rate", ["lr"]),
)
# Names and colours of curves that are not just "training" or "validation".
LOOKS = {
    "lr": ("learning rate", PALETTE[6]),
    "train_batch_accuracy": ("training, within the batch alone", PALETTE[3]),
    "train_alignment": ("alignment: squared distance of two views", PALETTE[5]),
    "train_uniformity": ("uniformity: log of the mean Gaussian of all pairs", PALETTE[4]),
    "train_active_triplets": ("training: active triplets", TRAINING),
    "val_precision_at_1": ("validation: P@1", VALIDATION),
    "train_positive_distance": ("anchor to positive", PALETTE[5]),
    "train_negative_distance": ("anchor to negative", PALETTE[4]),
}


def curve_of(run: Sequence[dict], key: str) -> tuple[list[float], list[float]]:
    """Return epochs and values of one number of a run; fractions of an epoch where its steps were logged."""
    points: list[tuple[float, float]] = []
    for line in run:
        steps = line.get("steps", {})
        if key in steps:
            epochs = [line["epoch"] - 1 + step / steps["step"][-1] for step in steps["step"]]
            points += zip(epochs, steps[key], strict=True)
        elif line.get(key) is not None:
            points.append((line["epoch"], line[key]))
    return [x for x, _ in points], [y for _, y in points]


def plot_history(
    history: Sequence[dict], path: Path | str, records: Sequence[dict] = (), chance: float | None = None
) -> None:
    """Plot the PANELS that a history has numbers for: every run thinly, and the mean over the runs.

    history: lines of history.jsonl. records: of metrics.json; a test metric is where a training ends, and a
    dotted line where its weights are from. chance: the loss of a model that knows nothing. With several
    "model"s, each has its own colour and mean, and what belongs to training is dashed.
    """
    runs: dict[tuple, list[dict]] = {}
    for line in history:
        runs.setdefault((line.get("model"), line.get("seed"), line.get("fold")), []).append(line)
    models = list(dict.fromkeys(model for model, *_ in runs))
    panels = [panel for panel in PANELS if any(curve_of(history, key)[0] for key in panel.curves)]
    several, rows = len(models) > 1, -(-len(panels) // 2)
    fig, axes = style.figure(rows, 2, size=(style.WIDTH, 2.5 * rows + 0.7), squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    for ax, panel in zip(axes.flat, panels, strict=False):
        for model, key in itertools.product(models, panel.curves):
            curves = [curve_of(run, key) for (each, *_), run in runs.items() if each == model]
            trains = key.startswith("train_")
            look = LOOKS.get(key, ("training", TRAINING) if trains else ("validation", VALIDATION))
            name, color = (model or "", method_color(model)) if several else look
            ls = "--" if several and trains else "-"
            _plot_runs(ax, [(x, panel.convert(y)) for x, y in curves if x], name, color=color, ls=ls)
        for record in records:
            color = method_color(record.get("model")) if several else TEST
            if record.get(panel.test) is not None:
                value = panel.convert(record[panel.test])
                ax.plot(record["epochs"], value, "x", color=color, ms=6, label="test, every run")
            if record.get("best_epoch", record["epochs"]) < record["epochs"]:
                ax.axvline(record["best_epoch"], color=color, ls=":", label="chosen epoch")
        if panel.unit == "error" and any((line.get_ydata() > 0).any() for line in ax.get_lines()):
            ax.set_yscale("log", nonpositive="mask")  # an error of zero is a gap
            style.plain_numbers(ax.yaxis)
        if chance is not None and panel is PANELS[0]:
            ax.axhline(chance, color=REFERENCE, ls=":", label="chance")
        ax.set(title=panel.title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    pairs = (pair for ax in fig.axes for pair in zip(*ax.get_legend_handles_labels(), strict=True))
    handles = {name: handle for handle, name in pairs}
    title = "dashed: training, solid: validation" if several else None
    columns = 3 if max(map(len, handles)) > 30 else 4
    fig.legend(handles.values(), handles, loc="outside lower center", ncols=columns, title=title)
    style.save(fig, path)


def _plot_runs(axes: Axes, curves: list[tuple[list[float], np.ndarray]], label: str, **line: Any) -> None:
    """Plot the curves of several runs thinly about their mean, which ends where the first of them ends."""
    if len(curves) > 1:
        for x, y in curves:
            axes.plot(x, y, alpha=0.3, linewidth=0.8, **line)
        label += f" (mean of {len(curves)})"
    if curves:
        shared = min(len(y) for _, y in curves)
        mean = np.mean([y[:shared] for _, y in curves], 0)
        line |= {"marker": "o", "ms": 3.5} if shared < 15 else {}
        axes.plot(curves[0][0][:shared], mean, label=label, **line)
