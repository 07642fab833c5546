"""The one exception for errors that the user can fix."""

import pytest

from utils.errors import UserError, value_errors_as


def test_a_value_error_becomes_a_user_error_with_its_text():
    with (
        pytest.raises(UserError, match=r"^cannot split 3 images: too few$") as caught,
        value_errors_as("cannot split 3 images"),
    ):
        raise ValueError("too few")
    assert isinstance(caught.value.__cause__, ValueError)


def test_other_errors_and_results_pass_through():
    with pytest.raises(KeyError), value_errors_as("unused"):
        raise KeyError("x")
    with value_errors_as("unused"):
        value = 3
    assert value == 3
