"""The epoch loop: averaging, choice of the best epoch, user errors, exact resume."""

import copy

import pytest
import torch
from helpers import fit_settings as settings
from helpers import small_network as network
from torch import nn
from torch.nn.functional import cross_entropy

from data import BatchLoader
from models import CheckpointError
from utils import distributed
from utils.errors import UserError
from utils.runs.folder import RunFolder
from utils.training.fit import Training, classification_step, fit, step_means


def train(
    folder, digits, validate=None, tolerance=0.0, make_step=classification_step, batch_size=64, **changes
):
    """Fit the small network on 200 images; returns model, facts and run."""
    model, run = network(), RunFolder(folder)
    folder.mkdir(exist_ok=True)
    batches = BatchLoader(digits, torch.arange(len(digits.labels)), batch_size)
    facts = fit(model, make_step(model), batches, settings(**changes), run, validate, tolerance=tolerance)
    return model, facts, run


@pytest.mark.parametrize("clip_norm", [0.0, 0.01])
def test_one_step_is_gradient_descent_by_hand_with_a_clipped_gradient(digits, clip_norm):
    """SGD with Nesterov momentum starts with a step of (1 + momentum) * lr * gradient."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    before, batches = copy.deepcopy(model), BatchLoader(digits, torch.arange(200), 200)
    config = settings(epochs=1, schedule="none", lr=0.1, clip_norm=clip_norm)
    fit(model, classification_step(model), batches, config)
    x, y = next(batches.epoch(0))
    cross_entropy(before(x), y).backward()
    norm = torch.cat([p.grad.flatten() for p in before.parameters()]).norm()
    step = 0.1 * 1.9 * before[1].weight.grad * (clip_norm / norm if clip_norm else 1)
    torch.testing.assert_close(model[1].weight, before[1].weight - step, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("losses", "how", "epochs", "best", "rates"),
    [
        ([3.0, 1.0, 2.0, 1.0], {"schedule": "none"}, 4, 2, [0.05] * 4),
        # The lowest loss of all counts for the tolerance, not the last.
        ([1.0, 0.5, 0.59, 0.55, 0.65], {"schedule": "none", "tolerance": 0.1}, 5, 4, [0.05] * 5),
        ([1.0, 0.5, 0.6, 0.7, 0.1, 0.1], {"schedule": "none", "patience": 2}, 4, 2, [0.05] * 4),
        ([1.0, 2.0, 2.0, 2.0, 2.0], {"schedule": "plateau"}, 5, 1, [0.05] * 4 + [0.015]),
        ([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], {"schedule": "step"}, 6, 6, [0.05] * 5 + [0.045]),
    ],
)
def test_validation_chooses_the_epoch_stops_early_and_lowers_the_rate(
    tmp_path, digits, losses, how, epochs, best, rates
):
    seen = []

    def validate(model, epoch):
        seen.append(copy.deepcopy(model.state_dict()))
        return {"val_loss": losses[epoch - 1]}

    model, facts, run = train(tmp_path, digits, validate, epochs=len(losses), **how)
    assert (facts["epochs"], facts["best_epoch"]) == (epochs, best)
    assert all(torch.equal(v, seen[best - 1][k]) for k, v in model.state_dict().items())
    assert [line["lr"] for line in run.history()] == pytest.approx(rates)


@pytest.mark.parametrize(("epochs", "logged"), [(1, [4]), (2, [4, 4]), (3, [0, 0, 0])])
def test_only_a_short_training_logs_its_steps(tmp_path, digits, epochs, logged):
    _, _, run = train(tmp_path, digits, epochs=epochs)
    assert [len(line.get("steps", {}).get("step", [])) for line in run.history()] == logged
    for line in (line for line in run.history() if "steps" in line):
        assert set(line["steps"]) == {"step", "train_loss", "train_accuracy", "lr"}
        sizes = torch.tensor([64.0, 64, 64, 8])  # the last batch is smaller
        mean = float((torch.tensor(line["steps"]["train_loss"]) * sizes).sum() / 200)
        assert mean == pytest.approx(line["train_loss"], rel=1e-4)


def test_with_ema_the_averaged_weights_are_validated_and_kept(tmp_path, digits):
    seen = []

    def validate(model, epoch):
        seen.append(model[1].weight.detach().clone())
        return {"val_loss": 1.0 / len(seen)}

    model, _, run = train(tmp_path, digits, validate, ema=0.9)
    raw = torch.load(run.path("last.pt"), weights_only=True)["model"]["1.weight"]
    assert torch.equal(model[1].weight, seen[-1])
    assert not torch.equal(model[1].weight, raw)


def test_a_non_finite_loss_names_its_step_and_keeps_the_last_good_checkpoint(tmp_path, digits):
    factors, run = iter([1.0] * 6 + [torch.nan] * 10), RunFolder(tmp_path)

    def make_step(model):
        return lambda images, labels: (cross_entropy(model(images), labels) * next(factors), {})

    with pytest.raises(UserError, match=r"step 7 \(epoch 2\)"):
        train(tmp_path, digits, make_step=make_step)
    kept = torch.load(run.path("last.pt"), weights_only=True)
    assert kept["counters"][0] == 1
    assert all(v.isfinite().all() for v in kept["model"].values())
    assert len(run.history()) == 1


def test_weights_that_the_last_step_spoils_are_a_fault_and_not_saved(tmp_path, digits):
    def make_step(model):
        for parameter in model.parameters():
            parameter.register_hook(lambda gradient: gradient * torch.inf)
        return classification_step(model)

    with pytest.raises(UserError, match=r"weights are not finite after step 1 \(epoch 1\); try"):
        train(tmp_path, digits, make_step=make_step, batch_size=200)
    assert not (tmp_path / "last.pt").exists()
    assert RunFolder(tmp_path).history() == []


def test_a_metric_that_is_not_finite_is_a_fault(tmp_path, digits):
    def validate(model, epoch):
        return {"val_loss": 1.0 if epoch == 1 else float("inf")}

    with pytest.raises(UserError, match=r"val_loss is inf \(epoch 2\); the checkpoint of epoch 1 is kept"):
        train(tmp_path, digits, validate=validate)


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("schedule", ["one-cycle", "step", "plateau"])
def test_four_epochs_are_two_epochs_and_resume_two_bit_for_bit(tmp_path, digits, ema, schedule):
    def validator(stop_at):
        def validate(model, epoch):
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


def test_every_rank_resumes_with_its_own_random_state(tmp_path, monkeypatch):
    """With dropout and pieces of unequal size the generators of the ranks drift apart."""
    run, others = RunFolder(tmp_path), []
    ranks = [torch.Generator().manual_seed(seed).get_state() for seed in (5, 6)]
    monkeypatch.setattr(distributed, "gather_objects", lambda own: [own, {"cpu": ranks[1]}])
    training = Training(network(), settings(), 1, shared=True)
    torch.set_rng_state(ranks[0])
    run.save_checkpoint(training.state())
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        Training(network(), settings(), 1, shared=True).restore(run)
        others.append(torch.get_rng_state())
    assert [torch.equal(a, b) for a, b in zip(others, ranks, strict=True)] == [True, True]
    monkeypatch.setenv("WORLD_SIZE", "3")  # resumed with another number of ranks
    Training(network(), settings(), 1, shared=True).restore(run)
    assert torch.equal(torch.get_rng_state(), ranks[0])


def test_the_random_state_of_the_gpu_is_saved_and_restored(tmp_path, monkeypatch):
    run, state, restored = RunFolder(tmp_path), torch.arange(16, dtype=torch.uint8), []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.append((state, device)))
    training = Training(network(), settings(), 1)
    training.device = torch.device("cuda", 1)
    run.save_checkpoint(training.state())
    training.restore(run)
    assert torch.equal(restored[0][0], state)
    assert restored[0][1] == torch.device("cuda", 1)


def test_the_checkpoint_of_another_model_is_refused(tmp_path, digits):
    _, _, run = train(tmp_path, digits)
    other = Training(nn.Linear(3, 3), settings(), 4)
    with pytest.raises(CheckpointError, match=r"last\.pt: the checkpoint of another model"):
        other.restore(run)


def test_metrics_without_a_validation_loss_choose_nothing(tmp_path, digits):
    """The last weights are kept, and epochs in which nothing was measured have no metric."""

    def validate(model, epoch):
        return {"val_knn_accuracy": 0.5} if epoch == 2 else {}

    model, facts, run = train(tmp_path, digits, validate, epochs=3)
    assert facts["best_epoch"] == facts["epochs"] == 3
    assert ["val_knn_accuracy" in line for line in run.history()] == [False, True, False]
    last = run.load_checkpoint()["model"]
    assert all(torch.equal(value, last[key]) for key, value in model.state_dict().items())


def test_steps_are_averaged_over_stretches_with_the_images_as_weights():
    table = torch.tensor([[1.0, 0.0], [2.0, 0.5], [4.0, 1.0], [8.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    sizes = torch.tensor([10.0, 10.0, 10.0, 30.0, 10.0], dtype=torch.float64)
    curve = step_means(table, sizes, ["train_loss", "train_accuracy"], [0.5, 0.4, 0.3, 0.2, 0.1], points=2)
    assert curve["step"] == [3, 5]
    assert curve["train_loss"] == pytest.approx([7 / 3, 6], rel=1e-4)
    assert curve["train_accuracy"] == pytest.approx([0.5, 0.75], rel=1e-4)
    assert curve["lr"] == [0.3, 0.1]
    assert step_means(table, sizes, ["a", "b"], [0.0] * 5, points=50)["step"] == [1, 2, 3, 4, 5]
