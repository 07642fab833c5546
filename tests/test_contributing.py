"""The recipes of CONTRIBUTING.md, followed word for word, and what they can get wrong."""

import importlib
import re
from unittest.mock import patch

import pytest
import torch
from helpers import ROOT, base_flags, refusal

from data import POLICIES, Augment
from models import ENCODERS, RECIPES, read_model
from models.mil import POOLINGS
from utils.runs.folder import RunFolder

STEPS = r"Append a function to `(\S+)\.py`.*?```python\n(.*?)```.*?Then `python (\w+)\.py (\S+) (\S+)`"
BAGS = "--dry-run --model linear --train-bags 8 --val-bags 8 --test-bags 8"
SMALL = {"train_cnn": ["--epochs", "2", "--batch-size", "32"], "train_mil": BAGS.split()}


@pytest.fixture
def tables():
    """What is registered in a test is forgotten after it."""
    with patch.dict(ENCODERS), patch.dict(RECIPES), patch.dict(POLICIES), patch.dict(POOLINGS):
        yield


def test_each_recipe_as_it_stands_trains(tables, tiny_dir, tmp_path, no_figures):
    steps = re.findall(STEPS, (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    assert [step[0] for step in steps] == ["models/cnn", "data/augment", "models/mil"]
    for file, code, script, flag, name in steps:
        module = importlib.import_module(file.replace("/", "."))
        exec(compile(code, file, "exec"), vars(module))  # as at the end of the file
        script = importlib.import_module(script)
        assert re.search(rf"{flag} NAME .*?\b{name}\b", script.make_parser().format_help(), re.S)
        script.main(base_flags(tiny_dir, tmp_path, flag, name, *SMALL[script.__name__]))
    tiny = RunFolder(tmp_path / "cnn" / "tiny")
    assert read_model(tiny.path("best.pt")).model.head.in_features == 16
    assert RECIPES["tiny"] == RECIPES["cnn"] | {"epochs": 2}
    bags = read_model(tmp_path / "mil" / "dry-run" / "best.pt").model.eval()
    with torch.no_grad():
        pooled = bags(torch.rand(3, 1, 28, 28), torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(pooled.logits, pooled.instances.logsumexp(1))
    images, dim = torch.ones(2, 1, 28, 28), POLICIES["dim"]
    assert torch.equal(dim.own(images, torch.tensor([[0.0], [0.5]]))[:, 0, 3, 4], torch.tensor([1.0, 0.75]))
    assert dim.scaled(0.5).rotate == 5
    params = dim.sample(2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(dim.apply(images, params)[:, 0, 14, 14], 1 - 0.5 * params["draws"][:, 0])


def test_a_wrong_return_is_one_line(tables, tiny_dir, tmp_path, capsys):
    POLICIES["cut"] = Augment(own=lambda images, draws: images[:, :, 1:])
    POOLINGS["logits-alone"] = lambda count: lambda features, mask, head: head(features.mean(1))
    POOLINGS["swapped"] = lambda count: lambda features, mask, head: (mask / 3, head(features.mean(1)))
    for script, flag, name, said in (
        ("train_cnn", "--augment", "cut", "must return images (32, 1, 28, 28) torch.float32, not (32, 1, 27"),
        ("train_mil", "--method", "logits-alone", "must return logits (B, 1) and attention (B, N)"),
        ("train_mil", "--method", "swapped", "[(2, 3), (2, 1)]"),
    ):
        main = importlib.import_module(script).main
        line = refusal(main, base_flags(tiny_dir, tmp_path, flag, name, *SMALL[script]), capsys)
        assert said in line
    assert not (tmp_path / "mil").exists()
