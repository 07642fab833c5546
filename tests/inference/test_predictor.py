"""Whatever was saved answers images: classifiers, encoders, MIL networks, runs of several trainings."""

import numpy as np
import pytest
import torch
from helpers import FACTS

from inference.predictor import load_scorers, model_files
from models import CheckpointError, create, save_model
from models.mil import create_mil
from utils.training.forward import predict


@pytest.fixture
def classifier(tmp_path):
    torch.manual_seed(0)
    model = create("lenet").eval()
    save_model(tmp_path / "best.pt", model, "lenet", FACTS)
    return model


def test_a_classifier_answers_itself(tmp_path, digits, classifier):
    """It normalises as its own training did, whatever the statistics of the images."""
    (score,) = load_scorers(tmp_path / "best.pt", digits)
    own = digits._replace(mean=FACTS["mean"], std=FACTS["std"])
    np.testing.assert_allclose(score(digits), predict(classifier, own)[0], atol=1e-6)


def test_an_encoder_and_that_of_a_mil_network_answer_by_a_probe(tmp_path, digits):
    torch.manual_seed(0)
    save_model(tmp_path / "encoder.pt", create("fast", 0), "fast", FACTS, num_classes=0)
    save_model(tmp_path / "mil.pt", create_mil("fast", "max"), "fast", FACTS, method="max")
    for name in ("encoder.pt", "mil.pt"):
        (score,) = load_scorers(tmp_path / name, digits)
        p = score(digits)
        assert p.shape == (200, 10)
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
        assert (p.argmax(1) == digits.labels.numpy()).mean() > 0.9  # the probe was fitted to these


def test_a_run_is_all_of_its_trainings_and_best_comes_before_encoder(tmp_path, digits, classifier):
    for seed in (0, 1, 10):
        (tmp_path / f"seed-{seed}").mkdir()
        save_model(tmp_path / f"seed-{seed}" / "encoder.pt", create("fast", 0), "fast", FACTS, num_classes=0)
    save_model(tmp_path / "seed-1" / "best.pt", classifier, "lenet", FACTS)
    names = [str(path.relative_to(tmp_path)) for path in model_files(tmp_path)]
    assert names == ["seed-0/encoder.pt", "seed-1/best.pt", "seed-10/encoder.pt"]
    assert len(load_scorers(tmp_path, digits)) == 3
    assert len(load_scorers(tmp_path, digits, trainings=2)) == 2


def test_what_is_no_model_is_refused(tmp_path, digits):
    with pytest.raises(CheckpointError, match="no best.pt or encoder.pt"):
        load_scorers(tmp_path, digits)
    with pytest.raises(CheckpointError, match="no such file"):
        load_scorers(tmp_path / "gone.pt", digits)
    facts = FACTS | {"classes": ["a", "b"]}
    save_model(tmp_path / "two.pt", create("lenet", 2), "lenet", facts, num_classes=2)
    with pytest.raises(CheckpointError, match="trained on the classes a, b"):
        load_scorers(tmp_path / "two.pt", digits)
