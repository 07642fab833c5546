"""Model files: plain dicts of name, options, weights and data facts that open without this code's classes.

A path that ends in .safetensors is written in half precision, for sharing: weights as tensors, and the other
facts as JSON in the file's metadata.
"""

import hashlib
import io
import json
import os
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from models.cnn import ENCODERS, Classifier, create
from models.mil import create_mil
from models.triplet import TRIPLET_ENCODERS

FORMAT = 1
BUNDLED = Path(__file__).resolve().parents[1] / "weights"


class CheckpointError(Exception):
    """A file that is not a model, or holds the model of another architecture; the message says which."""


# The fields of a model file: each a type, the bounds of a number, [the form of all items], or fields.
_CALIBRATION = {"temperature": (1e-3, 1e3), "least_confidence": (0, 1), "least_evidence": (-1e9, 1e9)}
_COUNTS = {"num_classes": (0, 1e6), "directions": (0, 1e6)}
_FIELDS = {
    "format": (FORMAT, FORMAT),
    "name": str,
    "options": {"method": str, "dropout": (0, 1), "standardise": bool, **_COUNTS},
    "data": {
        "dataset": str,
        "classes": [str],
        "image_size": [(28, 28)],
        "mean": (0, 1),
        "std": (0.001, 1),
        "inverted": bool,
        "mixed": bool,
        "calibration": _CALIBRATION,
    },
    "digest": str,
    "weights": dict,
}
_OPTIONAL = (*_COUNTS, "method", "dropout", "standardise", "inverted", "mixed", "calibration")


class SavedModel(NamedTuple):
    """A model read from a file.

    data: what it was trained on, {"dataset", "classes", "image_size", "mean", "std"}: name of the data set,
    class names, (height, width) in pixels, and the statistics of pixels in [0, 1] that normalise its input.
    A classifier's has "calibration", see evaluation/cnn.py, when it was validated.
    """

    model: nn.Module
    name: str
    options: dict
    data: dict


def save_model(path: Path | str, model: nn.Module, name: str, data: dict, **options: Any) -> None:
    """Write {"format", "name", "options", "data", "digest", "weights"} of a model.

    `create(name, **options)` makes it again, for a MIL network `create_mil`. data: as in SavedModel.
    """
    saved = SavedModel(model, name, options, data)
    # From memory: to a file, torch.save hides why it can't be written.
    Path(path).write_bytes(model_bytes(saved, str(path).endswith(".safetensors")))


def model_bytes(saved: SavedModel, half: bool) -> bytes:
    """Return the content of a model file; half: of a .safetensors file, in half precision."""
    weights = {k: v.detach().cpu().contiguous() for k, v in saved.model.state_dict().items()}
    if half:
        weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    facts = {"format": FORMAT, **saved._asdict(), "digest": digest(weights)}
    del facts["model"]
    if half:
        from safetensors.torch import save

        return save(weights, {key: json.dumps(value) for key, value in facts.items()})
    content = io.BytesIO()
    torch.save({**facts, "weights": weights}, content)
    return content.getvalue()


def read_model(path: Path | str) -> SavedModel:
    """Rebuild the model that `save_model` wrote, on the CPU, with what the file says about it.

    Raises CheckpointError for a file of another kind, a field of another type or range, weights that are
    missing, unexpected, of another shape or type, changed since or not finite, and a head that has another
    number of classes.
    """
    if not os.path.isfile(path):  # a pipe would be waited for
        raise CheckpointError(f"{path}: {'not a file' if os.path.exists(path) else 'no such file'}")
    with warnings.catch_warnings(action="ignore"):  # PyTorch's, about a file that is refused in one line
        try:
            content = _read(path)
            fault = next(_faults(content, _FIELDS), None)
        except Exception as error:  # torch.load raises half a dozen types for a damaged file
            raise CheckpointError(f"{path}: not a model file of this project") from error
    if fault:
        raise CheckpointError(f"{path}: not a model file of this project: {fault}")
    name, options, data, weights = (content[key] for key in ("name", "options", "data", "weights"))
    try:
        with torch.device("meta"):  # without memory, which a wrong file may ask too much of
            plan = _create(name, **options)
        _check_tensors(weights, plan)
        model = _create(name, **options)
        model.load_state_dict(weights)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise CheckpointError(f"{path}: does not hold a {name[:40]!r}: {reason}") from error
    if content["digest"] != digest(weights):
        raise CheckpointError(f"{path}: damaged: the weights have changed since they were saved")
    if not all(value.isfinite().all() for value in weights.values()):
        raise CheckpointError(f"{path}: weights that are not finite: the training diverged")
    count = model.head.out_features if isinstance(model, Classifier) else len(data["classes"])
    if len(data["classes"]) != count or len(set(data["classes"])) != count or count < 2:
        raise CheckpointError(f"{path}: needs two or more different classes, one for each output")
    return SavedModel(model, name, options, data)


def _create(name: str, **options: Any) -> nn.Module:
    """Create a MIL network, whose options name its method, a classifier or an encoder."""
    if "method" in options:
        options.pop("dropout", None)  # in files of earlier versions
        return create_mil(name, **options)
    return create(name, encoders=TRIPLET_ENCODERS | ENCODERS, **options)


def _faults(value: Any, form: Any, place: str = "it") -> Iterator[str]:
    """Yield what is wrong with the value at a place, which must have one of the forms in _FIELDS."""
    if isinstance(form, dict) and isinstance(value, dict):
        path = "" if place == "it" else f"{place}."
        yield from (f"{path}{key} is missing" for key in form if key not in value and key not in _OPTIONAL)
        for key in value:
            if key in form:
                yield from _faults(value[key], form[key], f"{path}{key}")
            else:
                yield f"{place} has a field {key!r:.40}"
    elif isinstance(form, list) and isinstance(value, list):
        for item in value:
            yield from _faults(item, form[0], f"an item of {place}")
    elif isinstance(form, tuple):
        if type(value) not in (int, float) or not form[0] <= value <= form[1]:
            yield f"{place} is not a number from {form[0]} to {form[1]}"
    elif type(value) is not (form if isinstance(form, type) else type(form)):
        yield f"{place} is of type {type(value).__name__}"


def _check_tensors(weights: dict[str, Any], plan: nn.Module) -> None:
    """Raise an error unless the weights have the names, shapes and types of a network, or half precision."""
    expected = plan.state_dict()
    plan.load_state_dict(weights, assign=True)
    for name, tensor in expected.items():
        value, half = weights[name], torch.half if tensor.is_floating_point() else tensor.dtype
        plain = value.layout == torch.strided and value.device.type == "cpu"
        if not plain or value.dtype not in (tensor.dtype, half):
            raise TypeError(f"{name} is no dense {tensor.dtype} on the CPU, but {value.dtype}")


def digest(weights: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the names, types, shapes and bytes of weights on the CPU, sorted by name."""
    whole = hashlib.sha256()
    for name, value in sorted(weights.items()):
        whole.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        whole.update(value.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _read(path):
    if not str(path).endswith(".safetensors"):
        return torch.load(path, map_location="cpu", weights_only=True)
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, "pt") as file:
        facts = {key: json.loads(value) for key, value in file.metadata().items()}
    return {**facts, "weights": load_file(path)}


def find_model(path: Path | str) -> Path | str:
    """Return the file that `path` is, or that it names in weights/, e.g. "simclr"."""
    bundled = BUNDLED / f"{path}.safetensors"
    return bundled if not os.path.isfile(path) and bundled.is_file() else path


def load_encoder(path: Path | str) -> nn.Module:
    """Return the encoder (B, 1, 28, 28) -> (B, features) in a file, see `find_model`."""
    model = read_model(find_model(path)).model
    return getattr(model, "encoder", model)
