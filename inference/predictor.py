"""From pictures to answers: by a saved classifier, an ensemble, or k-NN on an encoder."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from data import ImageSet, in_order
from data.images import CENTRED
from data.own import natural, to_square
from data.page import find_ink
from data.pictures import SIDE, first_only, grey, on_light_paper, open_picture, shrunk
from evaluation.cnn import DOUBTFUL, scale, softmax
from evaluation.contrastive.features import DECAY, fit_probe, knn, statistics
from evaluation.doubt import logits_and_evidence
from evaluation.ensemble.library import Library, part_folders, read_library
from evaluation.ensemble.selection import combine
from evaluation.robustness import Scorer
from inference.drawing import Drawing, read_drawing
from models import CheckpointError, Classifier, read_model
from models.checkpoint import digest, find_model
from utils.errors import DAMAGE, UserError
from utils.runs.files import check_file, read_object, write_atomically
from utils.runs.folder import RunFolder
from utils.training.forward import forward_all, predict

CLASSIFIER, SYMBOLS = "classifier", "triplet"  # in weights/; the latter for one-shot recognition
LARGEST = 2**28  # bytes of a gallery
# Of a classifier that was trained without validation images.
UNCALIBRATED = {"temperature": 1.0, "least_confidence": 0.0, "least_evidence": -np.inf}


class Answer(NamedTuple):
    """The answer for one image. probability: calibrated. warning: why it deserves doubt, or None."""

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

    images: an ImageSet, which knows the classes, the normalisation and the form of the images. score:
    computes the Scores of an ImageSet of that form, or its features. least_confidence: answers below it
    deserve doubt. model: name and hash of the encoder of `embedder`.
    """

    images: ImageSet
    score: Callable[[ImageSet], Any]
    least_confidence: float = 0.0
    model: str = ""

    def predict(self, picture: Path | str | np.ndarray | Image.Image, single: bool = False) -> list[Answer]:
        """Return the answer for each digit of a picture, from left to right.

        picture: a path, a PIL image or a uint8 array (H, W), (H, W, 3) or (H, W, 4); TypeError for others.
        """
        return self.judge(self.scores(self.read(as_picture(picture), single).digits))

    def read(self, picture: Image.Image, single: bool = False) -> Drawing:
        """Bring a picture to the form of the training images; DataError for a blank one.

        single: don't look for several digits. Pictures for models of other data sets are never split.
        """
        if self.images.name in CENTRED:
            drawing = read_drawing(picture, single)
            return drawing._replace(notes=first_only(picture) + drawing.notes)
        values = grey(shrunk(picture))
        find_ink(values)  # refuses a blank picture
        light = on_light_paper(values) and not self.images.mixed  # which are on dark paper, or on both
        square = to_square(1 - values if light else values)
        return Drawing(square[None], np.array([[0, 0, *picture.size]]), first_only(picture))

    def scores(self, digits: np.ndarray) -> Any:
        """Compute the Scores of images (N, 28, 28) uint8 that have the form of the training images."""
        return self.score(with_images(self.images, digits))

    def judge(self, scores: Scores) -> list[Answer]:
        """Put scores into words: names of classes, and warnings."""
        answers: list[Answer] = []
        strange = "not a digit?" if self.images.name in CENTRED else "unlike the training images"
        for row, foreign in zip(*scores, strict=True):
            first, second = np.argsort(-row, kind="stable")[:2]
            doubt = "low confidence" if row[first] < self.least_confidence else None
            warning = strange if foreign else doubt
            names = self.images.classes[first], self.images.classes[second]
            answers.append(Answer(names[0], float(row[first]), names[1], float(row[second]), warning))
        return answers


def as_picture(picture: Any) -> Image.Image:
    """Return what `Predictor.predict` takes as a PIL image."""
    if isinstance(picture, Path | str):
        return open_picture(picture)
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim > 1 and picture.size:
        picture = Image.fromarray(picture) if picture.shape[2:] in ((), (3,), (4,)) else None
    if isinstance(picture, Image.Image):
        return picture
    raise TypeError("expected a path, a PIL image or an array of uint8 (H, W), (H, W, 3) or (H, W, 4)")


def with_images(images: ImageSet, digits: np.ndarray) -> ImageSet:
    """Return an ImageSet like `images` of digits (N, 28, 28) uint8, without labels."""
    pixels = torch.from_numpy(np.ascontiguousarray(digits)).unsqueeze(1).to(images.images.device)
    return images._replace(images=pixels, labels=pixels.new_zeros(len(pixels)).long())


def model_files(path: Path | str) -> list[Path]:
    """Return the model file of every training of a run, best.pt before encoder.pt; a file is itself."""
    path = Path(find_model(path))
    if not path.is_dir():
        return [path]
    places = ([part / "best.pt", part / "encoder.pt"] for part in part_folders(path))
    if files := [file for pair in places for file in list(filter(Path.is_file, pair))[:1]]:
        return files
    raise CheckpointError(f"{path}: no best.pt or encoder.pt, which are not committed: train the run first")


def read_network(
    path: Path, device: torch.device | str, kind: type[nn.Module] = nn.Module
) -> tuple[nn.Module, ImageSet, dict[str, float]]:
    """Return a network, an empty ImageSet with the facts of its training images, and its calibration.

    kind: a network of any other is a CheckpointError.
    """
    saved = read_model(path)
    if not isinstance(saved.model, kind):
        raise CheckpointError(f"{path}: not a classifier; an encoder is for --similar, --enrol and --gallery")
    data = saved.data
    images = torch.empty(0, 1, SIDE, SIDE, dtype=torch.uint8, device=device)
    facts = (data["mean"], data["std"], data["dataset"], tuple(data["classes"]), data.get("inverted", False))
    empty = ImageSet(images, images.flatten().long(), *facts, mixed=data.get("mixed", False))
    return saved.model.to(device).eval(), empty, data.get("calibration", UNCALIBRATED)


def load_predictor(path: Path | str | None = None, device: torch.device | str = "cpu") -> Predictor:
    """Return the predictor of a saved classifier: by default the one that comes with the repository.

    path: a model file, the name of one in weights/, or the folder of a run: of ensemble.py see
    `ensemble_predictor`, of others the first training is taken. Raises CheckpointError for a file that holds
    no classifier.
    """
    if path and is_ensemble(path):
        return ensemble_predictor(path, device)
    model, empty, calibration = read_network(model_files(path or CLASSIFIER)[0], device, Classifier)

    def score(images):
        logits, evidence = logits_and_evidence(model, images)
        return Scores(softmax(logits / calibration["temperature"]), evidence < calibration["least_evidence"])

    return Predictor(empty, score, calibration["least_confidence"])


def voting(reader: Predictor, images: ImageSet, examples: torch.Tensor, labels: torch.Tensor) -> Predictor:
    """Return k-NN among examples (N, D), with their classes `labels` (N,), in the features of `embedder`.

    images: as of Predictor. Its probabilities are shares of the votes, which are not calibrated.
    """

    def score(queries):
        votes = knn(examples, labels, reader.score(queries), classes=len(images.classes))
        return Scores(votes.cpu().numpy(), np.zeros(len(votes), bool))

    return Predictor(images, score)


def embedder(encoder: Path | str | None = None, device: torch.device | str = "cpu") -> Predictor:
    """Return a Predictor whose `scores` are the features (N, D) of an encoder.

    encoder: a file, also of a classifier, or the name of one in weights/; by default "triplet", see
    weights/README.md.
    """
    path = model_files(encoder or SYMBOLS)[0]
    network, empty, _ = read_network(path, device)
    network = getattr(network, "encoder", network)
    name = f"{path.name} {digest({k: v.cpu() for k, v in network.state_dict().items()})}"
    return Predictor(empty, lambda images: forward_all(network, in_order(images))[0], model=name)


def save_gallery(path: Path, names: Sequence[str], features: torch.Tensor, model: str) -> None:
    """Write features (N, D) that a model made of examples, and the names of their classes."""
    content = io.BytesIO()
    np.savez(content, names=np.array(names), features=features.cpu().numpy(), model=model)
    write_atomically(path, lambda temporary: temporary.write_bytes(content.getbuffer()))


def gallery_predictor(path: Path, encoder: Path | str | None, device: torch.device | str) -> Predictor:
    """Return k-NN on the examples in a gallery, see `voting`.

    Raises UserError for a file that `save_gallery` did not write with this encoder, and for a single class.
    """
    reader, content = embedder(encoder, device), check_file(path, LARGEST).read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            names, features, made_by = file["names"].tolist(), file["features"], str(file["model"])
        if not (len(names) == len(features) > 0 == features.ndim - 2 and np.isfinite(features).all()):
            raise ValueError("no examples, or none as save_gallery writes them")
        classes, examples = tuple(sorted(set(names), key=natural)), torch.from_numpy(features).to(device)
    except Exception as error:  # NumPy and zipfile raise half a dozen types for a damaged file
        raise UserError(f"{path}: damaged, or not a gallery of --enrol: enrol again") from error
    if made_by != reader.model:
        was, now = (name.partition(" ")[0] for name in (made_by, reader.model))
        raise UserError(f"{path}: enrolled by another model, {was}, not this {now}: name it with --encoder")
    if len(classes) < 2:
        raise UserError(f"{path}: only one class, {classes[0]}: enrol examples of two or more")
    labels = torch.tensor([classes.index(name) for name in names], device=device)
    return voting(reader, reader.images._replace(classes=classes), examples, labels)


def ensemble_predictor(folder: Path | str, device: torch.device | str = "cpu") -> Predictor:
    """Return the predictor of a finished run of ensemble.py: its headline combination of its first library.

    Raises UserError when weights of members are missing.
    """
    run = RunFolder(folder)
    record = run.records()[0] if run.path("metrics.json").is_file() else {}
    if "members" not in record:
        raise UserError(f"{folder}: not a finished run of ensemble.py")
    try:
        arguments = run.read_json("config.json")["arguments"]
        name, size, shifts = arguments["combine"], record["members"], arguments.get("shifts") or 0
        weights = {name: np.array(record.get(f"{name}_weights", [1 / size] * size))}
        temperature = record.get(f"{name}_temperature", 1.0)  # without validation images there is none
        library = first_library(run, arguments, record)
        known = library.val_p if library.validated else library.test_p
        confidence = scale(combine(name, known, weights), temperature).max(1)
        if not (np.isfinite(confidence).all() and type(shifts) is int and 0 <= shifts < SIDE):
            raise ValueError("impossible weights, temperature or shifts")
    except DAMAGE as error:
        raise UserError(f"{folder}: a damaged run ({type(error).__name__}: {error})") from error
    networks = [read_network(m.folder / "best.pt", device, Classifier) for m in library.members]
    least = float(np.quantile(confidence, DOUBTFUL)) if library.validated else 0.0

    def score(images):
        p = [predict(network, images, shifts=shifts)[0] for network, *_ in networks]
        scaled = scale(combine(name, np.stack(p), weights), temperature)
        return Scores(scaled, np.zeros(len(scaled), bool))

    return Predictor(networks[0][1], score, least)


def is_ensemble(path: Path | str) -> bool:
    """Return whether a path is the folder of a run of ensemble.py, not of one of its members."""
    config, own = (RunFolder(path).path(name) for name in ("config.json", "best.pt"))
    return config.is_file() and not own.is_file() and read_object(config).get("script") == "ensemble"


def first_library(run: RunFolder, arguments: dict, record: dict) -> Library:
    """Read the members of a run's first library, a sample of the runs of --from, if any."""
    sources, size = arguments.get("sources"), record["members"]
    places = [Path(source) for source in sources or [run.folder]]
    folders = [place if place.is_dir() else run.folder.parents[1] / place for place in places]
    pool = read_library(folders, arguments["dataset"])
    library = pool.sample(size, record["seed"]) if sources else pool.choose(np.arange(size))
    if library.names != record["library"]:
        raise UserError(f"{run.folder}: its members have changed since: run ensemble.py again")
    return library


def load_scorers(path: Path | str, labelled: ImageSet, trainings: int | None = None) -> list[Scorer]:
    """Return one function from images to class probabilities for each training of a run.

    path: a model file, or the folder of a run, of which the first `trainings` are taken, by default all. An
    encoder, also of a MIL network, answers by a linear probe fitted to all `labelled` images, an ensemble by
    its headline combination. Images are normalised as in training. Errors: as of the functions above.
    """
    if is_ensemble(path):
        predictor = ensemble_predictor(path, labelled.images.device)
        return [lambda images: predictor.score(renormalised(images, predictor.images)).probabilities]
    return [file_scorer(file, labelled) for file in model_files(path)[:trainings]]


def file_scorer(path: Path, labelled: ImageSet) -> Scorer:
    """Return the function of one model file, see `load_scorers`."""
    network, trained_on, _ = read_network(path, labelled.images.device)
    if trained_on.classes != labelled.classes:
        names = ", ".join(trained_on.classes)
        raise CheckpointError(f"{path}: trained on the classes {names}, not on those of the data")
    if not isinstance(network, Classifier):
        encoder = getattr(network, "encoder", network)
        features, labels = forward_all(encoder, in_order(renormalised(labelled, trained_on)))
        probe = fit_probe(features, labels, statistics(features), DECAY, classes=len(labelled.classes))
        network = nn.Sequential(encoder, probe)
    return lambda images: predict(network, renormalised(images, trained_on))[0]


def renormalised(images: ImageSet, trained_on: ImageSet) -> ImageSet:
    return images._replace(mean=trained_on.mean, std=trained_on.std)
