"""What stands on the pages: numbers with spread, data, time and prior work, runs one by one."""

import pytest

from report.sections import TIME, WITHIN_NOISE

TRAINED = f"{TIME}. Trained on Intel Xeon, 2 threads."


def test_the_table_of_results_and_its_legend(pages):
    text = pages["cnn"].partition("<!-- report:results end -->")[0]
    assert text.partition("begin -->\n\n")[2].rstrip() == (
        "| method | accuracy, % | n | comparable work | data | minutes |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| wide | **99.76 ± 0.02** | 3 | ≈ 99.748 ± 0.028, [best](https://example.org/best) | 54,000 | 20 |\n"
        "| fast | 99.00 (98.80 to 99.17) | 1 |  | 60,000 | 0.12 |\n\n"
        "**few**\n\n| method | accuracy, % | n | data | minutes |\n| --- | --- | --- | --- | --- |\n"
        "| old | 85.00 ± 7.07 | 2 | 100 | 1 |\n\n"
        "±: standard deviation over n trainings or, with few labels, over n draws of the labels; (a to b): "
        f"95 % interval of a single run; {WITHIN_NOISE}; data: images with labels, those for validation "
        f"included, + images without. {TRAINED}"
    )


def test_the_front_page_has_one_row_per_task_that_names_its_run(pages):
    text = pages[""].partition("<!-- report:results begin -->\n\n")[2].partition("\n\n<!--")[0]
    lines = text.splitlines()
    assert [line for line in lines if line.startswith(("| net", "| bags"))] == [
        "| network: `wide` | 99.76 ± 0.02 | 3 | ≈ 99.748 ± 0.028, [best](https://example.org/best) "
        "| 54,000 | cnn/wide |",
        "| bags: max | 0.900 ± 0.001 | 2 | none found | 250 | mil/sweep |",
    ]
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


LINES = """simclr: | SimCLR, linear probe | **99.00 ± 0.00** | 2 | 60,000 + 54,000 | 10 |
simclr: | 100 labels | 90.00 ± 7.12 | 4 | 100 + 53,900 | 10 |
simclr: | random | 70.00 ± 0.00 | 2 | 60,000 |  |
simclr: | affine | 98.00 | 97.00 | 1 |
ensemble: | ten | 99.00 | 2 | 60,000 | 1 |
few_labels: | simclr-spread, 100 | 98.00 ± 1.41 | 97.00 | 2 | 100 + 53,900 | 11 |
few_labels: | labels in all | n | 10 | 100 |
few_labels: | pixels-knn | 3, 2 | 60.00 ± 0.00 | 70.00 ± 1.41 |
triplet: | few | 80.00 ± 0.00 | 2 | 300 | 1 |
triplet: | all | **95.00 ± 0.00** | **60.00 ± 0.00** | 2 |
triplet: | unseen | 94.00 ± 0.00 |  | 2 |
mil: | frozen | **0.990 ± 0.001** | 2 | 50 + 54,000 | 10 |
mil: | max, 50 | 0.900 ± 0.001 | 2 | 250 | 0.33 |
mil: | max, twice | 2 | **0.900 ± 0.001** | **0.950 ± 0.001** |
mil: | theirs, [A paper](u) |  | 0.931 § |  |
ensemble: | combination | accuracy, % | gain, points | p | loss | ECE | loss, scaled | ECE, scaled |
ensemble: | plain average | 99.00 |  |  | 0.0300 | 0.0100 | 0.0200 | 0.0050 |
ensemble: | greedy by loss | 99.10 to 99.20 | +0.150 | 0.04, 0.5 | 0.0300 | 0.0100 | 0.0200 | 0.0050 |
ensemble: | mean single | 98.00 | -1.000 |  |  |  |  |  |
ensemble: | any member right | 99.90 | +0.900 |  |  |  |  |  |
robustness: | lenet | 70.00 ± 0.00 | 1.00 ± 0.03 | 2 |
robustness: | lenet | 30.0 | 30.0 | 30.0 | 30.0 | 30.0 |"""


@pytest.mark.parametrize("line", LINES.splitlines())
def test_every_page_has_its_lines(pages, line):
    page, _, row = line.partition(": ")
    assert row in pages[page].splitlines()


def test_a_benchmark_shows_its_ratio_range_goal_and_the_standard_way(pages):
    assert pages["benchmarks"].partition("begin -->\n\n")[2].partition("\n\n<!--")[0] == (
        "### fast\n\nSeconds to 99 %.\n\n- PIL images in a DataLoader / ours: a DataLoader and Adam\n\n"
        "| comparison | ratio | range of 5 repeats | goal |\n| --- | --- | --- | --- |\n"
        "| PIL images in a DataLoader / ours | 47.3 | 40.5 to 187 | at least 30: reached |\n\n"
        "<details>\n<summary>Medians</summary>\n\n| measured | median |\n| --- | --- |\n"
        "| ours | 7.4 s |\n| ours, test accuracy | 0.991 of the images |\n"
        "| PIL images in a DataLoader | not reached |\n\n"
        "</details>\n\nIntel Xeon, 2 threads; commit 0123456789ab."
    )
