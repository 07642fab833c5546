"""The scripts whose results the report shows. A new script is one entry here."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from report import figures, sections
from report.rows import DataText, bag_data, encoder_data, few_label_data, image_data
from report.sections import Page
from utils.plots import contrastive, few_labels, report


class Paradigm(NamedTuple):
    """What the report must know of a script.

    metric: what a row shows by default. data: the data that a number saw, in words. sections: what its page
    has between markers, besides or instead of SECTIONS and the tables of experiments.json. pictures: by file
    name, the plot and what gives its data, nothing without results.
    """

    metric: str = "test_accuracy"
    data: DataText = image_data
    sections: dict[str, Callable[[Page], str]] = {}
    pictures: dict[str, tuple[Callable, Callable[[Page], list]]] = {}


SECTIONS = {
    "results": sections.results_section,
    "references": sections.references_section,
    "runs": sections.runs_section,
}
PARADIGMS = {
    "train_cnn": Paradigm(
        sections={"models": sections.models_section},
        pictures={"comparison.png": (report.plot_error_against_time, figures.error_against_time)},
    ),
    "ensemble": Paradigm(
        sections={"runs": partial(sections.runs_section, details=sections.combinations_table)}
    ),
    "train_simclr": Paradigm(
        "test_linear_accuracy",
        encoder_data,
        pictures={"maps.png": (contrastive.plot_maps, figures.feature_maps)},
    ),
    "train_moco": Paradigm("test_linear_accuracy", encoder_data),
    "train_few_labels": Paradigm(
        data=few_label_data,
        sections={"draws": sections.draws_section},
        pictures={
            "labels.png": (few_labels.plot_error_against_labels, figures.study_cells),
            "draws.png": (few_labels.plot_draws, figures.hundred_labels),
        },
    ),
    "train_triplet": Paradigm("test_10way_1shot_accuracy", sections={"accepts": sections.accepts_section}),
    "train_mil": Paradigm("test_auc", bag_data),
    "robustness": Paradigm("corrupted_accuracy", sections={"results": sections.robustness_section}),
}
