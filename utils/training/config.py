"""Settings of a training: what `fit` reads, and the tuned defaults of every classifier."""

from argparse import Namespace
from dataclasses import dataclass, fields

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("none", "step", "cosine", "warm-up-cosine", "one-cycle", "plateau")


@dataclass(frozen=True)
class FitConfig:
    """Everything that `fit` reads.

    lr: peak learning rate. ema: decay of the exponential moving average of the weights, 0 for none.
    ema_warm_up: use a smaller decay during the first steps. clip_norm: largest gradient norm, 0 for no
    limit. patience: stop after this many epochs without a lower criterion, 0 for never. precision: "fp32" or
    "bf16". max_steps: steps per epoch at most, None for all. track: "none", "tensorboard" or "wandb".
    """

    epochs: int
    lr: float
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    schedule: str = "none"
    ema: float = 0.0
    ema_warm_up: bool = True
    clip_norm: float = 0.0
    patience: int = 0
    precision: str = "fp32"
    compile: bool = False
    max_steps: int | None = None
    track: str = "none"
    quiet: bool = False

    @classmethod
    def from_args(cls, args: Namespace) -> "FitConfig":
        """Take the fields from a script's arguments, into which its recipe is filled."""
        return cls.from_values(vars(args))

    @classmethod
    def from_values(cls, values: dict) -> "FitConfig":
        """Take the fields from a dict, which may hold more; a dry run makes one step per epoch."""
        names = {field.name for field in fields(cls)}
        given = {key: value for key, value in values.items() if key in names and value is not None}
        return cls(**given | ({"max_steps": 1} if values.get("dry_run") else {}))

    @property
    def needs_validation(self) -> bool:
        return bool(self.patience) or self.schedule == "plateau"


COLUMNS = (
    *("epochs", "batch_size", "optimizer", "lr", "weight_decay", "schedule"),
    *("augment", "plain_epochs", "label_smoothing", "ema", "clip_norm", "patience"),
)

# Tuned defaults of every classifier, chosen on validation images. Flags override them.
# fmt: off
TABLE = {
    #            epochs batch optimizer    lr  decay  schedule   augment   plain smooth  ema  clip patience
    "linear":   (    15,  128,  "adamw", 3e-3,  0.05, "one-cycle", "none",     0,  0.0, 0.0,   0.0, 0),
    "mlp1":     (    12,  256,  "adamw", 3e-3,  0.02, "one-cycle", "affine",   1,  0.05, 0.0,   0.0, 0),
    "mlp":      (    12,  256,  "adamw", 3e-3,  0.02, "one-cycle", "affine",   1,  0.05, 0.0,   0.0, 0),
    "lenet":    (    10,  128,  "adamw", 6e-3,  0.01, "one-cycle", "affine",   1,  0.02, 0.998, 0.0, 0),
    "cnn":      (    10,  256,  "adamw", 5e-3,  0.02, "one-cycle", "affine",   1,  0.05, 0.998, 0.0, 0),
    "fast":     (     1,  256,  "adamw", 2e-2,  0.02, "one-cycle", "shift",    0,  0.05, 0.0,   0.0, 0),
    "compact":  (    10,  256,  "adamw", 5e-3,  0.02, "one-cycle", "affine",   1,  0.05, 0.998, 0.0, 0),
    "wide":     (    14,  128,  "adamw", 4e-3,  0.02, "one-cycle", "strong",   1,  0.05, 0.998, 0.0, 0),
    "resnet18": (    12,  256,  "adamw", 3e-3,  0.02, "one-cycle", "strong",   1,  0.05, 0.998, 1.0, 0),
    "resnet50": (    12,  256,  "adamw", 3e-3,  0.02, "one-cycle", "strong",   1,  0.05, 0.998, 1.0, 0),
}
# fmt: on

RECIPES = {name: dict(zip(COLUMNS, row, strict=True)) for name, row in TABLE.items()}

# A quarter of the labelled images validates when labels are few.
FEW_LABELS_VALIDATION = 0.25
# The epochs of a recipe are counted over 54,000 images. With few labels an epoch is a handful of steps, so a
# training makes at least this many steps, in small batches.
FEW_LABELS_STEPS, FEW_LABELS_BATCH = 1500, 32


def few_labels_recipe(recipe: dict, images: int) -> dict:
    """Adapt a recipe to a small training set: small batches, enough steps, strong augmentation."""
    batch = min(FEW_LABELS_BATCH, images)
    steps = -(-images // batch)
    epochs = max(recipe["epochs"], -(-FEW_LABELS_STEPS // steps))
    return {**recipe, "batch_size": batch, "epochs": epochs, "augment": "strong", "plain_epochs": 0}
