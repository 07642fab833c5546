"""The page of the benchmarks, and the table of the main ones in README.md."""

from report import text
from report.results import Results

# The rows of README.md: benchmark, beginning of the ratio's name, label of the row.
SPEED = (
    ("fast", "", "training to 99 % test accuracy"),
    ("fast", "images/s in our loop", "images per second: our network for the usual one, in our loop"),
    ("fast", "images/s of our network", "images per second: our loop for the usual one, on our network"),
    (
        "fast",
        "images/s of their network",
        "images per second: our loop for the usual one, on the usual network",
    ),
    ("augment", "", "augmented images per second"),
    ("simclr", "training", "SimCLR training, images per second"),
    ("mil", "", "bags trained per second"),
)
STANDARD = "PIL images in a DataLoader"  # what the files call the standard way


def benchmarks_section(results: Results) -> str:
    """Return the ratios of every benchmark with their ranges, and the medians behind them."""
    path, contents = results.folder / "benchmarks", results.benchmarks
    parts = [results.attempt(path / f"{name}.json", one_benchmark, name, contents[name]) for name in contents]
    return "\n\n".join(filter(None, parts)).replace("standard way", STANDARD) or text.EMPTY


def one_benchmark(name: str, content: dict) -> str:
    ratios, standard, medians = [], [], []
    for ratio in content["ratios"]:
        target = ratio["target"]
        goal = f"at least {text.significant(target)}: {ratio['verdict']}" if target else ""
        ratios.append([ratio["name"], *ratio_texts(ratio), goal])
        standard += [text.escape(f"- {ratio['name']}: {ratio['standard']}")] if ratio["standard"] else []
    for row in content["rows"]:
        median = (
            "not reached" if row["median"] is None else f"{text.significant(row['median'])} {row['unit']}"
        )
        medians.append([row["name"], median])
    table = text.table(["comparison", "ratio", f"range of {content['repeats']} repeats", "goal"], ratios)
    details = text.collapsed("Medians", text.table(["measured", "median"], medians))
    origin = f"{text.devices([content['device']])}; commit {text.escape(str(content['commit']))}."
    parts = [f"### {name}", text.escape(content["what"]), "\n".join(standard), table, details, origin]
    return "\n\n".join(filter(None, parts))


def ratio_texts(ratio: dict) -> tuple[str, str]:
    """ "34.7", "25.6 to 43.3"; a ratio without a value was not reached."""
    if ratio["value"] is None:
        return "not reached", ""
    value, low, high = (text.significant(ratio[key]) for key in ("value", "low", "high"))
    return value, f"{low} to {high}"


def speed_section(results: Results) -> str:
    """Return how many times faster the main benchmarks are than the usual way, with the range."""
    lines, devices = [], []
    for name, prefix, label in SPEED:
        content = results.benchmarks.get(name, {"ratios": []})
        for ratio in [ratio for ratio in content["ratios"] if ratio["name"].startswith(prefix)][:1]:
            lines.append([label, *ratio_texts(ratio)])
            devices.append(content["device"])
    head = [f"against {STANDARD}", "times faster", "range"]
    return f"{text.table(head, lines)}\n\nOn {text.devices(devices)}." if lines else text.EMPTY
