"""How far few labels go: methods x numbers of labels x draws of the labels, as one resumable sweep.

    python train_few_labels.py --encoders simclr=results/simclr/simclr/encoder.pt
    python train_few_labels.py --methods pixels-knn,cnn-augmented --labels 10,100
    python train_few_labels.py --encoders moco=results/moco/moco/encoder.pt --methods moco-consistent
    python train_few_labels.py --encoders both=simclr.pt+moco.pt      their features side by side
    python train_few_labels.py --tune --draws 5          for choices: scored on validation images
    torchrun --nproc-per-node=4 train_few_labels.py      shares the trainings out

Labels are drawn by class from 90 % of the training images; the rest of them is unlabelled. Where a method
chooses its epoch, a quarter of the labels validates, and nothing else does. --tune scores on the other 10 %
of the training images, with other draws. Results go to results/few_labels/<name>/: sweep.json and figures.
"""

from argparse import Namespace

import numpy as np
import torch
from torch import nn

from data import ImageSet, few_labels, split
from evaluation.contrastive.options import EncoderOptions, stopwatch
from evaluation.few_labels.study import (
    OWN_SOURCES,
    JoinedEncoders,
    Study,
    method_names,
    needs_labels,
    uses_unlabelled,
)
from models import load_encoder
from utils import distributed
from utils.arguments import Number, name_list, named_path, number_list, with_commas
from utils.cli import (
    Parser,
    choice,
    command,
    command_line,
    load_data,
    precision_flag,
    resolve_machine,
    run_flags,
)
from utils.errors import UserError
from utils.plots import few_labels as plots
from utils.runs.folder import RunFolder
from utils.runs.opening import open_run
from utils.runs.sweep import collect, read_records

VAL_FRACTION = 0.1  # of the training images, which only --tune looks at
LABELS = [0, 10, 20, 50, 100, 1000]
# The draws of --tune are numbered from here on, so that no choice is made on the draws that are reported.
TUNING_DRAWS = 1000
SHOWN_LABELS = 100  # in the strip plot and the picture of the worst draw
SHOWN_WRONG = 60


def make_parser() -> Parser:
    parser = Parser(prog="train_few_labels.py", description=__doc__, parents=[run_flags(), precision_flag()])
    add = parser.add_argument_group("study").add_argument
    add(
        "--methods",
        type=name_list(),
        metavar="A,B,...",
        help=f"default: all; without encoders {', '.join(method_names([]))}, and for each encoder "
        f"{', '.join(method_names(['NAME'])[len(method_names([])) :])}",
    )
    add(
        "--labels",
        type=number_list(0, 1000000),
        default=LABELS,
        metavar="N,N",
        help=f"in all (default: {with_commas(LABELS)})",
    )
    add(
        "--draws",
        type=Number(int, 1, 1000),
        default=10,
        metavar="N",
        help="draws of the labels (default: 10)",
    )
    add(
        "--encoders",
        type=named_path,
        nargs="+",
        metavar="NAME=FILE",
        help="pre-trained encoders, saved by train_simclr.py or train_moco.py; NAME=FILE+FILE joins two",
    )
    choice(
        add, "--student", ("fast", "compact", "cnn"), "self-trained network (default: fast)", default="fast"
    )
    add("--tune", action="store_true", help="score on validation images instead of the test images")
    return parser


def load_encoders(args: Namespace) -> dict[str, nn.Module]:
    """Load the encoders that --encoders names, in eval mode on the device."""
    files = dict(text.split("=", 1) for text in args.encoders or ())
    encoders: dict[str, nn.Module] = {}
    for name, paths in files.items():
        parts = [load_encoder(path).eval() for path in paths.split("+")]
        encoders[name] = parts[0] if len(parts) == 1 else JoinedEncoders(parts).eval()
    return {k: v.to(args.device).to(memory_format=torch.channels_last) for k, v in encoders.items()}


def choose_methods(args: Namespace, encoders: dict[str, nn.Module]) -> list[str]:
    """Return the methods to compare; UserError for an unknown one."""
    known = method_names([name for name in encoders if name != "pixels"])
    wanted = list(dict.fromkeys(args.methods)) if args.methods is not None else known
    if unknown := [name for name in wanted if name not in known]:
        raise UserError(f"no method {unknown[0]!r}: choose from {', '.join(known)}; others need --encoders")
    return wanted


def make_jobs(args: Namespace, methods: list[str]) -> list[dict]:
    """Return every training; draws are outermost, so that a stopped study has all of the first ones.

    Methods that need no label run with 0 labels, the others with every other number; UserError for none.
    """
    jobs = [
        {"method": method, "labels": count, "seed": args.seed + draw}
        for draw in range(args.draws)
        for count in args.labels
        for method in methods
        if needs_labels(method) == (count > 0)
    ]
    if not jobs:
        raise UserError("nothing to do: methods without labels need --labels 0, all others more")
    return jobs


def draw_labels(args: Namespace, study: Study, job: dict) -> torch.Tensor:
    """Return the positions of the labelled images in the pool; DataError when a class has too few."""
    if not job["labels"]:
        return torch.empty(0, dtype=torch.int64)
    classes = len(study.data[0].classes)
    if job["labels"] % classes:
        raise UserError(f"--labels {job['labels']}: must be a multiple of the {classes} classes")
    seed = job["seed"] + TUNING_DRAWS * args.tune
    return few_labels(study.pool_labels, job["labels"] // classes, seed)


def make_study(args: Namespace, data: tuple[ImageSet, ImageSet]) -> Study:
    train_set, test_set = data
    splits = split(train_set.labels, VAL_FRACTION, 0)
    scored = test_set
    if args.tune:
        val_idx = splits[1].to(train_set.labels.device)
        scored = train_set._replace(images=train_set.images[val_idx], labels=train_set.labels[val_idx])
    how = {"student": args.student, "precision": args.precision, "max_steps": 1 if args.dry_run else None}
    return Study((train_set, scored), splits, load_encoders(args), EncoderOptions(**how))


def run_job(args: Namespace, study: Study, job: dict) -> dict:
    """Run one method on one draw; the record lists every wrong answer as "image:answer"."""
    chosen = draw_labels(args, study, job)
    shared = study.prepare(job["method"], job["seed"])
    times: dict[str, float] = {}
    with stopwatch(times, "own"):
        answers = study(job["method"], chosen, job["seed"]).argmax(1)
    labels = study.data[1].labels
    wrong = [f"{i}:{int(answers[i])}" for i in (answers != labels).nonzero().squeeze(1).tolist()]
    accuracy = float((answers == labels).float().mean())
    name = "val_accuracy" if args.tune else "test_accuracy"
    seconds = {"seconds": times["own_seconds"], "shared_seconds": round(shared, 3)}
    seen = len(study.splits[0]) if uses_unlabelled(job["method"]) else job["labels"]
    return {**job, name: accuracy, "train_images": seen, **seconds, "wrong": " ".join(wrong)}


def plot_figures(run: RunFolder, args: Namespace, study: Study, content: dict) -> None:
    """Draw the curves, the single draws and, for the best method, what its worst draw got wrong."""
    metric = "val_accuracy" if args.tune else "test_accuracy"
    cells = content["cells"]
    if any(cell["labels"] for cell in cells):
        plots.plot_error_against_labels(cells, run.path("labels.png"), metric=metric)
    shown = [cell for cell in cells if cell["labels"] == SHOWN_LABELS]
    if not shown:
        return
    plots.plot_draws(shown, run.path("draws.png"), metric=metric)
    best = max(shown, key=lambda cell: cell["mean"][metric])
    rows = [r for r in read_records(run) if (r["method"], r["labels"]) == (best["method"], SHOWN_LABELS)]
    worst = min(rows, key=lambda row: row[metric])
    wrong = [pair.split(":") for pair in worst["wrong"].split()][:SHOWN_WRONG]
    train_set, scored = study.data
    given = study.splits[0][draw_labels(args, study, worst)]
    order = train_set.labels.cpu()[given].argsort(stable=True)
    images = [int(image) for image, _ in wrong]
    plots.plot_worst_draw(
        train_set.images.cpu()[given[order]].squeeze(1).numpy(),
        scored.images.cpu()[images].squeeze(1).numpy(),
        scored.labels.cpu()[images].numpy(),
        np.array([int(answer) for _, answer in wrong], dtype=int),
        f"{best['method']}, worst of {len(rows)} draws: {worst[metric]:.2%}",
        run.path("worst.png"),
    )


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    names = [text.partition("=")[0] for text in args.encoders or ()]
    if taken := [name for i, name in enumerate(names) if name in (*OWN_SOURCES, *names[:i])]:
        parser.error(f"--encoders: the name {taken[0]!r} is taken")
    shown = command_line(parser, args)
    resolve_machine(args)
    return args, shown


@command
def main(argv: list[str] | None = None) -> dict:
    args, shown = parse(argv)
    data = load_data(args)
    if args.dry_run:
        args.labels, args.draws = [0, len(data[0].classes)], 1
    study = make_study(args, data)
    jobs = make_jobs(args, choose_methods(args, study.encoders))
    for job in {job["labels"]: job for job in jobs}.values():
        draw_labels(args, study, job)  # fail now, before a folder is made or replaced
    run = distributed.on_rank_zero(lambda: open_run("train_few_labels", args, "study", shown))
    content = collect(lambda job: run_job(args, study, job), jobs, args, run, group=("method", "labels"))
    if distributed.rank() == 0:
        plot_figures(run, args, study, content)
        report(content, args, run)
    return content


def report(content: dict, args: Namespace, run: RunFolder) -> None:
    metric = "val_accuracy" if args.tune else "test_accuracy"
    print(f"{'method':24} labels  {metric.replace('_', ' ')}, mean ± SD over draws, worst")
    for cell in content["cells"]:
        values = [row[metric] for row in cell["runs"]]
        spread = f" ± {100 * cell['std'][metric]:.2f}" if len(values) > 1 else ""
        mean = 100 * cell["mean"][metric]
        print(f"{cell['method']:24} {cell['labels']:6,}  {mean:.2f}{spread} %, {min(values):.2%}")
    print(f"{content['seconds']:.0f} s in all; figures and metrics in {run.folder}/")


if __name__ == "__main__":
    main()
