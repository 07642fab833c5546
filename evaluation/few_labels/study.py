"""The methods of the few-label study: each gets labelled images and returns outputs for the scored images."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import normalize

from data import (
    POLICIES,
    Augment,
    BatchLoader,
    Data,
    ImageSet,
    in_order,
    split,
    view_augment,
    view_batches,
)
from evaluation.contrastive.clustering import neighbour_graph
from evaluation.contrastive.features import encode
from evaluation.contrastive.options import EncoderOptions, stopwatch
from evaluation.few_labels.scorers import FewLabels, fit_config
from models import ContrastiveModel, create, supcon
from utils.training.cnn import validate_classifier
from utils.training.config import FEW_LABELS_VALIDATION, RECIPES, few_labels_recipe
from utils.training.fit import classification_step, fit
from utils.training.forward import forward_all

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Of features, besides the encoders that are given.
OWN_SOURCES = ("pixels", "supcon")
# What can be done with features, by the name of the output in FewLabels.
ON_FEATURES = ("knn", "linear")
ON_ENCODER = (*ON_FEATURES, "finetuned", "spread", "self_trained", "refined", "named", "consistent")
# Without any label; a "draw" is a training with another seed.
UNLABELLED = ("clusters", "self_labelled")
# Trained from scratch on the labelled images alone, without and with augmentation. The latter is that of
# contrastive views: so few digits bear to be bent more than many.
SCRATCH = {
    f"{model}{suffix}": (model, augment)
    for model in ("mlp1", "mlp", "cnn")
    for suffix, augment in (("", POLICIES["none"]), ("-augmented", view_augment(["affine", "elastic"])))
}
# A network must have as many labels of a class to spare one of them for validation.
SMALLEST_VALIDATED = 4
# SupCon on the labelled images alone; an epoch has this many of them, with repeats.
SUPCON_ENCODER, SUPCON_TEMPERATURE, SUPCON_STRENGTH = "fast", 0.1, 0.6
SUPCON = {"epochs": 20, "lr": 3e-3, "weight_decay": 0.02, "schedule": "warm-up-cosine"}
SUPCON_IMAGES, SUPCON_BATCH = 2048, 128


def needs_labels(method: str) -> bool:
    return method.rpartition("-")[2] not in UNLABELLED


def uses_unlabelled(method: str) -> bool:
    """Whether a method sees images of the pool that have no label, if only for their statistics."""
    return method not in SCRATCH and not method.startswith("supcon-")


def method_names(encoders: Sequence[str]) -> list[str]:
    """Return the names of all methods, given those of the pre-trained encoders."""
    frozen = [f"{source}-{what}" for source in OWN_SOURCES for what in ON_FEATURES]
    return [
        *SCRATCH,
        *frozen,
        *(f"{source}-{what}" for source in encoders for what in (*ON_ENCODER, *UNLABELLED)),
    ]


class JoinedEncoders(nn.Module):
    """The features of several encoders side by side, those of each scaled to length 1."""

    def __init__(self, encoders: Sequence[nn.Module]):
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([normalize(encoder(images), dim=1) for encoder in self.encoders], 1)


class Study:
    """All methods on one data set; call it for the outputs (N, classes) of a method on the scored images.

    data: (training, scored) ImageSets. splits: (training, validation) indices; all training images at the
    former are the pool, labelled or not, and the latter are left out. encoders: {name: pre-trained encoder}.
    times: {"<encoder>-<part>_seconds": time}, of what is shared: features, graph, neighbours, clusters.
    """

    def __init__(
        self,
        data: Data,
        splits: tuple[torch.Tensor, torch.Tensor],
        encoders: dict[str, nn.Module],
        options: EncoderOptions,
    ):
        self.data, self.splits, self.options = data, splits, options
        self.encoders = {"pixels": nn.Flatten(), **encoders}
        self.scorers: dict[str, FewLabels] = {}
        self.graphs: dict[str, csr_array] = {}
        self.times: dict[str, float] = {}

    @property
    def pool_labels(self) -> torch.Tensor:
        """Labels of the pool, to draw from; nothing else may read them."""
        return self.data[0].labels[self.splits[0].to(self.data[0].labels.device)]

    def __call__(self, method: str, chosen: torch.Tensor, seed: int) -> torch.Tensor:
        """Run a method with the labels at the positions `chosen` of the pool."""
        if method in SCRATCH:
            return self._from_scratch(*SCRATCH[method], chosen, seed)
        source, _, what = method.rpartition("-")
        if source == "supcon":
            labelled = self.splits[0][chosen]
            scorer = self._scorer(train_supcon(self.data[0], labelled, self.options, seed), labelled)
            return scorer.frozen(torch.arange(len(labelled)))[what]
        scorer, encoder, graph = self.scorers[source], self.encoders[source], self.graphs.get(source)
        run: Callable[[], dict[str, torch.Tensor]] = {
            "finetuned": lambda: scorer.finetuned(encoder, chosen, seed),
            "spread": lambda: scorer.spread(chosen, graph),
            "self_trained": lambda: scorer.self_trained(chosen, graph, seed),
            "refined": lambda: scorer.refined(chosen, graph, seed),
            "named": lambda: scorer.named(chosen, graph, seed),
            "consistent": lambda: scorer.consistent(encoder, chosen, graph, seed),
            "clusters": lambda: scorer.clusters(graph, seed),
            "self_labelled": lambda: scorer.self_labelled(graph, seed),
        }.get(what, lambda: scorer.frozen(chosen))
        return run()[what]

    def prepare(self, method: str, seed: int) -> float:
        """Compute what all draws of a method share, unless it is there; return the seconds that it took.

        What only the numbers of labels of one draw share, the clusters of its seed, counts, too.
        """
        source, _, what = method.rpartition("-")
        if not uses_unlabelled(method):
            return 0.0
        parts: dict[str, Callable[[], object]] = {"features": lambda: self._add_scorer(source)}
        if what not in (*ON_FEATURES, "finetuned"):
            parts["graph"] = lambda: self._add_graph(source)
        if what in ("spread", "clusters"):
            parts["neighbours"] = lambda: self.scorers[source].test_neighbours
        if what in ("self_labelled", "named"):
            clustered = f"clusters-{seed}"
            parts[clustered] = lambda: self.scorers[source].refined_clusters(self.graphs[source], seed)
        for part, compute in parts.items():
            if f"{source}-{part}_seconds" not in self.times:
                with stopwatch(self.times, f"{source}-{part}"):
                    compute()
        return sum(self.times[f"{source}-{part}_seconds"] for part in parts)

    def _add_scorer(self, source):
        self.scorers[source] = self._scorer(self.encoders[source], self.splits[0])

    def _add_graph(self, source):
        self.graphs[source] = neighbour_graph(self.scorers[source].features.train)

    def _scorer(self, encoder, train_idx):
        features = encode(encoder, self.data, train_idx, self.splits[1], self.options.precision)
        return FewLabels(features, self.data, train_idx, self.options)

    def _from_scratch(self, name, augment, chosen, seed):
        train_set, scored = self.data
        model = train_from_scratch(name, augment, train_set, self.splits[0][chosen], self.options, seed)
        return forward_all(model, in_order(scored))[0]


def quarter(labels: torch.Tensor, labelled: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Split the labelled indices into training and validation: a quarter validates, drawn by class.

    labels: of all images. With fewer than SMALLEST_VALIDATED labels of a class none can be spared: all of
    them train, for the recipe's number of epochs.
    """
    own = labels.cpu()[labelled]
    if own.bincount()[own.unique()].min() < SMALLEST_VALIDATED:
        return labelled, labelled[:0]
    train, val = split(own, FEW_LABELS_VALIDATION, seed)
    return labelled[train], labelled[val]


def train_from_scratch(
    name: str,
    augment: Augment,
    images: ImageSet,
    labelled: torch.Tensor,
    options: EncoderOptions,
    seed: int,
) -> nn.Module:
    """Train the classifier `name` on the labelled images alone; the validated quarter chooses the epoch."""
    train_idx, val_idx = quarter(images.labels, labelled, seed)
    recipe = few_labels_recipe(RECIPES[name], len(train_idx))
    if options.max_steps:  # a dry run, whose epochs are a step each
        recipe["epochs"] = 1
    batches = BatchLoader(images, train_idx, recipe["batch_size"], seed=seed, augment=augment)
    torch.manual_seed(seed)
    model = create(name, len(images.classes))
    model = model.to(images.images.device).to(memory_format=torch.channels_last)
    smoothing = recipe["label_smoothing"]
    validate = validate_classifier(images, val_idx, smoothing) if len(val_idx) else None
    fit(model, classification_step(model, smoothing), batches, fit_config(recipe, options), validate=validate)
    return model


def train_supcon(images: ImageSet, labelled: torch.Tensor, options: EncoderOptions, seed: int) -> nn.Module:
    """Pre-train an encoder by SupCon on the labelled images alone; return it in eval mode."""
    repeated = labelled.repeat(-(-SUPCON_IMAGES // len(labelled)))
    batches = view_batches(images, repeated, SUPCON_BATCH, ["affine"], SUPCON_STRENGTH, seed=seed)
    torch.manual_seed(seed)
    model = ContrastiveModel(create(SUPCON_ENCODER, 0))
    model = model.to(images.images.device).to(memory_format=torch.channels_last)

    def step(views, labels):
        features = model(views.flatten(0, 1)).unflatten(0, views.shape[:2])
        return supcon(features, labels, SUPCON_TEMPERATURE), {}

    fit(model, step, batches, fit_config(SUPCON, options))
    return model.encoder.eval()
