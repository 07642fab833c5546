"""Train a library of classifiers, or take finished runs, combine them, and judge every combination.

    python ensemble.py --members 10 --model lenet          ten seeds of one model
    python ensemble.py --members 8 --models linear,mlp,lenet,cnn
    python ensemble.py --model lenet --mode bagging        or snapshot, fusion
    python ensemble.py --model lenet --folds 5             selection sees all training labels
    python ensemble.py --from results/ensemble/lenet results/cnn/cnn
    python ensemble.py --from ensemble/pool-cnn --members 10 --runs 3     three libraries of one pool
    torchrun --nproc-per-node=4 ensemble.py --members 16 --model cnn

Whatever is chosen (the best member, weights, temperatures) is chosen on the validation images, which all
members share and none was trained on. Results go to results/ensemble/<name>/, a run per library: metrics.json
has the figures of every combination, those of --combine under the plain names; member-*/ the trained members.
"""

from types import SimpleNamespace

import numpy as np

import train_cnn
from data import bootstrap, folds, split
from models import ENCODERS
from utils import distributed, track
from utils.cli import (
    Parser,
    command,
    command_line,
    fill,
    number,
    recipe_flags,
    resolve_machine,
    shared_flags,
)
from utils.errors import Fault
from utils.evaluate import score
from utils.recipes import RECIPES
from utils.repeat import repeat, share_out, train_part
from utils.run import open_run

MODES = ("voting", "bagging", "snapshot", "fusion")
MEMBERS = 10


def make_parser():
    parser = Parser(prog="ensemble.py", description=__doc__, parents=[shared_flags(), recipe_flags()])
    add = parser.add_argument
    add("--members", type=number(int, 2), help=f"members of a library; default: {MEMBERS}, or all of --from")
    add("--model", "--models", dest="models", default="cnn", metavar="NAME[,NAME...]", help="default: cnn")
    add("--from", dest="sources", nargs="+", metavar="RUN", help="finished runs, in place of training")
    add("--mode", choices=MODES, default="voting", help="how members are trained; default: voting")
    add("--folds", dest="member_folds", type=number(int, 2), help="out-of-fold predictions of every member")
    add("--stacked", action="store_true", help="train the members at once, as one grouped network")
    add(
        "--val-fraction",
        type=number(float, 0, 1, open_low=True, open_high=True),
        help="share of the training images that validates, default: 0.1",
    )
    add("--split-seed", type=number(int, 0), default=0, help="of the validation images; default: 0")
    return parser


def parse(argv=None):
    parser = make_parser()
    args = parser.parse_args(argv)
    unknown = [name for name in args.models.split(",") if name not in ENCODERS]
    if unknown:
        parser.error(f"unknown model {unknown[0]!r}: choose from {', '.join(ENCODERS)}")
    if args.member_folds and args.val_fraction is not None:
        parser.error("--folds can't be joined with --val-fraction")
    shown = command_line(parser, args)
    resume = command_line(parser, args, leave_out={"name", "resume", "overwrite"})
    fill(args, {"val_fraction": 0.1, "members": MEMBERS})
    resolve_machine(args)
    return args, shown, resume


def member_jobs(args):
    """One dict per training. Member i of library r is the (i mod n)-th of n models, with a seed of its own."""
    models, jobs = args.models.split(","), []
    for number in range(args.runs * args.members):
        job = {"seed": args.seed + number, "model": models[number % args.members % len(models)]}
        jobs += [{**job, "fold": k} for k in range(args.member_folds)] if args.member_folds else [job]
    return jobs


def member_folder(job):
    return f"member-{job['seed']}" + (f"-fold-{job['fold']}" if "fold" in job else "")


def member_args(args, model):
    """The arguments of one member's training: its model's recipe where no flag says otherwise."""
    own = SimpleNamespace(**vars(args))
    own.model = model
    fill(own, RECIPES[model])
    return own


def choose_images(args, labels, job):
    """(training, validation) indices of one training; all members share the validation images."""
    try:
        if args.member_folds:
            train, val = folds(labels, args.member_folds, args.split_seed)[job["fold"]]
        else:
            train, val = split(labels, args.val_fraction, args.split_seed)
    except ValueError as error:
        raise Fault(f"cannot split {len(labels)} training images so: {error}") from error
    return (bootstrap(train, job["seed"]) if args.mode == "bagging" else train), val


def train_member(args, data, job, part):
    images = choose_images(args, data[0].labels, job)
    return train_cnn.train(member_args(args, job["model"]), data, job, part, images)


def judge(args, parts, job, part):
    found = [p.predictions() for p in parts]
    p = np.mean([f["test_probabilities"] for f in found], 0)
    v = np.mean([f["val_probabilities"] for f in found], 0)
    part.save_predictions(
        test_probabilities=p,
        test_labels=found[0]["test_labels"],
        val_probabilities=v,
        val_labels=found[0]["val_labels"],
        val_indices=found[0]["val_indices"],
    )
    return {**job, "seconds": 0.0, **score(p, found[0]["test_labels"], "test")}


@command
def main(argv=None):
    args, shown, resume = parse(argv)
    track.check(args.track)
    data = train_cnn.load_data(args)
    todo = member_jobs(args)
    choose_images(args, data[0].labels, todo[0])  # faults now, before a folder is made or replaced
    run = distributed.first(lambda: open_run("ensemble", args, args.models.replace(",", "-"), shown))
    resume += f" --name {run.folder.name} --resume"
    todo = [(job, run.part(member_folder(job))) for job in todo]
    share_out(
        lambda job, part: train_part(
            lambda job, part: train_member(args, data, job, part), job, part, run, args.quiet
        ),
        todo,
        resume,
    )
    parts = [part for _, part in todo]
    metrics = repeat(lambda job, part: judge(args, parts, job, part), args, run, resume)
    print(metrics["mean"]["test_accuracy"])
    return metrics


if __name__ == "__main__":
    main()
