"""The argument types: what they accept, and that their errors say what is expected."""

import argparse

import pytest

from utils.arguments import Number, any_path, dataset, name_list, named_path, number_list, run_name
from utils.cli import Parser


@pytest.mark.parametrize(
    ("number", "good", "bad"),
    [
        (Number(int, 1, 9), ["1", "9"], ["0", "-3", "10", "1.5", "x", "", "9" * 5000]),
        (Number(float, 0, 1, open_high=True), ["0", "0.99"], ["1", "-0.1", "nan", "inf", "x"]),
        (Number(float, 0, 100, open_low=True), ["1e-9", "100"], ["0", "-1", "nan", "inf", "1e308"]),
    ],
)
def test_numbers_are_finite_and_have_bounds(number, good, bad):
    assert [number(text) for text in good] == [number.kind(text) for text in good]
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError):
            number(text)


def test_the_error_and_the_help_name_the_bounds():
    with pytest.raises(argparse.ArgumentTypeError, match=r"must be in \[0, 1\), not 1"):
        Number(float, 0, 1, open_high=True)("1")
    parser = Parser()
    parser.add_argument("--share", type=Number(float, 0, 1, open_low=True), help="default: all")
    assert "default: all, in (0, 1]" in parser.format_help()


def test_a_list_has_different_numbers_within_bounds():
    numbers = number_list(0, 99, least=2)
    assert numbers("5, 07,+1") == [5, 7, 1]
    for text in ("5", "5,5", "5,,7", "5,100", "", "5;7"):
        with pytest.raises(argparse.ArgumentTypeError):
            numbers(text)


def test_a_list_of_names_has_known_names_only():
    names = name_list(("affine", "blur"))
    assert names("blur,affine") == ["blur", "affine"]
    for text in ("", "blur,", "red"):
        with pytest.raises(argparse.ArgumentTypeError, match="choose from affine, blur"):
            names(text)


NO_PATHS = {"empty": "", "zero byte": "a\0b", "long name": "a" * 300, "long": "a/" * 3000, "bytes": "\udcff"}


@pytest.mark.parametrize("text", NO_PATHS.values(), ids=NO_PATHS)
def test_a_path_is_one_that_the_system_can_hold(text):
    for kind, given in ((any_path, text), (dataset, text), (named_path, f"simclr={text}")):
        with pytest.raises(argparse.ArgumentTypeError) as caught:
            kind(given)
        assert len(str(caught.value)) < 300


def test_a_path_may_lead_nowhere_and_below_a_file(tmp_path):
    for path in (tmp_path / "missing" / "too", tmp_path):
        assert any_path(str(path)) == str(path)
    (tmp_path / "file").touch()
    assert any_path(str(tmp_path / "file" / "below"))


def test_a_data_set_is_a_name_or_a_path_that_is_there(tmp_path):
    assert [dataset(text) for text in ("mnist", str(tmp_path))] == ["mnist", str(tmp_path)]
    with pytest.raises(argparse.ArgumentTypeError, match="choose from mnist"):
        dataset("imagenet")


@pytest.mark.parametrize("text", ["", ".", "../x", "a/b", "-x", "a b", "x" * 201, "ä" * 101])
def test_a_name_is_that_of_one_folder(text):
    assert run_name("wide-2.1_é") == "wide-2.1_é"
    with pytest.raises(argparse.ArgumentTypeError):
        run_name(text)


@pytest.mark.parametrize("text", ["simclr", "=x", "A=x", "simclr=", "a b=x"])
def test_a_named_path_has_both(text):
    with pytest.raises(argparse.ArgumentTypeError, match="NAME=FILE"):
        named_path(text)
