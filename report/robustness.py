"""Sections of the page of robustness.py: errors under corruption, and disputed labels."""

import statistics

import numpy as np

from data.robustness import CORRUPTIONS, LABEL_ERRORS, LEVELS
from evaluation.robustness import GOOD
from report.results import Result
from report.rows import need
from report.sections import EMPTY, Page, sentence
from report.tables import deviation, devices_text, percent, table

COUNTS = ("good_models", "shared_mistakes", "shared_reviewed", "kept_reviewed", "agreed_reviewed")


def runs_of(page: Page) -> list[Result]:
    """Return the runs of the page's experiments, each once."""
    return list({row.result.key: row.result for row in page.rows}.values())


def robustness_section(page: Page) -> str:
    """Return a table for every run: a line per model, clean and corrupted accuracy, errors by corruption."""
    return "\n\n".join(map(run_table, runs_of(page))) or EMPTY


def run_table(result: Result) -> str:
    names = [text.partition("=")[0] for text in result.arguments["models"]]
    (record,) = result.records
    keys = ("accuracies", "corrupted_accuracies", "mces", "relative_mces")
    lines = []
    for name in names:
        need(result, f"{name}_accuracy")
        errors = np.reshape(record[f"{name}_errors"], (len(CORRUPTIONS), LEVELS)).mean(1)
        lines.append(
            [
                f"{name.replace('_', ' ')}, n = {record[f'{name}_trainings']}",
                *(values_text(record.get(f"{name}_{key}"), key) for key in keys),
                *(f"{100 * error:.1f}" for error in errors),
            ]
        )
    head = ["model", "clean accuracy, %", "corrupted, %", "mCE, %", "relative mCE, %", *CORRUPTIONS]
    notes = [
        "±: standard deviation over n trainings",
        "corrupted: mean accuracy over all corruptions and strengths",
        f"mCE: relative to {result.arguments['baseline']}",
        "right of it: mean error (%) over the five strengths",
        f"clean images: all 10,000 of the test set; corrupted images: {record['corrupted_images']:,} of them",
        f"evaluated on {devices_text([result.metrics['device']])}",
    ]
    folder = result.folder.name
    pictures = f"![Error by corruption and strength]({folder}/errors.png)"
    pictures += f"\n\n![One digit under every corruption]({folder}/examples.png)"
    return f"{table(head, lines)}\n\n{sentence(notes)}\n\n{pictures}"


def values_text(values: list[float] | None, key: str) -> str:
    """ "99.43 ± 0.03"; errors relative to others have one digit: "81.2"."""
    if not values:
        return ""
    mean = statistics.fmean(values)
    shown = f"{100 * mean:.1f}" if key.endswith("mces") else percent(mean)
    if len(values) < 2:
        return shown
    std = statistics.stdev(values)
    return f"{shown} ± {100 * std:.1f}" if key.endswith("mces") else f"{shown} ± {deviation(std)}"


def labels_section(page: Page) -> str:
    """Return what good models and reviewers say of the labels of MNIST's test set."""
    parts = [label_part(result) for result in runs_of(page) if "good_models" in result.records[0]]
    return "\n\n".join(parts) or EMPTY


def label_part(result: Result) -> str:
    need(result, *COUNTS)
    models, mistakes, both, kept, agreed = (result.records[0][key] for key in COUNTS)
    settled = sum(review.verdict is not None for review in LABEL_ERRORS.values())
    count = len(LABEL_ERRORS)
    return (
        f"{mistakes} test digits are misread by all {models} models with a clean accuracy of at least "
        f"{GOOD:.0%}; {both} of these are among the {count} whose label reviewers did not confirm. For "
        f"{kept} of those {count} the models' joint answer is the given label. For {settled} the reviewers "
        f"agreed on another label, which is the models' answer for {agreed}.\n\n"
        f"![Disputed labels]({result.folder.name}/labels.png)"
    )
