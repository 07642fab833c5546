"""The style of all figures, what several of them share, and PNG files that depend on their input only."""

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
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from utils.errors import printable
from utils.runs.files import write_atomically

# Okabe and Ito's colour-blind-safe palette, dark enough for white paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
TRAINING, VALIDATION, TEST = PALETTE[2], PALETTE[0], PALETTE[1]  # one colour per split, everywhere
REFERENCE = "#555555"
# Inches of 100 pixels: a page of GitHub, and a figure of README.md. Files have more, for sharp screens.
WIDTH, FRONT = 8.3, 5.6
STYLE: dict[Any, Any] = {
    "figure.dpi": 150,
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
# One colour per method, everywhere, in the order of these colours; all others share REFERENCE.
METHODS = "cnn simclr attention step,fast supcon max plateau,wide loss-attention cosine,"
METHODS += "resnet18 instance-max,mlp mean,lenet gated-attention,resnet50,linear instance-mean,compact mixed"
COLORED = zip(CLASS_COLORS, METHODS.split(","), strict=False)
METHOD_COLORS = {method: color for color, methods in COLORED for method in methods.split()}
# A log axis can't show an error of zero: it is plotted as half an image of MNIST's 10,000, in per cent.
LEAST_ERROR = 0.005


def method_color(method: str | None) -> str:
    """Return the colour of a model or method."""
    return METHOD_COLORS.get(method or "", REFERENCE)


def class_colors(count: int) -> np.ndarray:
    """Return a colour for each of `count` classes, all different."""
    rainbow = map(matplotlib.colors.to_hex, matplotlib.colormaps["turbo"](np.linspace(0, 1, count)))
    return np.array(CLASS_COLORS[:count] if count <= len(CLASS_COLORS) else [*rainbow])


def labels(names: Iterable[str]) -> list[str]:
    """Return names that come from data as they are drawn: what prints of them, shortened."""
    shown = (printable(name[: LONGEST_NAME + 1]) for name in names)
    return [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in shown]


def error_percent(share: ArrayLike) -> np.ndarray:
    """Return the error in per cent, at least LEAST_ERROR, of a share that is right (accuracy, AUC)."""
    return np.maximum(100 - 100 * np.asarray(share, dtype=float), LEAST_ERROR)


def figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (WIDTH, 4.5), **options: Any
) -> tuple[Figure, Any]:
    """Return a figure and its axes, as plt.subplots. size: inches; options: of plt.subplots."""
    dpi = 200 if size[0] <= FRONT else 150
    return plt.subplots(rows, columns, figsize=size, dpi=dpi, layout="constrained", **options)


def save(fig: Figure, path: Path | str, description: str | None = None) -> None:
    """Write a PNG of 128 colours, without date or version so that equal figures are equal files.

    It closes the figure. description: a text to keep inside the PNG, for the function `description` to read.
    """
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    plt.close(fig)
    image = image.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
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


def range_bars(axes: Axes, at: float, ends: Any, kind: str, horizontal: bool = False, **line: Any) -> None:
    """Plot a range by its ends (low, high). line: of hlines() and vlines(), for instance color.

    kind: "std", one standard deviation on either side of a mean: thick and pale; "interval", of 95 %: thin
    with caps; "range", of runs that share data: dashed; with any other nothing is plotted.
    """
    if kind in ("std", "interval", "range"):
        line |= {"lw": 5, "alpha": 0.35} if kind == "std" else {"lw": 1.4}
        line |= {"ls": (0, (3, 1.5))} if kind == "range" else {}
        (axes.hlines if horizontal else axes.vlines)(at, *ends, **line)
    for end in ends if kind == "interval" else ():
        axes.plot(*((end, at, "|") if horizontal else (at, end, "_")), ms=8, color=line["color"])


def error_lines(axes: Axes, curves: Sequence[dict], xlabel: str, band: bool = False) -> None:
    """Plot the mean error against an amount of data, on log scales, each curve with its name at its end.

    curves: {"label", "color", "points": [[x, [share right, ...]], ...]} each, and maybe "style" and "marker";
    the shares are those of single runs or draws. band: a band from the best to the worst of these, not a dot
    for each.
    """
    ticks: set[float] = set()
    for curve in curves:
        x, shares = zip(*sorted(curve["points"]), strict=True)
        look = {"color": curve["color"], "marker": curve.get("marker", "o")}
        if band:
            worst, best = (error_percent([end(values) for values in shares]) for end in (min, max))
            axes.fill_between(x, worst, best, color=curve["color"], alpha=0.12, linewidth=0)
        for at, values in zip(x, shares, strict=True) if not band else ():
            axes.plot([at] * len(values), error_percent(values), ls="", ms=3, alpha=0.5, **look)
        means = error_percent([np.mean(values) for values in shares])
        axes.plot(x, means, ls=curve.get("style", "-"), ms=5, label=curve["label"], **look)
        ticks |= set(x)
    axes.set(xscale="log", yscale="log", xlabel=xlabel)
    plain_numbers(axes.xaxis)
    if all(tick == int(tick) for tick in ticks):  # amounts, and few of them
        axes.set_xticks(sorted(ticks), [f"{tick:,}" for tick in sorted(ticks)])
        axes.xaxis.minorticks_off()
    plain_numbers(axes.yaxis)
    ends = [float(error_percent(np.mean(max(curve["points"])[1]))) for curve in curves]
    name_ends(axes, [(end, curve["label"], curve["color"]) for end, curve in zip(ends, curves, strict=True)])


def name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], size: float = 9) -> None:
    """Write names (y, text, colour) right of the axes, moved apart where they would overlap."""
    axes.figure.canvas.draw()  # now the axes have their size
    points = axes.bbox.height * 72 / axes.figure.dpi
    scaled = [axes.transAxes.inverted().transform(axes.transData.transform((1, y)))[1] for y, *_ in ends]
    floor = -np.inf
    for at, (y, text, color) in sorted(zip(scaled, ends, strict=True), key=lambda pair: pair[0]):
        floor = max(at, floor)
        place = ((1, y), (8, (floor - at) * points), axes.get_yaxis_transform(), "offset points")
        axes.annotate(text, *place, va="center", size=size, color=color, annotation_clip=False)
        floor += 1.25 * size * (text.count("\n") + 1) / points


class Images(NamedTuple):
    """Images (N, H, W) or (rows, columns, H, W), row by row; NaN leaves a place empty.

    texts: above each. frames: colours by position. rows, heads: names of rows and columns.
    """

    tiles: np.ndarray
    texts: Sequence[str] = ()
    frames: Mapping[int, str] = {}
    rows: Sequence[str] = ()
    heads: Sequence[str] = ()


def plot_images(
    images: Images, columns: int, path: Path | str, title: str = "", wide: float = WIDTH, **options: Any
) -> None:
    """Plot images of one size on `wide` inches; black is the greatest value. options: of imshow()."""
    tiles = images.tiles.reshape(-1, *images.tiles.shape[-2:])
    (_, height, width), count = tiles.shape, max(1, -(-len(tiles) // columns))
    gap = max(1, width // 7)
    inches = (wide - 0.2 - 1.1 * bool(images.rows)) / columns / (width + gap)  # of a pixel
    lines = max((text.count("\n") + 1 for text in images.texts), default=0)
    top = int(np.ceil(0.145 * lines / inches)) + bool(lines)
    step, side = height + gap + top, width + gap
    names = 0.6 * bool(images.heads) + 0.2 * (1 + title.count("\n"))
    fig, ax = figure(size=(wide, count * step * inches + names))
    cells = np.full((count * columns, step, side), np.nan, np.float32)
    cells[: len(tiles), top : top + height, :width] = tiles
    picture = cells.reshape(count, columns, step, side).swapaxes(1, 2).reshape(count * step, -1)
    ax.imshow(picture, **{"cmap": "gray_r", "vmin": 0, "vmax": 255, "interpolation": "nearest"} | options)
    corners = [(i % columns * side, i // columns * step + top) for i in range(len(cells))]
    for (x, y), text in zip(corners, images.texts, strict=False):
        ax.text(x + width / 2, y - 2, text, size=8, ha="center", va="bottom", linespacing=1.05)
    for i, color in images.frames.items():
        x, y = corners[i]
        frame = Rectangle((x - 1, y - 1), width + 1, height + 1, fill=False, ec=color, lw=2)
        ax.add_patch(frame).set_clip_on(False)
    ax.set_yticks([y + height / 2 for _, y in corners[::columns][: len(images.rows)]], images.rows, size=8)
    ax.set_xticks([x + width / 2 for x, _ in corners[: len(images.heads)]], images.heads, size=8)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    fig.suptitle(title)
    save(fig, path)
