"""Few training images get enough steps; MNIST and what the user chose stay as they are."""

import pytest
import torch

import train_cnn
import train_moco
import train_simclr
import train_triplet
from data import BatchLoader, ImageSet
from utils.training.size import BATCH, LARGE, STEPS, fit_to_size


def arguments(script, *flags):
    return script.parse(["--device", "cpu", *flags])


def sized(count, script=train_cnn, *flags):
    args, command = arguments(script, *flags)
    fit_to_size(args, command, torch.arange(count) % 3)
    return args


@pytest.mark.parametrize("script", [train_cnn, train_simclr, train_moco, train_triplet])
@pytest.mark.parametrize(("count", "flags"), [(LARGE, ()), (90, ("--epochs", "3")), (90, ("--dry-run",))])
def test_large_sets_and_chosen_epochs_change_nothing(script, count, flags, capsys):
    assert sized(count, script, *flags) == arguments(script, *flags)[0]
    assert not capsys.readouterr().out


@pytest.mark.parametrize("script", [train_cnn, train_simclr, train_moco])
@pytest.mark.parametrize("count", [6, 27, 97, 900])
def test_any_number_of_images_gets_about_the_same_steps(script, count, capsys):
    args = sized(count, script)
    images = ImageSet(torch.zeros(count, 1, 28, 28, dtype=torch.uint8), torch.arange(count) % 3, 0.1, 0.3)
    batches = BatchLoader(images, torch.arange(count), args.batch_size, passes=args.passes)
    assert args.epochs * len(batches) == pytest.approx(STEPS, rel=0.15)
    assert args.batch_size == min(count, BATCH)
    output = capsys.readouterr().out
    assert output.startswith(f"few training images ({count}): batch size {args.batch_size}, ")
    assert output.endswith(
        f"passes {args.passes} in each of {args.epochs} epochs, to make about 1,000 steps\n"
    )


def test_flags_win_and_the_rest_follows():
    args = sized(90, train_cnn, "--batch-size", "90", "--augment", "shift", "--name", "epochs")
    assert (args.batch_size, args.augment, args.plain_epochs, args.passes) == (90, "shift", 0, 100)
    assert sized(90).augment == "elastic"
    assert sized(90, train_cnn, "--model", "linear").augment == "none"  # a recipe without augmentation
    assert [sized(count, train_cnn, "--model", "sprint").max_steps for count in (90, LARGE)] == [0, 156]


def test_batches_of_classes_fit_the_smallest_class_and_an_epoch_has_steps():
    args = sized(30, train_triplet)
    assert (args.batch_images, args.steps) == (9, STEPS // args.epochs)
    assert sized(30, train_triplet, "--epochs", "3").batch_images == 9
    assert sized(30, train_triplet, "--dry-run", "--batch-images", "20").batch_images == 20
