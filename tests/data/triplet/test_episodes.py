"""Episodes: balanced, disjoint, seeded."""

import pytest
import torch

from data.triplet.episodes import draw_episodes

LABELS = torch.arange(120) % 6  # 20 of each class
QUERY_LABELS = torch.arange(60) // 10  # 10 of each class


def draw(**changes):
    options = {"shots": 3, "queries": 4, "count": 50, "seed": 0, **changes}
    return draw_episodes(LABELS, QUERY_LABELS, [0, 2, 3, 5], **options)


def test_episodes_are_balanced_and_rows_hold_their_class():
    episodes = draw()
    assert len(episodes) == 50
    assert episodes.classes.shape == (50, 4)
    assert episodes.support.shape == (50, 4, 3)
    assert episodes.queries.shape == (50, 4, 4)
    assert (LABELS[episodes.support] == episodes.classes.unsqueeze(2)).all()
    assert (QUERY_LABELS[episodes.queries] == episodes.classes.unsqueeze(2)).all()
    assert (episodes.classes.sort(1).values == torch.tensor([0, 2, 3, 5])).all()


def test_no_image_occurs_twice_in_an_episode():
    episodes = draw(shots=15, queries=10)
    for part in (episodes.support, episodes.queries):
        rows = part.flatten(1).sort(1).values
        assert (rows[:, 1:] > rows[:, :-1]).all()


def test_fewer_ways_draw_other_classes_for_every_episode():
    episodes = draw(ways=2)
    assert episodes.support.shape == (50, 2, 3)
    assert (LABELS[episodes.support] == episodes.classes.unsqueeze(2)).all()
    assert set(episodes.classes.flatten().tolist()) == {0, 2, 3, 5}
    assert (episodes.classes[:, 0] != episodes.classes[:, 1]).all()


def test_support_and_queries_of_one_set_are_disjoint():
    episodes = draw_episodes(LABELS, None, range(6), shots=5, queries=15, count=30)
    for support, queries in zip(episodes.support, episodes.queries, strict=True):
        assert not set(support.flatten().tolist()) & set(queries.flatten().tolist())
    assert (LABELS[episodes.queries] == episodes.classes.unsqueeze(2)).all()


def test_episodes_depend_on_the_seed_alone():
    one, two, other = draw(), draw(), draw(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.support, other.support)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shots": 21}, "21 images of class 0, but there are 20"),
        ({"queries": 11}, "11 images of class 0, but there are 10"),
        ({"shots": 0}, "at least one"),
        ({"ways": 1}, "from 2 to 4 classes"),
        ({"ways": 5}, "from 2 to 4 classes"),
    ],
)
def test_too_few_images_or_classes_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        draw(**changes)
