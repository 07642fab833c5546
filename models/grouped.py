"""Several networks trained at once: as one grouped network, or by the mean of their logits."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from models.layers import GlobalPool, max_and_mean


class Fusion(nn.Module):
    """Networks of any kind whose mean logits (B, classes) are trained as one classifier."""

    def __init__(self, networks: Iterable[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([network(images) for network in self.networks]).mean(0)


def stack(networks: Sequence[nn.Module]) -> nn.Module:
    """Join M networks of one architecture into one that computes them side by side, each on its own images.

    Maps (B, M, H, W) to (B, M * classes): channel m of the input is the image of network m, and every
    activation holds the channels of network 0, then those of network 1, and so on. Convolutions become
    grouped and linear layers become batched products; batch normalisation, pooling and activations stay as
    they are. Batch statistics are those of each network's own batch.

    The keys of the state dict are those of one network; their tensors are concatenated along the first
    dimension. Supports the layers of models.ENCODERS; TypeError for others.
    """
    stacked = _stack(networks[0], len(networks))
    states = [network.state_dict() for network in networks]
    stacked.load_state_dict(
        {k: torch.cat([s[k] for s in states]) if v.ndim else v for k, v in states[0].items()}
    )
    return stacked


def unstack(stacked: nn.Module, networks: Sequence[nn.Module]) -> None:
    """Copy the weights and statistics of a stacked network back into its networks."""
    state, count = stacked.state_dict(), len(networks)
    for i, network in enumerate(networks):
        network.load_state_dict({k: v.chunk(count)[i] if v.ndim else v for k, v in state.items()})


def _stack(module, count):
    """Return a copy of the module whose layers serve `count` networks; weights are loaded later."""
    if isinstance(module, nn.Conv2d):
        shape: dict[str, Any] = {k: getattr(module, k) for k in ("kernel_size", "stride", "padding")}
        return nn.Conv2d(
            count * module.in_channels,
            count * module.out_channels,
            **shape,
            groups=count,
            bias=module.bias is not None,
        )
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return type(module)(count * module.num_features, module.eps, module.momentum)
    if isinstance(module, nn.Linear):
        return StackedLinear(module.in_features, module.out_features, count)
    if isinstance(module, GlobalPool):
        return StackedGlobalPool(count)
    if not list(module.children()) and list(module.parameters()):
        raise TypeError(f"cannot stack the layer {type(module).__name__}")
    shell = copy.copy(module)
    shell._modules = {name: _stack(child, count) for name, child in module.named_children()}
    return shell


class StackedLinear(nn.Module):
    """Linear layers side by side: (B, M * inputs) -> (B, M * outputs)."""

    def __init__(self, inputs: int, outputs: int, count: int):
        super().__init__()
        self.count = count
        self.weight = nn.Parameter(torch.empty(count * outputs, inputs))
        self.bias = nn.Parameter(torch.empty(count * outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unflatten(1, (self.count, -1)).transpose(0, 1)
        weight = self.weight.unflatten(0, (self.count, -1)).transpose(1, 2)
        return torch.baddbmm(self.bias.view(self.count, 1, -1), x, weight).transpose(0, 1).flatten(1)


class StackedGlobalPool(nn.Module):
    """GlobalPool for networks side by side: the maxima of each network, then its means."""

    def __init__(self, count: int):
        super().__init__()
        self.count = count

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([v.unflatten(1, (self.count, -1)) for v in max_and_mean(x)], 2).flatten(1)
