"""What is learned: networks, heads and their files. Knows no device, no flag and no script."""

from models.classifiers import ENCODERS, Classifier, create
from models.contrastive import ContrastiveModel, contrastive_metrics, nt_xent, supcon
from models.files import CheckpointError, load_encoder, load_model, save_model

__all__ = [
    "ENCODERS",
    "CheckpointError",
    "Classifier",
    "ContrastiveModel",
    "contrastive_metrics",
    "create",
    "load_encoder",
    "load_model",
    "nt_xent",
    "save_model",
    "supcon",
]
