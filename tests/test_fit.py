"""The epoch loop: schedules, optimiser, averaging, choice of the best epoch, faults, exact resume."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from data import BatchLoader
from models import CheckpointError
from models.classifiers import Dropout
from utils.errors import Fault
from utils.fit import Training, anneal, fit, make_optimizer, make_schedule, update_average
from utils.lars import LARS
from utils.run import Run


def settings(**changes):
    base = {
        "epochs": 4,
        "optimizer": "sgd",
        "lr": 0.05,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "ema": 0.0,
        "clip_norm": 0.0,
        "patience": 0,
        "precision": "fp32",
        "compile": False,
        "quiet": True,
        "track": "none",
        "dry_run": False,
    }
    return SimpleNamespace(**{**base, **changes})


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16), nn.ReLU(), Dropout(0.2), nn.Linear(16, 10)
    )


def make_run(folder):
    folder.mkdir()
    return Run(folder)


def train(folder, digits, validate=None, tolerance=0.0, **changes):
    """Fit the small network on 200 images in batches of 64; returns model, facts and run."""
    model, run = network(), Run(folder)
    folder.mkdir(exist_ok=True)

    def step(images, labels):
        logits = model(images)
        right = (logits.argmax(1) == labels).float().mean()
        return cross_entropy(logits, labels), {"accuracy": right}

    batches = BatchLoader(digits, torch.arange(len(digits.labels)), 64)
    facts = fit(model, step, batches, settings(**changes), run, validate, tolerance=tolerance)
    return model, facts, run


def optimizer_for(model, **changes):
    return make_optimizer(model, settings(**changes))


@pytest.mark.parametrize("total", [1, 2, 3, 4, 5, 100])
@pytest.mark.parametrize("warm_up", [0.0, 0.25])
def test_anneal_stays_in_range_and_ends_at_zero_with_the_last_step(total, warm_up):
    factors = [anneal(step, total, warm_up) for step in range(total)]
    assert all(0 <= f <= 1 for f in factors)
    if total > 1:
        assert factors[-1] == pytest.approx(0, abs=1e-12)


def test_anneal_has_the_shape_of_the_papers():
    assert anneal(0, 101, 0.0) == 1
    assert anneal(50, 101, 0.0) == pytest.approx(0.5)
    assert anneal(0, 101, 0.25) == pytest.approx(0.04)
    assert anneal(25, 101, 0.25) == 1
    middle = 0.5 * (1 + math.cos(math.pi * 35 / 75))
    assert anneal(60, 101, 0.25) == pytest.approx(middle)


@pytest.mark.parametrize("schedule", ["cosine", "warm-up-cosine", "one-cycle"])
def test_the_last_step_of_a_run_is_taken_at_the_schedules_end(tmp_path, digits, schedule):
    _, _, run = train(tmp_path / "run", digits, schedule=schedule, epochs=3)
    assert run.history()[-1]["lr"] == pytest.approx(0, abs=1e-12)


def test_the_step_schedule_falls_by_a_tenth_every_five_epochs(tmp_path, digits):
    _, _, run = train(tmp_path / "run", digits, schedule="step", epochs=6)
    rates = [line["lr"] for line in run.history()]
    assert rates == pytest.approx([0.05] * 5 + [0.045])


def test_no_schedule_keeps_the_rate(tmp_path, digits):
    _, _, run = train(tmp_path / "run", digits, schedule="none", epochs=2)
    assert [line["lr"] for line in run.history()] == [0.05, 0.05]


def test_plateau_lowers_the_rate_after_two_epochs_without_a_better_loss(tmp_path, digits):
    losses = iter([1.0, 2.0, 2.0, 2.0, 2.0])
    validate = lambda model: {"val_loss": next(losses)}  # noqa: E731
    _, _, run = train(tmp_path / "run", digits, validate, schedule="plateau", epochs=5)
    rates = [line["lr"] for line in run.history()]
    assert rates == pytest.approx([0.05] * 4 + [0.015])


def test_weight_decay_spares_biases_and_normalisation():
    model = network()
    decayed, spared = optimizer_for(model, weight_decay=0.1).param_groups
    assert [p.ndim for p in decayed["params"]] == [2, 2]
    assert all(p.ndim == 1 for p in spared["params"])
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_optimizer_by_name(name, kind):
    optimizer = optimizer_for(network(), optimizer=name)
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 0.05


def test_frozen_parameters_are_left_out_of_the_optimizer():
    model = network()
    model[1].requires_grad_(False)
    held = [p for group in optimizer_for(model).param_groups for p in group["params"]]
    assert not any(p is q for p in held for q in model[1].parameters())


def test_one_step_is_gradient_descent_by_hand(tmp_path, digits):
    """SGD with Nesterov momentum starts with a step of (1 + momentum) * lr * gradient."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    before = copy.deepcopy(model)
    batches = BatchLoader(digits, torch.arange(200), 200)
    args = settings(epochs=1, schedule="none", lr=0.1)
    run = make_run(tmp_path / "run")
    fit(model, lambda x, y: (cross_entropy(model(x), y), {}), batches, args, run)
    x, y = next(batches.epoch(0))
    cross_entropy(before(x), y).backward()
    expected = before[1].weight - 0.1 * 1.9 * before[1].weight.grad
    torch.testing.assert_close(model[1].weight, expected, atol=1e-6, rtol=1e-5)


def test_gradients_are_clipped_to_the_norm(tmp_path, digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    before = copy.deepcopy(model)
    args = settings(epochs=1, schedule="none", lr=1.0, clip_norm=0.01)
    batches = BatchLoader(digits, torch.arange(200), 200)
    run = make_run(tmp_path / "run")
    fit(model, lambda x, y: (cross_entropy(model(x), y), {}), batches, args, run)
    pairs = zip(model.parameters(), before.parameters(), strict=True)
    moved = math.sqrt(sum((a - b).detach().square().sum().item() for a, b in pairs))
    assert moved == pytest.approx(1.9 * 0.01, rel=1e-3)


def test_history_holds_the_mean_over_images_not_over_batches(tmp_path, digits):
    """The short last batch (8 of 200) must not count as much as the others."""
    model, seen = network(), []

    def step(images, labels):
        loss = model(images).square().mean()
        seen.append((len(labels), float(labels.float().mean())))
        return loss, {"label": labels.float().mean()}

    run = make_run(tmp_path / "run")
    fit(model, step, BatchLoader(digits, torch.arange(200), 64), settings(epochs=1), run)
    assert [n for n, _ in seen] == [64, 64, 64, 8]
    assert run.history()[0]["train_label"] == pytest.approx(4.5, abs=1e-5)


def test_moving_average_of_weights_and_statistics():
    model = network()
    averaged = copy.deepcopy(model)
    start = model[1].weight.detach().clone()
    model[1].weight.data += 1
    model[2].running_mean += 1
    model[2].num_batches_tracked += 5
    update_average(averaged, model, decay=0.9, step=1000)
    torch.testing.assert_close(averaged[1].weight.detach(), start + 0.1)
    torch.testing.assert_close(averaged[2].running_mean, torch.full((16,), 0.1))
    assert averaged[2].num_batches_tracked == 5


def test_moving_average_forgets_the_first_weights_quickly():
    """At step 1 the decay is 2/11, whatever --ema says: short runs would average the initialisation."""
    model, averaged = nn.Linear(2, 2), nn.Linear(2, 2)
    start, target = averaged.weight.detach().clone(), model.weight.detach()
    update_average(averaged, model, decay=0.999, step=1)
    torch.testing.assert_close(averaged.weight.detach(), start * 2 / 11 + target * 9 / 11)


def test_the_epoch_with_the_lowest_validation_loss_wins(tmp_path, digits):
    losses, seen = iter([3.0, 1.0, 2.0, 1.0]), []

    def validate(model):
        seen.append(copy.deepcopy(model.state_dict()))
        return {"val_loss": next(losses)}

    model, facts, _ = train(tmp_path / "run", digits, validate)
    assert (facts["best_epoch"], facts["epochs"]) == (2, 4)
    assert all(torch.equal(v, seen[1][k]) for k, v in model.state_dict().items())


def test_with_a_tolerance_the_last_epoch_close_to_the_lowest_wins(tmp_path, digits):
    losses = iter([1.0, 0.5, 0.59, 0.55, 0.65])  # the lowest of all counts, not the last
    validate = lambda model: {"val_loss": next(losses)}  # noqa: E731
    _, facts, _ = train(tmp_path / "run", digits, validate, epochs=5, tolerance=0.1)
    assert facts["best_epoch"] == 4


def test_without_validation_the_last_weights_are_kept(tmp_path, digits):
    model, facts, run = train(tmp_path / "run", digits)
    last = torch.load(run.path("last.pt"), weights_only=True)["model"]
    assert facts["best_epoch"] == 4
    assert all(torch.equal(v, last[k]) for k, v in model.state_dict().items())


def test_with_ema_the_averaged_weights_are_validated_and_kept(tmp_path, digits):
    seen = []

    def validate(model):
        seen.append(model[1].weight.detach().clone())
        return {"val_loss": 1.0 / len(seen)}

    model, _, run = train(tmp_path / "run", digits, validate, ema=0.9)
    raw = torch.load(run.path("last.pt"), weights_only=True)["model"]["1.weight"]
    assert torch.equal(model[1].weight, seen[-1])
    assert not torch.equal(model[1].weight, raw)


def test_early_stopping_waits_for_patience_epochs(tmp_path, digits):
    losses = iter([1.0, 0.5, 0.6, 0.7, 0.1, 0.1])
    validate = lambda model: {"val_loss": next(losses)}  # noqa: E731
    _, facts, run = train(tmp_path / "run", digits, validate, epochs=6, patience=2)
    assert (facts["epochs"], facts["best_epoch"]) == (4, 2)
    assert len(run.history()) == 4


def test_early_stopping_without_validation_is_an_error(tmp_path, digits):
    with pytest.raises(ValueError, match="validate"):
        train(tmp_path / "run", digits, patience=2)


def test_a_non_finite_loss_names_its_step_and_keeps_the_last_good_checkpoint(tmp_path, digits):
    model, run, calls = network(), make_run(tmp_path / "run"), []

    def step(images, labels):
        calls.append(1)
        loss = cross_entropy(model(images), labels)
        return (loss * float("nan") if len(calls) == 7 else loss), {}

    with pytest.raises(Fault, match=r"step 7 \(epoch 2\)"):
        fit(model, step, BatchLoader(digits, torch.arange(200), 64), settings(), run)
    kept = torch.load(run.path("last.pt"), weights_only=True)
    assert kept["counters"][0] == 1
    assert all(v.isfinite().all() for v in kept["model"].values())
    assert len(run.history()) == 1


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("schedule", ["one-cycle", "step"])
def test_four_epochs_are_two_epochs_and_resume_two_bit_for_bit(tmp_path, digits, ema, schedule):
    def validator(stop_at):
        def validate(model):
            count[0] += 1
            if count[0] == stop_at:
                raise KeyboardInterrupt  # after the third epoch's steps: they must be done again
            return {"val_loss": cross_entropy(model(x), y).item()}

        count = [0]
        return validate

    x, y = next(BatchLoader(digits, torch.arange(200), 200).epoch(9))
    how = {"ema": ema, "schedule": schedule, "optimizer": "adamw", "lr": 0.01}
    whole, facts, unbroken = train(tmp_path / "whole", digits, validator(0), **how)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", digits, validator(3), **how)
    resumed, facts_2, run = train(tmp_path / "broken", digits, validator(0), **how)
    assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in whole.state_dict().items())
    assert facts["best_epoch"] == facts_2["best_epoch"]
    drop = lambda lines: [{**line, "seconds": 0} for line in lines]  # noqa: E731
    assert drop(run.history()) == drop(unbroken.history())


def test_history_lines_after_the_checkpoint_are_dropped_on_resume(tmp_path, digits):
    """A process may be killed between the history's line and the checkpoint."""
    _, _, run = train(tmp_path / "run", digits)
    run.log(epoch=5, train_loss=0.0)
    train(tmp_path / "run", digits)
    assert [line["epoch"] for line in run.history()] == [1, 2, 3, 4]


def test_the_checkpoint_of_another_model_is_refused(tmp_path, digits):
    _, _, run = train(tmp_path / "run", digits)
    other = Training(nn.Linear(3, 3), settings(), 4)
    with pytest.raises(CheckpointError, match=r"last\.pt: the checkpoint of another model"):
        other.restore(run)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    run = make_run(tmp_path / "run")
    run.path("last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        Training(network(), settings(), 4).restore(run)


def test_a_schedule_moves_once_per_step():
    optimizer = optimizer_for(network())
    schedule, per_step = make_schedule(optimizer, settings(epochs=3), 5)
    assert per_step
    rates = []
    for _ in range(15):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.05 * anneal(i, 15, 0.0) for i in range(15)])


def test_bf16_trains_in_bfloat16_and_keeps_float32_weights(tmp_path, digits):
    model, seen = network(), []

    def step(images, labels):
        logits = model(images)
        seen.append(logits.dtype)
        return cross_entropy(logits.float(), labels), {}

    run = make_run(tmp_path / "run")
    args = settings(precision="bf16", epochs=1)
    fit(model, step, BatchLoader(digits, torch.arange(200), 64), args, run)
    assert set(seen) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_lars_takes_the_papers_step():
    """Algorithm 1 of You et al. (2017), by hand, for a weight and a bias, two steps with momentum."""
    weight, bias = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([1.0]))
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = LARS(groups, lr=2.0, momentum=0.5, trust=0.01)
    w, b, vw, vb = torch.tensor([[3.0, 4.0]]), torch.tensor([1.0]), 0.0, 0.0
    for gradient in (torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 0.5]])):
        weight.grad, bias.grad = gradient.clone(), torch.tensor([0.25])
        optimizer.step()
        step = gradient + 0.1 * w
        vw = 0.5 * vw + 0.01 * w.norm() / step.norm() * step
        vb = 0.5 * vb + 0.25
        w, b = w - 2.0 * vw, b - 2.0 * vb
        torch.testing.assert_close(weight.data, w)
        torch.testing.assert_close(bias.data, b)


def test_lars_is_an_optimizer_by_name_and_moves_a_weight_of_zero():
    model = nn.Linear(3, 2)
    nn.init.zeros_(model.weight)
    optimizer = optimizer_for(model, optimizer="lars", lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert (model.weight != 0).all()


def test_figures_without_a_validation_loss_choose_nothing(tmp_path, digits):
    """The last weights are kept, and epochs in which nothing was measured have no figure."""

    def validate(model):
        run = Run(tmp_path / "run")
        return {"val_knn_accuracy": 0.5} if len(run.history()) == 1 else {}

    model, facts, run = train(tmp_path / "run", digits, validate, epochs=3)
    assert facts["best_epoch"] == facts["epochs"] == 3
    assert ["val_knn_accuracy" in line for line in run.history()] == [False, True, False]
    last = run.load_checkpoint()["model"]
    assert all(torch.equal(value, last[key]) for key, value in model.state_dict().items())
