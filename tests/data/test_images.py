"""Loading: exactly the pixels that are in the files, or one clear line that says what is wrong."""

import gzip
import hashlib
import json
import struct

import numpy as np
import pytest
import torch
from helpers import stripes, tiny_idx
from torchvision import datasets

from data import DataError, check_classes, images, load
from data.images import CHECKSUMS, CLASSES, IDX_FILES, class_number

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_FILES


@pytest.mark.parametrize(
    ("name", "folder", "mean", "std"),
    [
        ("mnist", "MNIST", 0.1307, 0.3081),
        ("fashion-mnist", "FashionMNIST", 0.2860, 0.3530),
        ("kmnist", "KMNIST", 0.1918, 0.3483),
    ],
)
def test_load_gives_exactly_what_was_written_and_describes_it(tmp_path, name, folder, mean, std):
    tiny_idx(tmp_path, folder)
    for part, (pixels, labels) in zip(load(name, tmp_path), (stripes(200, 0), stripes(100, 1)), strict=True):
        assert part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        assert np.array_equal(part.images.numpy(), pixels[:, None])
        assert np.array_equal(part.labels.numpy(), labels)
        facts = {"dataset": name, "classes": list(CLASSES[name]), "image_size": [28, 28]}
        assert part.description == {**facts, "mean": mean, "std": std}
        assert json.loads(json.dumps(part.description)) == part.description  # plain types only


@pytest.mark.parametrize("missing", [IDX_FILES, [TEST_LABELS]], ids=["all", "one"])
def test_missing_files_without_network_are_named_with_a_way_out(tmp_path, monkeypatch, missing):
    def download(self):
        raise RuntimeError("Error downloading x:\nTried y\n")

    monkeypatch.setattr(datasets.MNIST, "download", download)
    tiny_idx(tmp_path)
    for file in missing:
        (tmp_path / "MNIST" / "raw" / file).unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError) as caught:
        load("mnist", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    folder = str(tmp_path / "MNIST" / "raw")
    for part in ("(Error downloading x: Tried y)", folder, *IDX_FILES, "--data-dir", "--dataset mnist-5k"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(datasets.MNIST, "download", lambda self: tiny_idx(self.root))
    assert len(load("mnist", tmp_path)[1].labels) == 100


def header(*numbers):
    return struct.pack(f">{len(numbers)}I", *numbers)


# What happens to the file's bytes, and what the message must say was expected and found.
DAMAGE = {
    "truncated": (TRAIN_IMAGES, lambda b: b[:-1], [f"{TRAIN_IMAGES}: ", "156,816 bytes", "found 156,815"]),
    "too many": (TRAIN_LABELS, lambda b: header(2049, 2**32 - 1) + b[8:], ["at most 4,294,967,296"]),
    "a byte too many": (TEST_LABELS, lambda b: b + b"0", ["expected 108 bytes, found more"]),
    "empty": (TRAIN_IMAGES, lambda b: b"", ["IDX header", "found 0 bytes"]),
    "labels as images": (TRAIN_IMAGES, lambda b: header(2049) + b[4:], ["IDX magic 2051", "found 2049"]),
    "another size": (TRAIN_IMAGES, lambda b: header(2051, 200, 32, 32) + b[16:], ["(28, 28)", "(32, 32)"]),
    "one label less": (TEST_LABELS, lambda b: header(2049, 99) + b[8:-1], ["100 test images but 99 labels"]),
    "no items": (TRAIN_LABELS, lambda b: header(2049, 0), ["at least one item", "found none"]),
    "label 10": (TEST_LABELS, lambda b: b[:-1] + b"\x0a", [f"{TEST_LABELS}: ", "labels 0 to 9", "found 10"]),
}


@pytest.mark.parametrize(("file", "damage", "parts"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_file_is_named_with_expected_and_found(tmp_path, file, damage, parts):
    path = tiny_idx(tmp_path) / "MNIST" / "raw" / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        load("mnist", tmp_path)
    for part in (str(path.parent), *parts):
        assert part in str(caught.value)


def test_files_are_compared_with_the_published_checksums(tmp_path, monkeypatch):
    raw = tiny_idx(tmp_path) / "MNIST" / "raw"
    published = [hashlib.md5((raw / file).read_bytes()).hexdigest() for file in IDX_FILES]
    monkeypatch.setitem(CHECKSUMS, "mnist", published)
    plain = load("mnist", tmp_path)
    (raw / f"{TEST_IMAGES}.gz").write_bytes(gzip.compress((raw / TEST_IMAGES).read_bytes()))
    (raw / TEST_IMAGES).unlink()
    for path in ("mnist", raw):
        assert torch.equal(load(path, tmp_path)[1].images.sum(0), plain[1].images.sum(0))  # in any order
    content = bytearray((raw / TRAIN_IMAGES).read_bytes())
    content[-1] ^= 1  # one pixel
    (raw / TRAIN_IMAGES).write_bytes(content)
    with pytest.raises(DataError, match=rf"{TRAIN_IMAGES}: not the published file .*--unverified"):
        load("mnist", tmp_path)
    assert len(load("mnist", tmp_path, verify=False)[0].labels) == 200


def test_every_class_has_two_training_images_and_one_test_image_and_every_name_is_known(digits):
    with pytest.raises(ValueError, match=r"cifar.*mnist, fashion-mnist, kmnist, mnist-5k"):
        load("cifar", "anywhere")
    check_classes(digits, digits)
    lacking = digits._replace(labels=digits.labels.clone())
    lacking.labels[lacking.labels == 4] = 5
    with pytest.raises(DataError, match="class 4 has 0 test images; each needs at least 1"):
        check_classes(digits, lacking)
    lacking.labels[0] = 4
    with pytest.raises(DataError, match="class 4 has 1 training images; each needs at least 2"):
        check_classes(lacking, digits)


def test_mnist_5k_has_equal_classes_and_disjoint_parts_and_is_the_same_every_time():
    train, test = load("mnist-5k", "anywhere")
    again = images._mnist_5k.__wrapped__()  # not the copy that the tests keep
    for part, per_class, (pixels, labels) in zip((train, test), (400, 100), again, strict=True):
        assert part.images.shape == (10 * per_class, 1, 28, 28)
        assert part.images.dtype == torch.uint8
        assert torch.bincount(part.labels).tolist() == [per_class] * 10
        assert torch.equal(part.images.squeeze(1), pixels)
        assert torch.equal(part.labels, labels)
    first, second = ({image.numpy().tobytes() for image in part.images} for part in (train, test))
    assert not first & second
    pixels = train.normalise(train.images.float() / 255)
    assert pixels.mean().item() == pytest.approx(0, abs=0.02)
    assert pixels.std().item() == pytest.approx(1, abs=0.02)


@pytest.mark.slow
def test_real_mnist_has_the_published_sizes_and_statistics(mnist_dir):
    train, test = load("mnist", mnist_dir)
    assert (len(train.images), len(test.images)) == (60_000, 10_000)
    pixels = train.images.double() / 255
    assert (round(pixels.mean().item(), 4), round(pixels.std().item(), 4)) == (train.mean, train.std)


def test_a_class_is_meant_by_its_name_wherever_it_has_one():
    for word, number in (("1", 0), ("2", 1), ("5", 2), ("0", 0), (1, 0)):
        assert class_number(("1", "2", "5"), "classes", word) == number
    assert class_number(("a", "b"), "target", 1) == 1
    with pytest.raises(DataError, match="--target c: no such class; choose from a, b"):
        class_number(("a", "b"), "target", "c")
