"""Repeat a training over seeds or folds, shared out over torchrun's ranks, and summarise it."""

from argparse import Namespace
from collections.abc import Callable, Sequence

from utils import distributed
from utils.runs.folder import RunFolder, summarise


def jobs(args: Namespace) -> list[dict]:
    """Return one dict per training: seeds seed, seed + 1, ..., or the folds of one seed."""
    if getattr(args, "folds", None):
        return [{"seed": args.seed, "fold": fold} for fold in range(args.folds)]
    return [{"seed": args.seed + run} for run in range(getattr(args, "runs", 1))]


def parts(run: RunFolder, args: Namespace) -> list[RunFolder]:
    """Return the folder of every training: the run's own for a single training, else one below it each."""
    labels = [f"fold-{job['fold']}" if "fold" in job else f"seed-{job['seed']}" for job in jobs(args)]
    return [run] if len(labels) == 1 else [run.part(label) for label in labels]


def share_out(work: Callable, todo: Sequence[Sequence], together: bool = False) -> None:
    """Call work(*item) for this rank's share of the items, or for all if the ranks train together."""
    for item in todo if together else todo[distributed.rank() :: distributed.world()]:
        work(*item)
        if together:  # rank 0 evaluates alone, which may take longer than a rank waits within a training
            distributed.barrier()
    distributed.barrier()


def train_part(train: Callable, job: dict, part: RunFolder, run: RunFolder, quiet: bool = False) -> None:
    """Call train(job, part) unless `part` is finished, and write its record to metrics.json.

    part: `run` itself or a folder below it, which gets a copy of the run's config.
    """
    if part.finished:
        return
    if part is not run and not quiet:
        print(f"{part.folder.name} of {run.folder}", flush=True)
    record = train(job, part)
    if run.writes:
        if part is not run:
            part.write_json("config.json", run.read_json("config.json"))
        summarise(part, [record])


def repeat(
    train: Callable[[dict, RunFolder], dict | None], args: Namespace, run: RunFolder, together: bool = False
) -> dict:
    """Call train(job, part) for every unfinished job; return the metrics of the run, the same on all ranks.

    train: returns the record of one training, a flat dict of numbers and lists of numbers. together: all
    ranks take every job together, and the record of rank 0 counts; otherwise they share the jobs out.
    """
    run.writes = not together or distributed.rank() == 0
    todo = list(zip(jobs(args), parts(run, args), strict=True))
    share_out(lambda job, part: train_part(train, job, part, run, args.quiet), todo, together)
    records = [record for _, part in todo for record in part.records()]

    def merge():
        if len(todo) > 1:
            run.write_history([{**job, **line} for job, part in todo for line in part.history()])
        return summarise(run, records)

    return distributed.on_rank_zero(merge)
