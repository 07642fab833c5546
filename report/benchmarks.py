"""The page of the benchmarks, and the table of the main ones in README.md."""

from report.results import Results
from report.sections import commit_text
from report.tables import EMPTY, collapsed, devices_text, significant, table

# The benchmarks in README.md: how the name of the ratio begins that stands there, and what it compares.
SPEED = {
    "fast": ("", "training to 99 % test accuracy"),
    "augment": ("", "augmented images per second"),
    "simclr": ("training", "SimCLR training, images per second"),
    "mil": ("", "bags trained per second"),
}


def benchmarks_section(results: Results) -> str:
    """Return a part for every benchmark: its ratios with their ranges, and the medians behind them."""
    folder, contents = results.folder / "benchmarks", results.benchmarks
    parts = [results.attempt(folder / f"{name}.json", part, name, contents[name]) for name in contents]
    return "\n\n".join(filter(None, parts)) or EMPTY


def part(name: str, content: dict) -> str:
    ratios = [[ratio["name"], *ratio_texts(ratio), goal_text(ratio)] for ratio in content["ratios"]]
    standard = [f"- {r['name']}: {r['standard']}" for r in content["ratios"] if r.get("standard")]
    medians = [[row["name"], median_text(row)] for row in content["rows"]]
    head = ["comparison", "ratio", f"range of {content['repeats']} repeats", "goal"]
    parts = [
        f"### {name}",
        content["what"],
        "\n".join(standard),
        table(head, ratios) if ratios else "",
        collapsed("Medians", table(["measured", "median"], medians)),
        f"{devices_text([content['device']])}; {commit_text(content)}.",
    ]
    return "\n\n".join(filter(None, parts))


def median_text(row: dict) -> str:
    if row["median"] is None:
        return "not reached"
    share = row["unit"].startswith("of the ")
    return (
        f"{100 * row['median']:.1f} % {row['unit']}"
        if share
        else f"{significant(row['median'])} {row['unit']}"
    )


def ratio_texts(ratio: dict) -> tuple[str, str]:
    """ "34.7", "25.6 to 43.3"; a ratio without a value was not reached."""
    if ratio["value"] is None:
        return "not reached", ""
    return significant(ratio["value"]), f"{significant(ratio['low'])} to {significant(ratio['high'])}"


def goal_text(ratio: dict) -> str:
    return f"at least {significant(ratio['target'])}: {ratio['verdict']}" if ratio.get("target") else ""


def speed_section(results: Results) -> str:
    """Return how many times faster the main benchmarks are than the standard way, with the range."""
    lines, devices = [], []
    for name, (begin, title) in SPEED.items():
        content = results.benchmarks.get(name, {"ratios": []})
        if ratio := next((r for r in content["ratios"] if r["name"].startswith(begin)), None):
            lines.append([title, *ratio_texts(ratio)])
            devices.append(content["device"])
    head = ["against the standard way", "times faster", "range"]
    return f"{table(head, lines)}\n\nOn {devices_text(devices)}." if lines else EMPTY
