"""Exports give PyTorch's answers for every network, and for any number of images."""

import json

import numpy as np
import pytest
import torch
from helpers import FACTS, optional

from inference import export
from inference.export import deployed, export_model, run_onnx, run_pt2
from models import SavedModel, create
from models.mil import create_mil
from utils.errors import UserError

CLASSES = len(FACTS["classes"])


def saved_classifier(name="linear"):
    torch.manual_seed(0)
    data = {**FACTS, "calibration": {"temperature": 1.5}}
    return SavedModel(create(name, CLASSES), name, {"num_classes": CLASSES}, data)


def saved_mil(method, encoder="fast"):
    torch.manual_seed(0)
    return SavedModel(create_mil(encoder, method), encoder, {"method": method}, FACTS)


def assert_same(saved, run, path, inputs):
    with torch.inference_mode():
        expected = deployed(saved)[0](*inputs)
    for ours, theirs in zip(
        expected if isinstance(expected, tuple) else (expected,), run(path, inputs), strict=True
    ):
        assert theirs.shape == ours.shape
        np.testing.assert_allclose(theirs, ours, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "compact"])
def test_a_classifier_as_onnx_with_any_number_of_images(tmp_path, name):
    optional("onnx", "onnxscript", "onnxruntime")
    saved, path = saved_classifier(name), tmp_path / "model.onnx"
    assert export_model(saved, path) < 1e-4
    for count in (1, 7):
        images = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8)
        assert_same(saved, run_onnx, path, (images,))


@pytest.mark.parametrize("method", ["instance-max", "loss-attention"])
def test_a_mil_network_as_onnx_with_any_number_of_bags(tmp_path, method):
    optional("onnx", "onnxscript", "onnxruntime")
    saved, path = saved_mil(method), tmp_path / "model.onnx"
    assert export_model(saved, path) < 1e-4
    for bags, length in ((1, 1), (3, 9)):
        images = torch.randint(256, (bags, length, 1, 28, 28), dtype=torch.uint8)
        mask = torch.arange(length) < torch.randint(1, length + 1, (bags, 1))
        assert_same(saved, run_onnx, path, (images, mask))


@pytest.mark.parametrize("saved", [saved_classifier("compact"), saved_mil("loss-attention")])
def test_torch_export(tmp_path, saved):
    path = tmp_path / "model.pt2"
    assert export_model(saved, path) < 1e-4
    inputs = tuple(value[:3] for value in deployed(saved)[1])
    assert_same(saved, run_pt2, path, inputs)


def test_an_encoder_gives_features(tmp_path):
    saved = SavedModel(create("fast", 0), "fast", {"num_classes": 0}, FACTS)
    assert export_model(saved, tmp_path / "model.pt2") < 1e-4


def test_the_graph_holds_normalisation_and_temperature():
    saved = saved_classifier()
    model, (images,) = deployed(saved)
    with torch.inference_mode():
        logits = saved.model((images.double() / 255 - FACTS["mean"]).float() / FACTS["std"])
        np.testing.assert_allclose(model(images), (logits / 1.5).softmax(1), atol=1e-5)


def test_a_mil_network_answers_as_in_training():
    saved = saved_mil("attention")
    model, (images, mask) = deployed(saved)
    with torch.inference_mode():
        pooled = saved.model.eval()((images.float() / 255 - FACTS["mean"]) / FACTS["std"], mask)
        probabilities, attention = model(images, mask)
    np.testing.assert_allclose(probabilities, pooled.logits.sigmoid(), atol=1e-5)
    np.testing.assert_allclose(attention, pooled.attention, atol=1e-5)


def test_the_metadata_names_input_and_classes(tmp_path):
    optional("onnx", "onnxscript", "onnxruntime")
    import onnxruntime

    export_model(saved_classifier(), tmp_path / "model.onnx")
    facts = onnxruntime.InferenceSession(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == FACTS["classes"]
    assert facts["input"].startswith("uint8 pixels 0..255")
    assert facts["temperature"] == "1.5"


def test_a_missing_package_is_one_line_that_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-export\.txt"):
        export_model(saved_classifier(), tmp_path / "model.onnx")


def test_a_difference_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "run_pt2", lambda path, inputs: [np.zeros((100, CLASSES))])
    with pytest.raises(UserError, match="differs from PyTorch"):
        export_model(saved_classifier(), tmp_path / "model.pt2")
