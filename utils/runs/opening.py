"""How a run is born, locked, recognised, replaced and repaired: nothing is lost, whenever a process ends.

A run's folder appears by a rename, with its config.json inside. Beside results/<script>/<name> there may be

    .<name>.lock    which process works on the run
    .<name>.old     the run that a new one replaced, until that has something to keep
    .<name>.new     a half-built or half-deleted folder

They belong to the process that holds the lock. `Place.settle` cleans up after a process that died.
"""

import contextlib
import errno
import fcntl
import json
import os
import platform
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from utils.errors import UserError
from utils.runs.files import read_object
from utils.runs.folder import FORMAT, PARTS, RunFolder, provenance

# Flags that say where and how a run is kept. They change no metric.
BOOKKEEPING = {
    *("data_dir", "results_dir", "name", "resume", "overwrite", "quiet", "track", "unverified"),
}

# All that a run writes. A folder with anything else in it is never deleted.
FILES = (
    *("config.json", "metrics.json", "sweep.json", "history.jsonl", "records-*.jsonl", "map.csv", "*.png"),
    *("predictions.npz", "best.pt", "last.pt", "encoder.pt", "*.tmp"),
)
LOGS = ("tensorboard", "wandb")

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Place:
    """The place of one run in its parent folder. `lock` it first; everything else is done under the lock."""

    def __init__(self, folder: Path, script: str):
        self.folder, self.script = folder, script
        self.old, self.new, self.lock_path = (
            folder.with_name(f".{folder.name}.{kind}") for kind in ("old", "new", "lock")
        )
        self._lock: TextIO | None = None

    @property
    def taken(self) -> bool:
        return os.path.lexists(self.folder) or self.old.exists()

    def lock(self) -> bool:
        """Return whether the place is this process's own until `unlock` or its death."""
        while True:
            file = self.lock_path.open("a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
            except OSError as error:  # a file system without locks has to do without
                if error.errno not in NO_LOCKS:
                    raise
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), self.lock_path.stat()):
                    break
            file.close()  # its last holder deleted it in the meantime
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        self._lock = file
        return True

    def unlock(self) -> None:
        if self._lock:
            self.lock_path.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    @property
    def holder(self) -> str:
        with contextlib.suppress(OSError):
            return self.lock_path.read_text().strip() or "another process"
        return "another process"

    def settle(self) -> None:
        """Bring back the replaced run if the new one came to nothing, else delete it; delete half folders.

        A run in which nothing was trained yet is nothing: its name is free again.
        """
        if self.new.exists():
            self._delete(self.new)
        if self.folder.is_dir() and not RunFolder(self.folder).holds_work and self._is_bare():
            self._delete(self.folder)
        if self.old.exists():
            if not os.path.lexists(self.folder):
                self.old.rename(self.folder)
            elif RunFolder(self.folder).holds_work:
                self._delete(self.old)

    def create(self, config: dict) -> RunFolder:
        """Make the run's folder, with its config; a run that is there moves aside, see `settle`."""
        self.new.mkdir()
        RunFolder(self.new).write_json("config.json", config)
        if self.folder.exists() and any(self.folder.iterdir()):
            self.folder.rename(self.old)
        self.new.rename(self.folder)
        return RunFolder(self.folder)

    def read_config(self) -> dict:
        """Return the config of the run that is here; UserError when this is not a run of the script."""
        if not (self.folder / "config.json").exists():
            raise UserError(f"{self.folder} exists and is not the folder of a run: choose another --name")
        config = read_object(self.folder / "config.json", "restore it, or move the folder away")
        whose = config.get("format"), config.get("script")
        known = all(isinstance(config.get(key), dict) for key in ("arguments", "versions"))
        if whose != (FORMAT, self.script) or not known or not {"commit", "device"} <= config.keys():
            raise UserError(f"{self.folder} is not a run of {self.script}.py: choose another --name")
        return config

    def check_replaceable(self, reads: Iterable[str | Path | None]) -> None:
        """Raise UserError unless all that would be deleted is this project's, and no input of the new run."""
        if link := next((path for path in (self.folder, self.folder.parent) if path.is_symlink()), None):
            raise UserError(
                f"{self.folder} can't be replaced, because {link} is a link: choose another --name"
            )
        if stranger := foreign(self.folder):
            raise UserError(f"{self.folder} can't be replaced: {stranger} is not of a run; move it away")
        for path in (path for path in reads if path):
            if Path(path).resolve().is_relative_to(self.folder.resolve()):
                raise UserError(
                    f"{self.folder} can't be replaced by a run that reads {path}: choose another --name"
                )

    def _is_bare(self):
        try:
            self.read_config()
        except UserError:
            return False
        linked = self.folder.is_symlink() or self.folder.parent.is_symlink()
        return not linked and not foreign(self.folder)

    def _delete(self, folder):
        if stranger := foreign(folder):
            raise UserError(f"{folder} can't be deleted: {stranger} is not of a run; move it away")
        if folder != self.new:  # a folder is whole or has a name that says it is not
            folder.rename(self.new)
        shutil.rmtree(self.new)


def foreign(folder: Path) -> Path | None:
    """Return the first file or folder in here that no run writes."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            if any(path.match(name) for name in PARTS) and (stranger := foreign(path)):
                return stranger
            if not any(path.match(name) for name in (*PARTS, *LOGS)):
                return path
        elif not any(path.match(name) for name in FILES):
            return path
    return None


_held: dict[Path, Place] = {}  # the places that this process has locked


def open_run(
    script: str,
    args: Namespace,
    default_name: str,
    command: str,
    reads: Iterable[str | Path | None] = (),
) -> RunFolder:
    """Create or reopen results/<script without "train_">/<name>, for this process alone until `close_runs`.

    A dry run has a folder of its own and never touches another. --resume starts a new run where no checkpoint
    is left, as in a fresh clone, which has only the committed metrics. reads: files and folders that the run
    reads, which it must not replace.

    Raises UserError when --name is taken, when another process works on it, when --resume meets other
    arguments, and for a folder that is not of this script. Call it after all other checks.
    """
    place = _claim(Path(args.results_dir) / script.removeprefix("train_"), script, default_name, args)
    place.settle()
    config = _config(script, place.folder.name, args, command)
    if os.path.lexists(place.folder) and (not place.folder.is_dir() or any(place.folder.iterdir())):
        old, run = place.read_config(), RunFolder(place.folder)
        if args.dry_run and not old["arguments"].get("dry_run"):
            raise UserError(f"{run.folder} holds a run that is no dry run: rename it")
        if args.resume and run.resumable:
            _check_same_arguments(run, old, config)
            _record_resumption(run, old, config, args.quiet)
            return run
        if not (args.resume or args.overwrite or args.dry_run):
            raise UserError(
                f"{run.folder} holds a run: add --resume to continue it, --overwrite to "
                "replace it, or choose another --name"
            )
        place.check_replaceable(reads)
    return place.create(config)


def open_runs() -> list[RunFolder]:
    """Return the runs that this process works on."""
    return [RunFolder(folder) for folder in _held]


def close_runs() -> None:
    """Let go of all runs that this process works on; see `Place.settle`."""
    for place in list(_held.values()):
        del _held[place.folder]
        try:
            place.settle()
        finally:
            place.unlock()


def _claim(parent, script, base, args):
    """Lock the place that --name says, or the next free one."""
    if not (args.name or args.dry_run) and (args.resume or args.overwrite):
        raise UserError("--resume and --overwrite need --name")
    name = "dry-run" if args.dry_run else args.name  # a dry run never touches a run, whatever --name says
    if name and parent / name in _held:
        return _held[parent / name]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        if name:
            place = Place(parent / name, script)
            if not place.lock():
                raise UserError(f"{place.folder} is in use by {place.holder}: choose another --name")
        else:
            place = _next_free(parent, script, base)
    except OSError as error:
        raise UserError(f"cannot write to {parent}: {error.strerror or error}") from error
    _held[place.folder] = place
    return place


def _next_free(parent, script, base):
    number = 1
    while True:
        place = Place(parent / (base if number == 1 else f"{base}-{number}"), script)
        if not place.taken and place.lock():
            if not place.taken:
                return place
            place.unlock()  # it was taken before it was locked
        number += 1


def _config(script, name, args, command):
    return {
        "format": FORMAT,
        "script": script,
        "name": name,
        "command": command,
        "arguments": {k: v for k, v in vars(args).items() if k not in BOOKKEEPING},
        **provenance(args.device),
    }


def _check_same_arguments(run, old, config):
    before, now = old["arguments"], json.loads(json.dumps(config["arguments"]))
    younger = {key for key in now if key not in before and not now[key]}  # flags added since, left out
    changed = [key for key in now if before.get(key) != now[key] and key not in younger]
    if changed:
        details = ", ".join(f"--{k.replace('_', '-')} was {before.get(k)}, now {now[k]}" for k in changed)
        raise UserError(f"{run.folder} was started with other arguments: {details}")


def _record_resumption(run, old, config, quiet):
    """Record in config.json what a run goes on with, if that is not what it has been trained with so far."""
    keys = ("commit", "device", "versions")
    before, now = [old, *old.get("resumed", [])][-1], {key: config[key] for key in keys}
    changed = [key for key in keys if before.get(key) != now[key]]
    if not changed or _is_complete(run):
        return
    run.write_json("config.json", {**old, "resumed": [*old.get("resumed", []), now]})
    if not quiet:
        details = "; ".join(f"{key} was {_text(before.get(key))}, now {_text(now[key])}" for key in changed)
        print(f"note: the result of {run.folder} may differ from a run in one go: {details}", file=sys.stderr)


def _is_complete(run):
    if run.path("sweep.json").exists():
        done, wanted = run.read_json("sweep.json").get("trainings", [0, 1])
        return done == wanted
    return run.path("metrics.json").exists() and all(part.finished for part in run.parts or [run])


def _text(value):
    return " ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
