"""Train a library of classifiers, or take finished runs, combine them, and evaluate every combination.

    python ensemble.py --members 10 --model lenet          ten seeds of one model
    python ensemble.py --members 8 --models linear,mlp,lenet,cnn
    python ensemble.py --model lenet --mode bagging        or snapshot, fusion
    python ensemble.py --model lenet --folds 5             selection sees all training labels
    python ensemble.py --from results/ensemble/lenet results/cnn/cnn
    python ensemble.py --from ensemble/pool-cnn --members 10 --runs 3     three libraries from one pool
    python ensemble.py --from cnn/all                      members that train_cnn.py --val-fraction 0 made
    torchrun --nproc-per-node=4 ensemble.py --members 16 --model cnn

Every choice (the best member, weights, temperatures) is made on the validation images, which all members
share and none is trained on; members that trained on all images can only be averaged or vote. Results go to
results/ensemble/<name>/, one run per library: metrics.json has the metrics of every combination, those of
--combine under the plain names; member-*/ holds the members.
"""

from argparse import Namespace
from pathlib import Path

import numpy as np

import train_cnn
from data import ImageSet
from evaluation.ensemble.evaluate import evaluate_library
from evaluation.ensemble.library import Library, member_history, read_library
from evaluation.ensemble.selection import (
    COMBINATIONS,
    FIXED,
    METRICS,
    average,
    best_single,
    error_overlap,
    found_combinations,
    greedy,
    growth,
    oracle,
)
from models import ENCODERS
from utils import distributed
from utils.arguments import LARGEST_SEED, Number, any_path, name_list
from utils.cli import (
    Parser,
    choice,
    command,
    command_line,
    fill,
    load_data,
    recipe_flags,
    recipe_table,
    resolve_machine,
    training_flags,
)
from utils.errors import UserError
from utils.plots import cnn as plots
from utils.plots import ensemble as ensemble_plots
from utils.runs import tracking
from utils.runs.folder import RunFolder
from utils.runs.opening import open_run
from utils.runs.repeat import repeat, share_out
from utils.training.config import COLUMNS, RECIPES
from utils.training.ensemble import MODES, choose_images, member_config, train_unit, training_units

MEMBERS, VAL_FRACTION = 10, 0.1
MOST_TRAININGS = 10_000
# Flags that --from refuses, besides those of the recipe.
TRAINING_FLAGS = ("models", "mode", "member_folds", "stacked", "val_fraction", "shifts", "dry_run")


def make_parser() -> Parser:
    parser = Parser(
        prog="ensemble.py",
        description=__doc__,
        parents=[training_flags(), recipe_flags()],
        epilog=recipe_table(RECIPES, "recipes"),
    )
    # fmt: off
    add = parser.add_argument_group("ensemble").add_argument
    add("--members", type=Number(int, 2, 1000), metavar="N",
        help=f"members of a library (default: {MEMBERS}, or all of --from)")
    add("--model", "--models", dest="models", type=name_list(ENCODERS), metavar="A[,B,...]",
        help=f"models of the members, in turn (default: cnn): {', '.join(ENCODERS)}")
    add("--from", dest="sources", type=any_path, nargs="+", metavar="RUN",
        help="combine finished runs, train nothing")
    choice(add, "--mode", MODES, "how members are trained (default: voting)")
    add("--folds", dest="member_folds", type=Number(int, 2, 100), metavar="K",
        help="train every member on K folds; its validation predictions are out of fold")
    add("--stacked", action="store_true", help="train the members of a library at once, as one network")
    add("--val-fraction", type=Number(float, 0, 1, open_low=True, open_high=True), metavar="X",
        help=f"share of the training images that validates (default: {VAL_FRACTION})")
    add("--split-seed", type=Number(int, 0, LARGEST_SEED), default=0, metavar="N",
        help="of the validation images (default: 0)")
    choice(add, "--combine", COMBINATIONS, "the headline (default: average; of fusion log_average)")
    # fmt: on
    return parser


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments and the command; recipe values stay None."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.sources:
        if given := [
            key for key in (*TRAINING_FLAGS, *COLUMNS) if getattr(args, key) != parser.get_default(key)
        ]:
            flag = given[0].removeprefix("member_").replace("_", "-")
            parser.error(f"--from trains nothing: leave out --{flag}")
        if args.runs > 1 and not args.members:
            parser.error("--runs of --from draws libraries: it needs --members")
    shown = command_line(parser, args)
    fill(args, {"models": ["cnn"], "mode": "voting"})
    if args.member_folds and args.val_fraction:
        parser.error("--folds can't be combined with --val-fraction")
    if args.stacked and (args.mode not in ("voting", "bagging") or len(args.models) > 1):
        parser.error("--stacked is for one model and --mode voting or bagging")
    if args.stacked:
        config = member_config(args, args.models[0]).fit
        if config.clip_norm:
            parser.error("--stacked can't clip each member's gradient: use --clip-norm 0")
        if config.optimizer == "lars":
            parser.error("--stacked can't give each member its own LARS rate: use another --optimizer")
    if args.mode in ("snapshot", "fusion") and len(args.models) > 1:
        parser.error(f"--mode {args.mode} is for one model")
    fill(
        args, {"val_fraction": VAL_FRACTION, "combine": "log_average" if args.mode == "fusion" else "average"}
    )
    if not args.sources:
        fill(args, {"members": MEMBERS})
        if len(args.models) > args.members:
            parser.error(f"--members {args.members} is fewer than the {len(args.models)} models of --models")
        if (count := args.runs * args.members * (args.member_folds or 1)) > MOST_TRAININGS:
            parser.error(f"--runs, --members and --folds ask for {count:,} trainings: too many")
    resolve_machine(args)
    return args, shown


def find_runs(args: Namespace) -> list[Path]:
    """Return the folders that --from names: paths, or names below --results-dir."""
    folders = []
    for name in args.sources:
        places = [Path(name), Path(args.results_dir) / name]
        folder = next((place for place in places if place.is_dir()), None)
        if folder is None:
            raise UserError(
                f"--from {name}: no such run; name its folder, or ensemble/pool for one in {args.results_dir}"
            )
        folders.append(folder)
    return folders


def draw_members(args: Namespace, pool: Library, job: dict) -> Library:
    """Return one library: drawn from the pool of --from by the job's seed, or the members trained for it."""
    size, first = args.members or len(pool.members), (job["seed"] - args.seed) * (args.members or 0)
    if not args.sources:
        return pool.choose(np.arange(first, first + size))
    drawn = np.random.default_rng(job["seed"]).choice(len(pool.members), size, replace=False)
    return pool.choose(np.sort(drawn))


def read_pool(args: Namespace, folders: list[Path]) -> Library:
    """Read all members; UserError when they are too few for the libraries asked for."""
    pool = read_library(folders, args.dataset)
    count = len(pool.members)
    if count < 2:
        raise UserError(
            f"an ensemble has at least 2 members, found {count} in {', '.join(map(str, folders))}"
        )
    if not pool.validated and args.combine not in FIXED:
        raise UserError(f"the members have no validation images to choose on: --combine {', '.join(FIXED)}")
    if args.members and args.sources and (args.members > count or args.runs > 1 and args.members == count):
        raise UserError(f"cannot draw {args.runs} libraries of {args.members} from a pool of {count} members")
    return pool


def check_images(pool: Library, test_set: ImageSet, args: Namespace) -> None:
    if not np.array_equal(pool.test_y, test_set.labels.cpu().numpy()):
        raise UserError(f"the members' test labels are not those of {args.dataset} in {args.data_dir}")


@command
def main(argv: list[str] | None = None) -> dict:
    args, shown = parse(argv)
    tracking.check(args.track)
    data = load_data(args)
    folders = find_runs(args) if args.sources else []
    if args.sources:
        pool = read_pool(args, folders)  # fail now, before a folder is made or replaced
        check_images(pool, data[1], args)
        default = "from-" + "-".join(folder.name for folder in folders)
    else:
        units = training_units(args)
        choose_images(args, data[0].labels, units[0][0])
        default = "-".join(args.models) + (f"-{args.mode}" if args.mode != "voting" else "")
    run = distributed.on_rank_zero(lambda: open_run("ensemble", args, default, shown, reads=folders))
    if not args.sources:
        share_out(lambda *jobs: train_unit(train_cnn.train, args, data, run, jobs), units)
        pool = read_pool(args, [run.folder])
    metrics = repeat(
        lambda job, part: evaluate_library(draw_members(args, pool, job), args.combine, job, part),
        args,
        run,
    )
    if distributed.rank() == 0:
        lines = [] if args.sources else member_history(pool)
        run.write_history(lines)
        draw(run, args, pool, metrics, data[1])
        report(metrics, run)
    return metrics


def draw(run: RunFolder, args: Namespace, pool: Library, metrics: dict, test_set: ImageSet) -> None:
    """Draw the figures of a run; those of a single library show the first one."""
    job, records = {"seed": args.seed}, metrics["runs"]
    library = draw_members(args, pool, job)
    test_p, test_y = library.test_p, library.test_y
    whose = f"{len(library.members)} members"
    if len(records) > 1:
        whose += f", the first of {len(records)} libraries"

    ensemble_plots.combinations(records, found_combinations(metrics), run.path("combinations.png"))
    ensemble_plots.members(library, run.path("members.png"), whose)
    if library.validated:
        calibrated, val_y = library.calibrated(), library.val_y
        selections = {metric: greedy(calibrated, val_y, metric) for metric in METRICS}
        best = best_single(calibrated, val_y)
        ensemble_plots.selection_paths(library, selections, best, run.path("selection.png"), whose)
        ensemble_plots.selection_weights(library.names, selections, run.path("weights.png"), whose)
    ensemble_plots.growth(growth(test_p, test_y), run.path("size.png"), whose)
    overlap = error_overlap(test_p, test_y)
    ensemble_plots.agreement(overlap, library.names, run.path("agreement.png"), whose)
    if lines := run.history():
        records = [member.record for member in pool.members]
        plots.learning_curves(lines, run.path("curves.png"), records=records)
    plots.worst_mistakes(
        test_set.images.cpu().numpy(),
        test_y,
        average(test_p),
        run.path("mistakes.png"),
        test_set.classes,
        among=~oracle(test_p, test_y),
        title="Test images that every member gets wrong: true → class of the average, index, confidence",
    )


def report(metrics: dict, run: RunFolder) -> None:
    """Print the combinations side by side."""
    mean, std, runs = metrics["mean"], metrics["std"], metrics["runs"]
    print("combination          test accuracy       loss     ECE   scaled   gain of accuracy over average")
    for name in found_combinations(metrics):
        accuracy = f"{mean[f'{name}_test_accuracy']:.2%}"
        if len(runs) > 1:
            accuracy += f" +- {std[f'{name}_test_accuracy']:.2%}"
        loss, ece, gain = (mean[f"{name}_test_{key}"] for key in ("loss", "ece", "gain"))
        scaled = f"{mean[key]:.4f}" if (key := f"{name}_test_scaled_ece") in mean else "     -"
        print(f"{name:19}  {accuracy:17}  {loss:.4f}  {ece:.4f}  {scaled}   {100 * gain:+.3f} points")
    print(f"mean single member   {mean['mean_single_test_accuracy']:.2%}")
    print(f"any member right     {mean['oracle_test_accuracy']:.2%}")
    libraries = f"{len(runs)} libraries" if len(runs) > 1 else "library"
    print(f"{libraries} of {runs[0]['members']} members; figures and metrics in {run.folder}/")


if __name__ == "__main__":
    main()
