"""What is learned: networks, heads, losses and their files. Knows no device, no flag and no script."""

from models.checkpoint import CheckpointError, SavedModel, load_encoder, read_model, save_model
from models.cnn import ENCODERS, RECIPES, Classifier, create
from models.contrastive import ContrastiveModel, contrastive_metrics, nt_xent, supcon
from models.ensemble import Boosted, Fusion, Separated, boosting_losses
from models.moco import MoCo, info_nce, shuffled_order
