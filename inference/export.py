"""Export a saved model for other programs: ONNX, torch.export, or half-precision weights.

The graph takes pixels as they are in a file, uint8 in 0..255; normalisation and temperature are part of it.

    classifier   images (B, 1, 28, 28) -> probabilities (B, classes)
    encoder      images (B, 1, 28, 28) -> features (B, D)
    MIL network  images (B, N, 1, 28, 28), mask (B, N) bool, true where a bag has an instance
                 -> probabilities (B,) of a positive bag, attention (B, N)

B and N may be any number from 1. The metadata of the file holds the input, the classes, the architecture, the
data set and the temperature.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models import Classifier, SavedModel, save_model
from models.mil import MIL
from utils.errors import UserError

FORMATS = (".onnx", ".pt2", ".safetensors")
CHECKED = 100  # images or bags that are compared with PyTorch's answers
BAG = 6  # instances in a bag that is compared
TOLERANCE = 1e-4


class Deployed(nn.Module):
    """A saved model with its normalisation and calibration: uint8 pixels in, probabilities out."""

    model: nn.Module

    def __init__(self, saved: SavedModel):
        super().__init__()
        self.model = saved.model.eval().requires_grad_(False)
        self.mean, self.std = saved.data["mean"], saved.data["std"]
        self.temperature = saved.data.get("calibration", {}).get("temperature", 1.0)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() / 255 - self.mean) / self.std


class DeployedClassifier(Deployed):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (self.model(self.normalise(images)) / self.temperature).softmax(1)


class DeployedEncoder(Deployed):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(self.normalise(images))


class DeployedMIL(Deployed):
    """Encodes padding as well, so that no shape depends on the data; the pooling ignores it."""

    def forward(self, images: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        network = self.model
        assert isinstance(network, MIL)
        features = network.scale(network.encoder(self.normalise(images.flatten(0, 1))))
        logits, attention = network.pooling(features.unflatten(0, mask.shape), mask, network.head)
        odds = logits[..., 0] if logits.shape[-1] == 1 else logits[..., 1] - logits[..., 0]
        return odds.sigmoid(), attention


def export_model(saved: SavedModel, path: Path) -> float | None:
    """Write a saved model in the format that the path's suffix names.

    Returns the largest difference from PyTorch's answers on 100 random images or bags, or None for
    .safetensors, whose weights are rounded to half precision. Raises UserError when the format is unknown,
    when a package is missing or when the difference is above 1e-4.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: the name must end in {', '.join(FORMATS)}")
    if path.suffix == ".safetensors":
        save_model(path, saved.model, saved.name, saved.data, **saved.options)
        return None
    model, example = deployed(saved)
    write, run = (write_onnx, run_onnx) if path.suffix == ".onnx" else (write_pt2, run_pt2)
    write(model, example, path, metadata(saved, model))
    with torch.inference_mode():
        expected = model(*example)
    expected = expected if isinstance(expected, tuple) else (expected,)
    pairs = zip(expected, run(path, example), strict=True)
    difference = max(float(np.abs(a.numpy() - b).max()) for a, b in pairs)
    if difference > TOLERANCE:
        raise UserError(f"{path}: differs from PyTorch by {difference:.1e}: don't use it")
    return difference


def deployed(saved: SavedModel) -> tuple[Deployed, tuple[torch.Tensor, ...]]:
    """Return the module to export, and inputs to check it with."""
    gen = torch.Generator().manual_seed(0)
    if isinstance(saved.model, MIL):
        images = torch.randint(256, (CHECKED, BAG, 1, 28, 28), generator=gen, dtype=torch.uint8)
        mask = torch.arange(BAG) < torch.randint(1, BAG + 1, (CHECKED, 1), generator=gen)
        return DeployedMIL(saved), (images, mask)
    images = torch.randint(256, (CHECKED, 1, 28, 28), generator=gen, dtype=torch.uint8)
    kind = DeployedClassifier if isinstance(saved.model, Classifier) else DeployedEncoder
    return kind(saved), (images,)


def metadata(saved: SavedModel, model: Deployed) -> dict[str, str]:
    """Return what a program needs beside the graph, as texts."""
    mil = isinstance(model, DeployedMIL)
    return {
        "input": "uint8 pixels 0..255, light ink on black, "
        + ("(B, N, 1, 28, 28), and a bool mask (B, N)" if mil else "(B, 1, 28, 28)"),
        "classes": json.dumps(["negative", "positive"] if mil else saved.data["classes"]),
        "architecture": saved.name,
        "dataset": saved.data["dataset"],
        "temperature": str(model.temperature),
    }


def dynamic_shapes(example: Sequence[torch.Tensor]) -> tuple[dict, ...]:
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=1)
    return ({0: batch},) if len(example) == 1 else ({0: batch, 1: length}, {0: batch, 1: length})


def traced(model: Deployed, example: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(model, example, dynamic_shapes=dynamic_shapes(example))


def write_pt2(model: Deployed, example: tuple, path: Path, facts: dict[str, str]) -> None:
    torch.export.save(traced(model, example), path, extra_files={"metadata.json": json.dumps(facts)})


def run_pt2(path: Path, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    with torch.inference_mode():
        outputs = torch.export.load(path).module()(*inputs)
    return [value.numpy() for value in (outputs if isinstance(outputs, tuple) else (outputs,))]


def write_onnx(model: Deployed, example: tuple, path: Path, facts: dict[str, str]) -> None:
    onnx, _ = need("onnx", "onnxruntime")
    need("onnxscript")
    names = ["images"] if len(example) == 1 else ["images", "mask"]
    outputs = ["probabilities", "attention"] if len(example) == 2 else ["probabilities"]
    if isinstance(model, DeployedEncoder):
        outputs = ["features"]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        traced(model, example), dynamo=True, input_names=names, output_names=outputs, verbose=False
    )
    assert program is not None  # it is for dynamo=True
    proto = program.model_proto
    onnx.helper.set_model_props(proto, facts)
    onnx.save(proto, path)


def run_onnx(path: Path, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    (onnxruntime,) = need("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = (item.name for item in session.get_inputs())
    return session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})


def need(*names: str) -> list:
    """Import optional packages; UserError that says how to install a missing one."""
    import importlib

    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise UserError(
            f"ONNX needs {error.name}: pip install -r requirements-export.txt (.pt2 needs nothing)"
        ) from error
