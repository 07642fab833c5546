"""The figure of an ensemble: what combining its members gives."""

from collections.abc import Sequence
from pathlib import Path

from utils.plots import style
from utils.plots.style import PALETTE, TEST, error_percent

LABELS = {
    "best_single": "best single (by validation)",
    "average": "plain average",
    "log_average": "average of logits",
    "vote": "majority vote",
    "greedy_loss": "greedy by loss",
    "greedy_accuracy": "greedy by accuracy",
    "bagged": "bagged greedy by loss",
}


def plot_combinations(records: Sequence[dict], names: Sequence[str], path: Path | str) -> None:
    """Plot the test error of every combination between the mean of its members and what none gets right.

    records: of metrics.json; a single library has its 95 % interval. names: keys of LABELS.
    """
    keys = {"mean_single": "mean single"} | {name: LABELS[name] for name in names}
    keys["oracle"] = "no member right"
    colors = {"mean_single": PALETTE[7], "oracle": PALETTE[6]}
    values = {key: [record[f"{key}_test_accuracy"] for record in records] for key in keys}
    fig, ax = style.figure(size=(style.WIDTH, 0.36 * len(keys) + 1.2))
    if len(records) == 1:
        ends = [[records[0][f"{name}_test_accuracy_{end}"] for name in names] for end in ("high", "low")]
        rows = range(1, 1 + len(names))
        style.range_bars(ax, rows, error_percent(ends), "interval", horizontal=True, color=TEST)
    style.error_rows(ax, [(label, colors.get(key, TEST), values[key]) for key, label in keys.items()])
    ax.set_xlabel("test error (%, log scale)")
    single = len(records) == 1
    ax.set_title("caps: 95 % interval" if single else f"dots: {len(records)} libraries, bars: their mean")
    style.save(fig, path)
