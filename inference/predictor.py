"""From pictures to calibrated answers: by a saved classifier, an ensemble, or k-NN on an encoder."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from data import ImageSet, in_order, split
from data.images import CENTRED
from data.own import to_square
from data.pictures import grey
from evaluation.cnn import DOUBTFUL, evidence, fit_temperature, scale, softmax
from evaluation.contrastive.features import DECAY, fit_probe, knn, neighbours, statistics
from evaluation.ensemble.library import check_predictions, part_folders, read_library
from evaluation.ensemble.selection import combine
from evaluation.robustness import Score
from inference.drawing import Drawing, find_ink, read_drawing
from models import CheckpointError, Classifier, SavedModel, read_model
from models.mil import create_mil
from utils.errors import UserError
from utils.runs.folder import RunFolder
from utils.training.forward import forward_all, predict, surprise

BUNDLED = Path(__file__).resolve().parents[1] / "weights"
CLASSIFIER = BUNDLED / "classifier.safetensors"
ENCODER = BUNDLED / "simclr.safetensors"
SYMBOLS = BUNDLED / "triplet.safetensors"  # for one-shot recognition
# k-NN is calibrated on this share of the labelled images.
HELD_OUT = 0.2
# A class that none of the neighbours has is unlikely, not impossible.
NO_VOTE = 1e-12


class Answer(NamedTuple):
    """What a predictor says of one image.

    probability: calibrated. warning: why the answer deserves doubt, or None.
    """

    label: str
    probability: float
    runner_up: str
    runner_up_probability: float
    warning: str | None


class Scores(NamedTuple):
    """Calibrated probabilities (N, classes), and (N,) bool: images that are unlike the training images."""

    probabilities: np.ndarray
    foreign: np.ndarray


@dataclass(frozen=True)
class Predictor:
    """From pictures to answers.

    images: an empty ImageSet, which knows the classes, the normalisation and the form of the images. score:
    computes the Scores of an ImageSet of that form. least_confidence: answers below it deserve doubt.
    name: for messages and figures.
    """

    name: str
    images: ImageSet
    score: Callable[[ImageSet], Scores]
    least_confidence: float = 0.0

    @property
    def centred(self) -> bool:
        """Whether the model was trained on digits that were scaled and centred as in MNIST."""
        return self.images.name in CENTRED

    def read(self, picture: Image.Image, single: bool = False) -> Drawing:
        """Bring a picture to the form of the training images; DataError for a blank one.

        single: don't look for several digits. Pictures for models of other data sets are never split.
        """
        if self.centred:
            return read_drawing(picture, single)
        values = grey(picture)
        find_ink(values)  # refuses a blank picture
        if self.images.inverted:
            values = 1 - values
        box = np.array([[0, 0, *picture.size]])
        return Drawing(to_square(values)[None], box, ())

    def predict(self, picture: Image.Image, single: bool = False) -> list[Answer]:
        """Return the answer for each digit of a picture, from left to right."""
        return self.answer(self.read(picture, single).digits)

    def scores(self, images: np.ndarray) -> Scores:
        """Compute the Scores of images (N, 28, 28) uint8 that have the form of the training images."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).unsqueeze(1)
        labels = torch.zeros(len(pixels), dtype=torch.int64)
        device = self.images.images.device
        return self.score(self.images._replace(images=pixels.to(device), labels=labels.to(device)))

    def answer(self, images: np.ndarray) -> list[Answer]:
        """Return the answers for images (N, 28, 28) uint8 that have the form of the training images."""
        return self.judge(self.scores(images)) if len(images) else []

    def judge(self, scores: Scores) -> list[Answer]:
        """Put scores into words: names of classes, and warnings."""
        answers = []
        for row, unlike in zip(*scores, strict=True):
            first, second = np.argsort(-row, kind="stable")[:2]
            doubt = "low confidence" if row[first] < self.least_confidence else None
            warning = "unlike the training images" if unlike else doubt
            names = self.images.classes[first], self.images.classes[second]
            answers.append(Answer(names[0], float(row[first]), names[1], float(row[second]), warning))
        return answers


# --- Model files ---


def model_files(path: Path) -> list[Path]:
    """Return the model file of every training of a run, best.pt before encoder.pt; a file is itself."""
    if not path.is_dir():
        return [path]
    places = [[part / name for name in ("best.pt", "encoder.pt")] for part in part_folders(path)]
    if files := [next(filter(Path.is_file, pair)) for pair in places if any(map(Path.is_file, pair))]:
        return files
    raise CheckpointError(f"{path}: no best.pt or encoder.pt, which are not committed: train the run first")


def read_any(path: Path | str) -> SavedModel:
    """Read a classifier, an encoder or a MIL network; CheckpointError for anything else."""
    try:
        saved = read_model(path)
    except CheckpointError as error:
        try:
            saved = read_model(path, create_mil)
        except CheckpointError:
            raise error from None
    if lacking := {"classes", "mean", "std"} - set(saved.data):
        raise CheckpointError(f"{path}: lacks {', '.join(sorted(lacking))}")
    return saved


def read_classifier(path: Path, device: torch.device | str) -> SavedModel:
    """Read a classifier, ready for images on the device; CheckpointError for any other model."""
    saved = read_any(path)
    if not isinstance(saved.model, Classifier):
        raise CheckpointError(f"{path}: not a classifier; an encoder is named with --encoder")
    saved.model.to(device).eval()
    return saved


# --- The kinds of predictors ---


def load_predictor(path: Path | str | None = None, device: torch.device | str = "cpu") -> Predictor:
    """Return the predictor of a saved classifier: by default the one that comes with the repository.

    path: a model file, or the folder of a run, of which the first training is taken. Raises CheckpointError
    for a file that holds no classifier.
    """
    path = Path(path) if path else CLASSIFIER
    saved = read_classifier(model_files(path)[0], device)
    constants = saved.data.get("calibration")

    def score(images):
        logits = forward_all(saved.model, in_order(images))[0].cpu().numpy()
        if constants is None:
            return Scores(softmax(logits), np.zeros(len(logits), bool))
        return Scores(
            softmax(logits / constants["temperature"]), evidence(logits) < constants["least_evidence"]
        )

    least = constants["least_confidence"] if constants else 0.0
    return Predictor(str(path), empty_set(saved.data, device), score, least)


def empty_set(data: dict, device: torch.device | str) -> ImageSet:
    """Return an ImageSet without images that has the facts of a model file."""
    height, width = data["image_size"]
    return ImageSet(
        torch.empty(0, 1, height, width, dtype=torch.uint8, device=device),
        torch.empty(0, dtype=torch.int64, device=device),
        data["mean"],
        data["std"],
        data["dataset"],
        tuple(data["classes"]),
        data.get("inverted", False),
    )


def ensemble_predictor(folder: Path | str, device: torch.device | str = "cpu") -> Predictor:
    """Return the predictor of a finished run of ensemble.py: its headline combination of its first library.

    Raises UserError when weights of members are missing.
    """
    run = RunFolder(folder)
    try:
        arguments, record = (
            run.read_json("config.json")["arguments"],
            run.read_json("metrics.json")["runs"][0],
        )
        name, library = arguments["combine"], run.path(f"seed-{record['seed']}")
        saved = (RunFolder(library) if library.is_dir() else run).predictions()
        weights = np.array(record.get(f"{name}_weights", [1 / record["members"]] * record["members"]))
        temperature = record.get(f"{name}_temperature", 1.0)  # without validation images there is none
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: not a finished run of ensemble.py with its predictions") from error
    check_predictions(saved, folder)
    members = library_members(run, arguments, record)
    networks = [[read_classifier(part / "best.pt", device) for part in member] for member in members]
    shifts = arguments.get("shifts") or 0

    def score(images):
        p = [np.mean([predict(fold.model, images, shifts=shifts)[0] for fold in m], 0) for m in networks]
        scaled = scale(combine(name, np.stack(p), {name: weights}), temperature)
        return Scores(scaled, np.zeros(len(scaled), bool))

    least = 0.0
    if "val_probabilities" in saved:
        least = float(np.quantile(scale(saved["val_probabilities"], temperature).max(1), DOUBTFUL))
    return Predictor(str(folder), empty_set(networks[0][0].data, device), score, least)


def library_members(run: RunFolder, arguments: dict, record: dict) -> list[list[Path]]:
    """Return the folders of each member (one per fold) of a run's first library, in their order."""
    sources = arguments.get("sources") or [run.folder]
    folders = [
        next((p for p in (Path(s), run.folder.parents[1] / s) if p.is_dir()), Path(s)) for s in sources
    ]
    pool = read_library(folders, arguments["dataset"])
    count = record["members"]
    chosen = np.arange(count)
    if arguments.get("sources"):
        drawn = np.random.default_rng(record["seed"]).choice(len(pool.members), count, replace=False)
        chosen = np.sort(drawn)
    members = [pool.members[i] for i in chosen]
    if [member.name for member in members] != record["library"]:
        raise UserError(f"{run.folder}: its members have changed since: run ensemble.py again")
    return [member.folders for member in members]


def knn_predictor(
    encoder: Path | str | None, labelled: ImageSet, device: torch.device | str = "cpu"
) -> Predictor:
    """Return k-NN on the features of an encoder, by default the SimCLR encoder of the repository.

    labelled: the reference images. A fifth of them calibrates the votes.
    """
    path = encoder or ENCODER
    saved = read_model(path)
    network: nn.Module = getattr(saved.model, "encoder", saved.model).to(device).eval()
    classes = len(labelled.classes)
    features, labels = forward_all(network, in_order(labelled))
    known, held = split(labels, HELD_OUT, 0)
    votes = knn(features[known], labels[known], features[held], classes=classes).clamp(NO_VOTE).cpu().numpy()
    temperature = fit_temperature(-surprise(votes), labels[held].cpu().numpy())
    near = neighbours(features[held], features[known], 1)[0].cpu().numpy()
    least_cosine = float(np.quantile(near, DOUBTFUL))
    confidence = float(np.quantile(scale(votes, temperature).max(1), DOUBTFUL))

    def score(images):
        queries = forward_all(network, in_order(images))[0]
        p = knn(features, labels, queries, classes=classes).clamp(NO_VOTE).cpu().numpy()
        near = neighbours(queries, features, 1)[0][:, 0].cpu().numpy()
        return Scores(scale(p, temperature), near < least_cosine)

    empty = labelled._replace(images=labelled.images[:0], labels=labelled.labels[:0])
    return Predictor(f"k-NN on {path}", empty, score, confidence)


# --- Scores of images, for studies ---


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
        pixels = {"mean": predictor.images.mean, "std": predictor.images.std}
        return [lambda images: predictor.score(images._replace(**pixels)).probabilities]
    return [file_scorer(file, labelled) for file in model_files(path)[:trainings]]


def is_ensemble(folder: Path) -> bool:
    try:
        return json.loads((folder / "config.json").read_text())["script"] == "ensemble"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def file_scorer(path: Path, labelled: ImageSet) -> Score:
    """Return the function of one model file, see `load_scorers`."""
    saved = read_any(path)
    classes = tuple(saved.data["classes"])
    if classes != labelled.classes:
        raise CheckpointError(
            f"{path}: trained on the classes {', '.join(classes)}, not on those of the data"
        )
    pixels = {"mean": saved.data["mean"], "std": saved.data["std"]}
    network: nn.Module = saved.model.to(labelled.images.device).eval()
    if not isinstance(saved.model, Classifier):
        encoder = getattr(network, "encoder", network)
        features, labels = forward_all(encoder, in_order(labelled._replace(**pixels)))
        probe = fit_probe(features, labels, statistics(features), DECAY, classes=len(classes))
        network = nn.Sequential(encoder, probe)
    return lambda images: predict(network, images._replace(**pixels))[0]
