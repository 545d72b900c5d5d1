"""Durable files and folders: digests, fsync, and replace-by-rename so that a name never stands for half a thing."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        # 1 MiB at a time: flat memory for files of any size.
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fsync_path(path: Path) -> None:
    """Flushes a file's or a folder's own entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place once the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        fsync_path(temporary)
        os.replace(temporary, path)
        fsync_path(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """The same for a folder. An older folder of that name is removed first; a kill in between leaves none, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        seal_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def seal_folder(temporary: Path, path: Path) -> None:
    """Flushes every file of a folder, then gives it its name."""
    for file in temporary.rglob("*"):
        fsync_path(file)
    fsync_path(temporary)
    shutil.rmtree(path, ignore_errors=True)
    os.rename(temporary, path)
    fsync_path(path.parent)


@contextmanager
def naming_a_full_disk(folder: Path) -> Iterator[None]:
    """torch reports a failed write without its cause; writing once more lets the system name it (ENOSPC, as an OSError)."""
    try:
        yield
    except RuntimeError:
        probe = folder / ".probe"
        # 1 MiB: more than the rest that a failed write leaves free.
        probe.write_bytes(bytes(1 << 20))
        probe.unlink()
        raise
