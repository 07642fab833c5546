"""What is learned: networks, heads and their files. Knows no device, no flag and no script."""

from models.classifiers import ENCODERS, Classifier, create
from models.files import CheckpointError, load_encoder, load_model, save_model
from models.together import Fusion, stack, unstack

__all__ = [
    "ENCODERS",
    "CheckpointError",
    "Classifier",
    "Fusion",
    "create",
    "load_encoder",
    "load_model",
    "save_model",
    "stack",
    "unstack",
]
