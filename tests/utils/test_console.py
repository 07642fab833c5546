"""What is printed fits a terminal of 80 columns and any encoding; a file gets lines, no bars."""

import io
import sys

from utils.console import percent, print_line, progress, score, write_any_sign


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_numbers_have_one_style():
    mean, std = {"test_accuracy": 0.9921, "test_auc": 0.99}, {"test_accuracy": 5e-4, "test_auc": 1e-3}
    several = {"mean": mean, "std": std}
    assert [score(several, metric) for metric in several["mean"]] == ["99.21 ± 0.05 %", "0.9900 ± 0.0010"]
    assert percent(0.5) == "50.00 %"


def test_a_sign_that_the_terminal_lacks_is_replaced(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content := io.BytesIO(), "ascii"))
    write_any_sign()
    print("99.21 ± 0.05 %, 图", flush=True)
    assert content.getvalue() == b"99.21 +- 0.05 %, ?\n"


def test_a_terminal_has_a_bar_of_80_columns_below_the_lines_and_a_file_has_lines_alone(monkeypatch):
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        with progress(300, quiet=False) as bar:
            bar.set_description("epoch 100/100")
            bar.set_postfix_str("loss 0.1234, and more than there is room for in a terminal")
            print_line("epoch 100/100 is done")
        frames = stream.getvalue().replace("\n", "\r").split("\r")
        assert "epoch 100/100 is done" in frames
        assert max(map(len, frames)) <= 80
        assert any("|" in frame for frame in frames) == stream.isatty()
        assert frames[-1] == ""  # the bar has gone
