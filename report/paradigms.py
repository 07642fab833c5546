"""The scripts whose results the report shows. A new script is one entry here."""

from collections.abc import Callable
from typing import NamedTuple

from report.figures import (
    Pictures,
    classifier_pictures,
    few_label_pictures,
    representation_pictures,
)
from report.robustness import labels_section, robustness_section
from report.rows import (
    DataText,
    Row,
    bag_data,
    embedding_data,
    encoder_data,
    few_label_data,
    image_data,
)
from report.sections import Page, references_section, results_section, runs_section
from report.special import (
    ablations_section,
    combinations_table,
    found_digits_section,
    models_section,
    shortcut_section,
    study_section,
    sweeps_section,
)
from report.triplet import (
    accepts_section,
    floors_section,
    groups_section,
    losses_section,
    training_data_section,
)


def nothing(_: object) -> str:
    return ""


def no_pictures(_: object) -> Pictures:
    return {}


class Paradigm(NamedTuple):
    """What the report must know of a script.

    title: of its page. metric: what a row shows by default. data: the data that a number saw, in words.
    sections: what its page has between markers, besides results, references and runs. pictures: figures of
    its rows in the section "results", by file name. details: more about a run, in its part of the page.
    """

    title: str
    metric: str
    data: DataText
    sections: dict[str, Callable[[Page], str]] = {}
    pictures: Callable[[list[Row]], Pictures] = no_pictures
    details: Callable[[Row], str] = nothing

    @property
    def all_sections(self) -> dict[str, Callable[[Page], str]]:
        """The sections of its page, in the order of a new page."""
        shared = {"references": references_section, "runs": runs_section}
        return {"results": results_section, **self.sections, **shared}


PARADIGMS = {
    "train_cnn": Paradigm(
        "Supervised classifiers",
        "test_accuracy",
        image_data,
        sections={"models": models_section},
        pictures=classifier_pictures,
    ),
    "ensemble": Paradigm("Ensembles", "test_accuracy", image_data, details=combinations_table),
    "train_simclr": Paradigm(
        "Contrastive learning: SimCLR and SupCon",
        "test_linear_accuracy",
        encoder_data,
        sections={"ablations": ablations_section},
        pictures=representation_pictures,
    ),
    "train_moco": Paradigm(
        "Contrastive learning: momentum contrast (MoCo)",
        "test_linear_accuracy",
        encoder_data,
        sections={"ablations": ablations_section},
    ),
    "train_few_labels": Paradigm(
        "How far do few labels go?",
        "test_accuracy",
        few_label_data,
        sections={"study": study_section},
        pictures=few_label_pictures,
    ),
    "train_triplet": Paradigm(
        "Metric learning: three digits teach ten",
        "test_10way_1shot_accuracy",
        embedding_data,
        sections={
            "floors": floors_section,
            "data": training_data_section,
            "losses": losses_section,
            "groups": groups_section,
            "accepts": accepts_section,
        },
    ),
    "train_mil": Paradigm(
        "Multiple instance learning",
        "test_auc",
        bag_data,
        sections={"sweeps": sweeps_section, "shortcut": shortcut_section, "digits": found_digits_section},
    ),
    "robustness": Paradigm(
        "Robustness: what is left of the accuracy on corrupted digits?",
        "corrupted_accuracy",
        image_data,
        sections={"results": robustness_section, "labels": labels_section},
    ),
}
