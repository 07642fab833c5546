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
        header, _, content = picture.partition(",")
        if not header.startswith("data:image/"):
            raise ValueError("not a data URL")
        image = Image.open(io.BytesIO(base64.b64decode(content)))
        image.load()
        return image
    except (ValueError, OSError, SyntaxError, AttributeError) as error:
        raise DataError(f"not a picture: {error}") from error


def encode(digit: np.ndarray) -> str:
    """Return (28, 28) uint8 pixels as the data URL of a PNG."""
    content = io.BytesIO()
    Image.fromarray(digit).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


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

    def embed(self, encoder: nn.Module, digits: np.ndarray) -> torch.Tensor:
        """Return an encoder's features (N, D) of digits (N, 28, 28)."""
        return forward_all(encoder, in_order(self.image_set(digits)))[0]

    def image_set(self, digits: np.ndarray) -> ImageSet:
        pixels = torch.from_numpy(np.ascontiguousarray(digits)).unsqueeze(1)
        return self.labelled._replace(images=pixels, labels=torch.zeros(len(pixels), dtype=torch.int64))

    def about(self, _: dict) -> dict:
        """Return what the page shows before anything is drawn."""
        return {"target": self.target, "models": list(self.predictors)}

    def read(self, request: dict) -> dict:
        """Read a drawing: for each digit what the network sees, probabilities by model, nearest digits."""
        drawing = read_drawing(decode(request["picture"]))
        scores = {name: predictor.scores(drawing.digits) for name, predictor in self.predictors.items()}
        answers = {name: predictor.judge(scores[name]) for name, predictor in self.predictors.items()}
        nearest = neighbours(self.embed(self.encoder, drawing.digits), self.features, NEIGHBOURS)[1].tolist()
        digits = [
            {
                "seen": encode(digit),
                "models": {
                    name: {
                        "label": answers[name][i].label,
                        "warning": answers[name][i].warning,
                        "probabilities": scores[name].probabilities[i].round(4).tolist(),
                    }
                    for name in self.predictors
                },
                "nearest": [
                    {"picture": encode(self.labelled.images[j, 0].numpy()), "label": self.name(j)}
                    for j in nearest[i]
                ],
            }
            for i, digit in enumerate(drawing.digits)
        ]
        return {"digits": digits, "notes": list(drawing.notes), "classes": list(self.labelled.classes)}

    def name(self, index: int) -> str:
        return self.labelled.classes[int(self.labelled.labels[index])]

    def random(self, request: dict) -> dict:
        """Return random labelled digits for a bag."""
        count = min(max(int(request.get("count", 1)), 1), 12)
        chosen = torch.randint(len(self.labelled.labels), (count,)).tolist()
        return {"pictures": [encode(self.labelled.images[i, 0].numpy()) for i in chosen]}

    def bag(self, request: dict) -> dict:
        """Judge a bag of pictures: the probability that it holds the target, the attention on each."""
        drawings = [read_drawing(decode(picture), single=True).digits[0] for picture in request["pictures"]]
        images = self.image_set(np.stack(drawings))
        with torch.inference_mode():
            pixels = prepare(images, torch.arange(len(drawings)))
            pooled = self.mil.eval()(pixels, torch.ones(1, len(drawings), dtype=torch.bool))
        return {
            "probability": float(pooled.logits.sigmoid()),
            "attention": pooled.attention[0].tolist(),
            "seen": [encode(digit) for digit in drawings],
        }

    def one_shot(self, request: dict) -> dict:
        """Recognise a drawing by one example of each class: {"examples": {name: picture}, "picture"}."""
        names = list(request["examples"])
        if len(names) < 2:
            raise DataError("draw an example of at least two classes first")
        pictures = [*request["examples"].values(), request["picture"]]
        digits = np.stack([read_drawing(decode(picture), single=True).digits[0] for picture in pictures])
        features = F.normalize(self.embed(self.symbols, digits), dim=1)
        cosines = features[:-1] @ features[-1]
        shares = (cosines / ONE_SHOT_TEMPERATURE).softmax(0).tolist()
        return {"label": names[int(cosines.argmax())], "shares": dict(zip(names, shares, strict=True))}
