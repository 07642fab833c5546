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

import functools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import train_cnn
from data import SideBySide, bootstrap, folds, split
from models import ENCODERS, Fusion, create, load_model, save_model, stack, unstack
from models.ensembles import (
    COMBINATIONS,
    METRICS,
    average,
    choose,
    combine,
    error_overlap,
    greedy,
    growth,
    oracle,
)
from utils import distributed, plots, plots_ensemble, track
from utils.cli import (
    Parser,
    command,
    command_lines,
    fill,
    load_data,
    number,
    recipe_flags,
    resolve_machine,
    shared_flags,
)
from utils.errors import Fault
from utils.evaluate import calibration_error, fit_temperature, mcnemar, scale, score
from utils.fit import classification_step, fit
from utils.library import read_library
from utils.recipes import COLUMNS, RECIPES
from utils.repeat import repeat, share_out, train_part
from utils.run import Run, open_run

MODES = ("voting", "bagging", "snapshot", "fusion")
MEMBERS = 10
# A cycle of a snapshot run ends at a rate of zero; shorter than this it would not get anywhere.
LEAST_CYCLE = 2


def make_parser():
    parser = Parser(prog="ensemble.py", description=__doc__, parents=[shared_flags(), recipe_flags()])
    add = parser.add_argument_group("ensemble").add_argument
    add("--members", type=number(int, 2), help=f"members of a library; default: {MEMBERS}, or all of --from")
    add("--model", "--models", dest="models", metavar="NAME[,NAME...]", help="in turn; default: cnn")
    add("--from", dest="sources", nargs="+", metavar="RUN", help="combine finished runs, train nothing")
    add("--mode", choices=MODES, help="how members are trained; default: voting")
    add("--folds", dest="member_folds", type=number(int, 2), help="out-of-fold predictions of every member")
    add("--stacked", action="store_true", help="train the members of a library at once, as one network")
    add(
        "--val-fraction",
        type=number(float, 0, 1, open_low=True, open_high=True),
        help="share of the training images that validates; default: 0.1",
    )
    add("--split-seed", type=number(int, 0), default=0, help="of the validation images; default: 0")
    add("--combine", choices=COMBINATIONS, help="the headline; default: average, of fusion log_average")
    return parser


def parse(argv=None):
    """The arguments, checked, with their defaults filled in; those of recipes stay None."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.sources:
        training = [
            "models",
            "mode",
            "member_folds",
            "stacked",
            "val_fraction",
            "shifts",
            "dry_run",
            *COLUMNS,
        ]
        if given := [key for key in training if getattr(args, key)]:
            flag = given[0].removeprefix("member_").replace("_", "-")
            parser.error(f"--from trains nothing: leave out --{flag}")
        if args.runs > 1 and not args.members:
            parser.error("--runs of --from draws libraries: it needs --members")
    shown, resume = command_lines(parser, args)
    fill(args, {"models": "cnn", "mode": "voting"})
    models = args.models.split(",")
    if unknown := [name for name in models if name not in ENCODERS]:
        parser.error(f"unknown model {unknown[0]!r}: choose from {', '.join(ENCODERS)}")
    if args.member_folds and args.val_fraction:
        parser.error("--folds can't be joined with --val-fraction")
    if args.stacked and (args.mode not in ("voting", "bagging") or len(models) > 1):
        parser.error("--stacked is for one model and --mode voting or bagging")
    if args.stacked and member_args(args, models[0]).clip_norm:
        parser.error("--stacked can't clip each member's gradient: say --clip-norm 0")
    if args.mode in ("snapshot", "fusion") and len(models) > 1:
        parser.error(f"--mode {args.mode} is for one model")
    fill(args, {"val_fraction": 0.1, "combine": "log_average" if args.mode == "fusion" else "average"})
    if not args.sources:
        fill(args, {"members": MEMBERS})
    resolve_machine(args)
    return args, shown, resume


# --- Training members -----------------------------------------------------------------------------------


def training_units(args):
    """Lists of jobs, each to be trained by one process: single members, or libraries that belong together.

    Every member has a seed of its own, on from --seed; with several models they take turns in a library.
    """
    models, together = args.models.split(","), args.stacked or args.mode in ("snapshot", "fusion")
    units = []
    for first in range(args.seed, args.seed + args.runs * args.members, args.members):
        for fold in range(args.member_folds or 1):
            library = [{"seed": first + i, "model": models[i % len(models)]} for i in range(args.members)]
            if args.member_folds:
                library = [{**job, "fold": fold} for job in library]
            units += [library] if together else [[job] for job in library]
    return units


def member_folder(job):
    return f"member-{job['seed']}" + (f"-fold-{job['fold']}" if "fold" in job else "")


def member_args(args, model):
    """The arguments of one member's training: its model's recipe where no flag says otherwise."""
    own = SimpleNamespace(**vars(args), model=model)
    recipe = RECIPES[model]
    if args.mode == "snapshot":
        # The epochs of one run, cut into cycles of a cosine (Huang et al., 2017).
        cycle = max(LEAST_CYCLE, recipe["epochs"] // args.members)
        recipe = {**recipe, "epochs": cycle, "schedule": "cosine", "plain_epochs": 0, "ema": 0.0}
    fill(own, recipe)
    return own


def choose_images(args, labels, job):
    """(training, validation) indices of one training; members share the validation images."""
    try:
        if args.member_folds:
            train, val = folds(labels, args.member_folds, args.split_seed)[job["fold"]]
        else:
            train, val = split(labels, args.val_fraction, args.split_seed)
    except ValueError as error:
        raise Fault(f"cannot split {len(labels)} training images so: {error}") from error
    return (bootstrap(train, job["seed"]) if args.mode == "bagging" else train), val


def train_unit(args, data, run, jobs):
    """Train the members of one unit that are not finished."""
    todo = [(job, run.part(member_folder(job))) for job in jobs]
    if all(part.finished for _, part in todo):
        return
    if args.stacked or args.mode == "fusion":
        train_together(args, data, run, todo)
        return
    before = None

    def train(job, part):
        # A cycle of a snapshot run goes on from where the last one ended.
        model = load_model(before.path("best.pt")) if before else None
        images = choose_images(args, data[0].labels, job)
        return train_cnn.train(member_args(args, job["model"]), data, job, part, images, model)

    for job, part in todo:
        train_part(train, job, part, run, args.quiet)
        before = part


def train_together(args, data, run, todo):
    """Train one library's members as one network; the first one's part keeps its checkpoint and history."""
    own, jobs = member_args(args, todo[0][0]["model"]), [job for job, _ in todo]
    images = [choose_images(args, data[0].labels, job) for job in jobs]
    val_idx = images[0][1]
    members = []
    for job in jobs:
        torch.manual_seed(job["seed"])
        members.append(create(own.model))
    if not args.quiet:
        print(f"{len(todo)} members of {run.folder}, together", flush=True)
    prepare = fusion_training if args.mode == "fusion" else stacked_training
    network, step, batches, validate = prepare(own, data[0], jobs, images, members)
    facts = fit(network, step, batches, own, todo[0][1], validate)
    if args.stacked:
        unstack(network, members)

    for model, (job, part), (train_idx, _) in zip(members, todo, images, strict=True):
        save_model(part.path("best.pt"), model, own.model)
        record = {**job, **facts, "train_images": len(train_idx)}
        record["train_seconds"] = round(facts["train_seconds"] / len(todo), 3)
        finish = functools.partial(
            train_cnn.predict_and_score, model, data, val_idx, record, shifts=args.shifts
        )
        train_part(lambda _, part, finish=finish: finish(part), job, part, run, quiet=True)


def fusion_training(args, train_set, jobs, images, members):
    """What `fit` needs to train the mean of the members' logits on the batches of the first one's seed."""
    network = Fusion(members).to(args.device, memory_format=torch.channels_last)
    batches = train_cnn.make_batches(args, train_set, images[0][0], jobs[0]["seed"])
    step = classification_step(network, args.label_smoothing)

    def validate(network):
        return train_cnn.validation_figures(network, train_set, images[0][1], args.label_smoothing)

    return network, step, batches, validate


def stacked_training(args, train_set, jobs, images, members):
    """What `fit` needs to train the members side by side, each on the batches of its own seed.

    Best weights are those of the epoch with the least mean validation loss, one epoch for all members.
    """
    count = len(members)
    network = stack(members).to(args.device, memory_format=torch.channels_last)
    loaders = [
        train_cnn.make_batches(args, train_set, train_idx, job["seed"])
        for job, (train_idx, _) in zip(jobs, images, strict=True)
    ]
    for member in members:
        member.to(args.device, memory_format=torch.channels_last)

    def step(x, y):
        logits = network(x).float().view(-1, 10)
        mean = cross_entropy(logits, y.flatten(), label_smoothing=args.label_smoothing)
        # The value is the mean over the members, the gradient that of their sum, as if each were alone.
        loss = mean + (count - 1) * (mean - mean.detach())
        return loss, {"accuracy": (logits.argmax(1) == y.flatten()).float().mean()}

    def validate(network):
        unstack(network, members)
        found = [
            train_cnn.validation_figures(member, train_set, images[0][1], args.label_smoothing)
            for member in members
        ]
        return {key: float(np.mean([figures[key] for figures in found])) for key in found[0]}

    return network, step, SideBySide(loaders), validate


# --- Judging libraries ----------------------------------------------------------------------------------


def find_runs(args):
    """The folders that --from names: paths, or names within the results."""
    found = []
    for name in args.sources:
        places = [Path(name), Path(args.results_dir) / name]
        folder = next((place for place in places if place.is_dir()), None)
        if folder is None:
            raise Fault(
                f"--from {name}: no such run; its folder, or ensemble/pool for one in {args.results_dir}"
            )
        found.append(folder)
    return found


def draw_members(args, pool, job):
    """The members of one library: drawn from the pool of --from by the job's seed, else trained in a row."""
    size, first = args.members or len(pool.members), (job["seed"] - args.seed) * (args.members or 0)
    if not args.sources:
        return pool.choose(np.arange(first, first + size))
    drawn = np.random.default_rng(job["seed"]).choice(len(pool.members), size, replace=False)
    return pool.choose(np.sort(drawn))


def read_pool(args, folders):
    """All members, in one Library that is large enough."""
    pool = read_library(folders, args.dataset)
    count = len(pool.members)
    if count < 2:
        raise Fault(f"an ensemble has at least 2 members, found {count} in {', '.join(map(str, folders))}")
    if args.members and args.sources and (args.members > count or args.runs > 1 and args.members == count):
        raise Fault(f"cannot draw {args.runs} libraries of {args.members} from a pool of {count} members")
    return pool


def check_images(pool, test_set, args):
    if not np.array_equal(pool.test_y, test_set.labels.cpu().numpy()):
        raise Fault(f"the members' test labels are not those of {args.dataset} in {args.data_dir}")


def judge(args, pool, job, part):
    """Choose on the library's validation predictions, score on its test predictions; returns its record."""
    library = draw_members(args, pool, job)
    weights = choose(library.calibrated().val_p, library.val_y, job["seed"])
    combined = {
        name: [combine(name, p, weights) for p in (library.val_p, library.test_p)] for name in COMBINATIONS
    }
    val_y, test_y = library.val_y, library.test_y
    val_p, test_p = combined[args.combine]
    part.save_predictions(
        val_probabilities=val_p,
        val_labels=val_y,
        val_indices=library.val_indices,
        test_probabilities=test_p,
        test_labels=test_y,
    )
    record = {**job, "members": len(library.members), "train_images": round(library.mean("train_images"))}
    record |= {"library": library.names, **score(test_p, test_y, "test"), **score(val_p, val_y, "val")}
    plain = combined["average"][1].argmax(1) == test_y
    for name in COMBINATIONS:
        record |= figures(name, *combined[name], val_y, test_y, plain)
    record |= {f"{name}_weights": [round(float(w), 6) for w in values] for name, values in weights.items()}
    singles = [score(p, test_y, "mean_single_test") for p in library.test_p]
    for key in ("accuracy", "loss", "ece"):
        key = f"mean_single_test_{key}"
        record[key] = float(np.mean([single[key] for single in singles]))
    record["oracle_test_accuracy"] = float(oracle(library.test_p, test_y).mean())
    return {**record, "seconds": round(library.mean("seconds") * len(library.members), 2)}


def figures(name, val_p, test_p, val_y, test_y, plain):
    """The figures of one combination, named `<name>_<figure>`.

    temperature: fitted on validation; scaled_loss and scaled_ece: of the test probabilities under it. gain:
    accuracy above the plain average, whose test images are right in `plain`; mcnemar_p: the exact test of it.
    """
    kept = ("accuracy", "accuracy_low", "accuracy_high", "loss", "ece")
    scores = {**score(val_p, val_y, "val"), **score(test_p, test_y, "test")}
    values = {key: v for key, v in scores.items() if key.partition("_")[2] in kept}
    values["temperature"] = temperature = fit_temperature(val_p, val_y)
    scaled = scale(test_p, temperature)
    right = test_p.argmax(1) == test_y
    values |= {
        "test_scaled_loss": score(scaled, test_y, "test")["test_loss"],
        "test_scaled_ece": calibration_error(scaled, test_y),
        "test_gain": float(right.mean() - plain.mean()),
        "test_mcnemar_p": mcnemar(right, plain),
    }
    return {f"{name}_{key}": value for key, value in values.items()}


@command
def main(argv=None):
    args, shown, resume = parse(argv)
    track.check(args.track)
    data = load_data(args)
    if args.sources:
        folders = find_runs(args)
        pool = read_pool(args, folders)  # faults now, before a folder is made or replaced
        check_images(pool, data[1], args)
        default = "from-" + "-".join(folder.name for folder in folders)
    else:
        units = training_units(args)
        choose_images(args, data[0].labels, units[0][0])
        default = args.models.replace(",", "-") + (f"-{args.mode}" if args.mode != "voting" else "")
    run = distributed.first(lambda: open_run("ensemble", args, default, shown))
    if not args.sources:
        share_out(lambda *jobs: train_unit(args, data, run, jobs), units, resume(run))
        pool = read_pool(args, [run.folder])
    metrics = repeat(lambda job, part: judge(args, pool, job, part), args, run, resume(run))
    if distributed.rank() == 0:
        lines = [] if args.sources else member_history(pool)
        run.write_history(lines)
        draw(run, args, pool, metrics, data[1])
        report(metrics, run, args)
    return metrics


def member_history(pool):
    """The members' history lines, each with its member's seed, model and fold."""
    lines = []
    for member in pool.members:
        for folder in member.folders:
            run = Run(folder)
            record = run.read_json("metrics.json")["runs"][0]
            whose = {key: record[key] for key in ("seed", "model", "fold") if key in record}
            lines += [{**whose, **line} for line in run.history()]
    return lines


def draw(run, args, pool, metrics, test_set):
    """The run's figures; those of a single library show the first one."""
    job = {"seed": args.seed}
    library = draw_members(args, pool, job)
    calibrated = library.calibrated()
    selections = {metric: greedy(calibrated.val_p, library.val_y, metric) for metric in METRICS}
    plots_ensemble.combinations(metrics["runs"], COMBINATIONS, run.path("combinations.png"))
    plots_ensemble.members(library, run.path("members.png"))
    plots_ensemble.selection_paths(calibrated, selections, run.path("selection.png"))
    plots_ensemble.selection_weights(library.names, selections, run.path("weights.png"))
    plots_ensemble.growth(growth(pool.test_p, pool.test_y), run.path("size.png"))
    plots_ensemble.agreement(
        error_overlap(library.test_p, library.test_y), library.names, run.path("agreement.png")
    )
    if lines := run.history():
        plots.learning_curves(lines, run.path("curves.png"))
    plots.worst_mistakes(
        test_set.images.cpu().numpy(),
        library.test_y,
        average(library.test_p),
        run.path("mistakes.png"),
        among=~oracle(library.test_p, library.test_y),
        title="Test images that every member gets wrong: true and average's class, index, confidence",
    )


def report(metrics, run, args):
    """The combinations side by side, on the console."""
    mean, std, runs = metrics["mean"], metrics["std"], metrics["runs"]
    print("combination          test accuracy       loss     ECE   scaled   gain of accuracy over average")
    for name in COMBINATIONS:
        accuracy = f"{mean[f'{name}_test_accuracy']:.2%}"
        if len(runs) > 1:
            accuracy += f" +- {std[f'{name}_test_accuracy']:.2%}"
        loss, ece, scaled, gain = (
            mean[f"{name}_test_{key}"] for key in ("loss", "ece", "scaled_ece", "gain")
        )
        print(f"{name:19}  {accuracy:17}  {loss:.4f}  {ece:.4f}  {scaled:.4f}   {100 * gain:+.3f} points")
    print(f"mean single member   {mean['mean_single_test_accuracy']:.2%}")
    print(f"any member right     {mean['oracle_test_accuracy']:.2%}")
    libraries = f"{len(runs)} libraries" if len(runs) > 1 else "library"
    print(f"{libraries} of {runs[0]['members']} members; plots and metrics in {run.folder}/")


if __name__ == "__main__":
    main()
