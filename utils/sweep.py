"""A grid of many small trainings whose results are one file, sweep.json, in place of a folder each."""

import json
import statistics

from tqdm import tqdm

from utils import distributed
from utils.repeat import stoppable
from utils.run import FORMAT

RESULT = "sweep.json"


def collect(train, todo, args, run, resume_command, group=()):
    """Call train(job) for every job of which the sweep has no record; returns sweep.json's content.

    todo: dicts of numbers and strings, no two alike. `train` returns a record that holds the job too, flat
    but for lists of numbers. Each is kept as a line of records-<rank>.jsonl, on disk before the next one
    begins; ranks take every world-th of what is left. group: the keys of a job that name its cell; the jobs
    of one cell are repeats, over which mean and standard deviation go.
    """
    keys = tuple(todo[0])
    known = {identity(record, keys) for record in records(run)}
    left = [job for job in todo if identity(job, keys) not in known]
    distributed.barrier()  # every rank has read what there is before any of them adds to it
    mine = left[distributed.rank() :: distributed.world()]
    rank_file = run.path(f"records-{distributed.rank()}.jsonl")
    with stoppable(resume_command), tqdm(total=len(mine), disable=args.quiet, unit="training") as bar:
        for job in mine:
            bar.set_postfix_str(", ".join(map(str, job.values())))
            record = train(job)
            append(rank_file, record)
            bar.update()
            if distributed.rank() == 0:
                write(run, todo, keys, group)  # what there is so far can be looked at
    distributed.barrier()
    return distributed.first(lambda: write(run, todo, keys, group))


def append(path, record):
    """Add a line; one that was cut off before it stays a line of its own."""
    before = path.read_bytes() if path.exists() else b""
    cut_off = before != b"" and not before.endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" * cut_off + json.dumps(record) + "\n")


def identity(record, keys):
    return tuple(record[key] for key in keys)


def records(run):
    """All that the sweep has so far; a last line that was cut off by a power failure is left out."""
    found = []
    for path in sorted(run.folder.glob("records-*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def write(run, todo, keys, group):
    """sweep.json: a cell for every value of the group that has records, with their means and deviations."""
    wanted = {identity(job, keys) for job in todo}
    known = {identity(record, keys): record for record in records(run)}
    cells = {}
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


def short(value):
    """A number with six digits: a sweep has thousands of them, and no figure needs more."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def cell(head, rows):
    """One cell: mean and std of its records' numbers, lists element by element, and the numbers themselves.

    std is None for a single record.
    """
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
        "mean": {key: statistics.fmean(column) for key, column in numbers.items()},
        "std": {key: statistics.stdev(column) if len(rows) > 1 else None for key, column in numbers.items()},
        **{
            f"mean_{key}": [round(statistics.fmean(values), 5) for values in zip(*column, strict=True)]
            for key, column in lists.items()
        },
    }
