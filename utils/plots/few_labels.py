"""Figure of the few-label study: error against labels."""

from collections.abc import Sequence
from pathlib import Path

from utils.plots import style
from utils.plots.style import FRONT, PALETTE

# The colour, an index of the palette, says where features come from, line and marker what was done with them.
COLORS = {"pixels": 7, "mlp1": 4, "mlp": 5, "cnn": 0, "supcon": 3, "simclr": 1, "moco": 2}
STYLES = {"knn": (":", "s"), "linear": ("--", "D"), "finetuned": ("-", "v"), "self_labelled": ("-", "^")}
STYLES |= {"best": ("none", "D")}
NAMES = {"knn": "k-NN", "linear": "linear probe", "spread": "labels spread", "pixels": "raw pixels"}
NAMES |= {"simclr": "SimCLR", "moco": "MoCo", "self_labelled": "self-labelled", "prior-best": "prior work ◆"}


def method_style(method: str) -> dict[str, str]:
    """Return the name in words, colour, line and marker of a method "<source>-<what is done>"."""
    source, _, what = method.partition("-")
    line, marker = STYLES.get(what, ("-", "o"))
    words = [NAMES.get(word, word.replace("_", " ")) for word in (source, what) if word]
    label, color = NAMES.get(method, ", ".join(words)), PALETTE[COLORS.get(source, 6)]
    return {"label": label, "color": color, "style": line, "marker": marker}


def plot_error_against_labels(
    cells: Sequence[dict], path: Path | str, description: str | None = None, metric: str = "test_accuracy"
) -> None:
    """Plot mean error against labels, with a band from the best to the worst draw.

    cells: of sweep.json, {"method", "labels", "runs": [{metric: accuracy}, ...]}; those without labels have
    no place on a log scale. description: kept inside the PNG.
    """
    methods: dict[str, dict] = {}
    for cell in (cell for cell in cells if cell["labels"]):
        curve = methods.setdefault(cell["method"], {**method_style(cell["method"]), "points": []})
        curve["points"].append((cell["labels"], [run[metric] for run in cell["runs"]]))
    fig, ax = style.figure(size=(FRONT, 3.9))
    style.error_lines(ax, list(methods.values()), "labelled images in all (log scale)", band=True)
    ax.set_ylabel("test error (%, log scale)")
    style.save(fig, path, description)
