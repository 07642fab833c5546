"""LARS, the optimiser of large batches; PyTorch has none."""

import torch


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose step is a share of each weight's own norm (You et al., 2017, algorithm 1).

    The local rate is trust * |w| / |g + decay * w|, for weights only: biases and normalisation parameters
    (one dimension) take a plain step, as in SimCLR.
    """

    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, trust=0.001):
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        )

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                step = p.grad + group["weight_decay"] * p
                if p.ndim > 1:
                    size, grown = p.norm(), step.norm()
                    local = torch.where((size > 0) & (grown > 0), group["trust"] * size / grown, 1.0)
                    step = step * local
                memory = self.state[p].setdefault("momentum", torch.zeros_like(p))
                memory.mul_(group["momentum"]).add_(step)
                p.sub_(group["lr"] * memory)
