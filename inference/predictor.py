"""Predictors: a saved classifier, an ensemble, or k-NN on an encoder, from pictures to calibrated answers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from data import ImageSet, in_order, split
from data.drawing import Drawing, find_ink, grey, read_drawing
from data.images import CENTRED
from data.own import to_square
from evaluation.cnn import DOUBTFUL, evidence, fit_temperature, scale, softmax
from evaluation.contrastive.features import knn, neighbours
from evaluation.ensemble.library import check_predictions, part_folders, read_library
from evaluation.ensemble.selection import combine
from models import CheckpointError, Classifier, SavedModel, read_model
from utils.errors import UserError
from utils.runs.folder import RunFolder
from utils.training.forward import forward_all, predict, surprise

BUNDLED = Path(__file__).resolve().parents[2] / "weights"
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
    """Calibrated probabilities (N, classes), and which images are unlike the training images, (N,) bool."""

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
        p, foreign = scores
        order = np.argsort(-p, 1, kind="stable")
        answers = []
        for row, (first, second), far in zip(p, order[:, :2], foreign, strict=True):
            warning = None
            if far:
                warning = "unlike the training images"
            elif row[first] < self.least_confidence:
                warning = "low confidence"
            names = self.images.classes[first], self.images.classes[second]
            answers.append(Answer(names[0], float(row[first]), names[1], float(row[second]), warning))
        return answers


# --- The kinds of predictors ---


def load_predictor(path: Path | str | None = None, device: torch.device | str = "cpu") -> Predictor:
    """Return the predictor of a saved classifier: by default the one that comes with the repository.

    path: a model file, or the folder of a run, of which the first training is taken. Raises CheckpointError
    for a file that holds no classifier.
    """
    path = Path(path) if path else CLASSIFIER
    saved = read_classifier(best_file(path), device)
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


def best_file(path: Path) -> Path:
    """Return best.pt of a run, or of its first training; a path that is a file stays as it is."""
    if not path.is_dir():
        return path
    found = [file for part in (path, *part_folders(path)) if (file := part / "best.pt").is_file()]
    if not found:
        raise CheckpointError(f"{path}: no best.pt, which is not committed: train the run here first")
    return found[0]


def read_classifier(path: Path, device: torch.device | str) -> SavedModel:
    """Read a classifier for images of 28 x 28 pixels; CheckpointError for any other model."""
    saved = read_model(path)
    if not isinstance(saved.model, Classifier):
        raise CheckpointError(f"{path}: an encoder, which knows no classes: name it with --encoder")
    if lacking := {"classes", "mean", "std"} - set(saved.data):
        raise CheckpointError(f"{path}: lacks {', '.join(sorted(lacking))}: written by an older version")
    saved.model.to(device).eval()
    return saved


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
    found = [pool.members[i] for i in chosen]
    if [member.name for member in found] != record["library"]:
        raise UserError(f"{run.folder}: its members have changed since: run ensemble.py again")
    return [member.folders for member in found]


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
        found = knn(features, labels, queries, classes=classes).clamp(NO_VOTE).cpu().numpy()
        near = neighbours(queries, features, 1)[0][:, 0].cpu().numpy()
        return Scores(scale(found, temperature), near < least_cosine)

    empty = labelled._replace(images=labelled.images[:0], labels=labelled.labels[:0])
    return Predictor(f"k-NN on {path}", empty, score, confidence)
