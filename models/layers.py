"""Layers and blocks that the networks share."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


def conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True, padding: int | None = None
) -> nn.Module:
    """Convolution, batch normalisation and, unless it follows later, ReLU; 'same' padding by default."""
    padding = kernel // 2 if padding is None else padding
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


def pooled_relu() -> nn.Sequential:
    """Max pooling by two, then ReLU: the same as the other way round, on a quarter of the values."""
    return nn.Sequential(nn.MaxPool2d(2), nn.ReLU(inplace=True))


def hidden_layers(width: int, count: int) -> list[nn.Module]:
    """Fully connected layers (B, width) -> (B, width) with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
    return layers


class Residual(nn.Module):
    """x + conv(conv(x)) with as many channels out as in, after He et al. (2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), conv(channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class Shared(nn.Module):
    """Separable blocks x + relu(norm(mix(conv(x)))) that share their 1x1 convolution `mix`.

    own: every block has its own depthwise 3x3 convolution `conv`; otherwise they share this one, too, and do
    not add x. Every block has its own norm. uses: number of blocks on the grid of the input, on half of it,
    and so on, with max pooling between.
    """

    def __init__(self, channels: int, uses: Sequence[int], own: bool = True):
        super().__init__()
        self.uses, self.own, blocks = uses, own, sum(uses)
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        grid: dict = {"kernel_size": 3, "padding": 1, "groups": channels, "bias": False}
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, **grid) for _ in range(blocks if own else 1))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layers = zip(itertools.cycle(self.convs), self.norms, strict=False)
        for number, count in enumerate(self.uses):
            x = F.max_pool2d(x, 2) if number else x
            for conv, norm in itertools.islice(layers, count):
                y = F.relu(norm(self.mix(conv(x))), inplace=True)
                x = x + y if self.own else y
        return x


class _MaxAndMean(torch.autograd.Function):
    """Maximum and mean over height and width: (B, C, H, W) -> two of (B, C); equal maxima: the first.

    The gradients of the two poolings would each be spread out over the map and then added. Here they are
    written once. results/benchmarks/layers.json has the gain for a whole training step.
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
        gradient = (mean / pixels).unsqueeze(1).repeat(1, pixels, 1)
        gradient.scatter_add_(1, index.flatten(1).unsqueeze(1), top.unsqueeze(1))
        return gradient.transpose(1, 2).unflatten(2, ctx.size)


class GlobalPool(nn.Module):
    """Global maximum and mean of every channel, side by side: (B, C, H, W) -> (B, 2C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat(_MaxAndMean.apply(x), 1)


class GlobalMax(nn.Module):
    """Global maximum of every channel: (B, C, H, W) -> (B, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, x.shape[2:]).flatten(1)


# --- Batch norm of several processes ---


class SumOverRanks(torch.autograd.Function):
    """Sum a tensor over the ranks of torch.distributed; the gradient is summed as well."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return SumOverRanks.forward(ctx, gradient)


class CpuSyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the batches of all ranks, for the CPU, where torch.nn.SyncBatchNorm has no kernel.

    Takes over parameters and statistics of `original`. Input: (B, C, ...), B may differ between the ranks.
    The variance is the mean squared deviation from the mean, computed after it: E[x^2] - E[x]^2 would cancel.
    """

    momentum: float

    def __init__(self, original: nn.BatchNorm1d | nn.BatchNorm2d):
        super().__init__(original.num_features, original.eps, original.momentum)
        self.load_state_dict(original.state_dict())
        self.weight, self.bias = original.weight, original.bias

    def _check_input_dim(self, x):
        pass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        others, shape = [d for d in range(x.ndim) if d != 1], [1, -1] + [1] * (x.ndim - 2)
        wide = x.float()
        own_count = wide.new_full((1,), x.numel() // x.shape[1])
        total, count = SumOverRanks.apply(torch.cat([wide.sum(others), own_count])).split([x.shape[1], 1])
        mean = total / count
        centred = wide - mean.view(shape)
        variance = SumOverRanks.apply(centred.square().sum(others)) / count
        with torch.no_grad():
            self.get_buffer("num_batches_tracked").add_(1)
            self.get_buffer("running_mean").lerp_(mean, self.momentum)
            self.get_buffer("running_var").lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)
