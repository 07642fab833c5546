"""The argument types: what they accept, and that their errors say what is expected."""

from argparse import ArgumentTypeError

import pytest

from utils.arguments import Number, any_path, dataset, list_of, named_path, run_name


@pytest.mark.parametrize(
    ("number", "good", "bad"),
    [
        (Number(int, 1, 9), ["1", "9"], ["0", "-3", "10", "1.5", "x", "", "9" * 5000]),
        (Number(float, 1e-9, 100), ["1e-9", "100"], ["0", "-1", "nan", "inf", "1e308", "x"]),
    ],
)
def test_numbers_are_finite_and_have_bounds(number, good, bad):
    assert [number(text) for text in good] == [number.kind(text) for text in good]
    for text in bad:
        with pytest.raises(ArgumentTypeError, match=r"expected a|must be 1\S* to \d+, not"):
            number(text)


@pytest.mark.parametrize(
    ("kind", "text", "value", "bad"),
    [
        (list_of(Number(int, 0, 9), least=2), "5, 07,+1", [5, 7, 1], ["5", "5,5", "5,,7", "5,10", "", "5;7"]),
        (list_of(known=("red", "blue")), "blue,red", ["blue", "red"], ["", "red,", "green", "red,red"]),
        (run_name, "wide-2.1_é", "wide-2.1_é", ["", ".", "../x", "a/b", "-x", "a b", "x" * 201, "ä" * 101]),
        (named_path, "a_1=x", "a_1=x", ["simclr", "=x", "A=x", "simclr=", "a b=x"]),
        (dataset, "mnist", "mnist", ["imagenet"]),
        (any_path, "a b", "a b", ["", "a\0b", "a" * 300, "a/" * 3000, "\udcff"]),
    ],
)
def test_lists_and_names(kind, text, value, bad):
    assert kind(text) == value
    for wrong in bad:
        with pytest.raises(ArgumentTypeError):
            kind(wrong)


def test_a_path_may_lead_nowhere_and_below_a_file_and_a_data_set_must_be_there(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing" / "too", tmp_path / "file" / "below"):
        assert any_path(str(path)) == str(path)
        with pytest.raises(ArgumentTypeError, match="choose from mnist"):
            dataset(str(path))
    assert dataset(str(tmp_path)) == str(tmp_path)
