"""Models: logits, features, exact parameter counts, dropout as published, files that open anywhere."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import ENCODERS, CheckpointError, create, load_encoder, load_model, save_model
from models.classifiers import Dropout, max_and_mean

FEATURES = {
    "linear": 784,
    "mlp": 512,
    "lenet": 60,
    "cnn": 625,
    "fast": 64,
    "compact": 512,
    "wide": 384,
    "resnet18": 512,
    "resnet50": 2048,
}
SMALL = [name for name in ENCODERS if not name.startswith("resnet")]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.fixture(scope="module", params=list(ENCODERS))
def built(request):
    """Every classifier in eval mode: its name, itself, images and its logits."""
    torch.manual_seed(0)
    model = create(request.param).eval()
    images = noise(1 if request.param == "resnet50" else 2, 1, 28, 28)  # it is slow on a CPU
    with torch.no_grad():
        return request.param, model, images, model(images)


def test_classifier_gives_logits_not_probabilities(built):
    _, _, images, logits = built
    assert logits.shape == (len(images), 10)
    assert logits.isfinite().all()
    assert (logits < 0).any()
    assert ((logits.sum(1) - 1).abs() > 1e-3).all()


def test_classifier_is_head_after_encoder_and_eval_is_deterministic(built):
    name, model, images, logits = built
    with torch.no_grad():
        features = model.encoder(images)
        assert features.shape == (len(images), FEATURES[name])
        assert model.encoder.num_features == FEATURES[name]
        assert torch.equal(model.head(features), logits)


def test_create_without_classes_gives_the_encoder(built):
    name, model, _, _ = built
    encoder = create(name, 0)
    assert encoder.num_features == FEATURES[name]
    assert not hasattr(encoder, "head")
    theirs, ours = encoder.state_dict(), model.encoder.state_dict()
    assert {k: v.shape for k, v in theirs.items()} == {k: v.shape for k, v in ours.items()}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("linear", 7850),  # 784 * 10 + 10
        (
            "lenet",
            (6 * 25 + 6) + (12 * 6 * 25 + 12) + (300 * 120 + 120) + (120 * 60 + 60) + (60 * 10 + 10),
        ),
        (
            "cnn",  # convolution with bias, then batch norm's scale and shift, three times; dense; head
            (32 * 9 + 32 + 2 * 32)
            + (64 * 32 * 9 + 64 + 2 * 64)
            + (128 * 64 * 9 + 128 + 2 * 128)
            + (4 * 4 * 128 * 625 + 625)
            + (625 * 10 + 10),
        ),
    ],
)
def test_parameter_counts_by_hand(name, count):
    assert parameters(create(name)) == count


@pytest.mark.parametrize("num_classes", [1, 5])
def test_number_of_classes_is_the_width_of_the_head(num_classes):
    assert create("linear", num_classes)(noise(3, 1, 28, 28)).shape == (3, num_classes)


def test_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match=r"vgg.*linear, mlp, lenet, cnn"):
        create("vgg")


def test_same_global_seed_same_weights():
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(create("linear").head.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name):
    torch.manual_seed(0)
    model = create(name).train().to(memory_format=torch.channels_last)  # fastest on a CPU
    nn.functional.cross_entropy(model(noise(4, 1, 28, 28)), torch.arange(4)).backward()
    still = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", SMALL)
def test_an_image_is_classified_alike_alone_and_in_a_batch_and_in_either_memory_layout(name):
    torch.manual_seed(0)
    model, images = create(name).eval(), noise(2, 1, 28, 28)
    with torch.no_grad():
        logits = model(images)
        alone = torch.cat([model(image[None]) for image in images])
        model.to(memory_format=torch.channels_last)
        channels_last = model(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(alone, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(channels_last, logits, rtol=1e-4, atol=1e-5)


# Activations whose number is no multiple of eight, in the layouts that the networks produce.
LAYOUTS = {
    "matrix": torch.ones(311, 333),
    "images": torch.ones(31, 7, 21, 23),
    "channels last": torch.ones(31, 7, 21, 23).to(memory_format=torch.channels_last),
    "one channel": torch.ones(311, 1, 17, 19).to(memory_format=torch.channels_last),
    "transposed": torch.ones(333, 311).t(),
    "every other column": torch.ones(311, 666)[:, ::2],
}


@pytest.mark.parametrize("x", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_zeroes_the_share_p_and_keeps_the_expectation(x, p):
    torch.manual_seed(0)
    level = round(p * 256)
    y = Dropout(p)(x)
    assert y.shape == x.shape
    assert y.unique().tolist() == pytest.approx([0, 256 / (256 - level)])
    # Five standard deviations of a binomial of so many draws.
    tolerance = 5 * (p * (1 - p) / x.numel()) ** 0.5
    assert (y == 0).float().mean().item() == pytest.approx(level / 256, abs=tolerance)
    assert y.mean().item() == pytest.approx(1, abs=2 * tolerance)


def test_dropout_masks_rows_and_columns_alike():
    torch.manual_seed(0)
    dropped = (Dropout(0.25)(torch.ones(1000, 1000)) == 0).double()
    for dim in (0, 1):
        assert (dropped.mean(dim) - 0.25).abs().max() < 0.08  # five and a half standard deviations
    neighbours = torch.corrcoef(torch.stack([dropped[:, :-1].flatten(), dropped[:, 1:].flatten()]))
    assert neighbours[0, 1].abs() < 0.01


def test_dropout_draws_its_mask_in_the_memory_order_of_its_argument():
    # Otherwise the product of mask and channels_last activation would walk through memory in jumps.
    x = LAYOUTS["channels last"]
    drop, found = Dropout(0.5), []
    for layout in (x, x.permute(0, 2, 3, 1).contiguous()):
        torch.manual_seed(0)
        found.append(drop(layout))
    assert found[0].stride() == x.stride()
    assert torch.equal(found[0].permute(0, 2, 3, 1), found[1])


@pytest.mark.parametrize("x", LAYOUTS.values(), ids=LAYOUTS)
def test_dropout_gradient_is_the_mask(x):
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())  # x is all ones, so that the output is the mask


def test_dropout_draws_anew_each_time_and_follows_the_global_seed():
    drop, x = Dropout(0.5), torch.ones(1000)
    torch.manual_seed(0)
    first, second = drop(x), drop(x)
    torch.manual_seed(0)
    assert not torch.equal(first, second)
    assert torch.equal(drop(x), first)


def test_dropout_scales_what_it_keeps_and_leaves_its_argument_alone():
    torch.manual_seed(0)
    x = noise(999) + 10
    before = x.clone()
    y = Dropout(0.25)(x)
    torch.testing.assert_close(y[y != 0], x[y != 0] / 0.75)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.001, True), (0.5, False)])
def test_dropout_is_the_identity_in_eval_mode_and_for_p_0(p, training):
    x = noise(5, 7)
    assert torch.equal(Dropout(p).train(training)(x), x)


def trained_state(name, num_classes=10):
    """A network whose BatchNorm statistics have moved, in eval mode."""
    torch.manual_seed(3)
    model = create(name, num_classes)
    model(noise(2, 1, 28, 28))
    return model.eval()


@pytest.mark.parametrize("name", SMALL)
def test_save_and_load_give_equal_outputs_and_leave_nothing_else_behind(tmp_path, name):
    model, images = trained_state(name), noise(1, 1, 28, 28)
    save_model(tmp_path / "best.pt", model, name)
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]
    loaded = load_model(tmp_path / "best.pt").eval()
    assert torch.equal(loaded(images), model(images))


def test_options_travel_with_the_file(tmp_path):
    save_model(tmp_path / "m.pt", trained_state("linear", 4), "linear", num_classes=4)
    assert load_model(tmp_path / "m.pt").head.out_features == 4


def test_file_is_a_plain_dict_that_opens_without_this_code(tmp_path):
    model = trained_state("fast").to(memory_format=torch.channels_last)
    save_model(tmp_path / "m.pt", model, "fast")
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    assert type(content) is dict
    assert (content["format"], content["name"], content["options"]) == (1, "fast", {})
    state = model.state_dict()
    assert content["weights"].keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in content["weights"].items())
    assert all(value.is_contiguous() for value in content["weights"].values())


@pytest.mark.parametrize("num_classes", [0, 10], ids=["from an encoder", "from a classifier"])
def test_load_encoder(tmp_path, num_classes):
    model, images = trained_state("fast", num_classes), noise(1, 1, 28, 28)
    save_model(tmp_path / "m.pt", model, "fast", num_classes=num_classes)
    encoder = load_encoder(tmp_path / "m.pt").eval()
    assert encoder.num_features == 64
    assert torch.equal(encoder(images), getattr(model, "encoder", model)(images))


def test_an_interrupted_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.pt"
    save_model(path, trained_state("linear"), "linear")
    before = path.read_bytes()

    def interrupted(content, file):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_model(path, create("linear"), "linear")
    assert path.read_bytes() == before


def without_bias(content):
    del content["weights"]["head.bias"]


def with_another_weight(content):
    content["weights"]["head.scale"] = torch.ones(1)


def with_another_name(name):
    return lambda content: content.update(name=name)


def with_options(**options):
    return lambda content: content.update(options=options)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_bias, "does not hold a 'linear': .*Missing key.*head.bias"),
        (with_another_weight, "does not hold a 'linear': .*Unexpected key.*head.scale"),
        (with_another_name("fast"), "does not hold a 'fast'"),
        (with_another_name("vgg"), "unknown model 'vgg'"),
        (with_options(num_classes=5), "size mismatch"),
        (with_options(depth=5), "depth"),
        (lambda content: content.pop("weights"), "not a model file"),
        (lambda content: content.update(weights=3), "does not hold a 'linear'"),
    ],
)
def test_weights_that_do_not_fit_are_an_error_that_names_the_file(tmp_path, change, reason):
    path = tmp_path / "m.pt"
    save_model(path, create("linear"), "linear")
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 cut off"])
def test_a_file_of_another_kind_is_an_error(tmp_path, content):
    path = tmp_path / "m.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a model file"):
        load_model(path)


@pytest.mark.parametrize("content", [create("linear"), {"epoch": 3}, [1, 2]], ids=type)
def test_a_torch_file_of_something_else_is_an_error(tmp_path, content):
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="not a model file"):
        load_model(tmp_path / "m.pt")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="nothing.pt: no such file"):
        load_encoder(tmp_path / "nothing.pt")


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_maximum_and_mean_and_their_gradients_are_those_of_the_two_poolings(memory_format):
    x = noise(3, 4, 5, 6).double().contiguous(memory_format=memory_format).requires_grad_()
    x.data[0, 0, 1, 2] = x.data[0, 0, 3, 3] = 9.0  # of equal maxima the first counts
    weights = noise(2, 3, 4, seed=1).double()
    found = max_and_mean(x)
    torch.testing.assert_close(found, (x.amax((2, 3)), x.mean((2, 3))))
    (gradient,) = torch.autograd.grad((torch.stack(found) * weights).sum(), x)
    slow = F.max_pool2d(x, (5, 6)).flatten(1), F.avg_pool2d(x, (5, 6)).flatten(1)
    torch.testing.assert_close(gradient, torch.autograd.grad((torch.stack(slow) * weights).sum(), x)[0])
    assert gradient.is_contiguous(memory_format=torch.channels_last)
