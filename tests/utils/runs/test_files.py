"""Files: old or new and never half, on disk, torn lines, errors that name the file."""

import errno
import os

import pytest

from utils.errors import UserError
from utils.runs.files import append_line, read_lines, read_object, write_atomically


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "a.txt"
    write_atomically(path, lambda file: file.write_text("old"))

    def fails(file):
        file.write_text("ne")
        raise error

    with pytest.raises(type(error), match="No space left on device: '.*a.txt'|^$"):
        write_atomically(path, fails)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_is_synced_before_its_rename_and_a_line_before_the_call_returns(tmp_path, monkeypatch):
    events = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: events.append("sync") or sync(number))
    monkeypatch.setattr(os, "replace", lambda *args: events.append("rename") or replace(*args))
    write_atomically(tmp_path / "a", lambda file: file.write_text("x"))
    append_line(tmp_path / "b", {"epoch": 1})
    assert events == ["sync", "rename", "sync"]


def test_a_torn_line_is_left_out_and_the_next_one_is_a_line_of_its_own(tmp_path):
    path = tmp_path / "records.jsonl"
    assert read_lines(path) == []
    append_line(path, {"seed": 0})
    with path.open("a") as file:
        file.write('{"seed": 1, "tes')
    append_line(path, {"seed": 2})
    assert read_lines(path) == [{"seed": 0}, {"seed": 2}]
    path.write_bytes(b'\xff\n[1]\n{"a": 1}\n\n')
    assert read_lines(path) == [{"a": 1}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON; way out"),
        (b'{"a": "\xff"}', "not valid JSON; way out"),
        (b"[" * 100_000, "not valid JSON; way out"),
        (b"[1]", "not a JSON object; way out"),
    ],
)
def test_an_object_that_cannot_be_read_is_named_with_the_way_out(tmp_path, content, said):
    path = tmp_path / "x.json"
    with pytest.raises(UserError, match=f"^{path}: missing$"):
        read_object(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{path}: {said}$"):
        read_object(path, "way out")
