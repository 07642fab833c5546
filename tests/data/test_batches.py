"""Batches: every image once an epoch, the order and augmentation a function of (seed, epoch) alone."""

import pytest
import torch
from helpers import flat_grey

from data import POLICIES, BatchLoader, ClassBatches

COUNT = 23
FLAT = flat_grey(torch.arange(COUNT), 0.1307, 0.3081)  # a batch tells which images it holds


def loader(images=FLAT, indices=None, batch_size=7, **options):
    indices = torch.arange(len(images.labels)) if indices is None else indices
    return BatchLoader(images, indices, batch_size, **options)


def order(batches, epoch=0):
    return torch.cat([y for _, y in batches.epoch(epoch)])


def pixels(batches, epoch=0):
    return torch.cat([x for x, _ in batches.epoch(epoch)])


def test_passes_go_through_all_images_each_in_an_order_of_its_own():
    batches = loader(batch_size=10, passes=3)
    assert len(batches) == 7
    passes = order(batches).view(3, COUNT)
    assert torch.equal(passes.sort().values, torch.arange(COUNT).expand(3, -1))
    assert not torch.equal(passes[0], passes[1])
    assert torch.equal(passes[0], order(loader()))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 7, 21, 23, 100])
def test_every_image_once_with_its_label_and_normalised_and_len_counts_the_batches(batch_size, shuffle):
    batches = loader(batch_size=batch_size, shuffle=shuffle)
    sizes = [len(y) for _, y in batches.epoch()]
    assert len(sizes) == len(batches)
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert order(batches).sort().values.tolist() == list(range(COUNT))
    for x, y in batches.epoch():
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        expected = ((y / 255 - 0.1307) / 0.3081).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
        torch.testing.assert_close(x, expected)


def test_a_last_batch_is_dropped_in_training_when_a_rank_has_one_image_of_it_and_kept_in_order():
    assert [len(y) for _, y in loader(batch_size=22).epoch()] == [22]
    assert [len(y) for _, y in loader(batch_size=22, shuffle=False).epoch()] == [22, 1]
    assert [len(y) for _, y in loader(indices=torch.tensor([3]), batch_size=22).epoch()] == [1]
    for world, count in ((1, 4), (2, 3), (4, 3)):  # the last batch has 2: too few for the ranks
        for rank in range(world):
            batches = loader(rank=rank, world=world)
            assert len(batches) == len(list(batches.epoch())) == count


def test_order_is_shuffled_differently_each_epoch_and_replayable():
    batches = loader(seed=5)
    first, second = order(batches, 0), order(batches, 1)
    assert torch.equal(order(batches, 0), first)  # an epoch can be replayed after another one
    assert torch.equal(order(loader(seed=5), 1), second)
    others = torch.arange(COUNT), second, order(loader(seed=6), 0)
    assert not any(torch.equal(first, other) for other in others)
    assert not torch.equal(others[2], second)  # seed and epoch are not just added up


def test_global_random_state_is_neither_read_nor_moved(digits):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = pixels(loader(digits, augment=POLICIES["elastic"]))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(pixels(loader(digits, augment=POLICIES["elastic"])), first)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("name", ["none", "shift", "elastic", "erase"])
def test_the_ranks_together_see_what_one_process_sees(digits, name, world):
    # 59 images in batches of 16: the last batch has 11, which neither 2 nor 3 ranks can share equally.
    options = {"indices": torch.arange(59), "batch_size": 16, "augment": POLICIES[name], "seed": 3}
    single = list(loader(digits, **options).epoch(1))
    ranks = [list(loader(digits, **options, rank=r, world=world).epoch(1)) for r in range(world)]
    for (x, y), *pieces in zip(single, *ranks, strict=True):
        sizes = [len(piece[1]) for piece in pieces]
        assert max(sizes) - min(sizes) <= 1
        assert torch.equal(torch.cat([piece[1] for piece in pieces]), y)
        torch.testing.assert_close(torch.cat([piece[0] for piece in pieces]), x, rtol=0, atol=1e-6)


def test_views_are_differently_augmented_and_an_image_s_own_stand_together(digits):
    loader = BatchLoader(digits, torch.arange(20), 6, augment=POLICIES["affine"], views=3, shuffle=False)
    batches = list(loader.epoch())
    assert [tuple(x.shape) for x, _ in batches] == [(6, 3, 1, 28, 28)] * 3 + [(2, 3, 1, 28, 28)]
    assert torch.equal(order(loader), digits.labels[:20])
    x = batches[0][0]
    assert not torch.equal(x[:, 0], x[:, 1])
    alone = BatchLoader(digits, torch.tensor([4]), 6, augment=POLICIES["affine"], views=3, shuffle=False)
    assert torch.equal(next(alone.epoch())[0][0], x[4])
    x, _ = next(BatchLoader(digits, torch.arange(20), 6, views=2, shuffle=False).epoch())
    expected = digits.normalise(digits.images[:6] / 255)
    assert torch.equal(x, torch.stack([expected, expected], 1))


# --- P x K batches ---


def class_batches(images, classes=4, per_class=3, **options):
    return ClassBatches(images, torch.arange(len(images.labels)), classes, per_class, **options)


@pytest.mark.parametrize(("classes", "per_class"), [(2, 2), (4, 3), (10, 20)])
def test_a_batch_has_k_images_of_each_of_p_classes(digits, classes, per_class):
    batches = class_batches(digits, classes, per_class)
    assert len(batches) == len(list(batches.epoch())) == -(-200 // (classes * per_class))  # one pass
    for x, y in batches.epoch():
        assert x.shape == (classes * per_class, 1, 28, 28)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        groups = y.view(classes, per_class)  # the images of a class stand together
        assert (groups == groups[:, :1]).all()
        assert len(groups[:, 0].unique()) == classes
    others = batches.epoch(1), class_batches(digits, classes, per_class, seed=1).epoch()
    assert not any(torch.equal(next(other)[0], next(batches.epoch())[0]) for other in others)


def test_no_image_is_twice_in_a_batch_and_each_has_its_label():
    images = FLAT._replace(labels=torch.arange(COUNT) % 3)  # image i is grey of value i
    seen = set()
    for x, y in class_batches(images, 2, 5, batches_per_epoch=50).epoch():
        chosen = ((x[:, 0, 0, 0] * 0.3081 + 0.1307) * 255).round().long()
        assert len(chosen.unique()) == len(chosen) == 10
        assert torch.equal(chosen % 3, y)
        seen |= set(chosen.tolist())
    assert seen == set(range(COUNT))
