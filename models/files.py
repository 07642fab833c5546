"""Model files: plain dicts of name, options and weights that open without this code's classes."""

import os
import textwrap

import torch

from models.classifiers import create

FORMAT = 1


class CheckpointError(Exception):
    """A file that is no model, or the model of another architecture; the message says which."""


def save_model(path, model, name, **options):
    """Write {"format", "name", "options", "weights"} such that `create(name, **options)` can hold it."""
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    content = {"format": FORMAT, "name": name, "options": options, "weights": weights}
    temporary = f"{path}.tmp"
    torch.save(content, temporary)
    os.replace(temporary, path)


def load_model(path, create=create):
    """Rebuild the model that `save_model` wrote, on the CPU. Any missing or unexpected key is an error.

    create: the function that made it, of the saved name and options. Raises CheckpointError.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        name, options, weights = content["name"], content["options"], content["weights"]
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except Exception as error:  # torch.load raises half a dozen types for a damaged file
        raise CheckpointError(f"{path}: not a model file of this project") from error
    try:
        model = create(name, **options)
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise CheckpointError(f"{path}: does not hold a {name!r}: {reason}") from error
    return model


def load_encoder(path):
    """The encoder of a saved classifier or encoder: (B, 1, 28, 28) -> (B, num_features)."""
    model = load_model(path)
    return getattr(model, "encoder", model)
