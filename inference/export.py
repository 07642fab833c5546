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
CHECKED, LENGTH, TOLERANCE = 100, 6, 1e-4  # images or bags that are compared, of so many images; on outputs
OUTPUTS = {Classifier: ["probabilities"], MIL: ["probabilities", "attention"]}  # of an encoder: features


class Deployed(nn.Module):
    """A saved model with its normalisation and calibration: pixels in, probabilities or features out."""

    def __init__(self, saved: SavedModel):
        super().__init__()
        self.model = saved.model.eval().requires_grad_(False)
        self.mean, self.std = saved.data["mean"], saved.data["std"]
        self.temperature = saved.data.get("calibration", {}).get("temperature", 1.0)

    def forward(
        self, images: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Encode padding as well, so that no shape depends on the data; the pooling ignores it."""
        pixels = (images.float() / 255 - self.mean) / self.std
        if mask is None or not isinstance(self.model, MIL):
            outputs = self.model(pixels)
            return (outputs / self.temperature).softmax(1) if type(self.model) in OUTPUTS else outputs
        features = self.model.scale(self.model.encoder(pixels.flatten(0, 1)))
        logits, attention = self.model.pooling(features.unflatten(0, mask.shape), mask, self.model.head)
        odds = logits[..., 0] if logits.shape[-1] == 1 else logits[..., 1] - logits[..., 0]
        return odds.sigmoid(), attention


def export_model(saved: SavedModel, path: Path) -> float | None:
    """Write a saved model in the format that the path's suffix names.

    Returns the largest difference from PyTorch's answers on 100 random images or bags, or None for
    .safetensors, whose weights are rounded to half precision. Raises UserError when the format is unknown,
    when a package is missing, or when the difference is above 1e-4.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: the name must end in {', '.join(FORMATS)}")
    if path.suffix == ".safetensors":
        save_model(path, saved.model, saved.name, saved.data, **saved.options)
        return None
    mil, batch, length = isinstance(saved.model, MIL), Dim("batch", min=1), Dim("length", min=1)
    shape = "(B, N, 1, 28, 28), and a bool mask (B, N)" if mil else "(B, 1, 28, 28)"
    model, sizes = Deployed(saved), {0: batch, 1: length} if mil else {0: batch}
    facts = {
        "input": f"uint8 pixels 0..255, light ink on black, {shape}",
        "classes": json.dumps(["negative", "positive"] if mil else saved.data["classes"]),
        "architecture": saved.name,
        "dataset": saved.data["dataset"],
        "temperature": str(model.temperature),
    }
    gen = torch.Generator().manual_seed(0)
    images = torch.randint(256, (CHECKED, *([LENGTH] * mil), 1, 28, 28), generator=gen, dtype=torch.uint8)
    mask = torch.arange(LENGTH) < torch.randint(1, LENGTH + 1, (CHECKED, 1), generator=gen)
    inputs = (images, mask) if mil else (images,)
    with torch.no_grad():
        program = torch.export.export(model, inputs, dynamic_shapes=(sizes,) * len(inputs))
    if path.suffix == ".pt2":
        torch.export.save(program, path, extra_files={"metadata.json": json.dumps(facts)})
    else:
        write_onnx(program, OUTPUTS.get(type(saved.model), ["features"]), facts, path)
    pairs = zip(as_arrays(model(*inputs)), run_exported(path, inputs), strict=True)
    difference = max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)
    if difference > TOLERANCE:
        raise UserError(f"{path}: differs from PyTorch by {difference:.1e}: don't use it")
    return difference


def as_arrays(outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    return [value.detach().numpy() for value in (outputs if isinstance(outputs, tuple) else (outputs,))]


def run_exported(path: Path, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    """Return the outputs of an exported model for images and, for a MIL network, their mask."""
    if path.suffix == ".pt2":
        return as_arrays(torch.export.load(path).module()(*inputs))
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    return session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})


def write_onnx(program: ExportedProgram, outputs: list[str], facts: dict[str, str], path: Path) -> None:
    try:
        onnx, *_ = map(importlib.import_module, ("onnx", "onnxscript", "onnxruntime"))
    except ImportError as error:
        needed = f"ONNX needs {error.name}: pip install -r requirements-export.txt (.pt2 needs nothing)"
        raise UserError(needed) from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    exported = torch.onnx.export(program, dynamo=True, output_names=outputs, verbose=False)
    assert exported is not None  # it is for dynamo=True
    proto = exported.model_proto  # made anew at each access
    onnx.helper.set_model_props(proto, facts)
    onnx.save(proto, path)
