"""Exports give PyTorch's answers for every kind of network, and for any number of images."""

import json
import os
import sys

import numpy as np
import pytest
import torch
from helpers import FACTS, optional

from inference import export
from inference.export import Deployed, as_arrays, describe, export_model, run_exported
from models import SavedModel, create, read_model
from models.mil import create_mil
from utils.errors import UserError


def saved(name, classes=10):
    """A new network as it is read from a file."""
    torch.manual_seed(0)
    data = {**FACTS, "calibration": {"temperature": 1.5}} if classes else FACTS
    return SavedModel(create(name, classes), name, {"num_classes": classes}, data)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize(
    "network", [saved("linear"), saved("fast", classes=0)], ids=["classifier", "encoder"]
)
def test_an_export_answers_as_pytorch_for_any_number_of_images(tmp_path, network, suffix):
    if suffix == ".onnx":
        optional("onnx", "onnxscript", "onnxruntime")
    path = tmp_path / f"model{suffix}"
    assert export_model(network, path) < 1e-5
    for count in (1, 7):
        pixels = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8)
        expected = as_arrays(Deployed(network)(pixels))
        for ours, theirs in zip(expected, run_exported(path.read_bytes(), suffix, pixels), strict=True):
            assert theirs.shape == ours.shape
            np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_a_mil_network_is_exported_as_weights_alone(tmp_path):
    network = SavedModel(create_mil("fast", "attention"), "fast", {"method": "attention"}, FACTS)
    with pytest.raises(UserError, match="as .safetensors alone"):
        export_model(network, tmp_path / "mil.pt2")
    assert export_model(network, tmp_path / "mil.safetensors") is None
    assert read_model(tmp_path / "mil.safetensors").options == network.options


def test_a_missing_package_is_one_line_that_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-export\.txt"):
        export_model(saved("linear"), tmp_path / "model.onnx")


def test_the_metadata_say_how_a_picture_becomes_an_input_and_name_the_classes(tmp_path):
    optional("onnx", "onnxscript", "onnxruntime")
    import onnxruntime

    export_model(saved("linear"), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [value.shape[0] for value in (*session.get_inputs(), *session.get_outputs())] == ["batch"] * 3
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == FACTS["classes"]
    assert facts["input"].startswith("uint8 pixels 0..255")
    assert [facts[key] for key in ("mean", "std", "temperature")] == ["0.1", "0.3", "1.5"]
    assert facts["invert"] == "dark ink on light paper"
    letters = saved("linear")._replace(data=FACTS | {"dataset": "letters", "inverted": True})
    assert describe(letters)["invert"] == "always"


def test_a_difference_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "run_exported", lambda *_: [np.zeros((100, 10)), np.zeros(100)])
    with pytest.raises(UserError, match="would differ from PyTorch"):
        export_model(saved("linear"), tmp_path / "model.pt2")
    assert not os.listdir(tmp_path)
