"""Views for contrastive learning: their parts, their strength, two of every image."""

from data import VIEW_PARTS, Augment, view_augment


def test_strength_scales_every_range_and_zero_is_the_identity():
    full = view_augment(VIEW_PARTS)
    assert view_augment(VIEW_PARTS, 0.5) == Augment(
        **{key: value / 2 for part in VIEW_PARTS.values() for key, value in part.items()}
    )
    assert full.scaled(0) == Augment()
    assert full.scaled(100).erase == 1
    assert full.scaled(100).resize < 1
    assert view_augment(["blur"]) == Augment(blur=VIEW_PARTS["blur"]["blur"])
