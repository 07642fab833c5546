"""Model files: they open anywhere, hold what another program needs, and name what doesn't fit."""

import pytest
import torch
from helpers import FACTS, noise

from models import ENCODERS, CheckpointError, create, load_encoder, read_model, save_model
from models.checkpoint import digest


def trained_state(name, num_classes=10):
    """A network whose BatchNorm statistics have moved, in eval mode."""
    torch.manual_seed(3)
    model = create(name, num_classes)
    model(noise(2, 1, 28, 28))
    return model.eval()


@pytest.mark.parametrize("name", [*(name for name in ENCODERS if not name.startswith("resnet")), "lenet+2"])
def test_save_and_load_give_equal_outputs_and_leave_nothing_else_behind(tmp_path, name):
    model, images = trained_state(name), noise(1, 1, 28, 28)
    save_model(tmp_path / "best.pt", model, name, FACTS)
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]
    assert torch.equal(read_model(tmp_path / "best.pt").model.eval()(images), model(images))
    encoder = load_encoder(tmp_path / "best.pt").eval()  # of a file of an encoder: see test_triplet.py
    assert torch.equal(encoder(images), model.encoder(images))


def test_file_is_a_plain_dict_that_opens_without_this_code(tmp_path):
    model = trained_state("fast", 4).to(memory_format=torch.channels_last)
    facts = {**FACTS, "classes": list("abcd")}
    save_model(tmp_path / "m.pt", model, "fast", facts, num_classes=4)
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    said = {"format": 1, "name": "fast", "options": {"num_classes": 4}, "data": facts}
    assert {key: content[key] for key in said} == said
    saved = read_model(tmp_path / "m.pt")
    assert (saved.name, saved.options, saved.data) == ("fast", {"num_classes": 4}, facts)
    state = model.state_dict()
    assert content["weights"].keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in content["weights"].items())
    assert all(value.is_contiguous() for value in content["weights"].values())


NAN = {"head.bias": torch.full((10,), torch.nan), "head.weight": torch.zeros(10, 784)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c["weights"].pop("head.bias"), "does not hold a 'linear': .*Missing key.*head.bias"),
        (lambda c: c["weights"].update(more=torch.ones(1)), "'linear': .*Unexpected key.*more"),
        (lambda c: c.update(name="fast"), "does not hold a 'fast'"),
        (lambda c: c.update(name="vgg"), "unknown model 'vgg'"),
        (lambda c: c.update(options={"num_classes": 5}), "size mismatch"),
        (lambda c: c.update(options={"depth": 5}), "depth"),
        (lambda c: c["data"].update(mean="dark"), r"data\.mean is not a number from 0 to 1"),
        (lambda c: c["data"]["classes"].pop(), "different classes, one for each output"),
        (lambda c: c["weights"].update({"head.bias": torch.zeros(10).cdouble()}), "no dense torch.float32"),
        (lambda c: c.update(weights=NAN, digest=digest(NAN)), "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_an_error_that_names_the_file(tmp_path, change, reason):
    path = tmp_path / "m.pt"
    save_model(path, create("linear"), "linear", FACTS)
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_flipped_bit_anywhere_in_the_weights_is_seen(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    save_model(path, create("linear"), "linear", FACTS)
    content = path.read_bytes()
    weights = read_model(path).model.state_dict()["head.weight"]
    raw = (weights.half() if suffix == ".safetensors" else weights).numpy().tobytes()
    start = content.index(raw)
    for place in (0, len(raw) // 2, len(raw) - 1):
        flipped = bytearray(content)
        flipped[start + place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match="damaged"):
            read_model(path)
