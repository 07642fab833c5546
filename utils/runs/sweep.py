"""A grid of many small trainings whose results are one file, sweep.json, instead of a folder each."""

import statistics
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm

from utils import distributed
from utils.runs.files import append_line, read_lines
from utils.runs.folder import FORMAT, RunFolder, mean_and_std

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
    rank_file = run.path(f"records-{distributed.rank()}.jsonl")
    with tqdm(total=len(mine), disable=args.quiet, unit="training") as bar:
        for job in mine:
            bar.set_postfix_str(", ".join(map(str, job.values())))
            append_line(rank_file, train(job))
            bar.update()
            if distributed.rank() == 0:
                write(run, todo, keys, group)  # so that the sweep can be inspected while it runs
    distributed.barrier()
    return distributed.on_rank_zero(lambda: write(run, todo, keys, group))


def identity(record: dict, keys: Sequence[str]) -> tuple:
    return tuple(record[key] for key in keys)


def read_records(run: RunFolder, keys: Sequence[str] = ()) -> list[dict]:
    """Return all records of the sweep so far, with these keys; lines torn by a power failure are none."""
    paths = sorted(run.folder.glob("records-*.jsonl"))
    records = [record for path in paths for record in read_lines(path)[0]]
    return [record for record in records if {"seconds", *keys} <= record.keys()]


def write(run: RunFolder, todo: Sequence[dict], keys: Sequence[str], group: Sequence[str]) -> dict:
    """Write sweep.json: one cell for every value of the group, with mean and standard deviation."""
    wanted = {identity(job, keys) for job in todo}
    known = {identity(record, keys): record for record in read_records(run, keys)}
    cells: dict[tuple, list[dict]] = {}
    for job in todo:
        if identity(job, keys) in known:
            cells.setdefault(identity(job, group), []).append(known[identity(job, keys)])
    config = run.read_json("config.json")
    content = {
        "format": FORMAT,
        "script": config["script"],
        "name": config["name"],
        "command": config["command"],
        "dataset": config["arguments"]["dataset"],
        "device": config["device"],
        "trainings": [len(wanted & known.keys()), len(wanted)],
        "seconds": round(sum(record["seconds"] for record in known.values()), 2),
        "cells": [cell(dict(zip(group, key, strict=True)), rows) for key, rows in cells.items()],
    }
    run.write_json(RESULT, content)
    return content


def short(value: Any) -> Any:
    """Round a float to six digits: a sweep has thousands of numbers, and no table needs more digits."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def cell(head: dict, rows: list[dict]) -> dict:
    """Summarise one cell: its records' numbers, their mean and std, and the means of lists by element."""
    columns = {
        key: [row[key] for row in rows]
        for key in rows[0]
        if key not in (*head, "seed") and not key.endswith(("_low", "_high"))
        if all(row.get(key) is not None for row in rows)
    }
    lists = {key: column for key, column in columns.items() if isinstance(column[0], list)}
    numbers = {key: column for key, column in columns.items() if isinstance(column[0], int | float)}
    return {
        **head,
        "runs": [{key: short(row[key]) for key in row if key in ("seed", *numbers)} for row in rows],
        **mean_and_std(numbers),
        **{
            f"mean_{key}": [round(statistics.fmean(values), 5) for values in zip(*column, strict=True)]
            for key, column in lists.items()
        },
    }
