"""Read your own pictures with a trained model.

    python predict.py seven.png                          the model that comes with the repository
    python predict.py scans/ "photos/*.jpg" --json       folders and globs; a number is read digit by digit
    python predict.py seven.png --show seen.png          and what the network sees beside the original
    python predict.py seven.png --model results/cnn/wide a run or best.pt, also of your own data
    python predict.py --submission test.csv out.csv      a label for each row of a CSV file, for Kaggle
    python predict.py seven.png --similar scans/         the pictures of a folder, the most like it first
    python predict.py --enrol people/ --save g.npz       keep examples: people/<name>/*.png, people/<name>.png
    python predict.py who.png --gallery g.npz            and recognise others by them
    python predict.py --export model.onnx                or .pt2 (torch.export), .safetensors (half precision)

Pictures (PNG, JPEG, BMP, TIFF, WebP, GIF, AVIF) are grey, in colour or transparent; the border shows whether
ink is dark or light. The first column is the answer, then come its calibrated probability (of --gallery:
its share of the votes) and the runner-up.
"?" marks answers that deserve doubt: less speaks for a digit ("not a digit?"), or the probability is lower,
than in 99.5 % of the validation images. The exit code is 2 when a picture could not be read.
"""

import csv
import glob
import io
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data import DataError
from data.own import read_rows
from data.pictures import grey, open_picture, pictures_in
from evaluation.contrastive.features import neighbours
from inference import Answer, Predictor, load_predictor
from inference.drawing import Drawing
from inference.predictor import embedder, gallery_predictor, is_ensemble, model_files, save_gallery
from models import read_model
from utils.arguments import any_path
from utils.cli import Parser, command, resolve_device
from utils.console import percent
from utils.errors import UserError, printable
from utils.runs.files import check_output, write_atomically

NEAREST = 10  # pictures in the figure of --similar


class Result(NamedTuple):
    """A picture with its digits and their answers, or the error that kept it from being read."""

    path: str
    drawing: Drawing = Drawing(np.empty((0, 28, 28), np.uint8), np.empty((0, 4), int), ())
    answers: Sequence[Answer] = ()
    error: str | None = None

    @property
    def text(self) -> str:
        """The labels from left to right; those of digits without a space."""
        labels = [answer.label for answer in self.answers]
        return ("" if all(len(label) == 1 for label in labels) else " ").join(labels)

    @property
    def warnings(self) -> list[str]:
        label = "{0.label}: {0.warning}" if len(self.answers) > 1 else "{0.warning}"
        return [*(label.format(answer) for answer in self.answers if answer.warning), *self.drawing.notes]


def make_parser() -> Parser:
    parser = Parser(prog="predict.py", usage="predict.py [flags] IMAGE...", description=__doc__)
    add = parser.add_argument
    add("images", nargs="*", type=any_path, metavar="IMAGE", help="a picture, a folder, or a glob in quotes")
    add("--single", action="store_true", help="every picture holds one digit: don't look for several")
    group = parser.add_argument_group("model (default: the one that comes with the repository)")
    add = group.add_mutually_exclusive_group().add_argument
    files = "a classifier: best.pt, a run (also of ensemble.py), or the name of a file in weights/"
    add("--model", type=any_path, default="classifier", metavar="FILE", help=files)
    add("--similar", type=any_path, metavar="FOLDER", help="rank its pictures by their likeness to IMAGE")
    add("--enrol", type=any_path, metavar="FOLDER", help="embed its pictures, named by subfolder or file")
    add("--gallery", type=any_path, metavar="FILE", help="recognise by the examples that --enrol saved")
    add = group.add_argument
    add("--encoder", type=any_path, metavar="FILE", help="that of the three before this (default: triplet)")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="cpu", help="where to compute")
    add = parser.add_argument_group("output").add_argument
    add("--json", action="store_true", help="one JSON object per picture and line")
    add("--submission", nargs=2, type=any_path, metavar=("CSV", "OUT"), help="write a label for each row")
    add("--show", type=any_path, metavar="FILE", help="plot what the network sees of the pictures, as PNG")
    add("--save", type=any_path, metavar="FILE", help="where --enrol writes, .npz")
    add("--export", type=any_path, metavar="FILE", help="write --model as .onnx, .pt2 or .safetensors")
    add("--overwrite", action="store_true", help="replace the files to be written")
    return parser


def choose_predictor(args: Namespace) -> Predictor:
    if args.gallery:
        return gallery_predictor(Path(args.gallery), args.encoder, args.device)
    return load_predictor(args.model, args.device)


def export(args: Namespace) -> None:
    """Write the classifier or encoder in a file for other programs."""
    from inference.export import FORMATS, export_model  # here, because few need it

    path, source = Path(args.export), model_files(args.model)[0]
    check_output(path, FORMATS, args.overwrite, [source, *args.images])
    difference = export_model(read_model(source), path)
    checked = "half precision" if difference is None else f"differs from PyTorch by at most {difference:.1e}"
    print(f"{path}: {source}, {path.stat().st_size:,} bytes, {checked}")


def find_pictures(names: Sequence[str]) -> list[str]:
    """Return the pictures that files, folders and globs name; a name without any stays, to be refused."""
    paths: list[str] = []
    for name in names:
        files = pictures_in(Path(name)) if Path(name).is_dir() else []
        if not Path(name).exists():
            files = sorted(filter(Path.is_file, map(Path, glob.glob(name, recursive=True))))
        paths += list(map(str, files)) or [name]
    return paths


def read_pictures(paths: Sequence[str], predictor: Predictor, single: bool = False) -> list[Result]:
    """Return the Result of every picture, in order, without answers; print errors on stderr."""

    def read(path):
        try:
            return Result(path, predictor.read(open_picture(path), single))
        except DataError as error:
            return Result(path, error=f"{path}: {str(error).removeprefix(f'{path}: ')}")

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(read, paths))
    for result in results:
        if result.error:
            print(f"predict.py: {printable(' '.join(result.error.split()))}", file=sys.stderr)
    return results


def answer(args: Namespace) -> list[Result]:
    """Print and plot the answers to all digits of the pictures, which are predicted together."""
    predictor = choose_predictor(args)
    results = read_pictures(args.images, predictor, args.single)
    digits = np.concatenate([result.drawing.digits for result in results])
    answers = iter(predictor.judge(predictor.scores(digits)) if len(digits) else ())
    results = [r._replace(answers=list(islice(answers, len(r.drawing.digits)))) for r in results]
    width = min(max(map(len, args.images)), 40)
    for result in results:
        if args.json:
            print(as_json(result))
        elif not result.error:
            print(printable(f"{result.path:{width}}  {as_line(result)}"))
    texts = [[f"{a.label}{'?' * bool(a.warning)}  {a.probability:.0%}" for a in r.answers] for r in results]
    rows = [(r.path, r.drawing, text) for r, text in zip(results, texts, strict=True) if not r.error]
    plot_figures(rows, args.show)
    return results


def as_line(result: Result) -> str:
    """Format a result for people: answer, probability, runner-up, warnings."""
    each = "  ".join(
        f"{a.label} {percent(a.probability)} (or {a.runner_up} {percent(a.runner_up_probability)})"
        for a in result.answers
    ).removeprefix(f"{result.text} ")  # of a single digit
    mark = "?" if any(answer.warning for answer in result.answers) else " "
    return f"{result.text}{mark} {each}" + f"  [{'; '.join(result.warnings)}]" * bool(result.warnings)


def as_json(result: Result) -> str:
    pairs = zip(result.answers, result.drawing.boxes.tolist(), strict=True)
    digits = [{**answer._asdict(), "box": box} for answer, box in pairs]
    found = {"text": result.text, "digits": digits, "warnings": result.warnings}
    return json.dumps({"file": result.path} | ({"error": result.error} if result.error else found))


def embed(results: Sequence[Result], reader: Predictor) -> tuple[list[Result], torch.Tensor]:
    """Return the pictures that could be read, one digit or symbol each, and their features (N, D)."""
    whole = [result for result in results if not result.error]
    if not whole:
        sys.exit(2)  # after a line for each
    return whole, reader.scores(np.concatenate([result.drawing.digits for result in whole]))


def enrol(args: Namespace) -> list[Result]:
    """Write the examples in a folder, of classes by subfolder or file."""
    reader = embedder(args.encoder, args.device)
    results = read_pictures(find_pictures([args.enrol]), reader, single=True)
    known, features = embed(results, reader)
    places = [Path(result.path).relative_to(args.enrol) for result in known]
    names = [place.parts[0] if len(place.parts) > 1 else place.stem for place in places]
    save_gallery(Path(args.save), names, features, reader.model)
    print(f"{args.save}: {len(names):,} pictures, {len(set(names)):,} classes, by {reader.model.split()[0]}")
    return results


def rank(args: Namespace) -> list[Result]:
    """Print and plot a folder's pictures by cosine distance from each picture."""
    reader, paths = embedder(args.encoder, args.device), (find_pictures([args.similar]), args.images)
    folder, pictures = (read_pictures(each, reader, single=True) for each in paths)
    (known, features), (asked, queries) = embed(folder, reader), embed(pictures, reader)
    ranked, shown = [], []
    for query, *found in zip(asked, *neighbours(queries, features, len(known)), strict=True):
        pairs = zip(*(row.tolist() for row in found), strict=True)
        others = [(max(round(1 - cosine, 4), 0.0), known[i]) for cosine, i in pairs]
        nearest = np.concatenate([other.drawing.digits for _, other in others[:NEAREST]])
        texts = [f"{distance:.3f}  {Path(other.path).stem:.8}" for distance, other in others[:NEAREST]]
        ranked.append((query.path, [(distance, other.path) for distance, other in others]))
        shown.append((query.path, query.drawing._replace(digits=nearest), texts))
    plot_figures(shown, args.show)  # first, because the reader of the lines, e.g. head, may stop
    for name, found in ranked:
        if args.json:
            similar = [{"file": path, "distance": distance} for distance, path in found]
            print(json.dumps({"file": name, "similar": similar}))
        else:
            print(*(printable(f"{name}  {distance:.4f}  {path}") for distance, path in found), sep="\n")
    return [*folder, *pictures]


def submit(table: Path, target: Path, predictor: Predictor) -> None:
    """Write a line ImageId,Label for each row of a table, in their order."""
    best = predictor.scores(read_rows(table, predictor.images.mixed)).probabilities.argmax(1)
    lines = [("ImageId", "Label"), *enumerate((predictor.images.classes[i] for i in best), 1)]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    write_atomically(target, lambda temporary: temporary.write_text(file.getvalue(), "utf-8"))
    print(f"{target}: {len(best):,} rows")


def plot_figures(rows: Sequence[tuple[str, Drawing, list[str]]], path: str | None) -> None:
    """Plot the first 16 pictures, each beside the digits of a drawing and their texts."""
    if rows and path:
        from utils.plots.inference import plot_pictures  # here, because importing it takes time

        seen = [(name, grey(open_picture(name)), *drawing[:2], texts) for name, drawing, texts in rows[:16]]
        plot_pictures(seen, path)


def check_flags(args: Namespace) -> None:
    """Raise UserError for flags that contradict each other, and for one that would be ignored."""
    asked = args.single or args.json or args.show or args.similar
    written, own = args.export or args.submission or args.save, args.similar or args.enrol or args.gallery
    broken = {
        "--enrol needs --save, and --save --enrol": bool(args.enrol) != bool(args.save),
        "no image: name pictures, folders or globs": not args.images and (asked or not written),
        "--enrol takes no other pictures": args.enrol and args.images,
        "--encoder is for --similar, --enrol and --gallery": args.encoder and not own,
        "--similar takes one digit from each picture, without --single": args.similar and args.single,
        "--export writes the network that --model names, also an encoder": args.export and own,
        "--export writes one network: name a member of the ensemble": args.export and is_ensemble(args.model),
        "--overwrite is for what is written": args.overwrite and not (written or args.show),
        "the standard output is closed": sys.stdout is None,
    }
    for message in filter(broken.get, broken):
        raise UserError(message)


@command
def main(argv: list[str] | None = None) -> list[Result]:
    args = make_parser().parse_args(argv)
    check_flags(args)
    args.device = resolve_device(args.device)  # fail now, before a file is written
    args.images = find_pictures(args.images)
    table, target = args.submission or ("", "")
    read = args.model, args.encoder or "", table, args.gallery or "", *args.images
    for out, end in ((args.show, ".png"), (target, ".csv"), (args.save, ".npz")):
        if out:
            check_output(Path(out), [end], args.overwrite, read)
    if args.export:
        export(args)
    if table:
        submit(Path(table), Path(target), choose_predictor(args))
    read_by = enrol if args.enrol else rank if args.similar else answer
    results = read_by(args) if args.images or args.enrol else []
    if any(result.error for result in results):
        sys.exit(2)
    return results


if __name__ == "__main__":
    main()
