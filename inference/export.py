"""Export a saved model for other programs: ONNX, torch.export, or half-precision weights.

The graph takes pixels as they are in a file, uint8 in 0..255; normalisation and temperature are part of it.

    classifier   images (B, 1, 28, 28) -> probabilities (B, classes), evidence (B,)
    encoder      images (B, 1, 28, 28) -> features (B, D)

B, "batch", may be any number. The metadata of the file say how a picture becomes an input, and name the
classes, see `describe`. A MIL network is written as .safetensors alone, which `models.read_model` opens.
"""

import io
import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from data.images import CENTRED
from inference.predictor import UNCALIBRATED
from models import Classifier, SavedModel
from models.checkpoint import model_bytes
from models.mil import MIL
from utils.errors import UserError
from utils.runs.files import write_atomically

FORMATS = (".onnx", ".pt2", ".safetensors")
CHECKED, TOLERANCE = 100, 1e-4  # images that are compared; on their outputs


class Deployed(nn.Module):
    """A saved model with its normalisation and calibration: pixels in, probabilities or features out."""

    def __init__(self, saved: SavedModel):
        super().__init__()
        self.model = saved.model.eval().requires_grad_(False)
        self.mean, self.std = saved.data["mean"], saved.data["std"]
        self.temperature = saved.data.get("calibration", UNCALIBRATED)["temperature"]

    def forward(self, images: torch.Tensor) -> Any:
        pixels = (images.float() / 255 - self.mean) / self.std
        if not isinstance(self.model, Classifier):
            return self.model(pixels)
        features = self.model.encoder(pixels)
        p = (self.model.head(features) / self.temperature).softmax(1)
        return p, self.model.evidence(features)


def export_model(saved: SavedModel, path: Path) -> float | None:
    """Write a saved model in the format that the path's suffix names, one of FORMATS.

    Returns the largest difference from PyTorch's answers on 100 random images, or None for .safetensors,
    whose weights are rounded to half precision. Raises UserError, and writes nothing, for the graph of a MIL
    network, when a package is missing, or when the difference is above 1e-4.
    """
    content, difference = serialise(saved, path.suffix)
    if difference and difference > TOLERANCE:
        raise UserError(f"{path}: would differ from PyTorch by {difference:.1e}: not written")
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    return difference


def serialise(saved: SavedModel, suffix: str) -> tuple[bytes, float | None]:
    """Return the content of the file, and what `export_model` returns."""
    if suffix == ".safetensors":
        return model_bytes(saved, half=True), None
    if isinstance(saved.model, MIL):
        raise UserError(f"a MIL network can be exported as .safetensors alone, not as {suffix}")
    model, gen = Deployed(saved), torch.Generator().manual_seed(0)
    images = torch.randint(256, (CHECKED, 1, 28, 28), generator=gen, dtype=torch.uint8)
    program = torch.export.export(model, (images,), dynamic_shapes=({0: Dim("batch", min=1)},))
    if suffix == ".pt2":
        file = io.BytesIO()
        torch.export.save(program, file, extra_files={"metadata.json": json.dumps(describe(saved))})
        content = file.getvalue()
    else:
        content = onnx_bytes(program, saved)
    pairs = zip(as_arrays(model(images)), run_exported(content, suffix, images), strict=True)
    return content, max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)


def describe(saved: SavedModel) -> dict[str, str]:
    """Return the metadata: how a picture becomes an input, what the graph does with it, what comes out."""
    data, centred = saved.data, saved.data["dataset"] in CENTRED
    inverted = "always" if data.get("inverted") else "never"
    return {
        "input": "uint8 pixels 0..255, light ink on black, (batch, 1, 28, 28)",
        "invert": "dark ink on light paper" if centred else inverted,
        "padding": "4 pixels around a box of 20 x 20" if centred else "to a square, with the border's grey",
        "centring": "centre of mass at (14, 14)" if centred else "none: the picture is scaled to 28 x 28",
        "grey_range": "paper 0, strongest ink 255" if centred else "as in the picture",
        **{key: str(data[key]) for key in ("mean", "std", "dataset")},
        **{key: str(value) for key, value in data.get("calibration", UNCALIBRATED).items()},
        "classes": json.dumps(data["classes"]),
        "architecture": saved.name,
    }


def as_arrays(outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    return [value.detach().numpy() for value in (outputs if isinstance(outputs, tuple) else (outputs,))]


def run_exported(content: bytes, suffix: str, images: torch.Tensor) -> list[np.ndarray]:
    """Return the outputs of an exported model."""
    if suffix == ".pt2":
        return as_arrays(torch.export.load(io.BytesIO(content)).module()(images))
    import onnxruntime

    graph = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return graph.run(None, {graph.get_inputs()[0].name: images.numpy()})


def onnx_bytes(program: ExportedProgram, saved: SavedModel) -> bytes:
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if not find_spec(name)]:
        raise UserError(f"ONNX needs {missing[0]}: pip install -r requirements-export.txt; .pt2 does not")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    outputs = ["probabilities", "evidence"] if isinstance(saved.model, Classifier) else ["features"]
    sizes = ({0: "batch"},)
    exported: Any = torch.onnx.export(program, output_names=outputs, dynamic_shapes=sizes, verbose=False)
    exported.model.metadata_props.update(describe(saved))
    return exported.model_proto.SerializeToString()
