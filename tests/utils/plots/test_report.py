"""Figures of the report take what a new run may bring: no error at all, one run, an unknown method."""

from utils.plots import report as plots

ROW = {"task": "task", "label": "x", "method": "novel", "values": [1.0], "mean": 1.0, "low": 1.0, "high": 1.0}
ROW |= {"text": "100 %", "kind": "none", "rivals": [], "auc": False}
RIVAL = {"value": 0.99, "low": 0.98, "text": "98 to 99 % †", "source": "A paper"}
SPREAD = {**ROW, "mean": 0.98, "low": 0.97, "high": 0.99, "rivals": [RIVAL]}


def test_the_overview_is_as_wide_as_a_page_and_at_most_400_pixels_high(drawn):
    spreads = [{**SPREAD, "kind": kind} for kind in ("std", "interval", "range")]
    figure = drawn(plots.plot_overview, [ROW, *spreads, *spreads, {**ROW, "auc": True}], None)
    assert (figure.get_figwidth(), figure.get_figheight() <= 4) == (plots.WIDTH, True)


def test_every_row_has_its_error_above_its_prior_work(drawn, texts):
    auc = {**SPREAD, "auc": True}
    two = {**SPREAD, "rivals": [RIVAL, {"value": 0.995, "text": "99.5 %"}]}
    axes, below = drawn(plots.plot_overview, [two, ROW, auc], None).axes
    points = [line.get_xydata().round(3).tolist() for line in axes.get_lines()]
    second = [[0.5, 0.18]]
    assert points == [[[2, -0.12]], [[1, 0.18], [2, 0.18]], [[1, 0.18]], second * 2, second, [[0.005, 1]]]
    rivals, *ends = "98 to 99 % †; 99.5 %", "● ours", "◇ best comparable work"
    assert texts(axes.texts) == ["100 %", rivals, "100 %", "", *ends]
    assert (texts(below.texts), below.get_xlabel()[:7]) == (["100 %", "98 to 99 % †"], "1 − AUC")


def test_every_panel_has_its_curves_with_names_at_their_ends(drawn, texts):
    curves = [{"label": label, "points": [[at, [0.5]], [1, [0.9]]]} for label, at in (("a", 4), ("b", 2))]
    panels = [{"title": title, "xlabel": "epochs", "curves": curves} for title in ("k-NN", "probe")]
    axes = drawn(plots.plot_curves, panels, None).axes
    lines = [line.get_xydata().round(3).tolist() for line in axes[0].get_lines() if line.get_ls() == "-"]
    assert lines == [[[1, 10], [4, 50]], [[1, 10], [2, 50]]]
    assert texts(axes[1].texts) == ["a", "b"]
    assert [ax.get_title() for ax in axes] == ["k-NN", "probe"]
    assert axes[1].get_xlabel() == "epochs (log scale)"


def test_error_against_cost_joins_the_networks_that_lead(drawn, texts):
    shares = {200: 0.98, 300: 0.97, 100: 0.99, 400: 0.995}
    ours = [SPREAD | {"kind": "std", "cost": count, "mean": share} for count, share in shares.items()]
    prior = [{"name": "A †", "cost": 50, "value": 0.9}]
    data = {"cost": "parameters", "ours": ours, "prior": prior}
    (axes,) = drawn(plots.plot_error_against_cost, data, None).axes
    *_, front, rival = axes.get_lines()
    assert front.get_xydata().round(3).tolist() == [[100, 1], [400, 0.5]]
    assert rival.get_xydata().round(3).tolist() == [[50, 10]]
    assert texts(axes.texts) == [*"xxxx", "A †"]
    assert axes.get_xlabel() == "parameters, log scale"
