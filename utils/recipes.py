"""Tuned defaults of every model, chosen on validation data. Flags override them."""

COLUMNS = (
    *("epochs", "batch_size", "optimizer", "lr", "weight_decay", "schedule"),
    *("augment", "plain_epochs", "label_smoothing", "ema", "clip_norm", "patience"),
)

# fmt: off
TABLE = {
    #            epochs batch optimizer    lr  decay  schedule   augment   plain smooth  ema  clip patience
    "linear":   (    15,  128,  "adamw", 3e-3,  0.05, "one-cycle", "none",     0,  0.0, 0.0,   0.0, 0),
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

# A recipe counts its epochs over 54,000 images. With few labels an epoch is a handful of steps, so
# the run is given at least this many steps, in small batches.
FEW_LABELS_STEPS, FEW_LABELS_BATCH = 1500, 32


def few_labels_recipe(recipe, images):
    """The recipe for a training set of few images: small batches, enough steps, strong augmentation."""
    batch = min(FEW_LABELS_BATCH, images)
    steps = -(-images // batch)
    epochs = max(recipe["epochs"], -(-FEW_LABELS_STEPS // steps))
    return {**recipe, "batch_size": batch, "epochs": epochs, "augment": "strong", "plain_epochs": 0}
