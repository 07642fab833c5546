"""The reviewed labels: their number, the rule that chose them, and that they are those of MNIST."""

import pytest

from data import load
from data.robustness.label_errors import LABEL_ERRORS


def test_reviewers_did_not_confirm_fifteen_labels():
    assert len(LABEL_ERRORS) == 15
    assert list(LABEL_ERRORS) == sorted(LABEL_ERRORS)
    for review in LABEL_ERRORS.values():
        assert review.given != review.guessed
        assert review.given_votes < 3  # of five
        assert review.given_votes + review.guessed_votes <= 5


def test_the_verdict_is_what_most_reviewers_chose():
    verdicts = {index: review.verdict for index, review in LABEL_ERRORS.items()}
    assert verdicts[947] == 9
    assert [index for index, verdict in verdicts.items() if verdict is None] == [2130, 2654, 3520, 8527, 9679]


@pytest.mark.slow
def test_the_given_labels_are_those_of_the_real_mnist(mnist_dir):
    labels = load("mnist", mnist_dir)[1].labels
    assert all(int(labels[index]) == review.given for index, review in LABEL_ERRORS.items())
