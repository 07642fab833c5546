"""How long a number took: everything it needed, counted once, measured alone on the machine where possible.

The seconds in a run's records are an upper bound, because other work on a machine only ever adds to them.
Where results/times.json has the seconds of one epoch, measured alone, the time is epochs times that.
"""

import re
from pathlib import PurePath
from statistics import median
from typing import NamedTuple

from report.results import Collection, Result
from report.tables import duration
from utils.runs.repeat import label

# The parts of evaluate_encoder that a score needs, timed in the records as <part>_seconds. With few labels
# the last part is timed per draw, and the probe with all labels is not needed.
FROZEN = ("features", "frozen")
PARTS = {
    "linear": FROZEN,
    "knn": FROZEN,
    "finetuned": (*FROZEN, "finetuned"),
    "kmeans": ("features", "kmeans"),
    "kmeans_spread": ("features", "graph", "kmeans", "kmeans_spread"),
    "kmeans_self_trained": ("features", "graph", "kmeans", "kmeans_spread"),
    "spread": ("features", "graph", "spread"),
    "self_trained": ("features", "graph", "self_trained"),
}
SCORE = re.compile(rf"test_(random_|pixels_)?({'|'.join(PARTS)})(_\d+)?_accuracy")


class Time(NamedTuple):
    """Seconds of work.

    bound: an upper bound, taken while the machine did other work. partial: without an evaluation that
    nobody timed.
    """

    seconds: float
    bound: bool = False
    partial: bool = False

    @property
    def text(self) -> str:
        """ "40 min"; "≤ 40 min" for a bound, "≤ 40 min + evaluation" when partial."""
        if self.seconds == 0:
            return "not timed" if self.partial else "none"
        return f"{'≤ ' * self.bound}{duration(self.seconds)}{' + evaluation' * self.partial}"


def total(times: list[Time]) -> Time:
    return Time(sum(t.seconds for t in times), any(t.bound for t in times), any(t.partial for t in times))


def typical(times: list[Time]) -> Time:
    """Return the median of the times of equal trainings."""
    return total(times)._replace(seconds=median(t.seconds for t in times))


def number_time(found: Collection, result: Result, metric: str) -> Time:
    """Return the time of one number of a run: a training, its evaluation and all that it builds on.

    A selection from a pool of members needs the whole pool.
    """
    if sources := result.arguments.get("sources"):
        return total([source_time(found, source) for source in dict.fromkeys(sources)])
    times = [typical(training_times(found, result))]
    if shared := [record["shared_seconds"] for record in result.records if "shared_seconds" in record]:
        times.append(Time(max(shared), bound=True))  # what all draws of a few-label study share
    if is_encoder(result):
        score = SCORE.fullmatch(metric)
        if score and score[1]:
            times = []  # a random encoder and raw pixels need no training
        times.append(evaluation_time(found, result, metric))
    if (base := result.arguments.get("encoder") or "").endswith(".pt"):
        times += [source_time(found, file) for file in base.split("+")]
    return total(times)


def run_time(found: Collection, result: Result) -> Time:
    """Return the time of everything that a run computes; zero for a selection of finished members."""
    if result.arguments.get("sources"):
        return Time(0.0)
    times = training_times(found, result)
    if is_encoder(result):
        seconds = [
            value
            for record in result.records
            for key, value in record.items()
            if key.endswith("_seconds") and key != "train_seconds"
        ]
        times.append(Time(sum(seconds), bound=bool(seconds), partial=not seconds))
    return total(times)


def training_times(found: Collection, result: Result) -> list[Time]:
    """Return the time of every training of a run; of a library, of all its members."""
    if "members" in result.arguments:
        if len(result.records) == 1 and result.history:
            entries = [timed(found, result, line.get("model", "")) for line in result.history]
            seconds = [entry["seconds_per_epoch"] for entry in entries if entry]
            if len(seconds) == len(entries):
                return [Time(sum(seconds))]
    elif entry := timed(found, result):
        return [Time(record["epochs"] * entry["seconds_per_epoch"]) for record in result.records]
    return [Time(record["seconds"], bound=True) for record in result.records]


def timed(found: Collection, result: Result, model: str = "") -> dict | None:
    """Return the entry of times.json for a run, or for the members of this model; None without one."""
    experiment = found.experiment(result.key)
    alias = experiment.timed_as if experiment and experiment.timed_as else ""
    return found.times.get(result.key) or found.times.get(alias.replace("{model}", model))


def is_encoder(result: Result) -> bool:
    """Whether a run pre-trains an encoder; the seconds of its records are without the evaluation."""
    return "test_knn_accuracy" in result.metrics["mean"]


def evaluation_parts(metric: str) -> list[str]:
    """Return the <part>_seconds that a score of an encoder needs; none for a metric that is not timed."""
    if not (score := SCORE.fullmatch(metric)):
        return []
    prefix, what, count = score.groups(default="")
    *before, last = PARTS[what]
    if count:
        before = [part for part in before if part != "frozen"]
    parts = [part for part in (*before, last + count) if not (prefix and part == "features")]
    return [f"{prefix}{part}_seconds" for part in parts]


def evaluation_time(found: Collection, result: Result, metric: str) -> Time:
    """Return the time of the parts of the evaluation that a score needs, partial where one was not timed.

    Seconds in times.json, measured alone, replace those of the records.
    """
    alone, parts = found.times.get(result.key, {}), evaluation_parts(metric)
    lacking = [part for part in parts for record in result.records if part not in {**record, **alone}]
    if lacking or not parts:
        return Time(0.0, partial=True)
    sums = [sum({**record, **alone}[part] for part in parts) for record in result.records]
    return Time(median(sums), bound=any(part not in alone for part in parts))


def source_time(found: Collection, source: str) -> Time:
    """Return the time of a run that another one builds on, or of one of its trainings.

    source: a run's folder, the folder of one training or a file in it, e.g. "ensemble/pool-cnn" or
    "results/simclr/simclr/seed-0/encoder.pt". A run that is not among the results was not timed.
    """
    path = PurePath(source)
    words = path.parent.parts if path.suffix == ".pt" else path.parts
    own = re.fullmatch(r"(seed|fold)-\d+", words[-1]) is not None
    result = found.results.get("/".join(words[-3:-1] if own else words[-2:]))
    if result is None:
        return Time(0.0, partial=True)
    times = training_times(found, result)
    if own:
        pairs = zip(times, result.records, strict=True)
        times = [time for time, record in pairs if label(record) == words[-1]]
    if is_encoder(result) and path.suffix != ".pt":  # a member: the probe on its features
        times += [evaluation_time(found, result, "test_linear_accuracy")]
    return total(times)
