"""Labels of MNIST's test set that human reviewers did not confirm.

Northcutt, Athalye and Mueller (NeurIPS 2021, arXiv 2103.14749) let five reviewers choose between the given
label, the label that a model guessed, both or neither. Listed are the images for which fewer than three of
them chose the given label, from mturk/mnist_mturk.json of https://github.com/cleanlab/label-errors.
"""

from typing import NamedTuple


class Review(NamedTuple):
    """given: the label of the data set. guessed: the other label that was offered. votes for either, of 5."""

    given: int
    guessed: int
    given_votes: int
    guessed_votes: int

    @property
    def verdict(self) -> int | None:
        """The other label where most reviewers chose it, None where they agreed on no label."""
        return self.guessed if self.guessed_votes >= 3 else None


# By position in the test set, counted from 0.
LABEL_ERRORS = {
    947: Review(8, 9, 0, 5),
    1621: Review(0, 6, 2, 3),
    1901: Review(9, 4, 2, 3),
    2130: Review(4, 9, 2, 2),
    2462: Review(2, 0, 0, 4),
    2597: Review(5, 3, 0, 4),
    2654: Review(6, 1, 0, 2),
    3520: Review(6, 4, 2, 0),
    3558: Review(5, 0, 1, 4),
    5937: Review(5, 3, 1, 3),
    6651: Review(0, 6, 0, 5),
    6783: Review(1, 6, 2, 3),
    8527: Review(4, 9, 2, 2),
    9679: Review(6, 3, 2, 0),
    9729: Review(5, 6, 2, 3),
}
