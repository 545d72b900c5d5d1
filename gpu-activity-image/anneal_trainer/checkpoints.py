"""Local checkpoints: `checkpoint-<step>` folders, each whole exactly when its `manifest.json` matches every file.

States of a folder: under a hidden name while it is written; sealed (digests, fsync, then one rename); hidden again while it is
deleted. A kill at any time leaves sealed folders and hidden rubbish, never a folder that looks whole and is not.
Where the state is in parts and its ranks are on several hosts, each host's folder holds its own ranks' parts and the manifest all.
Not protected: a disk that lies about fsync.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anneal_trainer.files import seal_folder, sha256_file
from anneal_trainer.protocol import CheckpointCorrupt, Metric

MANIFEST = "manifest.json"
_PREFIX = "checkpoint-"


@dataclass
class Best:
    """The best evaluation so far, by its loss or, where early stopping says so, by its accuracy."""

    step: int
    eval_loss: float
    # Of the methods that have one.
    eval_accuracy: float | None = None

    def value(self, metric: Metric) -> float:
        return self.eval_loss if metric == "evalLoss" else self.eval_accuracy

    def gain_over(self, before: "Best | None", metric: Metric) -> float:
        """Above 0 where this one is better."""
        if before is None:
            return math.inf
        change = self.value(metric) - before.value(metric)
        return -change if metric == "evalLoss" else change

    def to_json(self) -> dict[str, Any]:
        accuracy = {} if self.eval_accuracy is None else {"evalAccuracy": self.eval_accuracy}
        return {"step": self.step, "evalLoss": self.eval_loss, **accuracy}

    @classmethod
    def from_json(cls, value: dict[str, Any] | None) -> "Best | None":
        return cls(value["step"], value["evalLoss"], value.get("evalAccuracy")) if value else None


# Of each file of a checkpoint: its size in bytes and its SHA-256.
Entries = dict[str, dict[str, Any]]


@dataclass
class Draft:
    """A checkpoint that is being written."""

    folder: Path
    # Files that are counted already; some of them lie on other hosts.
    counted: Entries = field(default_factory=dict)


@dataclass(frozen=True)
class Sealed:
    path: Path
    # Of the whole checkpoint, wherever its files lie.
    size_bytes: int


@contextmanager
def open_checkpoint(output: Path, step: int) -> Iterator[Path]:
    """A hidden folder to write a checkpoint into; `seal` gives it its name."""
    temporary = output / f".{_PREFIX}{step}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def count(file: Path) -> dict[str, Any]:
    """What the manifest says of a file."""
    return {"size": file.stat().st_size, "sha256": sha256_file(file)}


def seal(temporary: Path, output: Path, step: int, terminal: bool, best: Best | None, counted: Entries) -> Sealed:
    """Writes the manifest and renames: before the rename there is no checkpoint, after it there is a whole one."""
    here = {file.relative_to(temporary).as_posix(): file for file in sorted(temporary.rglob("*")) if file.is_file()}
    files = counted | {name: count(file) for name, file in here.items() if name not in counted}
    manifest = {"v": 1, "step": step, "terminal": terminal, "best": best.to_json() if best else None, "files": files}
    (temporary / MANIFEST).write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")), "utf-8")
    path = output / f"{_PREFIX}{step}"
    _discard(path)
    seal_folder(temporary, path)
    return Sealed(path, sum(entry["size"] for entry in files.values()))


def verify(folder: str, elsewhere: Callable[[set[str]], set[str]] = lambda _: set()) -> dict[str, Any]:
    """The manifest of a whole checkpoint; raises CheckpointCorrupt with the first file that does not match.

    Args:
        elsewhere: of the files' names those that this host can do without.
    """
    path = Path(folder)
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
        entries = manifest["files"]
        needed = {name: entries[name] for name in sorted(entries.keys() - elsewhere(set(entries)))}
        _ = (manifest["step"], manifest["terminal"], manifest["best"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointCorrupt(f"Checkpoint {folder} has no readable {MANIFEST} ({error}); resume from an older one.") from error
    for name, entry in needed.items():
        file = path / name
        size = file.stat().st_size if file.is_file() else None
        if size != entry["size"]:
            found = "is missing" if size is None else f"has {size} bytes, not {entry['size']}"
            raise CheckpointCorrupt(f"Checkpoint {folder} is torn: {name} {found}; resume from an older one.")
        if sha256_file(file) != entry["sha256"]:
            raise CheckpointCorrupt(f"Checkpoint {folder} is corrupt: {name} does not match its SHA-256; resume from an older one.")
    return manifest


def rotate(output: Path, keep: int, best: Best | None) -> None:
    """Deletes all but the newest `keep` checkpoints and the best one."""
    for step in _steps(output)[:-keep]:
        if best is None or step != best.step:
            _discard(output / f"{_PREFIX}{step}")


def clear_after(output: Path, step: int) -> None:
    """Removes what an earlier attempt left: half-written folders, and checkpoints newer than the one that this attempt goes on from."""
    output.mkdir(parents=True, exist_ok=True)
    for rubbish in output.glob(f".{_PREFIX}*"):
        shutil.rmtree(rubbish)
    for newer in (found for found in _steps(output) if found > step):
        _discard(output / f"{_PREFIX}{newer}")


def _steps(output: Path) -> list[int]:
    names = (folder.name.removeprefix(_PREFIX) for folder in output.glob(f"{_PREFIX}*"))
    return sorted(int(name) for name in names if name.isdigit())


def _discard(folder: Path) -> None:
    if folder.exists():
        hidden = folder.with_name(f".{folder.name}.old.{os.getpid()}")
        folder.rename(hidden)
        shutil.rmtree(hidden)
