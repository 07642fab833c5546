"""Views for contrastive learning: their parts, their strength, two of every image."""

import torch

from data import VIEW_PARTS, Augment, view_augment, view_batches


def test_strength_scales_every_range_and_zero_is_the_identity():
    full = view_augment(VIEW_PARTS)
    assert view_augment(VIEW_PARTS, 0.5) == Augment(
        **{key: value / 2 for part in VIEW_PARTS.values() for key, value in part.items()}
    )
    assert full.scaled(0) == Augment()
    assert full.scaled(100).erase == 1
    assert full.scaled(100).resize < 1
    assert view_augment(["blur"]) == Augment(blur=VIEW_PARTS["blur"]["blur"])


def test_two_differently_augmented_views_of_every_image(digits):
    batches = view_batches(digits, torch.arange(20), 8, ["affine"], 0.5, seed=3)
    x, y = next(batches.epoch())
    assert x.shape == (8, 2, 1, 28, 28)
    assert y.shape == (8,)
    assert not torch.equal(x[:, 0], x[:, 1])
    again, _ = next(view_batches(digits, torch.arange(20), 8, ["affine"], 0.5, seed=3).epoch())
    weaker, _ = next(view_batches(digits, torch.arange(20), 8, ["affine"], 0.0, seed=3).epoch())
    assert torch.equal(again, x)
    assert torch.equal(weaker[:, 0], weaker[:, 1])


def test_the_ranks_share_a_batch_of_views(digits):
    whole, *pieces = (
        next(view_batches(digits, torch.arange(20), 8, ["affine"], rank=rank, world=world).epoch())[0]
        for rank, world in ((0, 1), (0, 2), (1, 2))
    )
    torch.testing.assert_close(torch.cat(pieces), whole)
