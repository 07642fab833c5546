"""Model files with any field of any other kind: exit code 2, one line, and nothing of them is executed."""

import contextlib
import copy
import math
import os
import warnings

import numpy as np
import pytest
import torch
from helpers import FACTS
from PIL import Image

import predict
from models import create, save_model
from models.checkpoint import digest

pytestmark = pytest.mark.reliability

VALUES: list = [None, True, 0, -1, 3, 10**400, 10**5000, 1.5, 1e308, math.nan, math.inf, -math.inf, 1j, b"x"]
VALUES += ["", "\x1b[31m\n" * 1000, [], ["a"], ["a"] * 10, [*"abc"], list(range(10)), (28, 28), [28.0, 28]]
VALUES += [{}, {"a": 1}, {0: [0]}, {1}, torch.zeros(2), torch.zeros(10, 784), torch.tensor(0), torch.float32]
RIGHT = {"options: {}", "options.num_classes missing", "data.calibration missing", "data.inverted missing"}
RIGHT |= {"data.dataset: ''", "data.dataset: '\\x1b[31m", "data.mean: 0", "data.inverted: True"}
RIGHT |= {"data.image_size: []", "data.image_size: [28.0, 28", "data.calibration.least_confidence: 0"}
RIGHT |= {f"data.calibration.temperature: {value}" for value in (3, 1.5)}
RIGHT |= {f"data.calibration.least_evidence: {value}" for value in (0, -1, 3, 1.5)}
TENSORS = {
    "complex": lambda x: x.to(torch.complex64),
    "sparse": lambda x: x.to_sparse(),
    "of another shape": lambda x: x[1:],
    "of integers": lambda x: x.long(),
    "of 8 bits": lambda x: x.to(torch.float8_e5m2),
    "on no device": lambda x: x.to("meta"),
    "not finite": lambda x: x / 0,
}


class Evil:
    """A pickle that makes a folder when it is executed."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def changes(content, whole=None, place=""):
    """Yield (what is wrong, whole) for every change of a field of `content`, a part of the dict `whole`."""
    whole = whole or content
    for key, value in list(content.items()):
        for wrong in [*VALUES, Evil()]:
            content[key] = wrong
            yield f"{place}{key}: {'10**5000' if wrong is VALUES[6] else repr(wrong)[:9]}", whole
        del content[key]
        yield f"{place}{key} missing", whole
        content[key] = value
        if isinstance(value, dict):
            yield from changes(value, whole, f"{place}{key}.")


def files(content):
    """Yield (what is wrong, content of a file)."""
    yield from changes(copy.deepcopy(content))
    for name, change in TENSORS.items():
        weights = {key: change(value) for key, value in content["weights"].items()}
        signed = digest(weights) if name in ("of integers", "not finite") else content["digest"]
        yield name, {**content, "weights": weights, "digest": signed}
    yield from (("another thing", thing) for thing in (*VALUES, content["weights"], Evil(), [content]))


def test_a_hostile_model_file_is_refused_in_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.pad(np.full((8, 3), 255, np.uint8), 10)).save("seven.png")
    calibration = {"temperature": 1.5, "least_confidence": 0.1, "least_evidence": 0.5}
    data = FACTS | {"calibration": calibration, "inverted": False}
    save_model("m.pt", create("linear"), "linear", data, num_classes=10)
    count, right = 0, set()
    for wrong, content in files(torch.load("m.pt")):
        torch.save(content, "m.pt")
        with contextlib.suppress(SystemExit), warnings.catch_warnings(action="always"):
            predict.main(["seven.png", "--model", "m.pt"])
            right.add(wrong)
            continue
        told = capfd.readouterr().err
        # As utils.cli.fail says it, with exit code 2.
        assert told.startswith("predict.py: error: m.pt: "), (wrong, told)
        assert (told.count("\n"), "\x1b" in told, len(told) < 600) == (1, False, True), (wrong, told)
        count += 1
    assert count > 500
    assert right == RIGHT
    assert not os.path.exists("executed")
