"""Image classifiers by name. Each is an encoder, (B, 1, 28, 28) -> (B, features), and a linear head."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from models.layers import GlobalMax, GlobalPool, Residual, Shared, conv, hidden_layers, pooled_relu

EncoderParts = tuple[nn.Module, int]  # an encoder (B, 1, 28, 28) -> (B, features), and its features
Build = TypeVar("Build", bound=Callable[..., EncoderParts])


class Recipe(NamedTuple):
    """How a classifier is trained; the defaults are those of `cnn`. Flags of the scripts override them."""

    epochs: int = 10
    batch_size: int = 256
    optimizer: str = "adamw"
    lr: float = 5e-3
    weight_decay: float = 0.02
    schedule: str = "one-cycle"
    augment: str = "affine"
    plain_epochs: int = 1
    label_smoothing: float = 0.05
    ema: float = 0.998
    clip_norm: float = 0.0
    patience: int = 0
    max_steps: int = 0


ENCODERS: dict[str, Callable[[], EncoderParts]] = {}
RECIPES: dict[str, dict] = {}


def classifier(variants: Mapping[str, tuple] | None = None, **recipe: Any) -> Callable[[Build], Build]:
    """Decorate a function that builds an encoder: it becomes a classifier, named after the function.

    variants: several classifiers instead, each a name and the arguments of the function. recipe: what the
    training has other than the defaults of `Recipe`, chosen on validation images.
    """

    def register(build: Build) -> Build:
        for name, arguments in (variants or {build.__name__: ()}).items():
            ENCODERS[name] = partial(build, *arguments)
            RECIPES[name] = Recipe(**recipe)._asdict()
        return build

    return register


class Classifier(nn.Module):
    """An encoder and a linear head; returns logits (B, classes), without softmax.

    directions: number of main directions of the features of training images, see `evidence`.
    """

    centre: torch.Tensor
    directions: torch.Tensor

    def __init__(self, encoder: nn.Module, num_features: int, num_classes: int, directions: int = 0):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(num_features, num_classes)
        if directions:
            self.register_buffer("centre", torch.zeros(num_features))
            self.register_buffer("directions", torch.zeros(directions, num_features))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(images))

    def evidence(self, features: torch.Tensor) -> torch.Tensor:
        """Return how much speaks for each image's answer, (B,), from features (B, D): low for unknown kinds.

        It is the lead of the largest logit over their mean, divided by the distance of the features from the
        main directions of those of training images (in the manner of Wang et al., CVPR 2022); for a model
        without directions, the largest logit.
        """
        logits = self.head(features)
        if not hasattr(self, "directions"):
            return logits.amax(1)
        away = features - self.centre
        away = away - away @ self.directions.T @ self.directions
        return (logits.amax(1) - logits.mean(1)) / away.norm(dim=1).clamp(min=1e-6)


@classifier(epochs=15, batch_size=128, lr=3e-3, weight_decay=0.05, augment="none", plain_epochs=0,
            label_smoothing=0.0, ema=0.0)  # fmt: skip
def linear() -> EncoderParts:
    """A single layer: the encoder only flattens."""
    return nn.Flatten(), 784


@classifier({"mlp1": (100,), "mlp_128_64": (128, 64), "mlp_512_128_64": (512, 128, 64),
             "mlp_512_128_32": (512, 128, 32)}, epochs=12, lr=3e-3, ema=0.0)  # fmt: skip
def perceptron(*widths: int) -> EncoderParts:
    """Hidden layers with ReLU alone, of the widths in the name: dothanhdatle/M2-Project and ABD-01/MNIST."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise((784, *widths)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers), widths[-1]


@classifier(epochs=12, lr=3e-3, ema=0.0)
def mlp() -> EncoderParts:
    """A multilayer perceptron: three hidden layers and the head."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (784, 512, 512):
        layers += [nn.Linear(inputs, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Dropout(0.25)]
    return nn.Sequential(*layers), 512


@classifier(batch_size=128, lr=6e-3, weight_decay=0.01, label_smoothing=0.02)
def lenet() -> EncoderParts:
    """LeNet-5's shape (LeCun et al., 1998) with max pooling and ReLU: conv 6, conv 12, fc 120, fc 60."""
    convolutions = [nn.Conv2d(1, 6, 5, padding=2), *pooled_relu(), nn.Conv2d(6, 12, 5), *pooled_relu()]
    dense = [nn.Linear(12 * 5 * 5, 120), nn.ReLU(inplace=True), nn.Linear(120, 60), nn.ReLU(inplace=True)]
    return nn.Sequential(*convolutions, nn.Flatten(), *dense), 60


@classifier()
def cnn() -> EncoderParts:
    """The network that shows every CNN layer: convolution, batch norm, pooling, ReLU, dropout, dense.

    Max pooling and ReLU commute exactly; in this order ReLU works on a quarter of the values.
    """
    layers: list[nn.Module] = []
    for inputs, outputs, padding in ((1, 32, 0), (32, 64, 0), (64, 128, 1)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
        layers += [nn.MaxPool2d(2, padding=padding), nn.ReLU(inplace=True), nn.Dropout(0.2)]
    layers += [nn.Flatten(), nn.Linear(4 * 4 * 128, 625), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers), 625


@classifier(epochs=1, lr=2e-2, augment="shift", plain_epochs=0, ema=0.0)
def fast() -> EncoderParts:
    """The smallest: it strides and pools early, because memory traffic bounds small networks."""
    return nn.Sequential(
        conv(1, 16, kernel=5, stride=2),
        conv(16, 32, relu=False),
        pooled_relu(),
        conv(32, 64, relu=False),
        pooled_relu(),
        conv(64, 64),
        GlobalMax(),
    ), 64


@classifier(epochs=1, max_steps=156, optimizer="muon", lr=2e-2, schedule="warm-up-cosine",
            augment="shift", plain_epochs=0, label_smoothing=0.1, ema=0.0)  # fmt: skip
def sprint() -> EncoderParts:
    """The quickest to 99 %: a `fast` that strides twice and reads no margin, by Muon on 40,000 images."""
    return nn.Sequential(
        conv(1, 16, kernel=5, stride=2, padding=0),
        conv(16, 32, stride=2),
        conv(32, 64, relu=False),
        pooled_relu(),
        conv(64, 64),
        GlobalMax(),
    ), 64


@classifier({f"small-{width}": (width,) for width in (24, 31, 62)}, epochs=24, batch_size=128, lr=3e-2,
            weight_decay=0.0, label_smoothing=0.0)  # fmt: skip
@classifier({"small-12": (12,), "tiny-8": (8, False), "tiny-13": (13, False)}, epochs=40, batch_size=128,
            lr=5e-2, weight_decay=0.0, augment="shift", label_smoothing=0.0)  # fmt: skip
def small(width: int, own: bool = True) -> EncoderParts:
    """Few parameters: separable blocks that share their 1x1 convolution and, in `tiny`, their 3x3 one."""
    return nn.Sequential(nn.AvgPool2d(2), conv(1, width), Shared(width, (1, 2, 1), own), GlobalMax()), width


@classifier({"compact-slim": (5, 11)}, epochs=16, batch_size=128, lr=1e-2)
@classifier({"compact": (), "compact-3": (3,)})
def compact(kernel: int = 5, width: int = 32) -> EncoderParts:
    """A wider `fast` with one pooling less: the default encoder of contrastive pre-training.

    kernel, width: size and channels of the first convolution; the others have 2, 4 and 8 times as many.
    """
    return nn.Sequential(
        conv(1, width, kernel=kernel, stride=2),
        conv(width, 2 * width, relu=False),
        pooled_relu(),
        conv(2 * width, 4 * width),
        conv(4 * width, 8 * width),
        GlobalPool(),
    ), 16 * width


@classifier(epochs=14, batch_size=128, lr=4e-3, augment="strong")
def wide() -> EncoderParts:
    """A small residual network on a 14x14 grid with global max and mean pooling."""
    return nn.Sequential(
        conv(1, 32, kernel=5, stride=2),
        conv(32, 64),
        Residual(64),
        conv(64, 128, relu=False),
        pooled_relu(),
        Residual(128),
        conv(128, 192),
        GlobalPool(),
        nn.Dropout(0.2),
    ), 384


@classifier({"resnet18": ("resnet18", 512), "resnet50": ("resnet50", 2048)},
            epochs=12, lr=3e-3, augment="strong", clip_norm=1.0)  # fmt: skip
def resnet(name: str, features: int) -> EncoderParts:
    """torchvision's ResNet for 28x28 grey images: 3x3 first convolution, stride 1, no first pooling."""
    from torchvision.models import resnet  # here, because importing it takes seconds that --help needn't

    network = getattr(resnet, name)()
    network.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return network, features


def create(
    name: str,
    num_classes: int = 10,
    encoders: Mapping[str, Callable[[], EncoderParts]] = ENCODERS,
    directions: int = 0,
) -> nn.Module:
    """Create the network `name`, a key of `encoders`, with weights from torch's global generator.

    name may end in "+1" or "+2": that many hidden layers of a projection head are a part of the encoder.
    num_classes > 0: a Classifier that returns logits (B, num_classes). 0: only the encoder, which returns
    features (B, D), with D in its attribute `num_features` and its name in `name`. directions: of a
    Classifier. Raises ValueError for an unknown name.
    """
    base, plus, layers = name.partition("+")
    if base not in encoders or (plus and layers not in ("1", "2")):
        raise ValueError(f"unknown model {name!r}: choose from {', '.join(encoders)}")
    encoder, num_features = encoders[base]()
    if plus:
        encoder = nn.Sequential(encoder, *hidden_layers(num_features, int(layers)))
    encoder.num_features, encoder.name = num_features, name  # type: ignore[assignment]  # plain attributes
    return Classifier(encoder, num_features, num_classes, directions) if num_classes else encoder


def multiply_adds(model: nn.Module) -> int:
    """Count the multiplications, each with an addition, that a classifier's layers make of one image."""
    from torch.utils.flop_counter import FlopCounterMode  # here, because importing it takes time

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 1, 28, 28))
    return counter.get_total_flops() // 2
