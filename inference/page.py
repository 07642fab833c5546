"""What the page to draw on asks: JSON in, JSON out, computed by the predictors. Knows no HTTP."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from data import DataError, ImageSet, in_order
from data.batches import prepare
from evaluation.contrastive.features import neighbours
from inference.drawing import read_drawing
from inference.predictor import Predictor
from models.mil import MIL
from utils.training.forward import forward_all

NEIGHBOURS = 8
# Cosines to one example of each class become probabilities by a softmax at this temperature.
ONE_SHOT_TEMPERATURE = 0.1


def decode(picture: str) -> Image.Image:
    """Return the picture of a data URL; DataError for anything else."""
    try:
        image = Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2])))
        image.load()
        return image
    except (ValueError, OSError, SyntaxError, AttributeError) as error:
        raise DataError(f"not a picture: {error}") from error


def encode(digit: np.ndarray) -> str:
    """Return (28, 28) uint8 pixels as the data URL of a PNG."""
    content = io.BytesIO()
    Image.fromarray(digit).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def read_digits(pictures: list[str]) -> np.ndarray:
    """Return pictures of one digit each as (N, 28, 28) uint8."""
    return np.stack([read_drawing(decode(picture), single=True).digits[0] for picture in pictures])


@dataclass
class Page:
    """The models behind the page.

    predictors: by the names that the page shows. encoder, labelled: for the nearest digits. symbols: an
    encoder for one-shot recognition. mil, target: a network for bags, and the class that it looks for.
    """

    predictors: dict[str, Predictor]
    encoder: nn.Module
    labelled: ImageSet
    symbols: nn.Module
    mil: MIL
    target: str

    def __post_init__(self):
        self.features = forward_all(self.encoder, in_order(self.labelled))[0]

    def image_set(self, digits: np.ndarray) -> ImageSet:
        pixels = torch.from_numpy(digits).unsqueeze(1)
        return self.labelled._replace(images=pixels, labels=torch.zeros(len(pixels), dtype=torch.int64))

    def embed(self, encoder: nn.Module, digits: np.ndarray) -> torch.Tensor:
        """Return an encoder's features (N, D) of digits (N, 28, 28)."""
        return forward_all(encoder, in_order(self.image_set(digits)))[0]

    def example(self, index: int) -> dict:
        """Return a labelled digit."""
        label = self.labelled.classes[int(self.labelled.labels[index])]
        return {"picture": encode(self.labelled.images[index, 0].numpy()), "label": label}

    def about(self, _: dict) -> dict:
        """Return what the page shows before anything is drawn."""
        return {"target": self.target}

    def read(self, request: dict) -> dict:
        """Read a drawing: for each digit what the network sees, probabilities by model, nearest digits."""
        drawing = read_drawing(decode(request["picture"]))
        nearest = neighbours(self.embed(self.encoder, drawing.digits), self.features, NEIGHBOURS)[1].tolist()
        scored = {name: predictor.scores(drawing.digits) for name, predictor in self.predictors.items()}
        digits = []
        for i, digit in enumerate(drawing.digits):
            models = {}
            for name, scores in scored.items():
                answer = self.predictors[name].judge(scores)[i]
                facts = {"label": answer.label, "warning": answer.warning}
                models[name] = {**facts, "probabilities": scores.probabilities[i].round(4).tolist()}
            examples = list(map(self.example, nearest[i]))
            digits.append({"seen": encode(digit), "models": models, "nearest": examples})
        return {"digits": digits, "notes": list(drawing.notes), "classes": list(self.labelled.classes)}

    def random(self, request: dict) -> dict:
        """Return random labelled digits for a bag."""
        chosen = torch.randint(len(self.labelled.labels), (min(int(request["count"]), 12),)).tolist()
        return {"pictures": [self.example(i)["picture"] for i in chosen]}

    def bag(self, request: dict) -> dict:
        """Judge a bag of pictures: the probability that it holds the target, the attention on each."""
        digits = read_digits(request["pictures"])
        with torch.inference_mode():
            pixels = prepare(self.image_set(digits), torch.arange(len(digits)))
            pooled = self.mil.eval()(pixels, torch.ones(1, len(digits), dtype=torch.bool))
        seen, attention = [encode(digit) for digit in digits], pooled.attention[0].tolist()
        return {"probability": float(pooled.logits.sigmoid()), "attention": attention, "seen": seen}

    def one_shot(self, request: dict) -> dict:
        """Recognise a drawing by one example of each class: {"examples": {name: picture}, "picture"}."""
        names = list(request["examples"])
        if len(names) < 2:
            raise DataError("draw an example of at least two classes first")
        digits = read_digits([*request["examples"].values(), request["picture"]])
        features = F.normalize(self.embed(self.symbols, digits), dim=1)
        cosines = features[:-1] @ features[-1]
        shares = (cosines / ONE_SHOT_TEMPERATURE).softmax(0).tolist()
        return {"label": names[int(cosines.argmax())], "shares": dict(zip(names, shares, strict=True))}
