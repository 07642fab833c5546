"""Hostile pictures: an answer, or one line that names the file; memory stays bounded."""

import io
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, claiming_png, spoilt
from PIL import Image, ImageDraw

pytestmark = pytest.mark.reliability

Image.init()
NOT_WRITTEN = ("IM", "BUFR", "GRIB", "HDF5", "WMF", "PDF", "EPS")  # stubs and documents
MODES = ("L", "RGB", "RGBA", "P", "1", "I;16", "F")


def whole_pictures():
    """(name, content) of a drawn stroke in every format and mode that Pillow writes."""
    for mode in MODES:
        picture = Image.new("RGB", (48, 40), "white")
        ImageDraw.Draw(picture).line([(20, 8), (28, 30)], "black", 4)
        picture = picture.convert("L" if mode in ("I;16", "F") else mode).convert(mode)
        for format in sorted(set(Image.SAVE) - set(NOT_WRITTEN)):
            content = io.BytesIO()
            try:
                picture.save(content, format)
            except (OSError, ValueError, KeyError, AttributeError, TypeError):
                continue  # not of this mode
            yield f"{format}-{mode.replace(';', '')}", content.getvalue()


def float_tiff(value):
    values, content = np.ones((28, 28), np.float32), io.BytesIO()
    values[10:20, 14] = value
    Image.fromarray(values).save(content, "TIFF")
    return content.getvalue()


LARGE = {"60,000": (60_000, 60_000), "20,000": (20_000, 10_000), "long": (1, 100_000), "wide": (100_000, 1)}
REFUSED = {name: claiming_png(*size) for name, size in LARGE.items()}
REFUSED |= {f"{value} tiff": float_tiff(value) for value in (np.nan, np.inf, -np.inf)}


def predict(folder, *flags):
    """Exit code, stdout, stderr and the peak memory in MB of predict.py on a folder."""
    command = [sys.executable, str(ROOT / "predict.py"), str(folder), *flags]
    with open(folder.parent / "out", "w+") as out, open(folder.parent / "err", "w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=folder.parent)
        _, status, usage = os.wait4(process.pid, 0)
        out.seek(0), err.seek(0)
        return os.waitstatus_to_exitcode(status), out.read(), err.read(), usage.ru_maxrss / 1024


def test_every_damaged_picture_is_an_answer_or_a_line(tmp_path):
    rng, folder = random.Random(0), tmp_path / "pictures"
    folder.mkdir()
    for name, content in whole_pictures():
        for i in range(20):
            (folder / f"{name}-{i}.png").write_bytes(spoilt(content, rng))
    for name, content in REFUSED.items():
        (folder / f"{name}.png").write_bytes(content)
    code, out, err, megabytes = predict(folder, "--json")
    answers = [json.loads(line) for line in out.splitlines()]
    refused = {answer["file"] for answer in answers if "error" in answer}
    assert (code, len(answers)) == (2, len(list(folder.iterdir())))
    lines = err.splitlines()
    assert len(lines) == len(refused)
    assert "bomb" not in err
    assert all(line.startswith(f"predict.py: {folder}/") for line in lines)
    assert {str(folder / f"{name}.png") for name in REFUSED} <= refused
    assert megabytes < 1500
