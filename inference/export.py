"""Export a saved model for other programs: ONNX, torch.export, or half-precision weights.

The graph takes pixels as they are in a file, uint8 in 0..255; normalisation and temperature are part of it.

    classifier   images (B, 1, 28, 28) -> probabilities (B, classes)
    encoder      images (B, 1, 28, 28) -> features (B, D)
    MIL network  images (B, N, 1, 28, 28), mask (B, N) bool, true where a bag has an instance
                 -> probabilities (B,) of a positive bag, attention (B, N)

B and N may be any number from 1, but a bag for .pt2 holds at least 2. The metadata of the file holds the
input, the classes, the architecture, the data set and the temperature.
"""

import importlib
import json
import logging
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from models import Classifier, SavedModel, save_model
from models.mil import MIL
from utils.errors import UserError

FORMATS = (".onnx", ".pt2", ".safetensors")
CHECKED = 100  # images or bags that are compared with PyTorch's answers
BAG = 6  # instances in a bag that is compared
TOLERANCE = 1e-4
Tensors = torch.Tensor | tuple[torch.Tensor, ...]


class Deployed(nn.Module):
    """A saved model with its normalisation and calibration: uint8 pixels in, probabilities or features out.

    outputs: their names. facts: what a program needs beside the graph, as texts.
    """

    def __init__(self, saved: SavedModel):
        super().__init__()
        self.model = saved.model.eval().requires_grad_(False)
        self.mean, self.std = saved.data["mean"], saved.data["std"]
        self.temperature = saved.data.get("calibration", {}).get("temperature", 1.0)
        mil = isinstance(self.model, MIL)
        self.outputs = ["probabilities" if mil or isinstance(self.model, Classifier) else "features"]
        self.outputs += ["attention"] * mil
        shapes = "(B, N, 1, 28, 28), and a bool mask (B, N)" if mil else "(B, 1, 28, 28)"
        self.facts = {
            "input": f"uint8 pixels 0..255, light ink on black, {shapes}",
            "classes": json.dumps(["negative", "positive"] if mil else saved.data["classes"]),
            "architecture": saved.name,
            "dataset": saved.data["dataset"],
            "temperature": str(self.temperature),
        }

    def forward(self, images: torch.Tensor, mask: torch.Tensor | None = None) -> Tensors:
        """Encode padding as well, so that no shape depends on the data; the pooling ignores it."""
        pixels = (images.float() / 255 - self.mean) / self.std
        if mask is None or not isinstance(self.model, MIL):
            outputs = self.model(pixels)
            return (outputs / self.temperature).softmax(1) if "probabilities" in self.outputs else outputs
        features = self.model.scale(self.model.encoder(pixels.flatten(0, 1)))
        logits, attention = self.model.pooling(features.unflatten(0, mask.shape), mask, self.model.head)
        odds = logits[..., 0] if logits.shape[-1] == 1 else logits[..., 1] - logits[..., 0]
        return odds.sigmoid(), attention

    def example(self) -> tuple[torch.Tensor, ...]:
        """Return random inputs to trace and check the graph with."""
        gen = torch.Generator().manual_seed(0)
        size = (CHECKED, BAG, 1, 28, 28) if isinstance(self.model, MIL) else (CHECKED, 1, 28, 28)
        images = torch.randint(256, size, generator=gen, dtype=torch.uint8)
        if len(size) == 4:
            return (images,)
        return images, torch.arange(BAG) < torch.randint(1, BAG + 1, (CHECKED, 1), generator=gen)


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
    model = Deployed(saved)
    inputs, sizes = model.example(), {0: Dim("batch", min=1)}
    if len(inputs) > 1:
        sizes[1] = Dim("length", min=1)
    write, run = (write_onnx, run_onnx) if path.suffix == ".onnx" else (write_pt2, run_pt2)
    with torch.no_grad():
        expected = model(*inputs)
        program = torch.export.export(model, inputs, dynamic_shapes=(sizes,) * len(inputs))
    try:
        write(program, model, path)
    except ImportError as error:
        needed = f"ONNX needs {error.name}: pip install -r requirements-export.txt (.pt2 needs nothing)"
        raise UserError(needed) from error
    pairs = zip(as_tuple(expected), run(path, inputs), strict=True)
    difference = max(float(np.abs(a.numpy() - b).max()) for a, b in pairs)
    if difference > TOLERANCE:
        raise UserError(f"{path}: differs from PyTorch by {difference:.1e}: don't use it")
    return difference


def as_tuple(outputs: Tensors) -> tuple[torch.Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def write_pt2(program: ExportedProgram, model: Deployed, path: Path) -> None:
    torch.export.save(program, path, extra_files={"metadata.json": json.dumps(model.facts)})


def run_pt2(path: Path, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    with torch.inference_mode():
        return [value.numpy() for value in as_tuple(torch.export.load(path).module()(*inputs))]


def write_onnx(program: ExportedProgram, model: Deployed, path: Path) -> None:
    onnx, *_ = map(importlib.import_module, ("onnx", "onnxruntime", "onnxscript"))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    exported = torch.onnx.export(program, dynamo=True, output_names=model.outputs, verbose=False)
    assert exported is not None  # it is for dynamo=True
    proto = exported.model_proto  # made anew at each access
    onnx.helper.set_model_props(proto, model.facts)
    onnx.save(proto, path)


def run_onnx(path: Path, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = (item.name for item in session.get_inputs())
    return session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
