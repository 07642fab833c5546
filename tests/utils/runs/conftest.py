"""A run that has begun."""

import pytest

from utils.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path)
    config = {"script": "train_cnn", "name": "cnn", "command": "c", "device": "cpu"}
    folder.write_json("config.json", {**config, "arguments": {"dataset": "mnist"}})
    return folder
