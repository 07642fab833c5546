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
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from models.cnn import create
from models.triplet import TRIPLET_ENCODERS

FORMAT = 1


class CheckpointError(Exception):
    """A file that is not a model, or holds the model of another architecture; the message says which."""


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
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    half = str(path).endswith(".safetensors")
    if half:
        weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    facts = {"format": FORMAT, "name": name, "options": options, "data": data, "digest": digest(weights)}
    if half:
        from safetensors.torch import save_file

        save_file(weights, path, {key: json.dumps(value) for key, value in facts.items()})
    else:
        content = io.BytesIO()  # to a file, torch.save hides why it can't be written
        torch.save({**facts, "weights": weights}, content)
        Path(path).write_bytes(content.getbuffer())


def read_model(path: Path | str, create: Callable[..., nn.Module] = create) -> SavedModel:
    """Rebuild the model that `save_model` wrote, on the CPU, with what the file says about it.

    create: the function that made the model, called with the saved name and options. Raises CheckpointError
    for any missing or unexpected weight, for weights that have changed since or are not finite, and for a
    file of another kind.
    """
    if not os.path.isfile(path):  # a pipe would be waited for
        raise CheckpointError(f"{path}: {'not a file' if os.path.exists(path) else 'no such file'}")
    try:
        content = _read(path)
        name, options, weights = content["name"], content["options"], content["weights"]
        data, saved_digest, form = content["data"], content["digest"], content["format"]
    except Exception as error:  # torch.load raises half a dozen types for a damaged file
        raise CheckpointError(f"{path}: not a model file of this project") from error
    if form != FORMAT:
        raise CheckpointError(f"{path}: format {form!r}, but this code reads format {FORMAT}")
    try:
        model = create(name, **options)
        model.load_state_dict(weights)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise CheckpointError(f"{path}: does not hold a {name!r}: {reason}") from error
    if saved_digest != digest(weights):
        raise CheckpointError(f"{path}: damaged: the weights have changed since they were saved")
    if not all(value.isfinite().all() for value in weights.values()):
        raise CheckpointError(f"{path}: weights that are not finite: the training diverged")
    return SavedModel(model, name, options, data)


def digest(weights: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the names, types, shapes and bytes of weights on the CPU, sorted by name."""
    whole = hashlib.sha256()
    for name, value in sorted(weights.items()):
        whole.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        whole.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
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
