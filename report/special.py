"""Sections and details that only one script's page has: ablations, combinations of members, sweeps."""

from evaluation.ensemble.selection import COMBINATIONS, found_combinations
from models import ENCODERS, create
from report.results import Collection, Experiment, Result
from report.rows import Row, cells, mark_legend, need, reference_link, reference_value
from report.sections import EMPTY, Page, Sweeps, sentence
from report.tables import number, number_text, percent, table, value_text
from report.times import number_time
from utils.plots.ensemble import LABELS as COMBINATION_LABELS
from utils.plots.mil import SHORTCUT_TESTS
from utils.training.config import RECIPES

ABLATION_METRICS = {"val_knn_accuracy": "k-NN", "val_linear_accuracy": "linear probe"}


def ablations_section(page: Page) -> str:
    """Return accuracies on validation images of the runs that were made to choose something."""
    rows = page.of_section("ablations")
    for row in rows:
        need(row.result, *ABLATION_METRICS)
    if not rows:
        return EMPTY
    lines = [
        [row.label, *(number_text(number(row.result, metric)) for metric in ABLATION_METRICS)] for row in rows
    ]
    runs = " or ".join(map(str, sorted({len(row.result.records) for row in rows})))
    parts = [
        table(["", *ABLATION_METRICS.values()], lines),
        f"Accuracy on the validation images; trainings each: {runs}.",
    ]
    return "\n\n".join(parts)


# --- Classifiers ---

RECIPE_COLUMNS = {"epochs": "epochs", "batch_size": "batch", "lr": "peak rate", "augment": "augmentation"}


def models_section(page: Page) -> str:
    """Return what the classifiers with results are, their parameters and their recipes."""
    names = dict.fromkeys(row.result.arguments.get("model") for row in page.rows)
    lines = []
    for name in (name for name in ENCODERS if name in names):
        network = create(name)
        count = sum(parameter.numel() for parameter in network.parameters())
        summary = (ENCODERS[name].__doc__ or "").partition("\n")[0].rstrip(".")
        recipe = (str(RECIPES[name][key]) for key in RECIPE_COLUMNS)
        lines.append([f"`{name}`", summary, f"{count:,}", *recipe])
    head = ["model", "", "parameters", *RECIPE_COLUMNS.values()]
    return table(head, lines) if lines else EMPTY


# --- Ensembles ---

# The last two need a temperature, which is fitted on validation images.
COMBINATION_LOSSES = {
    "test_loss": "loss",
    "test_ece": "ECE",
    "test_scaled_loss": "loss, scaled",
    "test_scaled_ece": "ECE, scaled",
}


def combinations_table(row: Row) -> str:
    """Return every way to combine the members of an ensemble, with the paired test against the average."""
    result, mean = row.result, row.result.metrics["mean"]
    names = found_combinations(result.metrics) or COMBINATIONS
    shown = list(COMBINATION_LOSSES) if "best_single" in names else ["test_loss", "test_ece"]
    keys = ("test_accuracy", "test_gain", "test_mcnemar_p", *shown)
    need(result, *(f"{name}_{key}" for name in names for key in keys))
    need(result, "mean_single_test_accuracy", "oracle_test_accuracy")
    lines = []
    for name in names:
        accuracy = number_text(number(result, f"{name}_test_accuracy")).partition(" (")[0]
        p = ", ".join(f"{record[f'{name}_test_mcnemar_p']:.2g}" for record in result.records)
        test = ["", ""] if name == "average" else [points(mean[f"{name}_test_gain"]), p]
        losses = [f"{mean[f'{name}_{key}']:.4f}" for key in shown]
        lines.append([COMBINATION_LABELS[name], accuracy, *test, *losses])
    for label, key in (("mean single", "mean_single"), ("any member right", "oracle")):
        value = mean[f"{key}_test_accuracy"]
        gain = points(value - mean["average_test_accuracy"])
        lines.append([label, f"{percent(value)} %", gain, "", *[""] * len(shown)])
    head = ["combination", "accuracy", "gain", "p", *(COMBINATION_LOSSES[key] for key in shown)]
    note = ["gain: points above the average", "p: McNemar's exact test of the gain, for each library"]
    note += ["scaled: by a temperature from the validation images"] * (len(shown) > 2)
    return f"{table(head, lines)}\n\n{sentence(note)}"


def points(difference: float) -> str:
    return f"{100 * difference:+.3f}"


# --- Multiple instance learning ---


def sweeps_section(page: Page) -> str:
    """Return a table of methods by training bags for every kind of bags that was swept."""
    groups: dict[tuple, Sweeps] = {}
    for experiment, sweep in page.sweeps:
        if sweep.arguments["builder"] != "shortcut":
            kind = (sweep.arguments[key] for key in ("target", "builder", "mean_length", "std_length"))
            groups.setdefault(tuple(kind), []).append((experiment, sweep))
    return "\n\n".join(sweep_part(page.found, *group) for group in groups.items()) or EMPTY


def found_digits_section(page: Page) -> str:
    """Return how well the runs find the digits that make a bag positive."""
    titles = {
        "test_key_auc": "by attention (key_auc)",
        "test_instance_auc": "by its own logit (instance_auc)",
    }
    runs = {row.result.key: row.result for row in page.rows if not row.spec.cell}
    lines = []
    for key, result in runs.items():
        need(result, *titles)
        method = result.arguments["method"]
        label = f"{key.partition('/')[2]}: {method}, n = {len(result.records)}"
        lines.append([label, *(number_text(number(result, metric)) for metric in titles)])
    return table(["run", *titles.values()], lines) if lines else EMPTY


def shortcut_section(page: Page) -> str:
    """Return a table of methods by test bags for every sweep of the builder shortcut."""
    parts = [shortcut_part(*one) for one in page.sweeps if one[1].arguments["builder"] == "shortcut"]
    return "\n\n".join(parts) or EMPTY


def shortcut_part(experiment: Experiment, sweep: Result) -> str:
    """Return the table of one sweep: the test AUC by which bags carry the shortcut."""
    found = cells(sweep)
    for made in found:
        need(made, *SHORTCUT_TESTS)
    several = len({made.arguments["train_bags"] for made in found}) > 1
    lines = []
    for made in found:
        label = f"{made.arguments['method']}, n = {len(made.records)}"
        label += f", {made.arguments['train_bags']} bags" if several else ""
        lines.append([label, *(number_text(number(made, metric)) for metric in SHORTCUT_TESTS)])
    bags = sorted({made.arguments["train_bags"] for made in found})
    target, digit = sweep.arguments["target"], sweep.arguments["shortcut"]
    note = sentence([f"{', '.join(map(str, bags))} training bags", *sweep_notes([(experiment, sweep)])])
    return "\n\n".join(
        [
            f"**Is there a {target}? One more {digit} in:** test AUC",
            table(["method", *(title for title, *_ in SHORTCUT_TESTS.values())], lines),
            note,
            f"![AUC by the bags that carry the digit]({sweep.folder.name}/auc.png)",
        ]
    )


def sweep_part(found: Collection, kind: tuple, sweeps: Sweeps) -> str:
    """Return the table of one kind of bags: every method of every sweep, and what was published."""
    target, builder, length, std = kind
    references = list(dict.fromkeys(key for experiment, _ in sweeps for key in experiment.references))
    given = [found.references[key] for key in references if key in found.references]
    folder = sweeps[0][1].folder
    parts = [
        f"**Is there a {target}? {builder.capitalize()} bags of {length:g} ± {std:g} digits**: test AUC",
        sweep_table(sweeps, given),
        sentence([*mark_legend(given), *sweep_notes(sweeps)]),
        *([f"![AUC, {folder.name}]({folder.name}/auc.png)"] if (folder / "auc.png").exists() else []),
    ]
    return "\n\n".join(parts)


def sweep_table(sweeps: Sweeps, references: list[dict]) -> str:
    made = [cell for _, sweep in sweeps for cell in cells(sweep) if "test_auc" in cell.metrics["mean"]]
    counts = sorted({cell.arguments["train_bags"] for cell in made})
    lines: dict[str, dict[int, str]] = {}
    for cell in made:
        text = number_text(number(cell, "test_auc"))
        lines.setdefault(sweep_label(cell), {})[cell.arguments["train_bags"]] = text
    for reference in references:
        bags, _, method = reference["task"].partition(" training bags, ")
        line = lines.setdefault(f"{method}, {reference_link(reference)}", {})
        line[int(bags)] = reference_value(reference)
    rows = [[label, *(line.get(count, "") for count in counts)] for label, line in lines.items()]
    return table(["training bags", *map(str, counts)], rows)


def sweep_label(cell: Result) -> str:
    """ "attention, n = 3"; without validation bags, that the last epoch counts."""
    choice = "" if cell.arguments.get("val_bags") else ", last epoch"
    return f"{cell.arguments['method']}{choice}, n = {len(cell.records)}"


def sweep_notes(sweeps: Sweeps) -> list[str]:
    """Return what a reader must know: validation bags, recipe, what is unfinished."""
    val = sorted({sweep.arguments["val_bags"] for _, sweep in sweeps}, reverse=True)
    recipes = sorted({(s.arguments["batch_size"], s.arguments["bags_per_epoch"]) for _, s in sweeps})
    notes = ["last epoch: without validation bags"] if 0 in val else []
    notes += [f"the epoch is chosen on {count} validation bags" for count in val if count]
    notes += [f"recipe: {batch} bags a step, {bags:,} an epoch" for batch, bags in recipes]
    return notes + unfinished(sweeps)


def unfinished(sweeps: Sweeps) -> list[str]:
    """Return a note for every sweep that has trainings left to do."""
    counts = [(experiment.name, *sweep.metrics["trainings"]) for experiment, sweep in sweeps]
    return [
        f"{name} is not finished: {done} of {wanted} trainings"
        for name, done, wanted in counts
        if done < wanted
    ]


# --- Few labels ---

FEW_LABELS = 100  # of the table with the worst draws


def study_section(page: Page) -> str:
    """Return methods by numbers of labels, with n, and for 100 labels also the worst draw and the time."""
    made = largest_cells([cell for _, sweep in page.sweeps for cell in cells(sweep)])
    if not made:
        return EMPTY
    parts = [
        labels_table(made),
        sentence(["test accuracy, mean ± SD over draws of the labels (n)", *unfinished(page.sweeps)]),
        f"With {FEW_LABELS} labels, draw by draw:",
        draws_table(page.found, [cell for cell in made if cell.arguments["labels"] == FEW_LABELS]),
    ]
    return "\n\n".join(parts)


def largest_cells(made: list[Result]) -> list[Result]:
    """Return one cell per method and number of labels: where sweeps overlap, the one with more draws."""
    found: dict[tuple, Result] = {}
    for cell in made:
        key = cell.arguments["method"], cell.arguments["labels"]
        found[key] = max(found.get(key, cell), cell, key=lambda cell: len(cell.records))
    return list(found.values())


def labels_table(made: list[Result]) -> str:
    counts = sorted({cell.arguments["labels"] for cell in made})
    lines: dict[str, dict[int, str]] = {}
    for cell in made:
        text = f"{number_text(number(cell, 'test_accuracy'))} ({len(cell.records)})"
        lines.setdefault(method_name(cell), {})[cell.arguments["labels"]] = text
    rows = [[label, *(line.get(count, "") for count in counts)] for label, line in lines.items()]
    return table(["labels in all", *(f"{count:,}" for count in counts)], rows)


def method_name(cell: Result) -> str:
    """ "simclr-self_trained" as words: "simclr, self trained"."""
    return cell.arguments["method"].replace("-", ", ").replace("_", " ")


def draws_table(found: Collection, made: list[Result]) -> str:
    """Return a line per method, the best first: mean and SD, worst and best draw, time."""
    lines = []
    for cell in sorted(made, key=lambda cell: -cell.metrics["mean"]["test_accuracy"]):
        shown = number(cell, "test_accuracy")
        ends = [value_text("accuracy", [end(shown.values)]) for end in (min, max)]
        time = number_time(found, cell, "test_accuracy").text
        lines.append([method_name(cell), number_text(shown), *ends, shown.samples, time])
    return table(["method", "test accuracy", "worst draw", "best draw", "n", "time"], lines)
