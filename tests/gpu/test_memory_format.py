"""channels_last is kept through every network, where it is given to the weights, as the scripts do."""

import pytest
import torch

from models import ENCODERS, create
from models.mil import MIL_ENCODERS, create_mil
from models.triplet import TRIPLET_ENCODERS


@pytest.mark.parametrize("name", {**ENCODERS, **TRIPLET_ENCODERS, **MIL_ENCODERS})
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_map_of_a_network_is_channels_last(name, dtype):
    encoder = create(name, 0, {**TRIPLET_ENCODERS, **MIL_ENCODERS})
    encoder = encoder.to(memory_format=torch.channels_last)
    maps = []

    def record(module, inputs, output):
        if output.ndim == 4 and min(output.shape[1:]) > 1:  # else there is one layout only
            maps.append((module, output))

    for module in encoder.modules():
        module.register_forward_hook(record)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        encoder(torch.rand(4, 1, 28, 28))
    assert [m for m, output in maps if not output.is_contiguous(memory_format=torch.channels_last)] == []
    assert maps or name in ("linear", "mlp1", "mlp")
    assert all(output.dtype == dtype for module, output in maps if isinstance(module, torch.nn.Conv2d))


def test_the_images_of_bags_are_no_exception():
    model = create_mil("fast", "attention").to(memory_format=torch.channels_last)
    found = []
    model.encoder[1].register_forward_hook(lambda module, inputs, output: found.append(output))
    model(torch.rand(6, 1, 28, 28), torch.tensor([[True, True, False], [True] * 3, [True, False, False]]))
    assert found[0].is_contiguous(memory_format=torch.channels_last)
