"""Digit classifiers by name. Each is an encoder, (B, 1, 28, 28) -> (B, features), and a linear head."""

import torch
import torch.nn.functional as F
from torch import nn


class Classifier(nn.Module):
    """An encoder and a linear head. Calling it gives logits (B, classes): no softmax, here or in the loss."""

    def __init__(self, encoder, num_features, num_classes):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, images):
        return self.head(self.encoder(images))


class Dropout(nn.Module):
    """Dropout (Srivastava et al., 2014) whose mask costs an eighth of the usual random numbers on a CPU.

    There each 64-bit draw serves eight activations; one draw per activation was a quarter of the training
    time of `cnn`. Hence `p` is rounded to a multiple of 1/256. Elsewhere it is torch's own kernel.
    """

    def __init__(self, p):
        super().__init__()
        self.level = round(p * 256)

    def forward(self, x):
        if not self.training or self.level == 0:
            return x
        if not x.is_cpu or torch.compiler.is_compiling():  # compiled, torch's own fuses with its neighbours
            return F.dropout(x, self.level / 256)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device)
        noise = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()]
        # The mask follows x's memory layout: a channels_last activation must not be copied.
        order = sorted(range(x.ndim), key=lambda d: x.stride(d), reverse=True)
        noise = noise.view([x.shape[d] for d in order])
        noise = noise.permute([order.index(d) for d in range(x.ndim)])
        return x * (noise >= self.level).to(x.dtype).mul_(256 / (256 - self.level))

    def extra_repr(self):
        return f"p={self.level / 256:.3f}"


def conv(inputs, outputs, kernel=3, stride=1, relu=True):
    """Convolution, batch normalisation and, unless it follows later, ReLU; 'same' padding."""
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


def pooled_relu():
    """Max pooling by two, then ReLU: the same as the other way round, on a quarter of the values."""
    return nn.Sequential(nn.MaxPool2d(2), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """x + conv(conv(x)) with as many channels out as in, after He et al. (2016)."""

    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), conv(channels, channels))

    def forward(self, x):
        return x + self.body(x)


class _MaxAndMean(torch.autograd.Function):
    """Maximum and mean over height and width: (B, C, H, W) -> two of (B, C); equal maxima: the first.

    The gradients of the two poolings would each be spread out over the map and then added: on a CPU that was
    a ninth of the time of a step of `compact`. Here they are written once.
    """

    @staticmethod
    def forward(ctx, x):
        top, index = F.max_pool2d(x, x.shape[2:], return_indices=True)
        ctx.save_for_backward(index)
        ctx.size = x.shape[2:]
        return top.flatten(1), x.mean((2, 3))

    @staticmethod
    def backward(ctx, top, mean):
        (index,) = ctx.saved_tensors
        pixels = ctx.size.numel()
        # (B, H * W, C): in memory a channels_last map, which the convolutions work on.
        found = (mean / pixels).unsqueeze(1).repeat(1, pixels, 1)
        found.scatter_add_(1, index.flatten(1).unsqueeze(1), top.unsqueeze(1))
        return found.transpose(1, 2).unflatten(2, ctx.size)


def max_and_mean(x):
    """Global maximum and global mean of every channel: (B, C, H, W) -> two of (B, C)."""
    return _MaxAndMean.apply(x)


class GlobalPool(nn.Module):
    """Global maximum and mean of every channel, side by side: (B, C, H, W) -> (B, 2C)."""

    def forward(self, x):
        return torch.cat(max_and_mean(x), 1)


class GlobalMax(nn.Module):
    """Global maximum of every channel: (B, C, H, W) -> (B, C)."""

    def forward(self, x):
        return F.max_pool2d(x, x.shape[2:]).flatten(1)


def linear():
    """Single layer: the encoder only flattens."""
    return nn.Flatten(), 784


def mlp(width=512):
    """Multi layer: three hidden layers, with the head four."""
    layers, inputs = [nn.Flatten()], 784
    for _ in range(3):
        layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
        layers += [Dropout(0.25)]
        inputs = width
    return nn.Sequential(*layers), width


def lenet():
    """LeNet-5's shape (LeCun et al., 1998) with max pooling and ReLU: conv 6, conv 12, fc 120, fc 60."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 12, 5),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(12 * 5 * 5, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, 60),
        nn.ReLU(inplace=True),
    )
    return encoder, 60


def cnn():
    """The network that shows every CNN layer: convolution, batch norm, pooling, ReLU, dropout, dense.

    Pooling and ReLU commute, exactly; in this order ReLU works on a quarter of the values.
    """
    layers, inputs = [], 1
    for outputs, padding in ((32, 0), (64, 0), (128, 1)):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.MaxPool2d(2, padding=padding),
            nn.ReLU(inplace=True),
            Dropout(0.2),
        ]
        inputs = outputs
    layers += [nn.Flatten(), nn.Linear(4 * 4 * 128, 625), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers), 625


def fast():
    """The smallest: strides and pools early, because memory traffic bounds small networks."""
    encoder = nn.Sequential(
        conv(1, 16, kernel=5, stride=2),
        conv(16, 32, relu=False),
        pooled_relu(),
        conv(32, 64, relu=False),
        pooled_relu(),
        conv(64, 64),
        GlobalMax(),
    )
    return encoder, 64


def wide():
    """The most accurate: a small residual network on the 14x14 grid, global max and mean pooling."""
    encoder = nn.Sequential(
        conv(1, 32, kernel=5, stride=2),
        conv(32, 64),
        Residual(64),
        conv(64, 128, relu=False),
        pooled_relu(),
        Residual(128),
        conv(128, 192),
        GlobalPool(),
        Dropout(0.2),
    )
    return encoder, 384


def compact():
    """`fast` made wider, and pooled once less: the encoder of the contrastive scripts on a CPU."""
    encoder = nn.Sequential(
        conv(1, 32, kernel=5, stride=2),
        conv(32, 64, relu=False),
        pooled_relu(),
        conv(64, 128),
        conv(128, 256),
        GlobalPool(),
    )
    return encoder, 512


def resnet18():
    return _small_stem("resnet18"), 512


def resnet50():
    return _small_stem("resnet50"), 2048


def _small_stem(name):
    """torchvision's ResNet for 28x28 grey images: 3x3 first convolution, stride 1, no first pooling."""
    from torchvision.models import resnet  # here, because importing it takes seconds that --help needn't

    network = getattr(resnet, name)()
    network.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return network


ENCODERS = {f.__name__: f for f in (linear, mlp, lenet, cnn, fast, compact, wide, resnet18, resnet50)}


def create(name, num_classes=10, encoders=ENCODERS):
    """The network `name` (a key of `encoders`), freshly initialised from torch's global generator.

    num_classes > 0: a Classifier giving logits (B, num_classes). 0: the encoder alone, giving features
    (B, D), with D in its attribute `num_features` and its name in `name`. ValueError for an unknown name.
    """
    if name not in encoders:
        raise ValueError(f"unknown model {name!r}: choose from {', '.join(encoders)}")
    encoder, num_features = encoders[name]()
    encoder.num_features, encoder.name = num_features, name
    return Classifier(encoder, num_features, num_classes) if num_classes else encoder
