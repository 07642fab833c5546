"""The methods of the few-label study, in one table: from labelled images to outputs for the scored images."""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from data import POLICIES, Augment, BatchLoader, Data, ImageSet, in_order, split, view_augment
from evaluation.contrastive import features as frozen
from evaluation.contrastive.clustering import cluster_head, match_clusters, neighbour_graph, spread_labels
from models import RECIPES, Classifier, ContrastiveModel, create, supcon
from utils.training.cnn import TUNED, validate_classifier
from utils.training.fit import FitConfig, Step, Validate, classification_step, fit
from utils.training.forward import clock, forward_all

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Chosen on validation images. Whatever the number of labels, an "epoch" has FINETUNE_IMAGES images.
FINETUNE, FINETUNE_IMAGES = TUNED, 1600
# Of `self_labelled`, chosen on validation images. No strokes: they make a 4 of a 1.
STUDENT, STUDENT_AUGMENT, DISTIL_BATCH = "compact", POLICIES["strong"], 128
DISTIL = {"epochs": 2, "lr": 3e-3, "weight_decay": 0.02, "ema": 0.998}
ANCHORED = {"epochs": 1, "lr": 1e-3, "weight_decay": 0.02, "ema": 0.99}
ANCHORED_BATCHES = 192, 64  # images and anchors
ANCHOR_WEIGHT = 0.5
ROBUSTNESS = 0.7  # q of Zhang and Sabuncu (2018)
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
        self, model: nn.Module, step: Step, batches: Any, recipe: dict, validate: Validate | None = None
    ) -> None:
        """Train silently by a recipe, whose schedule is one-cycle unless it names one; write nothing."""
        options = {"precision": self.precision, "max_steps": self.max_steps, "quiet": True}
        config = FitConfig.from_values({"schedule": "one-cycle", **recipe, **options})
        fit(model, step, batches, config, validate=validate)

    def outputs(self, model: nn.Module) -> Tensor:
        """Return the outputs (N, classes) of a classifier for the scored images."""
        return forward_all(model, in_order(self.data[1]))[0]


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

    @functools.cached_property
    def features(self) -> frozen.Features:
        """Features of length 1: cosines, as in k-NN and contrastive losses, stay the same."""
        study = self.study
        f = frozen.encode(self.encoder, study.data, self.train_idx, study.splits[1], study.precision)
        self.length = f.train.norm(dim=1).mean()
        return f._replace(train=normalize(f.train), val=normalize(f.val), test=normalize(f.test))

    @functools.cached_property
    def graph(self) -> "csr_array":
        return neighbour_graph(self.features.train)

    @functools.cached_property
    def neighbours(self) -> tuple[Tensor, Tensor]:
        """The neighbours of the scored images: most of the time of a spread."""
        return frozen.neighbours(self.features.test, self.features.train)

    @functools.cached_property
    def student(self) -> tuple[nn.Module, Tensor]:
        """A student of the trained clusters, and the probabilities (N, classes) that it gives the images.

        A robust loss and strong augmentation let it be better than its teacher.
        """
        study, classes = self.study, self.features.classes
        torch.manual_seed(0)
        student = study.place(create(STUDENT, classes))
        clusters = self.relabelled(self.spread_head(0).argmax(1))
        batches = BatchLoader(clusters, self.train_idx, DISTIL_BATCH, augment=STUDENT_AUGMENT)
        study.fit(student, anchored_step(student), batches, DISTIL)
        logits, _ = forward_all(student, in_order(study.data[0], self.train_idx), study.precision)
        return student, logits.float().softmax(1)

    def relabelled(self, labels: Tensor) -> ImageSet:
        """Return the training images with these labels (N,) instead of their own; all others have label 0."""
        images = self.study.data[0]
        given = torch.zeros_like(images.labels)
        given[self.train_idx.to(given.device)] = labels
        return images._replace(labels=given)

    def prepare(self, parts: Iterable[str]) -> float:
        """Compute parts (features, graph, neighbours, student) once; return the seconds that this took."""
        for part in parts:
            if part not in self.seconds:
                start = clock()
                getattr(self, part)
                self.seconds[part] = clock() - start
        return sum(self.seconds[part] for part in parts)

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
        study, batch, strong = self.study, FINETUNE["batch_size"], POLICIES["strong"]
        batches = BatchLoader(study.data[0], repeated, batch, seed=seed, augment=strong)
        study.fit(model, classification_step(model), batches, FINETUNE)
        return study.outputs(model)

    def spread(self, chosen: Tensor, seed: int) -> Tensor:
        """Labels that spread over the graph of the training features, then k-NN."""
        return frozen.vote(*self.neighbours, self.spread_from(chosen, self.labels(chosen)))

    def clusters(self, chosen: Tensor, seed: int) -> Tensor:
        """Trained clusters, spread over the graph and named by all training labels; then k-NN."""
        spread = self.spread_head(seed)
        return frozen.vote(*self.neighbours, spread)[:, self.cluster_of_class(spread.argmax(1), ALL)]

    def self_labelled(self, chosen: Tensor, seed: int) -> Tensor:
        """A student of the clusters, named by the labelled images, which then anchor its own answers.

        Without labelled images all training labels name the clusters and serve nothing else.
        """
        student, probabilities = self.student
        shares, named = (probabilities[chosen], chosen) if len(chosen) else (probabilities.argmax(1), ALL)
        names = self.cluster_of_class(shares, named).to(probabilities.device)
        student = copy.deepcopy(student)
        for values in student.get_submodule("head").parameters():
            values.data = values[names]
        if len(chosen):
            labels = probabilities[:, names].argmax(1)
            labels[chosen] = self.labels(chosen)
            parts = self.train_idx[chosen], self.train_idx, ANCHORED_BATCHES
            batches = AnchoredBatches(self.relabelled(labels), *parts, STUDENT_AUGMENT, seed)
            self.study.fit(student, anchored_step(student), batches, ANCHORED)
        return self.study.outputs(student)


# --- The training of `self_labelled`: on labels some of which are wrong, with the given ones as anchors ---


def generalised_cross_entropy(logits: Tensor, labels: Tensor, q: float = ROBUSTNESS) -> Tensor:
    """Return the mean of (1 - p^q) / q, equation 6 of Zhang and Sabuncu (2018).

    p is the probability of the label. logits: (B, classes). labels: (B,). q: in (0, 1]; towards 0 the loss is
    the cross-entropy, at 1 it is 1 - p. An improbable label, which may be wrong, has hardly any gradient.
    """
    p = logits.softmax(1).gather(1, labels.unsqueeze(1))
    return ((1 - p.clamp(min=1e-7) ** q) / q).mean()


class AnchoredBatches:
    """Batches (images, their labels, anchors, their labels) for `anchored_step`, all augmented.

    anchors, indices: of the images whose labels are given, and of all with a label, given or not. sizes:
    images and anchors of a batch. An epoch is one pass over `indices`; anchors are repeated.
    """

    def __init__(
        self,
        images: ImageSet,
        anchors: Tensor,
        indices: Tensor,
        sizes: tuple[int, int],
        augment: Augment,
        seed: int = 0,
    ):
        self.images = BatchLoader(images, indices, sizes[0], seed=seed, augment=augment)
        repeated = anchors.repeat(-(-len(self.images) * sizes[1] // len(anchors)))
        self.anchors = BatchLoader(images, repeated, sizes[1], seed=seed + 1, augment=augment)

    def __len__(self) -> int:
        return len(self.images)

    def epoch(self, number: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of epoch `number` (from 0)."""
        for some, anchors in zip(self.images.epoch(number), self.anchors.epoch(number), strict=False):
            yield *some, *anchors


def anchored_step(model: nn.Module) -> Step:
    """Return the step for `fit`: robust loss of all labels plus, where there are any, that of the anchors."""

    def step(images, labels, *anchors):
        logits = model(torch.cat([images, *anchors[:1]])).float()
        loss = generalised_cross_entropy(logits[: len(images)], labels)
        if anchors:
            loss = loss + ANCHOR_WEIGHT * cross_entropy(logits[len(images) :], anchors[1])
        return loss, {"accuracy": (logits[: len(images)].argmax(1) == labels).float().mean()}

    return step


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
    augment = view_augment(["affine"], SUPCON_STRENGTH)
    batches = BatchLoader(study.data[0], repeated, SUPCON_BATCH, seed=seed, augment=augment, views=2)
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
    needs_labels: bool | None = True  # None: with and without; without, draws differ by seed and encoder
    sees_unlabelled: bool = True  # even if only for feature statistics


GRAPH = ("features", "graph")
ON_ENCODERS = (
    Method("knn", Source.knn),
    Method("linear", Source.linear),
    Method("finetuned", Source.finetuned),
    Method("spread", Source.spread, (*GRAPH, "neighbours")),
    Method("clusters", Source.clusters, (*GRAPH, "neighbours"), needs_labels=False),
    Method("self_labelled", Source.self_labelled, (*GRAPH, "student"), needs_labels=None),
)
WITHOUT_ENCODER = (
    *(
        Method(f"{name}{suffix}", functools.partial(from_scratch, name, augment), (), sees_unlabelled=False)
        for name in ("mlp1", "mlp", "mlp_128_64", "mlp_512_128_64", "cnn")
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
