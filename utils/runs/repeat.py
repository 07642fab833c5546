"""Many trainings, shared out over torchrun's ranks: repeats with a folder each, or a sweep in one file."""

import contextlib
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from utils import distributed
from utils.console import aligned, print_line, progress, score
from utils.errors import UserError
from utils.runs.files import append_line, read_lines
from utils.runs.folder import RunFolder, check_records, mean_and_std, summarise

RESULT = "sweep.json"


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

    part: `run` itself or a folder below it, which gets a copy of the run's config. A record without "seconds"
    gets those of the call.
    """
    if part.finished:
        return
    if part is not run and not quiet:
        print(f"{part.folder.name} of {run.folder}", flush=True)
    start = time.perf_counter()
    record = train(job, part)
    if run.writes:
        record.setdefault("seconds", round(time.perf_counter() - start, 2))
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


def collect(
    train: Callable[[dict], dict], todo: Sequence[dict], args: Namespace, run: RunFolder, group: Sequence[str]
) -> dict:
    """Call train(job) for every job that the sweep has no record of; return the content of sweep.json.

    todo: distinct dicts of numbers and strings. train: returns a record that contains the job, with numbers
    and lists of numbers. Each record is one line of records-<rank>.jsonl, written before the next training
    begins. group: the keys of a job that name its cell. The jobs of one cell are repeats, over which mean
    and standard deviation are taken.
    """
    identity = itemgetter(*todo[0])
    known = set(map(identity, read_records(run, tuple(todo[0]))))
    left = [job for job in todo if identity(job) not in known]
    distributed.barrier()  # all ranks have read the records before any of them adds to them
    mine = left[distributed.rank() :: distributed.world()]
    with progress(len(mine), args.quiet, "training") as bar:
        for number, job in enumerate(mine, 1):
            text = ", ".join(map(str, job.values()))
            bar.set_postfix_str(text)
            if bar.disable and not args.quiet:
                print_line(f"training {number} of {len(mine)}: {text}")
            append_line(run.path(f"records-{distributed.rank()}.jsonl"), train(job))
            bar.update()
            if distributed.rank() == 0:
                write(run, todo, group)  # so that the sweep can be inspected while it runs
    distributed.barrier()
    return distributed.on_rank_zero(lambda: write(run, todo, group))


def report_sweep(content: dict, metrics: Sequence[str], run: RunFolder) -> None:
    """Print a line for every cell: mean and deviation of each metric, and the lowest value of the first."""
    keys = [key for key, value in content["cells"][0].items() if isinstance(value, int | str)]
    rows = [[name.replace("_", " ") for name in (*keys, *metrics, "lowest")]]
    for cell in content["cells"]:
        lowest = {"mean": min(cell["runs"], key=lambda record: record[metrics[0]]), "std": {metrics[0]: None}}
        scores = [*(score(cell, metric) for metric in metrics), score(lowest, metrics[0])]
        rows.append([*(str(cell[key]) for key in keys), *scores])
    print(*aligned(rows), sep="\n")
    print(f"{content['seconds']:.0f} s in all; figures and metrics in {run.folder}/")


def read_records(run: RunFolder, keys: Sequence[str] = ()) -> list[dict]:
    """Return all records of the sweep so far, with these keys; lines torn by a power failure are none."""
    lines = [line for path in sorted(run.folder.glob("records-*.jsonl")) for line in read_lines(path)]
    return [line for line in lines if is_record(line, keys)]


def is_record(line: dict, keys: Sequence[str]) -> bool:
    with contextlib.suppress(UserError):
        check_records([line], Path())
        return all(isinstance(line.get(key), int | float | str) for key in keys)
    return False


def write(run: RunFolder, todo: Sequence[dict], group: Sequence[str]) -> dict:
    """Write sweep.json: one cell for every value of the group, with mean and standard deviation."""
    identity, cell = itemgetter(*todo[0]), itemgetter(*group)
    known = {identity(record): record for record in read_records(run, tuple(todo[0]))}
    done = [job for job in todo if identity(job) in known]
    cells: dict[tuple, list[dict]] = {}
    for job in done:
        cells.setdefault(cell(job), []).append(known[identity(job)])
    content = {
        **run.head(),
        "trainings": [len(done), len(todo)],
        "seconds": round(sum(record["seconds"] for record in known.values()), 2),
        "cells": [_cell(group, rows) for rows in cells.values()],
    }
    run.write_json(RESULT, content)
    return content


def _cell(group: Sequence[str], rows: list[dict]) -> dict:
    """Summarise one cell: its records' numbers, their mean and std."""
    intervals = (key for key in rows[0] if key.endswith(("_low", "_high")))
    summary = mean_and_std(rows, {*group, "seed", *intervals})
    kept = ("seed", *summary["mean"])
    runs = [{key: _short(row[key]) for key in row if key in kept} for row in rows]
    return {**{key: rows[0][key] for key in group}, "runs": runs, **summary}


def _short(value: Any) -> Any:
    """Round a float to six digits: a sweep has thousands of numbers, and no table needs more digits."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
