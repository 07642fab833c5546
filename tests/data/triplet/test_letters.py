"""Letters: as many as there should be, centred, and the same for the same seed."""

import numpy as np
import torch

from data.triplet.letters import COPIES, FONTS, LETTERS, letters


def test_letters_are_balanced_classes_in_the_manner_of_the_digits(digits):
    found = letters(digits)
    assert found.images.shape == (len(LETTERS) * len(FONTS) * COPIES, 1, 28, 28)
    assert found.images.dtype == torch.uint8
    assert found.labels.bincount().tolist() == [len(FONTS) * COPIES] * len(LETTERS)
    assert (found.mean, found.std) == (digits.mean, digits.std)
    assert len(found.classes) == len(LETTERS) == len(set(LETTERS))
    pixels = found.images.squeeze(1).double().numpy()
    centre = (pixels.sum(1) @ np.arange(28) / pixels.sum((1, 2))).mean()
    assert abs(centre - 13.5) < 0.5
    assert pixels.max((1, 2)).min() > 100  # no empty image


def test_letters_depend_on_the_seed_alone(digits):
    one, two, other = letters(digits), letters(digits), letters(digits, seed=1)
    assert torch.equal(one.images, two.images)
    assert not torch.equal(one.images, other.images)
