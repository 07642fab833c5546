"""Repeat a training over seeds or folds, shared out over torchrun's ranks, and sum up."""

import contextlib
import sys

from utils import distributed
from utils.run import summarise


def jobs(args):
    """One dict per training: seeds seed, seed + 1, ... or the folds of one seed."""
    if getattr(args, "folds", None):
        return [{"seed": args.seed, "fold": fold} for fold in range(args.folds)]
    return [{"seed": args.seed + run} for run in range(args.runs)]


def label(job):
    return f"fold-{job['fold']}" if "fold" in job else f"seed-{job['seed']}"


def parts(run, args):
    """The folder of every training: the run's own if there is one, else folders within."""
    todo = jobs(args)
    return [run] if len(todo) == 1 else [run.part(label(job)) for job in todo]


@contextlib.contextmanager
def stoppable(resume_command):
    """Ctrl-C within ends the script with the command that goes on."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nstopped; what is done is kept. To go on:\n  {resume_command}", file=sys.stderr)
        sys.exit(130)


def share_out(work, todo, resume_command, together=False):
    """Call work(*item) for every item of `todo`, on rank r of w for items r, r + w, ...; then wait for all.

    together: every rank works on all items, because the ranks share each training. Ctrl-C ends with the
    command that resumes.
    """
    with stoppable(resume_command):
        for item in todo if together else todo[distributed.rank() :: distributed.world()]:
            work(*item)
    distributed.barrier()


def train_part(train, job, part, run, quiet=False):
    """Call train(job, part) unless `part` is finished, and write its record there.

    part: `run` itself or a folder within, which gets a copy of the run's config.
    """
    if part.finished:
        return
    if part is not run and not quiet:
        print(f"{part.folder.name} of {run.folder}", flush=True)
    record = train(job, part)
    if not run.writes:
        return
    if part is not run:
        part.write_json("config.json", run.read_json("config.json"))
    summarise(part, [record])


def repeat(train, args, run, resume_command, together=False):
    """Call train(job, part) for every job that is not finished; returns the run's metrics.

    `train` returns the record of one training, a flat dict of numbers and lists of numbers. Ranks take
    every world-th job, or, `together`, all of them take every job, and the first one's record counts. All
    ranks return the same metrics. Ctrl-C ends with the command that resumes.
    """
    run.writes = not together or distributed.rank() == 0
    todo = list(zip(jobs(args), parts(run, args), strict=True))
    share_out(lambda job, part: train_part(train, job, part, run, args.quiet), todo, resume_command, together)
    records = [record for _, part in todo for record in part.read_json("metrics.json")["runs"]]

    def merge():
        if len(todo) > 1:
            merged = [{**job, **line} for job, part in todo for line in part.history()]
            run.write_history(merged)
        return summarise(run, records)

    return distributed.first(merge)
