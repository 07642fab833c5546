"""A grid of many small trainings whose results are one file, sweep.json, instead of a folder each."""

import statistics
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm

from utils import distributed
from utils.runs.files import append_line, read_lines
from utils.runs.folder import RunFolder, mean_and_std

RESULT = "sweep.json"


def collect(
    train: Callable[[dict], dict],
    todo: Sequence[dict],
    args: Namespace,
    run: RunFolder,
    group: Sequence[str] = (),
) -> dict:
    """Call train(job) for every job that the sweep has no record of; return the content of sweep.json.

    todo: distinct dicts of numbers and strings. train: returns a record that contains the job, with numbers
    and lists of numbers. Each record is one line of records-<rank>.jsonl, written before the next training
    begins. group: the keys of a job that name its cell. The jobs of one cell are repeats, over which mean
    and standard deviation are taken.
    """
    keys = tuple(todo[0])
    known = {identity(record, keys) for record in read_records(run, keys)}
    left = [job for job in todo if identity(job, keys) not in known]
    distributed.barrier()  # all ranks have read the records before any of them adds to them
    mine = left[distributed.rank() :: distributed.world()]
    with tqdm(total=len(mine), disable=args.quiet, unit="training") as bar:
        for job in mine:
            bar.set_postfix_str(", ".join(map(str, job.values())))
            append_line(run.path(f"records-{distributed.rank()}.jsonl"), train(job))
            bar.update()
            if distributed.rank() == 0:
                write(run, todo, group)  # so that the sweep can be inspected while it runs
    distributed.barrier()
    return distributed.on_rank_zero(lambda: write(run, todo, group))


def identity(record: dict, keys: Sequence[str]) -> tuple:
    return tuple(record[key] for key in keys)


def read_records(run: RunFolder, keys: Sequence[str] = ()) -> list[dict]:
    """Return all records of the sweep so far, with these keys; lines torn by a power failure are none."""
    lines = [line for path in sorted(run.folder.glob("records-*.jsonl")) for line in read_lines(path)]
    return [line for line in lines if {"seconds", *keys} <= line.keys()]


def write(run: RunFolder, todo: Sequence[dict], group: Sequence[str]) -> dict:
    """Write sweep.json: one cell for every value of the group, with mean and standard deviation."""
    keys = tuple(todo[0])
    known = {identity(record, keys): record for record in read_records(run, keys)}
    done = [job for job in todo if identity(job, keys) in known]
    cells: dict[tuple, list[dict]] = {}
    for job in done:
        cells.setdefault(identity(job, group), []).append(known[identity(job, keys)])
    content = {
        **run.head(),
        "trainings": [len(done), len(todo)],
        "seconds": round(sum(record["seconds"] for record in known.values()), 2),
        "cells": [_cell(group, rows) for rows in cells.values()],
    }
    run.write_json(RESULT, content)
    return content


def _cell(group: Sequence[str], rows: list[dict]) -> dict:
    """Summarise one cell: its records' numbers, their mean and std, and the means of lists by element."""
    intervals = (key for key in rows[0] if key.endswith(("_low", "_high")))
    summary = mean_and_std(rows, {*group, "seed", *intervals})
    lists = {
        f"mean_{key}": [round(statistics.fmean(v), 5) for v in zip(*(row[key] for row in rows), strict=True)]
        for key, value in rows[0].items()
        if isinstance(value, list) and all(row.get(key) for row in rows)
    }
    kept = ("seed", *summary["mean"])
    runs = [{key: _short(row[key]) for key in row if key in kept} for row in rows]
    return {**{key: rows[0][key] for key in group}, "runs": runs, **summary, **lists}


def _short(value: Any) -> Any:
    """Round a float to six digits: a sweep has thousands of numbers, and no table needs more digits."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
