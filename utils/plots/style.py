"""The style that all figures share, and PNG files whose bytes depend only on their input."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

# Okabe and Ito's colour-blind-safe palette, dark enough for white paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
STYLE = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#DDDDDD",
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "legend.frameon": False,
}
plt.rcParams.update(STYLE)


def figure(rows=1, columns=1, size=(8, 4.5), **kwargs):
    """A figure and its axes in the repository's style. size: inches; 8 wide fills the README."""
    return plt.subplots(rows, columns, figsize=size, layout="constrained", **kwargs)


def save(fig, path, description=None):
    """Write the PNG without date or version, so that equal figures are equal files.

    description: a text to keep inside the PNG, for the function `description` to read.
    """
    metadata = {"Software": None, **({"Description": description} if description else {})}
    fig.savefig(path, format="png", metadata=metadata)
    plt.close(fig)


def description(path):
    """The description inside a PNG, or None when there is no such file, no PNG or no description."""
    try:
        with Image.open(path) as image:
            return image.text.get("Description")
    except (OSError, AttributeError):
        return None


def plain_numbers(axis, multiples=(1, 2, 5)):
    """A log axis labelled 0.1, 0.2, 0.5, 1, ... in place of powers of ten."""
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=multiples))
    axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


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


def method_color(method):
    return METHOD_COLORS.get(method, OTHER_METHOD)


def error_percent(share):
    """100 % minus a share (accuracy, AUC), a number or several."""
    return np.maximum(100 * (1 - np.asarray(share, dtype=float)), LEAST_ERROR)
