"""The page of the benchmarks, and the table of the main ones in README.md."""

from report.results import Collection
from report.sections import EMPTY, origin
from report.tables import collapsed, devices_text, significant, table
from utils.errors import UserError

# The benchmarks in README.md: how the name of the ratio begins that is shown there, and what it compares.
SPEED = {
    "fast": ("", "training to 99 % test accuracy"),
    "augment": ("", "augmented images per second"),
    "simclr": ("training", "SimCLR training, images per second"),
    "mil": ("", "bags trained per second"),
}


def benchmarks_section(found: Collection) -> str:
    """Return a part for every benchmark: its ratios with their ranges, and the medians behind them."""
    parts = [found.attempt(benchmark_part, name, content) for name, content in found.benchmarks.items()]
    return "\n\n".join(part for part in parts if part) or EMPTY


def benchmark_part(name: str, content: dict) -> str:
    try:
        ratios = [
            [r["name"], ratio_value(r), ratio_range(r) or "one repeat", goal(r)] for r in content["ratios"]
        ]
        standard = [f"{r['name']}: {r['standard']}" for r in content["ratios"] if r.get("standard")]
        medians = [[row["name"], median_text(row)] for row in content["rows"]]
        bounds = [f"{model}: {facts['bound']}." for model, facts in content.get("models", {}).items()]
        repeats = content.get("repeats") or max(len(row["values"]) for row in content["rows"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"benchmarks/{name}.json: not a benchmark's file, {error!r}") from error
    devices = devices_text([content[key] for key in ("device", "cpu") if content.get(key)])
    head = ["comparison", "ratio", f"range of {repeats} repeats", "goal"]
    return "\n\n".join(
        [
            f"### {name}",
            " ".join([content["what"], *bounds]),
            *(["\n".join(f"- {line}" for line in standard)] if standard else []),
            *([table(head, ratios)] if ratios else []),
            collapsed("Medians", table(["measured", "median"], medians)),
            f"{devices}; {origin(content)}.",
        ]
    )


def median_text(row: dict) -> str:
    if row["median"] is None:
        return "not reached"
    if row["unit"].startswith("of the "):  # a share
        return f"{100 * row['median']:.1f} % {row['unit']}"
    return f"{significant(row['median'])} {row['unit']}"


def ratio_value(ratio: dict) -> str:
    return "not reached" if ratio["value"] is None else significant(ratio["value"])


def ratio_ends(ratio: dict) -> tuple[float, float] | None:
    """Return the least and the greatest ratio of the paired repeats, None for a single one."""
    if ratio.get("low") is not None and ratio.get("high") is not None:
        return ratio["low"], ratio["high"]
    values = [value for value in ratio.get("values", []) if value is not None]
    return (min(values), max(values)) if len(values) > 1 else None


def ratio_range(ratio: dict) -> str:
    ends = ratio_ends(ratio)
    return " to ".join(map(significant, ends)) if ends else ""


def goal(ratio: dict) -> str:
    """ "at least 8: reached", "not reached" or, where the repeats disagree, "open: the range crosses it"."""
    target = ratio.get("target")
    if target is None:
        return ""
    low, high = ratio_ends(ratio) or (ratio["value"] or 0,) * 2
    verdict = "reached" if low >= target else "not reached" if high < target else "open: the range crosses it"
    return f"at least {significant(target)}: {verdict}"


def speed_section(found: Collection) -> str:
    """Return how many times faster ours is in the main benchmarks, with the range."""
    lines, devices = [], []
    for name, (begin, title) in SPEED.items():
        content = found.benchmarks.get(name, {"ratios": []})
        if ratio := next((r for r in content["ratios"] if r["name"].startswith(begin)), None):
            lines.append([title, ratio_value(ratio), ratio_range(ratio)])
            devices.append(content["device"])
    head = ["against the standard way", "times faster", "range"]
    return f"{table(head, lines)}\n\nOn {devices_text(devices)}." if lines else EMPTY
