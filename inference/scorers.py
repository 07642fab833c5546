"""Functions from images to class probabilities, for whatever has been trained and saved."""

import json
from pathlib import Path

from torch import nn

from data import ImageSet, in_order
from evaluation.contrastive.features import DECAY, fit_probe, statistics
from evaluation.ensemble.library import part_folders
from evaluation.robustness import Score
from inference.export import read_any
from inference.predictor import ensemble_predictor
from models import CheckpointError, Classifier
from utils.training.forward import forward_all, predict


def load_scorers(path: Path | str, labelled: ImageSet, trainings: int | None = None) -> list[Score]:
    """Return one function from images to class probabilities for each training of a run.

    path: a model file, or the folder of a run; of the latter the first `trainings`, by default all. A
    classifier answers itself. An encoder and the encoder of a MIL network answer by a linear probe that is
    fitted to all `labelled` images. A run of ensemble.py is one function, its headline combination. The
    functions work on the device of `labelled` and normalise images as the model's training did.

    Raises CheckpointError for a path without a model, and UserError for an ensemble without its members.
    """
    path = Path(path)
    if is_ensemble(path):
        predictor = ensemble_predictor(path, labelled.images.device)
        facts = {"mean": predictor.images.mean, "std": predictor.images.std}
        return [lambda images: predictor.score(images._replace(**facts)).probabilities]
    return [file_scorer(file, labelled) for file in model_files(path)[:trainings]]


def is_ensemble(folder: Path) -> bool:
    try:
        return json.loads((folder / "config.json").read_text())["script"] == "ensemble"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def model_files(path: Path) -> list[Path]:
    """Return the model file of every training of a run; a path that is no folder stays as it is."""
    if not path.is_dir():
        return [path]
    places = [part / name for part in part_folders(path) for name in ("best.pt", "encoder.pt")]
    found = {place.parent: place for place in reversed(places) if place.is_file()}  # best.pt comes first
    if not found:
        raise CheckpointError(
            f"{path}: no best.pt or encoder.pt; they are not committed: train the run first"
        )
    return list(reversed(found.values()))


def file_scorer(path: Path, labelled: ImageSet) -> Score:
    """Return the function of one model file, see `load_scorers`."""
    saved = read_any(path)
    classes = tuple(saved.data.get("classes", labelled.classes))
    if classes != labelled.classes:
        raise CheckpointError(
            f"{path}: trained on the classes {', '.join(classes)}, not on those of the data"
        )
    facts = {key: saved.data[key] for key in ("mean", "std") if key in saved.data}
    labelled = labelled._replace(**facts)
    network: nn.Module = saved.model.to(labelled.images.device).eval()
    if not isinstance(saved.model, Classifier):
        encoder = getattr(network, "encoder", network)
        features, labels = forward_all(encoder, in_order(labelled))
        probe = fit_probe(features, labels, statistics(features), DECAY, classes=len(classes))
        network = nn.Sequential(encoder, probe)
    return lambda images: predict(network, images._replace(**facts))[0]
