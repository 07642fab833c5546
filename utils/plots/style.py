"""The style of all figures, what several of them share, and PNG files that depend on their input only."""

import itertools
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ["MPLBACKEND"] = "agg"  # figures are files; a notebook exports a backend that a script may lack

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from utils.errors import printable
from utils.runs.files import write_atomically

# Okabe and Ito's colour-blind-safe palette, dark enough for white paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
TRAINING, VALIDATION, TEST = PALETTE[2], PALETTE[0], PALETTE[1]  # one colour per split, everywhere
REFERENCE = "#555555"
# Inches. At 100 dots per inch these are 830 pixels, the width of a page on GitHub: nothing is scaled.
WIDTH = 8.3
STYLE: dict[Any, Any] = {
    "figure.dpi": 100,
    "figure.titlesize": 10.5,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#DDDDDD",
    "axes.prop_cycle": cycler(color=PALETTE),
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.parse_math": False,  # a name is a name, also with dollars in it
}
plt.rcParams.update(STYLE)
warnings.filterwarnings("ignore", "Glyph", module="utils.plots.style")  # a box stands for it
LONGEST_NAME = 40  # letters of a name from data, as it is drawn
# The classes of MNIST and of every set of up to ten; more get the colours of a rainbow, and always a name.
CLASS_COLORS = (*PALETTE, "#8B4513", "#B2DF00")
# One colour per method, everywhere; all others share REFERENCE.
METHODS = {
    "#0072B2": ("cnn", "simclr", "attention"),
    "#D55E00": ("fast", "supcon", "max"),
    "#009E73": ("wide", "loss-attention"),
    "#CC79A7": ("resnet18", "instance-max"),
    "#E69F00": ("mlp", "mean"),
    "#56B4E9": ("lenet", "gated-attention"),
    "#999999": ("linear", "instance-mean"),
    "#8B4513": ("compact", "mixed"),
    "#000000": ("resnet50",),
}
METHOD_COLORS = {method: color for color, methods in METHODS.items() for method in methods}
# A log axis can't show an error of zero: it is plotted as half an image of MNIST's 10,000, in per cent.
LEAST_ERROR = 0.005


def method_color(method: str | None) -> str:
    """Return the colour of a model or method."""
    return METHOD_COLORS.get(method or "", REFERENCE)


def class_colors(count: int) -> np.ndarray:
    """Return a colour for each of `count` classes, all different."""
    if count <= len(CLASS_COLORS):
        return np.array(CLASS_COLORS[:count])
    return np.array(
        [matplotlib.colors.to_hex(c) for c in matplotlib.colormaps["turbo"](np.linspace(0, 1, count))]
    )


def labels(names: Iterable[str]) -> list[str]:
    """Return names that come from data as they are drawn: what prints of them, shortened."""
    shown = (printable(name[: LONGEST_NAME + 1]) for name in names)
    return [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in shown]


def error_percent(share: ArrayLike) -> np.ndarray:
    """Return the error in per cent, at least LEAST_ERROR, of a share that is right (accuracy, AUC)."""
    return np.maximum(100 - 100 * np.asarray(share, dtype=float), LEAST_ERROR)


def figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (WIDTH, 4.5), **options
) -> tuple[Figure, Any]:
    """Return a figure and its axes, as plt.subplots. size: inches; options: of plt.subplots."""
    return plt.subplots(rows, columns, figsize=size, layout="constrained", **options)


def save(fig: Figure, path: Path | str, description: str | None = None) -> None:
    """Write a PNG of 256 colours, without date or version so that equal figures are equal files.

    It closes the figure. description: a text to keep inside the PNG, for the function `description` to read.
    """
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()).quantize(256)
    plt.close(fig)
    info = PngInfo()
    if description:
        info.add_text("Description", description)
    write_atomically(Path(path), lambda file: image.save(file, format="png", optimize=True, pnginfo=info))


def description(path: Path | str) -> str | None:
    """Return the description inside a PNG, None when there is no such file, no PNG or no description."""
    try:
        with Image.open(path) as image:
            return getattr(image, "text", {}).get("Description")
    except OSError:
        return None


def plain_numbers(axis: Axis) -> None:
    """Label a log axis 0.1, 0.2, 0.5, 1, ... not in powers of ten. Call it when everything is plotted."""
    low, high = sorted(np.maximum(np.abs(axis.get_view_interval()), 1e-12))
    span = high / low  # the shorter the axis, the more numbers
    multiples = (1,) if span > 2000 else (1, 2, 5) if span > 8 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    axis.set_major_locator(LogLocator(subs=multiples))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows 0, 1, ... of a figure that has one row for each method, from top to bottom."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(False, axis="y")


def range_bars(axes: Axes, at: ArrayLike, ends: Any, kind: str, horizontal: bool = False, **line) -> None:
    """Plot a range, or several, by its ends (low, high). line: of hlines() and vlines(), for instance color.

    kind: "std", one standard deviation on either side of a mean: thick and pale; "interval", of 95 %: thin
    with caps; "range", of runs that share data: dashed; with any other nothing is plotted.
    """
    if kind in ("std", "interval", "range"):
        line |= {"lw": 5, "alpha": 0.35} if kind == "std" else {"lw": 1.4}
        line |= {"ls": (0, (3, 1.5))} if kind == "range" else {}
        (axes.hlines if horizontal else axes.vlines)(at, *ends, **line)
    for end in ends if kind == "interval" else ():
        axes.plot(*((end, at, "|") if horizontal else (at, end, "_")), ms=8, color=line["color"])


def error_lines(
    axes: Axes, curves: Iterable[dict], xlabel: str, band: str = "std", xscale: str = "log"
) -> None:
    """Plot the mean error against an amount of data with a band about it, the error on a log scale.

    curves: {"label", "color", "points": [[x, [share right, ...]], ...]} each, and maybe "style" and "marker";
    the shares are those of single runs or draws. band: "std", one standard deviation, or "range", all runs.
    """
    ticks: set[float] = set()
    for curve in curves:
        x, shares = zip(*curve["points"], strict=True)
        mean = np.array([np.mean(values) for values in shares])
        std = np.array([np.std(values, ddof=1) if len(values) > 1 else 0 for values in shares])
        every = [min(values) for values in shares], [max(values) for values in shares]
        low, high = map(error_percent, every if band == "range" else (mean - std, mean + std))
        line = {"marker": curve.get("marker", "o"), "ms": 5, "label": curve["label"]}
        axes.fill_between(x, low, high, color=curve["color"], alpha=0.1, linewidth=0)
        axes.plot(x, error_percent(mean), ls=curve.get("style", "-"), color=curve["color"], **line)
        ticks |= set(x)
    axes.set(xscale=xscale, yscale="log", xlabel=xlabel)
    axes.set_xticks(sorted(ticks), [f"{tick:,}" for tick in sorted(ticks)])
    axes.xaxis.minorticks_off()
    plain_numbers(axes.yaxis)


def error_rows(axes: Axes, rows: Sequence[tuple[str, str, Sequence[float]]]) -> None:
    """Plot a row (name, colour, shares right) of dots, one for each run, and a bar at their mean error."""
    for row, (_, color, shares) in enumerate(rows):
        axes.plot(error_percent(shares), [row] * len(shares), "o", color=color, alpha=0.6, ms=5.5, mew=0)
        axes.plot(error_percent(np.mean(shares)), row, "|", color="black", ms=14, mew=1.5)
    name_rows(axes, [name for name, *_ in rows])
    axes.set_xscale("log")
    plain_numbers(axes.xaxis)


class Panel(NamedTuple):
    """One axes of `plot_history`.

    curves: key in the history, name and colour of each. unit: "" as it is, "share" in per cent, or "error",
    of a share that is right. log: a log axis, unless no value is positive. chance: the value of a model that
    knows nothing. tested: (model, epoch, value) of every run on the test set.
    """

    title: str
    curves: Sequence[tuple[str, str, str]]
    unit: str = ""
    log: bool = False
    chance: float | None = None
    tested: Sequence[tuple[str | None, int, float]] = ()

    def convert(self, values: ArrayLike) -> np.ndarray:
        scaled = np.asarray(values) * (100 if self.unit else 1)
        return 100 - scaled if self.unit == "error" else scaled


def split_runs(history: Iterable[dict]) -> list[list[dict]]:
    """Split the lines of history.jsonl into those of each training, told apart by "seed" and "fold"."""
    runs: dict[tuple, list[dict]] = {}
    for line in history:
        runs.setdefault((line.get("seed"), line.get("fold")), []).append(line)
    return list(runs.values())


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


def plot_history(history: Sequence[dict], panels: Sequence[Panel], path: Path | str) -> None:
    """Plot numbers over the epochs, two panels in a row: every run thinly, and the mean over the runs.

    history: lines of history.jsonl; a panel without any of its numbers is left out. With several "model"s,
    each has its own colour and mean, and what belongs to training is dashed.
    """
    models: dict[str | None, list[dict]] = {}
    for line in history:
        models.setdefault(line.get("model"), []).append(line)
    panels = [panel for panel in panels if any(curve_of(history, key)[0] for key, *_ in panel.curves)]
    several, rows = len(models) > 1, -(-len(panels) // 2)
    fig, axes = figure(rows, 2, size=(WIDTH, 2.5 * rows + 0.7), squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    for ax, panel in zip(axes.flat, panels, strict=False):
        for model, (key, name, color) in itertools.product(models, panel.curves):
            curves = [curve_of(run, key) for run in split_runs(models[model])]
            if several:
                name, color = model or "", method_color(model)
            ls = "--" if several and key.startswith("train_") else "-"
            _plot_runs(ax, [(x, panel.convert(y)) for x, y in curves if x], name, color=color, ls=ls)
        for model, epoch, value in panel.tested:
            color = method_color(model) if several else TEST
            ax.plot(epoch, panel.convert(value), "x", color=color, ms=6, label="test, every run")
        if panel.log and any((line.get_ydata() > 0).any() for line in ax.get_lines()):
            ax.set_yscale("log", nonpositive="mask")  # an error of zero is a gap
            plain_numbers(ax.yaxis)
        if panel.chance is not None:
            ax.axhline(panel.chance, color=REFERENCE, ls=":", label="chance")
        ax.set(title=panel.title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    pairs = (pair for ax in fig.axes for pair in zip(*ax.get_legend_handles_labels(), strict=True))
    handles = {name: handle for handle, name in pairs}
    title = "dashed: training, solid: validation" if several else None
    fig.legend(handles.values(), handles, loc="outside lower center", ncols=4, title=title)
    save(fig, path)


def _plot_runs(axes: Axes, curves: list[tuple[list[float], np.ndarray]], label: str, **line) -> None:
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


class Images(NamedTuple):
    """Images (N, H, W) or (rows, columns, H, W), row by row; NaN leaves a place empty.

    texts: above each. frames: colours by position. title: above all. rows, heads: names of rows and columns.
    """

    tiles: np.ndarray
    texts: Sequence[str] = ()
    frames: Mapping[int, str] = {}
    title: str = ""
    rows: Sequence[str] = ()
    heads: Sequence[str] = ()


def plot_images(parts: Sequence[Images], columns: int, path: Path | str, title: str = "", **options) -> None:
    """Plot images of one size, part below part; black is the greatest value. options: of imshow()."""
    height, width = parts[0].tiles.shape[-2:]
    gap = max(1, width // 7)
    inches = (WIDTH - 0.2 - 1.1 * any(part.rows for part in parts)) / columns / (width + gap)  # of a pixel
    lines = max((text.count("\n") + 1 for part in parts for text in part.texts), default=0)
    top = int(np.ceil(0.145 * lines / inches))
    step, side = height + gap + top, width + gap
    counts = [max(1, -(-part.tiles[..., 0, 0].size // columns)) for part in parts]
    names = 0.3 * sum(bool(part.title) + 2 * bool(part.heads) for part in parts)
    size = WIDTH, sum(counts) * step * inches + names + 0.2 * (1 + title.count("\n"))
    fig, axes = figure(len(parts), 1, size=size, squeeze=False, height_ratios=counts)
    for ax, count, part in zip(axes.flat, counts, parts, strict=True):
        tiles = part.tiles.reshape(-1, height, width)
        cells = np.full((count * columns, step, side), np.nan, np.float32)
        cells[: len(tiles), top : top + height, :width] = tiles
        picture = cells.reshape(count, columns, step, side).swapaxes(1, 2).reshape(count * step, -1)
        ax.imshow(picture, **{"cmap": "gray_r", "vmin": 0, "vmax": 255, "interpolation": "nearest"} | options)
        corners = [(i % columns * side, i // columns * step + top) for i in range(len(cells))]
        for (x, y), text in zip(corners, part.texts, strict=False):
            ax.text(x + width / 2, y - 1, text, size=8, ha="center", va="bottom", linespacing=1.05)
        for i, color in part.frames.items():
            x, y = corners[i]
            frame = Rectangle((x - 1, y - 1), width + 1, height + 1, fill=False, ec=color, lw=2)
            ax.add_patch(frame).set_clip_on(False)
        ax.set_title(part.title, size=10)
        ax.set_yticks([y + height / 2 for _, y in corners[::columns][: len(part.rows)]], part.rows, size=8)
        ax.set_xticks([x + width / 2 for x, _ in corners[: len(part.heads)]], part.heads, size=8)
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.grid(False)
    fig.suptitle(title)
    save(fig, path)
