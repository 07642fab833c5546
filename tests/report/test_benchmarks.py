"""The page of benchmarks: ratios with ranges and goals, in the present and in the older form of the files."""

from pathlib import Path

import pytest
from made_up import benchmark

from report.benchmarks import benchmarks_section, goal, speed_section
from report.results import Collection
from report.sections import EMPTY


def collection(**contents):
    return Collection(Path("results"), benchmarks=contents)


def test_a_benchmark_shows_its_ratio_range_goal_and_the_standard_way():
    text = benchmarks_section(collection(fast=benchmark(cpu="Intel(R) Xeon(R) 8481C", repeats=5)))
    assert text == (
        "### fast\n\nSeconds to 99 %.\n\n- standard way / ours: a DataLoader and Adam\n\n"
        "| comparison | ratio | range of 5 repeats | goal |\n| --- | --- | --- | --- |\n"
        "| standard way / ours | 47.3 | 40.5 to 187 | at least 30: reached |\n\n"
        "<details>\n<summary>Medians</summary>\n\n| measured | median |\n| --- | --- |\n"
        "| ours | 7.4 s |\n| standard way | 350 s |\n\n</details>\n\n"
        "Intel Xeon, 2 threads; Intel Xeon 8481C; commit 0123456789ab."
    )


def test_the_older_form_has_its_range_from_the_paired_values():
    ratio = {"name": "ours / standard way", "value": 6.0, "values": [4.6, 8.4, 6.0], "target": 5}
    content = benchmark("mil", ratios=[ratio], commit="0123-dirty", models={"cnn": {"bound": "memory"}})
    text = benchmarks_section(collection(mil=content))
    assert "| ours / standard way | 6 | 4.6 to 8.4 | at least 5: open: the range crosses it |" in text
    assert "Seconds to 99 %. cnn: memory." in text
    assert "commit 0123-dirty, not a clean one." in text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        ({"value": 9.0, "low": 8.0, "high": 10.0, "target": 8}, "at least 8: reached"),
        ({"value": 9.0, "low": 7.0, "high": 10.0, "target": 8}, "at least 8: open: the range crosses it"),
        ({"value": 6.0, "low": 5.0, "high": 7.0, "target": 8}, "at least 8: not reached"),
        ({"value": 9.0, "values": [9.0], "target": 8}, "at least 8: reached"),
        ({"value": None, "values": [None, None], "target": 8}, "at least 8: not reached"),
        ({"value": 9.0, "values": [9.0], "target": None}, ""),
    ],
)
def test_goals(ratio, text):
    assert goal(ratio) == text


def test_a_damaged_benchmark_is_named_and_the_rest_rendered():
    found = collection(bad=benchmark("bad", rows=[{"name": "ours"}]), fast=benchmark())
    assert benchmarks_section(found).startswith("### fast")
    assert found.faults == ["benchmarks/bad.json: not a benchmark's file, KeyError('median')"]
    assert benchmarks_section(collection()) == EMPTY


def test_the_front_page_shows_one_ratio_of_the_main_benchmarks():
    views = {"name": "two views alone", "value": 27.0, "low": 21.0, "high": 28.0, "target": 8}
    training = {"name": "training, ours / standard way", "value": 2.85, "low": 2.7, "high": 3.1, "target": 3}
    found = collection(
        simclr=benchmark("simclr", ratios=[views, training]), fast=benchmark(), roofline=benchmark()
    )
    assert speed_section(found) == (
        "| against the standard way | times faster | range |\n| --- | --- | --- |\n"
        "| training to 99 % test accuracy | 47.3 | 40.5 to 187 |\n"
        "| SimCLR training, images per second | 2.85 | 2.7 to 3.1 |\n\nOn Intel Xeon, 2 threads."
    )
    assert speed_section(collection()) == EMPTY
