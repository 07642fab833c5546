"""The methods of the few-label study, in one table: from labelled images to outputs for the scored images."""

import copy
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from data import POLICIES, Augment, BatchLoader, Data, ImageSet, in_order, split, view_augment, view_batches
from evaluation.contrastive import features as frozen
from evaluation.contrastive.clustering import cluster_head, match_clusters, neighbour_graph, spread_labels
from models import RECIPES, Classifier, ContrastiveModel, create, supcon
from utils.errors import UserError
from utils.training.cnn import TUNED, validate_classifier
from utils.training.few_labels import ConsistencyBatches, consistency_step
from utils.training.fit import Batches, FitConfig, Step, Validate, classification_step, fit
from utils.training.forward import clock, forward_all

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Chosen on validation images. Whatever the number of labels, an "epoch" has FINETUNE_IMAGES images.
FINETUNE, FINETUNE_IMAGES = TUNED, 1600
STUDENT, ROUNDS = "fast", 2  # of self-training
DISTIL = {"epochs": 4, "batch_size": 256, "lr": 5e-3, "weight_decay": 0.02, "ema": 0.998}
# Consistency training starts from a good network, hence the low rate. An epoch is one pass over the images.
CONSISTENCY = {"epochs": 4, "lr": 1e-3, "weight_decay": 0.02, "ema": 0.998}
CONSISTENCY_BATCHES, THRESHOLD = (64, 256), 0.95  # labelled and unlabelled images
# No strokes: they make a 4 of a 1, and these images have labels.
WEAK, STRONG = POLICIES["shift"], view_augment(["affine", "elastic", "blur", "erase"])
# From scratch: few images need stronger deformation. A class validates from this many labels on.
DEFORMED, SMALLEST_VALIDATED = view_augment(["affine", "elastic"]), 4
# A quarter of the labelled images validates when labels are few.
FEW_LABELS_VALIDATION = 0.25
# The epochs of a recipe are counted over 54,000 images. With few labels an epoch is a handful of steps, so a
# training makes at least this many steps, in small batches.
FEW_LABELS_STEPS, FEW_LABELS_BATCH = 1500, 32
# SupCon on the labelled images alone; an epoch has SUPCON_IMAGES of them, with repeats.
SUPCON_ENCODER, SUPCON_TEMPERATURE, SUPCON_STRENGTH = "fast", 0.1, 0.6
SUPCON = {"epochs": 20, "lr": 3e-3, "weight_decay": 0.02, "schedule": "warm-up-cosine"}
SUPCON_IMAGES, SUPCON_BATCH = 2048, 128
ALL = slice(None)  # every image of a source


def few_labels_recipe(recipe: dict, images: int) -> dict:
    """Adapt a recipe to a small training set: small batches, enough steps, strong augmentation."""
    batch = min(FEW_LABELS_BATCH, images)
    steps = -(-images // batch)
    epochs = max(recipe["epochs"], -(-FEW_LABELS_STEPS // steps))
    return {**recipe, "batch_size": batch, "epochs": epochs, "augment": "strong", "plain_epochs": 0}


@dataclass(frozen=True)
class Study:
    """What all methods learn from and are scored on.

    data: (training, scored) ImageSets. splits: (training, validation) indices; the training images at the
    former are the pool, labelled or not, and the latter are left out. precision, max_steps: see FitConfig.
    """

    data: Data
    splits: tuple[Tensor, Tensor]
    precision: str = "fp32"
    max_steps: int | None = None

    @property
    def pool_labels(self) -> Tensor:
        """Labels of the pool, to sample from; nothing else may read them."""
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
        self, model: nn.Module, images: ImageSet, indices: Tensor, recipe: dict, seed: int
    ) -> None:
        """Train with strong augmentation on the images at `indices`; their labels may be probabilities."""
        batches = BatchLoader(images, indices, recipe["batch_size"], seed=seed, augment=POLICIES["strong"])
        self.fit(model, classification_step(model), batches, recipe)

    def outputs(self, model: nn.Module) -> Tensor:
        """Return the outputs (N, classes) of a classifier for the scored images."""
        return forward_all(model, in_order(self.data[1]))[0]


class JoinedEncoders(nn.Module):
    """The features of several encoders side by side, those of each scaled to length 1."""

    def __init__(self, encoders: Iterable[nn.Module]):
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([normalize(encoder(images), dim=1) for encoder in self.encoders], 1)


class Source:
    """An encoder and the methods on its features; what all draws of the labels share is computed once.

    train_idx: the images whose features the methods see, by default the pool. A method takes the positions
    of the labelled images among those (`chosen`) and a seed, and returns outputs (N, classes) for the scored
    images. It uses no other training label, but for the names of clusters where no image is labelled.
    """

    def __init__(self, study: Study, encoder: nn.Module, train_idx: Tensor | None = None):
        self.study, self.encoder = study, encoder
        self.train_idx = study.splits[0] if train_idx is None else train_idx
        self.seconds: dict[str, float] = {}
        self.clusters_of_seed: dict[int, tuple[Tensor, Tensor]] = {}

    @functools.cached_property
    def features(self) -> frozen.Features:
        """Features of length 1: cosines, as in k-NN and contrastive losses, stay the same."""
        study = self.study
        f = frozen.encode(self.encoder, study.data, self.train_idx, study.splits[1], study.precision)
        self.length = f.train.norm(dim=1).mean()
        return f.map(functools.partial(normalize, dim=1))

    @functools.cached_property
    def graph(self) -> "csr_array":
        return neighbour_graph(self.features.train)

    @functools.cached_property
    def neighbours(self) -> tuple[Tensor, Tensor]:
        """The neighbours of the scored images: most of the time of a spread."""
        return frozen.neighbours(self.features.test, self.features.train)

    def refined_clusters(self, seed: int) -> tuple[Tensor, Tensor]:
        """Return the refined clusters of a seed: training and test probabilities (N, classes)."""
        if seed not in self.clusters_of_seed:
            self.clusters_of_seed[seed] = self.refine(self.spread_head(seed), seed)
        return self.clusters_of_seed[seed]

    def prepare(self, parts: Iterable[str], seed: int) -> float:
        """Compute parts (features, graph, neighbours, clusters) once; return the seconds that this took."""
        names = {part: f"{part}-{seed}" if part == "clusters" else part for part in parts}
        for part, name in names.items():
            if name not in self.seconds:
                start = clock()
                self.refined_clusters(seed) if part == "clusters" else getattr(self, part)
                self.seconds[name] = clock() - start
        return sum(self.seconds[name] for name in names.values())

    def labels(self, chosen: Tensor | slice) -> Tensor:
        return self.features.train_labels[chosen]

    def probe(self, chosen: Tensor | slice, labels: Tensor) -> frozen.Probe:
        """Fit a probe to the features at `chosen`. Its scale, that of all features, needs no labels."""
        f = self.features
        return frozen.fit_probe(f.train[chosen], labels, frozen.common_scale(f.train), classes=f.classes)

    def classifier(self, probe: frozen.Probe) -> Classifier:
        """Return a copy of the encoder under the probe."""
        return frozen.classifier(copy.deepcopy(self.encoder), probe, self.length)

    def spread_from(self, chosen: Tensor, labels: Tensor) -> Tensor:
        """Spread labels from `chosen` over the graph: probabilities (N, classes)."""
        return spread_labels(self.graph, chosen, labels, self.features.classes)

    def spread_head(self, seed: int) -> Tensor:
        """Return the clusters of a trained head, spread over the graph: probabilities (N, classes)."""
        train = self.features.train
        clusters = cluster_head(train, self.graph, self.features.classes, seed)(train).argmax(1)
        return self.spread_from(torch.arange(len(train)), clusters)

    def self_train(self, spread: Tensor, chosen: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Self-train in rounds: a fresh student learns `spread`, then labels spread over its features.

        spread: (N, classes). labels: those that spread, of the images at `chosen`. Returns training and test
        probabilities after the last round, the latter by k-NN.
        """
        study, (images, scored) = self.study, self.study.data
        for _ in range(ROUNDS):
            targets = spread.new_zeros(len(images.labels), spread.shape[1])
            targets[self.train_idx.to(targets.device)] = spread
            torch.manual_seed(seed)
            student = study.place(create(STUDENT, spread.shape[1]))
            study.fit_classifier(student, images._replace(labels=targets), self.train_idx, DISTIL, seed)
            encoder = student.get_submodule("encoder")
            train, _ = forward_all(encoder, in_order(images, self.train_idx), study.precision)
            spread = spread_labels(neighbour_graph(train), chosen, labels, spread.shape[1])
        test, _ = forward_all(encoder, in_order(scored), study.precision)
        return spread, frozen.knn(train, spread, test)

    def refine(self, spread: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Self-train so that in every round the labels of all images spread."""
        return self.self_train(spread, torch.arange(len(spread)), spread.argmax(1), seed)

    def cluster_of_class(self, clusters: Tensor, chosen: Tensor | slice) -> Tensor:
        """Return the cluster of each class, matched on the labels at `chosen`; see `match_clusters`."""
        labels, classes = self.labels(chosen).cpu().numpy(), self.features.classes
        return torch.from_numpy(match_clusters(clusters.cpu().numpy(), labels, classes)).argsort()

    # --- The methods ---

    def knn(self, chosen: Tensor, seed: int) -> Tensor:
        """k-NN."""
        f = self.features
        return frozen.knn(f.train[chosen], self.labels(chosen), f.test, classes=f.classes)

    def linear(self, chosen: Tensor, seed: int) -> Tensor:
        """Linear probe."""
        return self.probe(chosen, self.labels(chosen))(self.features.test)

    def finetuned(self, chosen: Tensor, seed: int) -> Tensor:
        """Encoder and probe, fine-tuned together on the labelled images."""
        probe = self.probe(chosen, self.labels(chosen))
        torch.manual_seed(seed)
        model = self.classifier(probe)
        repeated = self.train_idx[chosen].repeat(max(1, FINETUNE_IMAGES // len(chosen)))
        self.study.fit_classifier(model, self.study.data[0], repeated, FINETUNE, seed)
        return self.study.outputs(model)

    def spread(self, chosen: Tensor, seed: int) -> Tensor:
        """Labels that spread over the graph of the training features, then k-NN."""
        return frozen.vote(*self.neighbours, self.spread_from(chosen, self.labels(chosen)))

    def self_trained(self, chosen: Tensor, seed: int) -> Tensor:
        """Students of the spread labels, over whose features the few labels spread again."""
        labels = self.labels(chosen)
        return self.self_train(self.spread_from(chosen, labels), chosen, labels, seed)[1]

    def refined(self, chosen: Tensor, seed: int) -> Tensor:
        """The same, but in every round the labels of all images spread, not only the few given ones."""
        return self.refine(self.spread_from(chosen, self.labels(chosen)), seed)[1]

    def consistent(self, chosen: Tensor, seed: int) -> Tensor:
        """FixMatch from the encoder, under a probe fitted to the spread labels."""
        probe = self.probe(ALL, self.spread_from(chosen, self.labels(chosen)).argmax(1))
        torch.manual_seed(seed)
        model = self.classifier(probe)
        labelled = torch.zeros(len(self.train_idx), dtype=torch.bool)
        labelled[chosen.cpu()] = True
        if labelled.all():
            raise UserError("FixMatch needs unlabelled images: use fewer --labels")
        parts = self.train_idx[labelled], self.train_idx[~labelled]
        batches = ConsistencyBatches(self.study.data[0], *parts, CONSISTENCY_BATCHES, WEAK, STRONG, seed)
        self.study.fit(model, consistency_step(model, THRESHOLD), batches, CONSISTENCY)
        return self.study.outputs(model)

    def clusters(self, chosen: Tensor, seed: int) -> Tensor:
        """Trained clusters, spread over the graph and named by all training labels; then k-NN."""
        spread = self.spread_head(seed)
        return frozen.vote(*self.neighbours, spread)[:, self.cluster_of_class(spread.argmax(1), ALL)]

    def self_labelled(self, chosen: Tensor, seed: int) -> Tensor:
        """`refined`, from clusters. All training labels name the clusters and serve nothing else."""
        train, test = self.refined_clusters(seed)
        return test[:, self.cluster_of_class(train.argmax(1), ALL)]

    def named(self, chosen: Tensor, seed: int) -> Tensor:
        """The clusters of `self_labelled`, named by the labelled images alone."""
        train, test = self.refined_clusters(seed)
        return test[:, self.cluster_of_class(train[chosen], chosen)]


# --- Methods that see the labelled images alone; the source says which images there are ---


def from_scratch(model: str, augment: Augment, source: Source, chosen: Tensor, seed: int) -> Tensor:
    """A classifier. A stratified quarter of the labels chooses the epoch, unless a class has too few."""
    study, images, labelled = source.study, source.study.data[0], source.train_idx[chosen]
    labels = images.labels.cpu()[labelled]
    spare = labels.bincount()[labels.unique()].min() >= SMALLEST_VALIDATED
    train, val = split(labels, FEW_LABELS_VALIDATION, seed) if spare else (ALL, slice(0))
    recipe = few_labels_recipe(RECIPES[model], len(labelled[train]))
    if study.max_steps:  # a dry run, which makes one step per epoch
        recipe["epochs"] = 1
    batches = BatchLoader(images, labelled[train], recipe["batch_size"], seed=seed, augment=augment)
    torch.manual_seed(seed)
    network, smoothing = study.place(create(model, len(images.classes))), recipe["label_smoothing"]
    validate = validate_classifier(images, labelled[val], smoothing) if spare else None
    study.fit(network, classification_step(network, smoothing), batches, recipe, validate)
    return study.outputs(network)


def on_supcon(method: "Run", source: Source, chosen: Tensor, seed: int) -> Tensor:
    """A method on the features of an encoder that SupCon trains on the labelled images."""
    study, labelled = source.study, source.train_idx[chosen]
    repeated = labelled.repeat(-(-SUPCON_IMAGES // len(labelled)))
    batches = view_batches(study.data[0], repeated, SUPCON_BATCH, ["affine"], SUPCON_STRENGTH, seed=seed)
    torch.manual_seed(seed)
    model = ContrastiveModel(create(SUPCON_ENCODER, 0))
    study.place(model)

    def step(views, labels):
        features = model(views.flatten(0, 1)).unflatten(0, views.shape[:2])
        return supcon(features, labels, SUPCON_TEMPERATURE), {}

    study.fit(model, step, batches, SUPCON)
    return method(Source(study, model.encoder.eval(), labelled), torch.arange(len(labelled)), seed)


Run = Callable[[Source, Tensor, int], Tensor]


class Method(NamedTuple):
    """A row of the table. shares: the parts of a Source that it uses, see `Source.prepare`."""

    name: str
    run: Run
    shares: tuple[str, ...] = ("features",)
    needs_labels: bool = True  # without labels, only the seed differs between draws
    sees_unlabelled: bool = True  # even if only for feature statistics


GRAPH = ("features", "graph")
ON_ENCODERS = (
    Method("knn", Source.knn),
    Method("linear", Source.linear),
    Method("finetuned", Source.finetuned),
    Method("spread", Source.spread, (*GRAPH, "neighbours")),
    Method("self_trained", Source.self_trained, GRAPH),
    Method("refined", Source.refined, GRAPH),
    Method("named", Source.named, (*GRAPH, "clusters")),
    Method("consistent", Source.consistent, GRAPH),
    Method("clusters", Source.clusters, (*GRAPH, "neighbours"), needs_labels=False),
    Method("self_labelled", Source.self_labelled, (*GRAPH, "clusters"), needs_labels=False),
)
WITHOUT_ENCODER = (
    *(
        Method(f"{name}{suffix}", functools.partial(from_scratch, name, augment), (), sees_unlabelled=False)
        for name in ("mlp1", "mlp", "cnn")
        for suffix, augment in (("", POLICIES["none"]), ("-augmented", DEFORMED))
    ),
    Method("pixels-knn", Source.knn),
    Method("pixels-linear", Source.linear),
    Method("supcon-knn", functools.partial(on_supcon, Source.knn), (), sees_unlabelled=False),
    Method("supcon-linear", functools.partial(on_supcon, Source.linear), (), sees_unlabelled=False),
)


def method_table(encoders: Iterable[str]) -> dict[str, tuple[Method, str]]:
    """Return {name on the command line: (method, name of its source)}; raw pixels are the source "pixels"."""
    table = {method.name: (method, "pixels") for method in WITHOUT_ENCODER}
    return table | {f"{name}-{method.name}": (method, name) for name in encoders for method in ON_ENCODERS}
