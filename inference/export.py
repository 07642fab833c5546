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

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from models import Classifier, SavedModel, save_model
from models.mil import MIL
from utils.errors import UserError

FORMATS = (".onnx", ".pt2", ".safetensors")
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


def export_model(saved: SavedModel, path: Path) -> None:
    """Write a saved model in the format that the path's suffix names; .safetensors in half precision.

    Raises UserError when the format is unknown or a package is missing.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: the name must end in {', '.join(FORMATS)}")
    if path.suffix == ".safetensors":
        save_model(path, saved.model, saved.name, saved.data, **saved.options)
        return
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
    images = torch.zeros(2, *([3] * mil), 1, 28, 28, dtype=torch.uint8)
    inputs = (images, torch.ones(2, 3, dtype=torch.bool)) if mil else (images,)
    with torch.no_grad():
        program = torch.export.export(model, inputs, dynamic_shapes=(sizes,) * len(inputs))
    if path.suffix == ".pt2":
        torch.export.save(program, path, extra_files={"metadata.json": json.dumps(facts)})
    else:
        write_onnx(program, OUTPUTS.get(type(saved.model), ["features"]), facts, path)


def write_onnx(program: ExportedProgram, outputs: list[str], facts: dict[str, str], path: Path) -> None:
    try:
        onnx, _ = map(importlib.import_module, ("onnx", "onnxscript"))
    except ImportError as error:
        needed = f"ONNX needs {error.name}: pip install -r requirements-export.txt (.pt2 needs nothing)"
        raise UserError(needed) from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    exported = torch.onnx.export(program, dynamo=True, output_names=outputs, verbose=False)
    assert exported is not None  # it is for dynamo=True
    proto = exported.model_proto  # made anew at each access
    onnx.helper.set_model_props(proto, facts)
    onnx.save(proto, path)
