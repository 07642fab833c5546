"""Model files: plain dicts of name, options, weights and data facts that open without this code's classes.

A path that ends in .safetensors is written in half precision, for sharing: weights as tensors, and the other
facts as JSON in the file's metadata.
"""

import functools
import hashlib
import io
import json
import os
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from models.cnn import Classifier, create
from models.triplet import TRIPLET_ENCODERS

FORMAT = 1


class CheckpointError(Exception):
    """A file that is not a model, or holds the model of another architecture; the message says which."""


def _number(low, high):
    return f"a number from {low:g} to {high:g}", lambda x: type(x) in (int, float) and low <= x <= high


def _list_of(kind, value):
    return isinstance(value, list) and all(type(x) is kind for x in value)


_TEXT = "a text", lambda value: isinstance(value, str)
_FLAG = "true or false", lambda value: type(value) is bool
_OPTIONS = {"num_classes": _number(0, 1e6), "method": _TEXT, "dropout": _number(0, 1), "standardise": _FLAG}
# The fields of a model file: what each is, and whether a value is that; or the fields of a dict.
_FIELDS = {
    "format": (f"{FORMAT}, the one that this code reads", lambda x: _list_of(int, [x]) and x == FORMAT),
    "name": _TEXT,
    "options": _OPTIONS,
    "data": {
        "dataset": _TEXT,
        "classes": ("two or more different texts", lambda x: _list_of(str, x) and len({*x}) == len(x) > 1),
        "image_size": ("[28, 28]", lambda value: _list_of(int, value) and value == [28, 28]),
        "mean": _number(0, 1),
        "std": _number(0.001, 1),
        "inverted": _FLAG,
        "calibration": {
            "temperature": _number(0.001, 1000),
            "least_confidence": _number(0, 1),
            "least_evidence": _number(-1e9, 1e9),
        },
    },
    "digest": _TEXT,
    "weights": ("a dict of names", lambda value: isinstance(value, dict) and _list_of(str, list(value))),
}
_OPTIONAL = {"inverted", "calibration", *_OPTIONS}


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


def save_model(path: Path | str, model: nn.Module, name: str, data: dict, **options) -> None:
    """Write {"format", "name", "options", "data", "digest", "weights"} of a model that `create` made.

    `create(name, **options)` makes it again. data: as in SavedModel, e.g. `ImageSet.description`.
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


def read_model(path: Path | str, create: Callable[..., nn.Module] = create) -> SavedModel:
    """Rebuild the model that `save_model` wrote, on the CPU, with what the file says about it.

    create: the function that made the model, called with the saved name and options. Raises CheckpointError
    for a file of another kind, a field of another type or range, weights that are missing, unexpected, of
    another shape or type, changed since or not finite, and a head that has another number of classes.
    """
    if not os.path.isfile(path):  # a pipe would be waited for
        raise CheckpointError(f"{path}: {'not a file' if os.path.exists(path) else 'no such file'}")
    with warnings.catch_warnings(action="ignore"):  # PyTorch's, about a file that is refused in one line
        try:
            content = _read(path)
        except Exception as error:  # torch.load raises half a dozen types for a damaged file
            raise CheckpointError(f"{path}: not a model file of this project") from error
    for fault in _faults(content, _FIELDS):
        raise CheckpointError(f"{path}: not a model file of this project: {fault}")
    name, options, data, weights = (content[key] for key in ("name", "options", "data", "weights"))
    try:
        with torch.device("meta"):  # without memory, which a wrong file may ask too much of
            plan = create(name, **options)
        _check_tensors(weights, plan)
        model = create(name, **options)
        model.load_state_dict(weights)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise CheckpointError(f"{path}: does not hold a {name[:40]!r}: {reason}") from error
    if content["digest"] != digest(weights):
        raise CheckpointError(f"{path}: damaged: the weights have changed since they were saved")
    if not all(value.isfinite().all() for value in weights.values()):
        raise CheckpointError(f"{path}: weights that are not finite: the training diverged")
    if isinstance(model, Classifier) and (count := model.head.out_features) != len(data["classes"]):
        raise CheckpointError(f"{path}: {len(data['classes'])} classes, but a head of {count} outputs")
    return SavedModel(model, name, options, data)


def _faults(values: Any, fields: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield what is wrong with a dict of `fields`, whose names begin with `place`."""
    if not isinstance(values, dict):
        yield f"{place or 'it'} is not a dict"
        return
    yield from (f"{place}{key} is missing" for key in fields if key not in values and key not in _OPTIONAL)
    for key, value in values.items():
        if key not in fields:
            yield f"{place}{str(key)[:40]!r} is unknown" if isinstance(key, str) else f"{place} has no names"
        elif isinstance(fields[key], dict):
            yield from _faults(value, fields[key], f"{place}{key}.")
        elif not fields[key][1](value):
            yield f"{place}{key} is not {fields[key][0]}"


def _check_tensors(weights: dict[str, Any], plan: nn.Module) -> None:
    """Raise an error unless the weights have the names, shapes and types of a network, or half precision."""
    expected = plan.state_dict()
    plan.load_state_dict(weights, assign=True)
    for name, tensor in expected.items():
        value, types = (
            weights[name],
            (tensor.dtype, torch.half if tensor.is_floating_point() else tensor.dtype),
        )
        if value.layout != torch.strided or value.device.type != "cpu" or value.dtype not in types:
            raise TypeError(
                f"{name} is a {value.layout} tensor of {value.dtype}, not a dense one of {types[0]}"
            )


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


def load_model(path: Path | str, create: Callable[..., nn.Module] = create) -> nn.Module:
    """Return the model in a file, see `read_model`."""
    return read_model(path, create).model


def load_encoder(path: Path | str) -> nn.Module:
    """Return the encoder of a saved classifier or encoder: (B, 1, 28, 28) -> (B, num_features)."""
    model = load_model(path, functools.partial(create, encoders=TRIPLET_ENCODERS))
    return getattr(model, "encoder", model)
