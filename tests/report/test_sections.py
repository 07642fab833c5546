"""What stands on the pages: numbers with spread, data, time and prior work, runs one by one."""

import pytest

from report.sections import TIME

TRAINED = f"{TIME}. Trained on Intel Xeon, 2 threads."


def test_the_table_of_results_and_its_legend(pages):
    text = pages["cnn"].partition("<!-- report:results end -->")[0]
    assert text.partition("begin -->\n\n")[2].rstrip() == (
        "| method | data | test accuracy | n | prior work | time |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| wide | 54,000 labelled | 99.76 ± 0.02 % | 3 runs | "
        "99.748 ± 0.028 % [best/cnn](https://example.org/best)<br>98 to 99.1 % § [A paper](u) | ≤ 20 min |\n"
        "| fast | 60,000 labelled | 99.00 % (98.80 to 99.17) | 1 |  | ≤ 7.4 s |\n"
        "| old | 100 labelled | 85.00 ± 7.07 % | 2 runs |  | ≤ 60 s |\n\n"
        "±: standard deviation over n trainings or, with few labels, over n draws of the labels; "
        "(a to b): 95 % interval of a single run (Wilson); § another protocol, see the notes on prior work. "
        + TRAINED
    )


def test_the_front_page_has_one_row_per_task(pages):
    assert pages[""].partition("<!-- report:results begin -->\n\n")[2].partition("\n\n<!--")[0] == (
        "| task | method | test accuracy or AUC | best prior work | data | time |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| network | `wide` | 99.76 ± 0.02 %, n = 3 runs | "
        "99.748 ± 0.028 % [best/cnn](https://example.org/best) | 54,000 labelled | ≤ 20 min |\n"
        "| bags | max | 0.9000 ± 0.0014, n = 2 runs | none with a source | 50 + 200 balanced bags | "
        f"≤ 20 s |\n\n{TRAINED}"
    )
    assert "![Our best results beside prior work](results/overview.png)" in pages[""]
    assert "| training to 99 % test accuracy | 47.3 | 40.5 to 187 |\n\nOn Intel Xeon, 2 threads." in pages[""]


def test_prior_work_lists_protocols_and_what_was_selected_on_test_images(pages):
    assert (
        "- [A paper](u): a CNN 98 to 99.1 % §; Author, Title, 2020; second-hand.\n"
        "- [best/cnn](https://example.org/best): one CNN 99.748 ± 0.028 % (n = 20); last weights.\n"
        "- [chosen](u): ensemble 99.91 % †.\n\n"
        "† selected on the test set; § another protocol, see the notes on prior work."
    ) in pages["cnn"]
    assert "chosen" not in pages["cnn"].partition("<!-- report:references")[0]


def test_every_run_has_a_part_with_command_origin_and_values(pages):
    part = (
        pages["cnn"]
        .partition("<b>wide</b>: wide, 99.76 ± 0.02 %</summary>\n\n")[2]
        .partition("</details>")[0]
    )
    assert part == (
        "```\npython train_cnn.py --name wide\n```\n\n"
        "Intel Xeon, 2 threads; commit 0123456789ab; python 3.12.1. "
        "All numbers: [wide/metrics.json](wide/metrics.json).\n\n"
        "test accuracy: 99.74 %, 99.76 %, 99.78 %.\n\n"
    )
    assert "<b>old</b>: old, 85.00 ± 7.07 %</summary>\n\nFrom commit abcdef; today's scripts" in pages["cnn"]
    assert "tried" not in pages["cnn"]
    assert "<b>hundred</b>: 6 of 8 trainings" in pages["few_labels"]
    assert "python train_few_labels.py --name more" in pages["few_labels"]


LINES = """simclr: | SimCLR, linear probe | 60,000 labelled | 99.00 ± 0.00 % | 2 runs |  | ≤ 10 min |
simclr: | 100 labels | 100 labelled, 54,000 unlabelled | 90.00 ± 7.12 % | 4 draws |  | ≤ 10 min |
simclr: | random | 60,000 labelled | 70.00 ± 0.00 % | 2 runs |  | none |
simclr: | affine | 98.00 % | 97.00 % | 1 |
ensemble: | ten | 60,000 labelled | 99.00 % | 2 overlapping libraries |  | ≤ 60 s |
few_labels: | simclr-spread, 100 | 100 labelled, 53,900 unlabelled | 98.00 ± 1.41 % | 2 draws |  | ≤ 11 min |
few_labels: | labels in all | 10 | 100 |
few_labels: | pixels-knn | 60.00 ± 0.00 % (3) | 70.00 ± 1.41 % (2) |
few_labels: | simclr-spread | 98.00 ± 1.41 % | 97.00 % | 99.00 % | 2 draws | ≤ 11 min |
few_labels: | pixels-knn | 70.00 ± 1.41 % | 69.00 % | 71.00 % | 2 draws | ≤ 50 s |
triplet: | few | 300 labelled | 80.00 ± 0.00 % | 2 runs |  | ≤ 60 s |
triplet: | all | 95.00 ± 0.00 % | 60.00 ± 0.00 % | 2 runs |
triplet: | unseen | 94.00 ± 0.00 % |  | 2 runs |
triplet: | digit | few: own | few: others |
triplet: | 1 | 90.00 % | 20.00 % |
mil: | max, 50 | 50 + 200 balanced bags | 0.9000 ± 0.0014 | 2 runs |  | ≤ 20 s |
mil: | frozen | 50 natural bags, 54,000 unlabelled images | 0.9900 ± 0.0014 | 2 runs |  | ≤ 10 min |
mil: | max, twice | 0.9000 ± 0.0014 (2) | 0.9500 ± 0.0014 (2) |
mil: | theirs, [A paper](u) | 0.931 § |  |
ensemble: | combination | accuracy | gain | p | loss | ECE | loss, scaled | ECE, scaled |
ensemble: | plain average | 99.00 % |  |  | 0.0300 | 0.0100 | 0.0200 | 0.0050 |
ensemble: | greedy by loss | 99.10 to 99.20 % | +0.150 | 0.04, 0.5 | 0.0300 | 0.0100 | 0.0200 | 0.0050 |
ensemble: | mean single | 98.00 % | -1.000 |  |  |  |  |  |
ensemble: | any member right | 99.90 % | +0.900 |  |  |  |  |  |"""
LINES += "\nrobustness: | lenet, n = 2 | 99.10 ± 0.14 | 70.00 ± 0.00 | 100.0 ± 2.8 |  |" + " 30.0 |" * 9


@pytest.mark.parametrize("line", LINES.splitlines())
def test_every_page_has_its_lines(pages, line):
    page, _, row = line.partition(": ")
    assert row in pages[page].splitlines()


def test_a_benchmark_shows_its_ratio_range_goal_and_the_standard_way(pages):
    assert pages["benchmarks"].partition("begin -->\n\n")[2].partition("\n\n<!--")[0] == (
        "### fast\n\nSeconds to 99 %.\n\n- standard way / ours: a DataLoader and Adam\n\n"
        "| comparison | ratio | range of 5 repeats | goal |\n| --- | --- | --- | --- |\n"
        "| standard way / ours | 47.3 | 40.5 to 187 | at least 30: reached |\n\n"
        "<details>\n<summary>Medians</summary>\n\n| measured | median |\n| --- | --- |\n"
        "| ours | 7.4 s |\n| ours, test accuracy | 99.1 % of the images |\n| standard way | not reached |\n\n"
        "</details>\n\nIntel Xeon, 2 threads; commit 0123456789ab."
    )
