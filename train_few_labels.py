"""Compare methods that learn from few labels: methods x numbers of labels x draws, one resumable sweep.

    python train_few_labels.py --encoders simclr=results/simclr/simclr/encoder.pt
    python train_few_labels.py --methods pixels-knn,cnn-augmented --labels 10,100
    python train_few_labels.py --encoders simclr=one.pt,two.pt --methods simclr-self_labelled
    python train_few_labels.py --tune --draws 5          for choices: scored on validation images
    torchrun --nproc-per-node=4 train_few_labels.py      shares the trainings out

Labels are sampled by class from 90 % of the training images; the rest of those is unlabelled. A method
that chooses its epoch validates on a quarter of the labels alone. --tune scores on the other 10 % of the
training images, with other draws. With --split each draw has its own 90 %. Results go to
results/few_labels/<name>/: sweep.json and figures. The default takes 3 hours on one CPU core; --methods
chooses what matters to you.
"""

import functools
from argparse import Namespace

import torch
from torch import nn

from data import Data, few_labels, split, writers_for
from data.writers import by_hands, find_writers
from evaluation.few_labels import Method, Source, Study, method_table
from models import load_encoder
from utils import cli, distributed
from utils.arguments import Number, list_of, named_path, with_commas
from utils.errors import UserError
from utils.plots.few_labels import plot_error_against_labels
from utils.runs.folder import RunFolder, open_run
from utils.runs.repeat import collect, report_sweep
from utils.training.flags import VAL_FRACTION, split_flag
from utils.training.forward import clock

PER_CLASS = (0, 1, 2, 5, 10, 100)  # labels, where there are as many
# The draws of --tune are numbered from here on: no choice is made on the draws that are reported.
TUNING_DRAWS = 1000


def make_parser() -> cli.Parser:
    parents = [cli.run_flags(), split_flag()]
    parser = cli.Parser(prog="train_few_labels.py", description=__doc__, parents=parents)
    add = parser.add_argument_group("study").add_argument
    own = method_table([])
    on_encoder = [name for name in method_table(["NAME"]) if name not in own]
    methods = f"{', '.join(own)} and, for each encoder, {', '.join(on_encoder)} (default: all)"
    add("--methods", type=list_of(), metavar="A,B,...", help=methods)
    default = f"(default: {with_commas(list(PER_CLASS))} of each class, as far as there are)"
    labels = f"numbers of labels, all classes together {default}"
    add("--labels", type=list_of(Number(int, 0, 1000000)), metavar="N,N", help=labels)
    add("--draws", type=Number(int, 1, 1000), default=10, help="number of draws of the labels")
    hands = "number of writers who wrote the labelled images; several are compared (default: any)"
    add("--hands", type=list_of(Number(int, 1, 1000)), metavar="N,N", help=hands)
    files = "encoders that train_simclr.py or train_moco.py saved; of NAME=FILE,FILE each draw takes the next"
    add("--encoders", type=named_path, nargs="+", default=[], metavar="NAME=FILE", help=files)
    add("--tune", action="store_true", help="score on validation images instead of the test images")
    return parser


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    command = cli.command_line(parser, args)
    names = [text.partition("=")[0] for text in args.encoders]
    if taken := [name for i, name in enumerate(names) if name in ("pixels", "supcon", *names[:i])]:
        parser.error(f"--encoders: the name {taken[0]!r} is taken")
    cli.resolve_machine(args)
    return args, command


def make_study(args: Namespace, data: Data, seed: int = 0) -> Study:
    """Return the data of the study, split by the seed; --tune scores on validation images."""
    images, scored = data
    splits = split(images.labels, VAL_FRACTION, seed, writers_for(args.split, images.labels))
    if args.tune:
        scored = images._replace(images=images.images[splits[1]], labels=images.labels[splits[1]])
    return Study((images, scored), splits, args.precision, 1 if args.dry_run else None)


def choose_methods(args: Namespace, encoders: list[str]) -> dict[str, tuple[Method, str]]:
    """Return the methods to compare, each with the name of its source; UserError for an unknown one."""
    table = method_table(encoders)
    if unknown := [name for name in args.methods or () if name not in table]:
        raise UserError(f"no method {unknown[0]!r}: choose from {', '.join(table)}; others need --encoders")
    return {name: table[name] for name in args.methods or table}


def make_jobs(args: Namespace, methods: dict[str, tuple[Method, str]]) -> list[dict]:
    """Return every training; draws are outermost, so that a stopped study has all of the first ones.

    0 labels are for methods that need none; UserError when there is nothing to do.
    """
    jobs = [
        {"method": name, "labels": count, **hands, "seed": args.seed + draw}
        for draw in range(args.draws)
        for count in args.labels
        for hands in [{"hands": number} for number in args.hands or ()] or [{}]
        for name, (method, _) in methods.items()
        if method.needs_labels in (None, count > 0)
    ]
    if not jobs:
        raise UserError("nothing to do: methods without labels need --labels 0, all others more")
    return jobs


def sample_labels(args: Namespace, study: Study, job: dict) -> torch.Tensor:
    """Return the positions of the labelled images in the pool; DataError when a class has too few."""
    if not job["labels"]:
        return torch.empty(0, dtype=torch.int64)
    classes = len(study.data[0].classes)
    if job["labels"] % classes:
        raise UserError(f"--labels {job['labels']}: must be a multiple of the {classes} classes")
    seed = job["seed"] + TUNING_DRAWS * args.tune
    labels, per_class = study.pool_labels, job["labels"] // classes
    if "hands" in job:
        writers = find_writers(study.data[0].labels)[study.splits[0]]
        return by_hands(labels, writers, job["hands"], per_class, seed)
    return few_labels(labels, per_class, seed)


def metric_name(args: Namespace) -> str:
    return "val_accuracy" if args.tune else "test_accuracy"


def run_job(args: Namespace, method: Method, source: Source, job: dict) -> dict:
    """Run one method on one draw; the record holds every wrong answer, {image: answer}."""
    chosen, labels = sample_labels(args, source.study, job), source.study.data[1].labels
    shared = source.prepare(method.shares)
    start = clock()
    answers = method.run(source, chosen, job["seed"]).argmax(1)
    return {
        **job,
        metric_name(args): float((answers == labels).float().mean()),
        "train_images": len(source.train_idx) if method.sees_unlabelled else job["labels"],
        "seconds": round(clock() - start, 3),
        "shared_seconds": round(shared, 3),
        "wrong": {i: int(answers[i]) for i in (answers != labels).nonzero().squeeze(1).tolist()},
    }


def plot_figures(run: RunFolder, args: Namespace, cells: list[dict]) -> None:
    if any(args.labels):
        plot_error_against_labels(cells, run.path("labels.png"), metric=metric_name(args))


@cli.command
def main(argv: list[str] | None = None) -> dict:
    args, command = parse(argv)
    data = cli.load_data(args)
    classes = len(data[0].classes)
    files = {name: paths.split(",") for name, _, paths in (text.partition("=") for text in args.encoders)}

    @functools.lru_cache(1)  # draws are the outermost loop
    def sources(seed):
        study = make_study(args, data, seed)
        networks = {name: [load_encoder(path).eval() for path in paths] for name, paths in files.items()}
        networks["pixels"] = [nn.Flatten()]
        return {name: [Source(study, study.place(each)) for each in some] for name, some in networks.items()}

    study = sources(0)["pixels"][0].study  # fail now, before a folder is made or replaced
    if args.dry_run:
        args.labels, args.draws = [0, classes], 1
    most = int(study.pool_labels.bincount(minlength=classes).min())
    args.labels = args.labels or [classes * count for count in PER_CLASS if count <= most]
    methods = choose_methods(args, list(files))
    jobs = make_jobs(args, methods)
    for job in {(job["labels"], job.get("hands")): job for job in jobs}.values():
        sample_labels(args, study, job)
    run = distributed.on_rank_zero(lambda: open_run("train_few_labels", args, "study", command))

    def work(job):
        method, source = methods[job["method"]]
        turns = sources(job["seed"] if args.split else 0)[source]
        return run_job(args, method, turns[job["seed"] % len(turns)], job)

    content = collect(work, jobs, args, run, group=("method", "labels", *["hands"] * bool(args.hands)))
    if distributed.rank() == 0:
        cli.draw(plot_figures, run, args, content["cells"])
        report_sweep(content, [metric_name(args)], run)
    return content


if __name__ == "__main__":
    main()
