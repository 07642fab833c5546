"""The style of all figures, what several of them repeat, and PNG files that depend on their input only."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from utils.runs.files import write_atomically

# Okabe and Ito's colour-blind-safe palette, dark enough for white paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
TRAINING, VALIDATION, TEST = PALETTE[2], PALETTE[0], PALETTE[1]  # one colour per split, everywhere
# Inches. At 100 dots per inch these are 830 pixels, the width of a page on GitHub: nothing is scaled.
WIDTH = 8.3
STYLE: dict[Any, Any] = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#DDDDDD",
    "axes.prop_cycle": cycler(color=PALETTE),
    "legend.frameon": False,
    "legend.fontsize": 9,
}
plt.rcParams.update(STYLE)


# --- Files ----------------------------------------------------------------------------------------------


def figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (WIDTH, 4.5), **options
) -> tuple[Figure, Any]:
    """Return a figure and its axes, as plt.subplots. size: inches; options: of plt.subplots."""
    return plt.subplots(rows, columns, figsize=size, layout="constrained", **options)


def save(fig: Figure, path: Path | str, description: str | None = None) -> None:
    """Write a PNG without date or version, so that equal figures are equal files, and close the figure.

    description: a text to keep inside the PNG, for the function `description` to read.
    """
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    plt.close(fig)
    info = PngInfo()
    if description:
        info.add_text("Description", description)
    image = reduce_colors(pixels)
    write_atomically(Path(path), lambda file: image.save(file, format="png", optimize=True, pnginfo=info))


def reduce_colors(pixels: np.ndarray) -> Image.Image:
    """Turn RGB pixels (H, W, 3) uint8 into an image of at most 256 colours: half the size of the file.

    The 128 most frequent colours stay exactly as they are. From the others, the soft edges of lines and text,
    those are added that are farthest from all before; what is left gets the nearest of the 256.
    """
    red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
    packed, places, counts = np.unique(
        (red << 16) + (green << 8) + blue, return_inverse=True, return_counts=True
    )
    colors = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 1)

    def distances(color):
        return ((colors - color) ** 2).sum(1)

    palette = list(colors[np.argsort(-counts, kind="stable")[:128]])
    gaps = np.min([distances(color) for color in palette], 0)
    while len(palette) < 256 and gaps.max() > 0:
        palette.append(colors[gaps.argmax()])
        gaps = np.minimum(gaps, distances(palette[-1]))
    nearest = np.argmin([distances(color) for color in palette], 0)
    image = Image.fromarray(nearest.astype(np.uint8)[places].reshape(pixels.shape[:2]))
    image.putpalette(np.array(palette, dtype=np.uint8).tobytes())
    return image


def description(path: Path | str) -> str | None:
    """Return the description inside a PNG, None when there is no such file, no PNG or no description."""
    try:
        with Image.open(path) as image:
            return getattr(image, "text", {}).get("Description")
    except OSError:
        return None


# --- Axes -----------------------------------------------------------------------------------------------


def plain_numbers(axis: Axis, multiples: Sequence[float] | None = None) -> None:
    """Label a log axis 0.1, 0.2, 0.5, 1, ... in place of powers of ten. Call it when everything is drawn.

    multiples: of powers of ten; by default the more, the shorter the axis.
    """
    if multiples is None:
        low, high = np.abs(axis.get_view_interval())
        span = max(low, high) / max(min(low, high), 1e-12)
        multiples = (1, 2, 5) if span > 8 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=multiples))
    axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def whole_numbers(axis: Axis) -> None:
    """Put at most nine ticks of an axis at whole numbers: epochs, members."""
    axis.set_major_locator(matplotlib.ticker.MaxNLocator(nbins=8, integer=True, min_n_ticks=1))


def every_label(count: int, room: int) -> slice:
    """Return which of `count` tick labels to show so that no more than `room` of them stand side by side."""
    return slice(None, None, max(1, -(-count // room)))


# --- Lines and ranges -----------------------------------------------------------------------------------

Line = tuple[ArrayLike, ArrayLike]  # x, y


def split_runs(history: Iterable[dict]) -> list[list[dict]]:
    """Split the lines of history.jsonl into those of each training, told apart by "seed" and "fold"."""
    runs: dict[tuple, list[dict]] = {}
    for line in history:
        runs.setdefault((line.get("seed"), line.get("fold")), []).append(line)
    return list(runs.values())


def curve_of(run: Sequence[dict], key: str) -> tuple[list[float], list[float]]:
    """Return epochs and values of one number of a run; fractions of an epoch where its steps were logged."""
    epochs: list[float] = []
    values: list[float] = []
    for line in run:
        steps = line.get("steps", {})
        if key in steps:
            epochs += [line["epoch"] - 1 + step / steps["step"][-1] for step in steps["step"]]
            values += steps[key]
        elif line.get(key) is not None:
            epochs.append(line["epoch"])
            values.append(line[key])
    return epochs, values


def lines_and_mean(axes: Axes, lines: Sequence[Line], color: str, label: str | None = None, **style) -> None:
    """Draw the lines of several runs thinly about their mean; a single line as it is.

    The mean ends where the first line ends: beyond, it would be a mean over other runs. style: of plot().
    """
    pairs = [(np.asarray(x), np.asarray(y)) for x, y in lines]
    if len(pairs) > 1:
        for x, y in pairs:
            axes.plot(x, y, color=color, alpha=0.3, linewidth=0.8, **style)
        label = label and f"{label} (mean of {len(pairs)})"
    if pairs:
        shared = min(len(x) for x, _ in pairs)
        mean = np.mean([y[:shared] for _, y in pairs], 0)
        axes.plot(pairs[0][0][:shared], mean, color=color, label=label, **style)


def std_bars(
    axes: Axes,
    at: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    color: str,
    horizontal: bool = False,
    label: str = "",
) -> None:
    """Draw ranges of one standard deviation on either side of a mean: thick, pale, without caps."""
    draw = axes.hlines if horizontal else axes.vlines
    draw(at, low, high, color=color, linewidth=5, alpha=0.35, label=label)


def interval_bars(
    axes: Axes,
    at: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    color: str,
    horizontal: bool = False,
    label: str = "",
) -> None:
    """Draw 95 % intervals: thin lines with caps, unlike `std_bars`."""
    at, low, high = np.broadcast_arrays(at, low, high)
    middle, half = (low + high) / 2, (high - low) / 2
    places = {"x": middle, "y": at, "xerr": half} if horizontal else {"x": at, "y": middle, "yerr": half}
    axes.errorbar(**places, fmt="none", color=color, elinewidth=1.2, capsize=4, label=label)


# --- Pictures and tables of colours ---------------------------------------------------------------------


def show_image(axes: Axes, image: np.ndarray) -> None:
    """Draw one image (H, W) or (1, H, W) uint8, black on white, without ticks."""
    axes.imshow(image.squeeze(), cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)


def mosaic(tiles: np.ndarray, gap: int) -> np.ndarray:
    """Join tiles (rows, columns, H, W) into one image with `gap` empty pixels (NaN) around each of them.

    One picture is drawn many times faster than an axes for every tile.
    """
    rows, columns, height, width = tiles.shape
    cells = np.full((rows, columns, height + gap, width + gap), np.nan, dtype=np.float32)
    cells[:, :, :height, :width] = tiles
    image = cells.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap))
    return np.pad(image, ((gap, 0), (gap, 0)), constant_values=np.nan)


def heat_map(axes: Axes, values: np.ndarray, label: str, **options) -> None:
    """Draw a table of numbers as colours, with a colour bar named `label`. options: of seaborn.heatmap."""
    import seaborn as sns  # here, because it loads pandas, which --help needn't

    bar = {"label": label, "shrink": 0.8, **options.pop("cbar_kws", {})}
    sns.heatmap(values, ax=axes, linewidths=0.5, linecolor="#DDDDDD", cbar_kws=bar, **options)
    axes.grid(False)


# --- Colours --------------------------------------------------------------------------------------------

# The classes of MNIST and of every set of up to ten; more get the colours of a rainbow, and always a name.
CLASS_COLORS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"),
    *("#56B4E9", "#000000", "#8B4513", "#999999", "#B2DF00"),
)
# One colour per method, everywhere.
METHOD_COLORS = {
    "linear": "#999999",
    "mlp": "#E69F00",
    "lenet": "#56B4E9",
    "cnn": "#0072B2",
    "fast": "#D55E00",
    "wide": "#009E73",
    "resnet18": "#CC79A7",
    "resnet50": "#000000",
    "compact": "#8B4513",
    "simclr": "#0072B2",
    "supcon": "#D55E00",
    "mixed": "#9A6324",
    "attention": "#0072B2",
    "gated-attention": "#56B4E9",
    "loss-attention": "#009E73",
    "mean": "#E69F00",
    "max": "#D55E00",
    "instance-mean": "#999999",
    "instance-max": "#CC79A7",
}
OTHER_METHOD = "#555555"
REFERENCE = "#555555"
# A log axis can't show an error of zero: it is drawn as half an image of MNIST's 10,000, in per cent.
LEAST_ERROR = 0.005


def method_color(method: str | None) -> str:
    """Return the colour of a model or method; all unknown ones share one."""
    return METHOD_COLORS.get(method or "", OTHER_METHOD)


def class_colors(count: int) -> list[str]:
    """Return a colour for each of `count` classes, all different."""
    if count <= len(CLASS_COLORS):
        return list(CLASS_COLORS[:count])
    rainbow = matplotlib.colormaps["turbo"](np.linspace(0, 1, count))
    return [matplotlib.colors.to_hex(color) for color in rainbow]


def error_percent(share: ArrayLike) -> np.ndarray:
    """Return the error in per cent of a share that is right (accuracy, AUC), a number or several.

    At least LEAST_ERROR, so that a log axis can show it.
    """
    return np.maximum(100 * (1 - np.asarray(share, dtype=float)), LEAST_ERROR)
