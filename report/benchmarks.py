"""The page of the benchmarks, and the table of the main ones in README.md."""

from report import text
from report.results import Results

# The rows of README.md: benchmark, beginning of the ratio's name, label of the row.
SPEED = (
    ("fast", "", "training to 99 % test accuracy"),
    ("fast", "images/s in our loop", "images per second: our network for the usual one, in our loop"),
    ("fast", "images/s of our network", "images per second: our loop for the usual one, on our network"),
    ("fast", "images/s of their", "images per second: our loop for the usual one, on the usual network"),
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
    ratios = [[ratio["name"], *ratio_texts(ratio)] for ratio in content["ratios"]]
    standard = [f"- {ratio['name']}: {ratio['standard']}" for ratio in content["ratios"] if ratio["standard"]]
    medians = [[row["name"], f"{text.significant(row['median'])} {row['unit']}"] for row in content["rows"]]
    table = text.table(["comparison", "ratio", f"range of {content['repeats']} repeats", "goal"], ratios)
    details = text.collapsed("Medians", text.table(["measured", "median"], medians))
    origin = f"{text.devices([content['device']])}; commit {text.escape(str(content['commit']))}."
    described = text.escape(content["what"]), "\n".join(map(text.escape, standard))
    return "\n\n".join(filter(None, [f"### {name}", *described, table, details, origin]))


def ratio_texts(ratio: dict) -> tuple[str, str, str]:
    """Return value, range and goal: "34.7", "25.6 to 43.3", "at least 8: reached", "" for none."""
    value, *ends = (text.significant(ratio[key]) for key in ("value", "low", "high"))
    goal = f"at least {text.significant(ratio['target'])}: {ratio['verdict']}" if ratio["target"] else ""
    return value, " to ".join(ends), goal


def speed_section(results: Results) -> str:
    """Return how many times faster the main benchmarks are than the usual way, with the range."""
    lines, devices = [], []
    for name, prefix, label in SPEED:
        content = results.benchmarks.get(name, {"ratios": []})
        for ratio in [ratio for ratio in content["ratios"] if ratio["name"].startswith(prefix)][:1]:
            lines.append([label, *ratio_texts(ratio)[:2]])
            devices.append(content["device"])
    head = [f"against {STANDARD}", "times faster", "range"]
    return f"{text.table(head, lines)}\n\nOn {text.devices(devices)}." if lines else text.EMPTY
