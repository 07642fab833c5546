"""A CUDA device that isn't there: shapes, types, devices and copies as on a GPU, without values."""

import contextlib
import warnings
from collections.abc import Iterator
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

from data import ImageSet

aten = torch.ops.aten


class FakeGpu(FakeTensorMode):
    """While it is active, "cuda" is a device whose tensors are fake; what is on the CPU is computed for real.

    Raises what a GPU would raise for tensors on different devices, and an error for every operation that
    would wait for the device because its result or its shape depends on values: `.item()`, `if tensor:`,
    nonzero, unique, a boolean index. A copy to the CPU gives zeros.

    to_host, to_device: copies from and to the device, as (shape, non_blocking). largest: bytes of the largest
    tensor that was made on the device. The memory layout of a convolution's output is not that of a GPU.
    """

    def __init__(self):
        super().__init__(allow_non_fake_inputs=True)
        self._inside = False
        self.clear()

    def clear(self) -> None:
        """Forget what was recorded."""
        self.to_host, self.to_device = [], []
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        on_device = any(isinstance(x, FakeTensor) for x in tensors)
        target = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None
        if not on_device and target != "cuda":
            return func(*args, **kwargs)
        if func is aten._to_copy.default and (target == "cpu" or not on_device):
            copies = self.to_host if target == "cpu" else self.to_device
            copies.append((tuple(args[0].shape), kwargs.get("non_blocking", False)))
            if target == "cpu":
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        outermost, self._inside = not self._inside, True  # an operation may be computed from others
        try:
            result = super().__torch_dispatch__(func, types, args, kwargs)
        finally:
            self._inside = not outermost
        if outermost:
            sizes = [x.nbytes for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
            self.largest = max([self.largest, *sizes])
        return result


@contextlib.contextmanager
def fake_gpu() -> Iterator[FakeGpu]:
    """Activate a FakeGpu, with autocast and with a stand-in for the backward pass."""
    amp = torch.cuda.amp.common
    with (
        mock.patch.object(nn.Module, "_apply", _apply),
        mock.patch.object(torch.Tensor, "backward", _backward),
        mock.patch.object(amp, "amp_definitely_not_available", return_value=False),
        mock.patch.object(torch.cuda, "is_bf16_supported", return_value=True),
        warnings.catch_warnings(),
        FakeGpu() as gpu,
    ):
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # by deepcopy
        yield gpu


def on_gpu(images: ImageSet) -> ImageSet:
    """Return an image set of the same size on the fake device."""
    return images._replace(images=images.images.to("cuda"), labels=images.labels.to("cuda"))


def _apply(module, function, recurse=True):
    """Module._apply without writing into tensors in place, which a change from real to fake can't do."""
    for child in module.children() if recurse else ():
        child._apply(function)
    with torch.no_grad():
        for key, p in module._parameters.items():
            module._parameters[key] = p if p is None else nn.Parameter(function(p), p.requires_grad)
        for key, buffer in module._buffers.items():
            module._buffers[key] = buffer if buffer is None else function(buffer)
    return module


def _backward(loss):
    """Stand in for the backward pass, which needs a real device: gradients of the right kind."""
    assert loss.shape == ()
    seen, todo = set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if hasattr(node, "variable"):
                node.variable.grad = torch.empty_like(node.variable)
            todo += [function for function, _ in node.next_functions]
