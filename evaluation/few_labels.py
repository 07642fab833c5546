"""The methods of the few-label study, in one table: from labelled images to outputs for the scored images."""

import copy
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import nn
from torch.nn.functional import normalize

from data import POLICIES, Augment, BatchLoader, Data, ImageSet, in_order, split, view_augment, view_batches
from evaluation.contrastive import clustering
from evaluation.contrastive import features as frozen
from evaluation.contrastive.encoder import stopwatch
from models import Classifier, ContrastiveModel, create, supcon
from utils.errors import UserError
from utils.training.cnn import validate_classifier
from utils.training.config import FEW_LABELS_VALIDATION, RECIPES, FitConfig, few_labels_recipe
from utils.training.few_labels import ConsistencyBatches, consistency_step
from utils.training.fit import Batches, Step, Validate, classification_step, fit
from utils.training.forward import forward_all

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Chosen on validation images. With few labels, whatever their number, an "epoch" has this many images.
FINETUNE = {"epochs": 6, "batch_size": 64, "lr": 1e-3, "weight_decay": 0.02, "ema": 0.99}
FINETUNE_IMAGES = 1600
# Self-training: a fresh network in every round.
STUDENT, ROUNDS = "fast", 2
DISTIL = {"epochs": 4, "batch_size": 256, "lr": 5e-3, "weight_decay": 0.02, "ema": 0.998}
# Consistency training starts from a good network, hence the low rate. An epoch is one pass over the images.
CONSISTENCY = {"epochs": 4, "lr": 1e-3, "weight_decay": 0.02, "ema": 0.998}
CONSISTENCY_BATCH, LABELLED_BATCH, THRESHOLD = 256, 64, 0.95
WEAK, STRONG = POLICIES["shift"], view_augment(["affine", "elastic", "blur", "erase", "stroke"])
# From scratch: the augmentation is that of contrastive views, for so few digits bear to be bent more than
# many. With fewer labels of a class than this none can be spared for validation.
BENT = view_augment(["affine", "elastic"])
SMALLEST_VALIDATED = 4
# SupCon on the labelled images alone; an epoch has this many of them, with repeats.
SUPCON_ENCODER, SUPCON_TEMPERATURE, SUPCON_STRENGTH = "fast", 0.1, 0.6
SUPCON = {"epochs": 20, "lr": 3e-3, "weight_decay": 0.02, "schedule": "warm-up-cosine"}
SUPCON_IMAGES, SUPCON_BATCH = 2048, 128


@dataclass(frozen=True)
class Study:
    """What all methods learn from and are scored on.

    data: (training, scored) ImageSets. splits: (training, validation) indices; the training images at the
    former are the pool, labelled or not, and the latter are left out. precision, max_steps: see FitConfig.
    """

    data: Data
    splits: tuple[torch.Tensor, torch.Tensor]
    precision: str = "fp32"
    max_steps: int | None = None

    @property
    def pool_labels(self) -> torch.Tensor:
        """Labels of the pool, to draw from; nothing else may read them."""
        return self.data[0].labels[self.splits[0]]

    def place(self, model: nn.Module) -> nn.Module:
        return model.to(self.data[0].images.device).to(memory_format=torch.channels_last)

    def fit(
        self, model: nn.Module, step: Step, batches: Batches, recipe: dict, validate: Validate | None = None
    ) -> None:
        """Train silently by a recipe, whose schedule is one-cycle unless it names one; write nothing."""
        options = {"precision": self.precision, "max_steps": self.max_steps, "quiet": True}
        config = FitConfig.from_values({"schedule": "one-cycle", **recipe, **options})
        fit(model, step, batches, config, validate=validate)

    def fit_classifier(
        self, model: nn.Module, images: ImageSet, indices: torch.Tensor, recipe: dict, seed: int
    ) -> None:
        """Train with strong augmentation on the images at `indices`; their labels may be probabilities."""
        batches = BatchLoader(images, indices, recipe["batch_size"], seed=seed, augment=POLICIES["strong"])
        self.fit(model, classification_step(model), batches, recipe)

    def outputs(self, model: nn.Module) -> torch.Tensor:
        """Return the outputs (N, classes) of a classifier for the scored images."""
        return forward_all(model, in_order(self.data[1]))[0]


class JoinedEncoders(nn.Module):
    """The features of several encoders side by side, those of each scaled to length 1."""

    def __init__(self, encoders: Iterable[nn.Module]):
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([normalize(encoder(images), dim=1) for encoder in self.encoders], 1)


class Source:
    """An encoder, and what all draws of the labels share: computed on first use, and timed by `prepare`.

    train_idx: the images whose features the methods see, by default the pool.
    """

    def __init__(self, study: Study, encoder: nn.Module, train_idx: torch.Tensor | None = None):
        self.study, self.encoder = study, encoder
        self.train_idx = study.splits[0] if train_idx is None else train_idx
        self.times: dict[str, float] = {}
        self._clusters: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @functools.cached_property
    def encoded(self) -> frozen.Features:
        study = self.study
        return frozen.encode(self.encoder, study.data, self.train_idx, study.splits[1], study.precision)

    @functools.cached_property
    def features(self) -> frozen.Features:
        """Features of length 1: cosines, as in k-NN and contrastive losses, stay the same."""
        return self.encoded.map(functools.partial(normalize, dim=1))

    @functools.cached_property
    def graph(self) -> "csr_array":
        return clustering.neighbour_graph(self.features.train)

    @functools.cached_property
    def neighbours(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The neighbours of the scored images: most of the time of a spread."""
        f = self.features
        return frozen.neighbours(f.test, f.train, min(frozen.NEIGHBOURS, len(f.train)))

    def clusters(self, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the refined clusters of a seed: training and test probabilities (N, classes)."""
        if seed not in self._clusters:
            self._clusters[seed] = self.refine(self.spread_head(seed), seed)
        return self._clusters[seed]

    def prepare(self, parts: Iterable[str], seed: int) -> float:
        """Compute the parts, unless they are there; return the seconds that this took, now or before.

        parts: features, graph, neighbours, and the clusters of the seed.
        """
        names = {part: f"{part}-{seed}" if part == "clusters" else part for part in parts}
        for part, name in names.items():
            if f"{name}_seconds" not in self.times:
                with stopwatch(self.times, name):
                    getattr(self, part) if name == part else self.clusters(seed)
        return sum(self.times[f"{name}_seconds"] for name in names.values())

    def probe(self, chosen: torch.Tensor | slice, labels: torch.Tensor) -> frozen.Probe:
        """Fit a probe to the features at `chosen`. Its scale, that of all features, needs no labels."""
        f = self.features
        scale = frozen.common_scale(f.train)
        return frozen.fit_probe(f.train[chosen], labels, scale, frozen.DECAY, classes=f.classes)

    def classifier(self, probe: frozen.Probe) -> Classifier:
        """Return a copy of the encoder under a head that computes what the probe does.

        Training then distorts the features less than under random weights (Kumar et al., 2022).
        """
        probe = probe.rescaled(self.encoded.train.norm(dim=1).mean())
        weight = probe.linear.weight / probe.std
        model = Classifier(copy.deepcopy(self.encoder), len(probe.mean), len(probe.linear.bias))
        model.head.load_state_dict({"weight": weight, "bias": probe.linear.bias - weight @ probe.mean})
        return model.to(weight.device)

    def spread(self, chosen: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Spread labels, by default the true ones, from `chosen` over the graph: (N, classes)."""
        labels = self.features.train_labels[chosen] if labels is None else labels
        return clustering.spread_labels(self.graph, chosen, labels, self.features.classes)

    def spread_head(self, seed: int) -> torch.Tensor:
        """Return the clusters of a trained head, spread over the graph: probabilities (N, classes)."""
        f = self.features
        head = clustering.cluster_head(f.train, self.graph, f.classes, seed)
        return self.spread(torch.arange(len(f.train)), head(f.train).argmax(1))

    def self_train(
        self, spread: torch.Tensor, chosen: torch.Tensor, labels: torch.Tensor, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Self-train in rounds: a fresh student learns `spread`, then labels spread over its features.

        spread: probabilities (N, classes) of the training images. labels: those that spread, of the images
        at `chosen`. Returns training and test probabilities after the last round, the latter by k-NN.
        """
        study, (images, scored) = self.study, self.study.data
        for _ in range(ROUNDS):
            targets = spread.new_zeros(len(images.labels), spread.shape[1])
            targets[self.train_idx.to(targets.device)] = spread
            torch.manual_seed(seed)
            student = study.place(create(STUDENT, spread.shape[1]))
            study.fit_classifier(student, images._replace(labels=targets), self.train_idx, DISTIL, seed)
            encoder = cast(Classifier, student).encoder
            train, _ = forward_all(encoder, in_order(images, self.train_idx), study.precision)
            graph = clustering.neighbour_graph(train)
            spread = clustering.spread_labels(graph, chosen, labels, spread.shape[1])
        test, _ = forward_all(encoder, in_order(scored), study.precision)
        return spread, frozen.knn(train, spread, test)

    def refine(self, spread: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Self-train so that in every round the labels of all images spread."""
        return self.self_train(spread, torch.arange(len(spread)), spread.argmax(1), seed)

    def cluster_of_class(self, clusters: torch.Tensor, chosen: torch.Tensor | slice) -> torch.Tensor:
        """Return the cluster of each class, matched on the labels at `chosen`; see `match_clusters`."""
        labels, classes = self.features.train_labels[chosen].cpu().numpy(), self.features.classes
        return torch.from_numpy(clustering.match_clusters(clusters.cpu().numpy(), labels, classes)).argsort()


# --- Methods: outputs (N, classes) for the scored images ---
# source: of the features. chosen: positions of the labelled images among its training images; no other
# training label is used, but for the names of clusters where no image is labelled.
Run = Callable[[Source, torch.Tensor, int], torch.Tensor]


def nearest(source: Source, chosen: torch.Tensor, seed: int) -> torch.Tensor:
    """k-NN."""
    f = source.features
    return frozen.knn(f.train[chosen], f.train_labels[chosen], f.test, classes=f.classes)


def linear(source: Source, chosen: torch.Tensor, seed: int) -> torch.Tensor:
    """Linear probe."""
    return source.probe(chosen, source.features.train_labels[chosen])(source.features.test)


def finetuned(source: Source, chosen: torch.Tensor, seed: int) -> torch.Tensor:
    """Encoder and probe, trained together on the labelled images."""
    probe, study = source.probe(chosen, source.features.train_labels[chosen]), source.study
    torch.manual_seed(seed)
    model = source.classifier(probe)
    repeated = source.train_idx[chosen].repeat(max(1, FINETUNE_IMAGES // len(chosen)))
    study.fit_classifier(model, study.data[0], repeated, FINETUNE, seed)
    return study.outputs(model)


def spread(source: Source, chosen: torch.Tensor, seed: int) -> torch.Tensor:
    """Labels that spread over the graph of the training features, then k-NN."""
    return frozen.vote(*source.neighbours, source.spread(chosen))


def self_trained(source: Source, chosen: torch.Tensor, seed: int) -> torch.Tensor:
    """Students of the spread labels, over whose features the few labels spread again."""
    labels = source.features.train_labels[chosen]
    return source.self_train(source.spread(chosen), chosen, labels, seed)[1]


def refined(source: Source, chosen: torch.Tensor, seed: int) -> torch.Tensor:
    """Students of the spread labels, over whose features the labels of all images spread, not the few.

    With the few alone, as in `self_trained`, a style that no labelled image has can change sides.
    """
    return source.refine(source.spread(chosen), seed)[1]


def named(source: Source, chosen: torch.Tensor, seed: int) -> torch.Tensor:
    """The clusters of `self_labelled`, named by the labelled images alone."""
    train, test = source.clusters(seed)
    return test[:, source.cluster_of_class(train[chosen], chosen)]


def consistent(source: Source, chosen: torch.Tensor, seed: int) -> torch.Tensor:
    """FixMatch from the encoder, under a probe fitted to the spread labels."""
    study, images = source.study, source.study.data[0]
    probe = source.probe(slice(None), source.spread(chosen).argmax(1))
    torch.manual_seed(seed)
    model = source.classifier(probe)
    labelled = torch.zeros(len(source.train_idx), dtype=torch.bool)
    labelled[chosen.cpu()] = True
    if labelled.all():
        raise UserError("FixMatch needs unlabelled images: use fewer --labels")
    parts = source.train_idx[labelled], source.train_idx[~labelled]
    batches = ConsistencyBatches(images, *parts, CONSISTENCY_BATCH, LABELLED_BATCH, WEAK, STRONG, seed)
    study.fit(model, consistency_step(model, THRESHOLD), batches, CONSISTENCY)
    return study.outputs(model)


def clusters(source: Source, chosen: torch.Tensor, seed: int) -> torch.Tensor:
    """Trained clusters, spread over the graph and named by all training labels; then k-NN."""
    spread = source.spread_head(seed)
    return frozen.vote(*source.neighbours, spread)[:, source.cluster_of_class(spread.argmax(1), slice(None))]


def self_labelled(source: Source, chosen: torch.Tensor, seed: int) -> torch.Tensor:
    """`refined` from clusters. The training labels name them; nothing else here looks at those."""
    train, test = source.clusters(seed)
    return test[:, source.cluster_of_class(train.argmax(1), slice(None))]


def from_scratch(
    model: str, augment: Augment, source: Source, chosen: torch.Tensor, seed: int
) -> torch.Tensor:
    """A classifier, trained on the labelled images alone, a quarter of which chooses the epoch."""
    study, images = source.study, source.study.data[0]
    train_idx, val_idx = quarter(images.labels, study.splits[0][chosen], seed)
    recipe = few_labels_recipe(RECIPES[model], len(train_idx))
    if study.max_steps:  # a dry run, whose epochs are a step each
        recipe["epochs"] = 1
    batches = BatchLoader(images, train_idx, recipe["batch_size"], seed=seed, augment=augment)
    torch.manual_seed(seed)
    network = study.place(create(model, len(images.classes)))
    smoothing = recipe["label_smoothing"]
    validate = validate_classifier(images, val_idx, smoothing) if len(val_idx) else None
    study.fit(network, classification_step(network, smoothing), batches, recipe, validate)
    return study.outputs(network)


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


def on_supcon(method: Run, source: Source, chosen: torch.Tensor, seed: int) -> torch.Tensor:
    """A method on features of SupCon, trained on the labelled images alone."""
    labelled = source.train_idx[chosen]
    own = Source(source.study, train_supcon(source.study, labelled, seed), labelled)
    return method(own, torch.arange(len(labelled)), seed)


def train_supcon(study: Study, labelled: torch.Tensor, seed: int) -> nn.Module:
    """Pre-train an encoder by SupCon on the labelled images alone; return it in eval mode."""
    repeated = labelled.repeat(-(-SUPCON_IMAGES // len(labelled)))
    batches = view_batches(study.data[0], repeated, SUPCON_BATCH, ["affine"], SUPCON_STRENGTH, seed=seed)
    torch.manual_seed(seed)
    model = study.place(ContrastiveModel(create(SUPCON_ENCODER, 0)))

    def step(views, labels):
        features = model(views.flatten(0, 1)).unflatten(0, views.shape[:2])
        return supcon(features, labels, SUPCON_TEMPERATURE), {}

    study.fit(model, step, batches, SUPCON)
    return model.encoder.eval()


class Method(NamedTuple):
    """A row of the table. shares: the parts of a Source that it uses."""

    name: str
    run: Run
    shares: tuple[str, ...] = ("features",)
    needs_labels: bool = True  # without any label a "draw" is a training with another seed
    sees_unlabelled: bool = True  # if only for their statistics


GRAPH = ("features", "graph")
ON_ENCODERS = (
    Method("knn", nearest),
    Method("linear", linear),
    Method("finetuned", finetuned),
    Method("spread", spread, (*GRAPH, "neighbours")),
    Method("self_trained", self_trained, GRAPH),
    Method("refined", refined, GRAPH),
    Method("named", named, (*GRAPH, "clusters")),
    Method("consistent", consistent, GRAPH),
    Method("clusters", clusters, (*GRAPH, "neighbours"), needs_labels=False),
    Method("self_labelled", self_labelled, (*GRAPH, "clusters"), needs_labels=False),
)
WITHOUT_ENCODER = (
    *(
        Method(f"{name}{suffix}", functools.partial(from_scratch, name, augment), (), sees_unlabelled=False)
        for name in ("mlp1", "mlp", "cnn")
        for suffix, augment in (("", POLICIES["none"]), ("-augmented", BENT))
    ),
    Method("pixels-knn", nearest),
    Method("pixels-linear", linear),
    Method("supcon-knn", functools.partial(on_supcon, nearest), (), sees_unlabelled=False),
    Method("supcon-linear", functools.partial(on_supcon, linear), (), sees_unlabelled=False),
)


def method_table(encoders: Iterable[str]) -> dict[str, tuple[Method, str]]:
    """Return {name on the command line: (method, name of its source)}; raw pixels are the source "pixels"."""
    table = {method.name: (method, "pixels") for method in WITHOUT_ENCODER}
    return table | {f"{name}-{method.name}": (method, name) for name in encoders for method in ON_ENCODERS}
