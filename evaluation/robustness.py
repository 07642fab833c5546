"""Accuracy of several models under corruptions of the test images."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data import ImageSet
from data.robustness import CORRUPTIONS, LABEL_ERRORS, LEVELS, corrupt
from evaluation.cnn import wilson_interval
from utils.console import progress

Scorer = Callable[[ImageSet], np.ndarray]
# Models with at least this accuracy have a say about labels.
GOOD = 0.99


class Scored(NamedTuple):
    """A model of T trainings. clean: (T, N, classes) probabilities on N clean images.

    errors: (T, C, LEVELS) error rates on corrupted images, corruptions in the order of CORRUPTIONS.
    clean_errors: (T,) error rates on the same images without corruption.
    """

    clean: np.ndarray
    errors: np.ndarray
    clean_errors: np.ndarray


def score_models(
    models: dict[str, list[Scorer]], images: ImageSet, subset: np.ndarray, seed: int, quiet: bool = False
) -> dict[str, Scored]:
    """Score every training of every model on clean images, and on the corrupted images at `subset`.

    models: {name: functions from images to probabilities (N, classes), one per training}.
    """
    labels = images.labels.cpu().numpy()
    clean = {name: np.stack([score(images) for score in scorers]) for name, scorers in models.items()}
    uncorrupted = images._replace(images=images.images[subset], labels=images.labels[subset])
    shape = (len(CORRUPTIONS), LEVELS)
    errors = {name: np.zeros((len(scorers), *shape)) for name, scorers in models.items()}
    with progress(len(CORRUPTIONS) * LEVELS, quiet) as bar:
        for c, level in np.ndindex(shape):
            pixels = corrupt(uncorrupted.images, list(CORRUPTIONS)[c], level + 1, seed)
            corrupted = uncorrupted._replace(images=pixels)
            for name, scorers in models.items():
                wrong = [(score(corrupted).argmax(1) != labels[subset]).mean() for score in scorers]
                errors[name][:, c, level] = wrong
            bar.update()
    return {
        name: Scored(p, errors[name], (p[:, subset].argmax(2) != labels[subset]).mean(1))
        for name, p in clean.items()
    }


def robustness_record(scored: dict[str, Scored], labels: np.ndarray, baseline: str) -> dict:
    """Return all metrics as a flat dict, named <model>_<metric>; undefined ones are left out.

    accuracy: on clean images. mce: see `corruption_error`, against the model `baseline`; relative_mce: of the
    rise of the errors above those on clean images. Plural names: of all trainings. errors: C * LEVELS means.
    """
    reference = scored[baseline].errors.mean(0)
    rise = reference - scored[baseline].clean_errors.mean()
    record: dict = {}
    for name, model in scored.items():
        accuracies = (model.clean.argmax(2) == labels).mean(1)
        rises = model.errors - model.clean_errors[:, None, None]
        lists: list[tuple[str, str, list]] = [
            ("accuracy", "accuracies", accuracies.tolist()),
            ("corrupted_accuracy", "corrupted_accuracies", (1 - model.errors.mean((1, 2))).tolist()),
            ("mce", "mces", [corruption_error(errors, reference) for errors in model.errors]),
            ("relative_mce", "relative_mces", [corruption_error(errors, rise) for errors in rises]),
        ]
        for key, plural, values in lists:
            if None not in values:
                record[f"{name}_{key}"] = float(np.mean(values))
                record[f"{name}_{plural}"] = [round(value, 6) for value in values]
        if len(accuracies) == 1:
            low, high = wilson_interval(round(accuracies[0] * len(labels)), len(labels))
            record |= {f"{name}_accuracy_low": low, f"{name}_accuracy_high": high}
        record[f"{name}_errors"] = model.errors.mean(0).flatten().round(6).tolist()
    return record


def corruption_error(errors: np.ndarray, baseline: np.ndarray) -> float | None:
    """Return the mCE of Hendrycks and Dietterich (ICLR 2019): 1 for the baseline itself, less is better.

    errors, baseline: (C, L) error rates at L levels of C corruptions, or their rise above those on clean
    images. The mean over corruptions of the ratio of sums over levels; None where the baseline's is not > 0.
    """
    sums, base = errors.sum(1), baseline.sum(1)
    return float((sums / base).mean()) if (base > 0).all() else None


class Verdicts(NamedTuple):
    """What all good models say of N labels: the class of the largest mean probability, and that, (N,) each.

    models: their number. shared: the images that every one of them gets wrong, the most confident first.
    """

    models: int
    answer: np.ndarray
    confidence: np.ndarray
    shared: np.ndarray


def is_reviewed(labels: np.ndarray) -> bool:
    """Whether labels (N,) are those of MNIST's test set, as far as LABEL_ERRORS has them."""
    return len(labels) == 10000 and all(labels[i] == review.given for i, review in LABEL_ERRORS.items())


def judge_labels(clean: dict[str, np.ndarray], labels: np.ndarray) -> Verdicts | None:
    """Return what models of accuracy GOOD or more, {name: (T, N, classes)}, say of MNIST's test labels.

    None without such a model, and for other labels.
    """
    good = [p.mean(0) for p in clean.values() if (p.argmax(2) == labels).mean() >= GOOD]
    if not is_reviewed(labels) or not good:
        return None
    mean = np.mean(good, 0)
    wrong = np.flatnonzero(np.all([p.argmax(1) != labels for p in good], 0))
    shared = wrong[np.argsort(-mean[wrong].max(1), kind="stable")]
    return Verdicts(len(good), mean.argmax(1), mean.max(1), shared)


def label_record(verdicts: Verdicts, labels: np.ndarray) -> dict[str, int]:
    """Count the models, their shared mistakes, and the reviewed labels.

    Of the latter: shared_..., those among the mistakes; kept_..., those that the models together answer;
    agreed_..., those where they answer as the reviewers.
    """
    reviewed = list(LABEL_ERRORS)
    answers = verdicts.answer[reviewed]
    return {
        "good_models": verdicts.models,
        "shared_mistakes": len(verdicts.shared),
        "shared_reviewed": int(np.isin(verdicts.shared, reviewed).sum()),
        "kept_reviewed": int((answers == labels[reviewed]).sum()),
        "agreed_reviewed": sum(a == r.verdict for a, r in zip(answers, LABEL_ERRORS.values(), strict=True)),
    }
