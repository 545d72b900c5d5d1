"""Tokenised shards: safetensors files, rows laid end to end, read by memory map. A split is one of them or several, one after the other.

Chat rows: `input_ids` (int32, tokens), `trainable` (uint8, tokens; 1 = has a label), `offsets` (int64, rows + 1). Tokenised for a model
that reads images they also have `media` (uint8; the SHA-256 of each of a row's images in the order of their tokens, 32 bytes each) with
`media_offsets` (int64, rows + 1, bytes). Preference pairs:
`prompt`, `chosen`, `rejected` (int32, tokens), each with its `<name>_offsets` (int64, rows + 1); both answers go on from the prompt.
Judged answers: `prompt` and `completion` in the same way, `label` (uint8, rows; 1 = a good answer).
"""

import json
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from anneal_trainer.protocol import BadRequest, DataRejected
from anneal_trainer.shard_writer import LAYOUTS, TAGS, Block, Layout, ShardWriter

# Name → (values, offsets); without offsets there is one value a row.
Columns = dict[str, tuple[np.ndarray, np.ndarray | None]]

_NUMBERED = re.compile(r"-(\d{5})-of-(\d{5})")


class _Rows:
    """What all shards can do."""

    def columns(self) -> Columns:
        raise NotImplementedError

    @property
    def parts(self) -> tuple["_Rows", ...]:
        return (self,)

    def row(self, index: int) -> dict[str, Any]:
        return {
            name: values[index] if offsets is None else values[offsets[index] : offsets[index + 1]]
            for name, (values, offsets) in self.columns().items()
        }


@dataclass(frozen=True)
class Shard(_Rows):
    """Row i is `input_ids[offsets[i]:offsets[i + 1]]`."""

    input_ids: np.ndarray
    trainable: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def columns(self) -> Columns:
        return {"input_ids": (self.input_ids, self.offsets), "trainable": (self.trainable, self.offsets)}


@dataclass(frozen=True)
class ImageShard(Shard):
    """Row i shows `media[media_offsets[i]:media_offsets[i + 1]]`."""

    media: np.ndarray
    media_offsets: np.ndarray

    def columns(self) -> Columns:
        return {**super().columns(), "media": (self.media, self.media_offsets)}


@dataclass(frozen=True)
class PreferenceShard(_Rows):
    """Pair i is a prompt and two answers to it, the first the better one."""

    prompt: np.ndarray
    prompt_offsets: np.ndarray
    chosen: np.ndarray
    chosen_offsets: np.ndarray
    rejected: np.ndarray
    rejected_offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.prompt_offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Of the prompt with the longer answer."""
        return np.diff(self.prompt_offsets) + np.maximum(np.diff(self.chosen_offsets), np.diff(self.rejected_offsets))

    def columns(self) -> Columns:
        return {name: (getattr(self, name), getattr(self, f"{name}_offsets")) for name in ("prompt", "chosen", "rejected")}


@dataclass(frozen=True)
class JudgedShard(_Rows):
    """Row i is a prompt and an answer to it, which is a good one or is not."""

    prompt: np.ndarray
    prompt_offsets: np.ndarray
    completion: np.ndarray
    completion_offsets: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.prompt_offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.prompt_offsets) + np.diff(self.completion_offsets)

    def columns(self) -> Columns:
        parts = {name: (getattr(self, name), getattr(self, f"{name}_offsets")) for name in ("prompt", "completion")}
        return {**parts, "label": (self.label, None)}


OneShard = Shard | PreferenceShard | JudgedShard

_SHARDS: dict[str, type[OneShard]] = {"chat": Shard, "image chat": ImageShard, "pair": PreferenceShard, "judged": JudgedShard}


class ShardSequence:
    """The shards of a split as one sequence of rows, without copying their tokens."""

    def __init__(self, parts: Sequence[OneShard]):
        self.parts = tuple(parts)
        self._firsts = np.cumsum([0, *map(len, self.parts)])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.concatenate([part.lengths for part in self.parts])

    def row(self, index: int) -> dict[str, Any]:
        part = bisect_right(self._firsts, index) - 1
        return self.parts[part].row(index - int(self._firsts[part]))


AnyShard = OneShard | ShardSequence


def write_shard(file: Path, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Writes (ids, trainable) rows; the same rows give the same bytes."""
    _write_rows(file, "chat", [{"input_ids": ids, "trainable": trainable} for ids, trainable in rows])


def write_preference_shard(file: Path, pairs: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """Writes (prompt, chosen, rejected) pairs; the same pairs give the same bytes."""
    _write_rows(file, "pair", [{"prompt": prompt, "chosen": chosen, "rejected": rejected} for prompt, chosen, rejected in pairs])


def write_judged_shard(file: Path, rows: Sequence[tuple[np.ndarray, np.ndarray, bool]]) -> None:
    """Writes (prompt, completion, label) rows; the same rows give the same bytes."""
    _write_rows(file, "judged", [{"prompt": prompt, "completion": completion, "label": label} for prompt, completion, label in rows])


def write_longest_row(file: Path, shard: AnyShard, rows: int) -> int:
    """Writes so many copies of the longest row, for measurements; returns its tokens."""
    index = int(np.argmax(shard.lengths))
    row = shard.row(index)
    kind = next(kind for kind, layout in LAYOUTS.items() if {*layout.lists, *layout.scalars} == set(row))
    _write_rows(file, kind, [row] * rows)
    return int(shard.lengths[index])


def _write_rows(file: Path, kind: str, rows: list[dict[str, Any]]) -> None:
    with ShardWriter(file, kind) as writer:
        writer.add(Block.of(LAYOUTS[kind], rows))


def read_shard(file: str) -> Shard | ShardSequence:
    """Maps the tensors of a split without reading its tokens; raises DataRejected if they do not fit each other.

    Where there is no such file, the split's shards beside it are read: `train-00000-of-00002.safetensors` for `train.safetensors`.
    """
    return _read(file, "chat")


def read_preference_shard(file: str) -> PreferenceShard | ShardSequence:
    """The same for preference pairs."""
    return _read(file, "pair")


def read_judged_shard(file: str) -> JudgedShard | ShardSequence:
    """The same for judged answers."""
    return _read(file, "judged")


def shows_images(shard: AnyShard) -> bool:
    """Whether its rows were tokenised for a model that reads images."""
    return isinstance(shard.parts[0], ImageShard)


def _read(file: str, kind: str) -> Any:
    files = [file] if Path(file).is_file() else _numbered_files(Path(file))
    parts = [_read_one(path, kind) for path in files]
    return parts[0] if len(parts) == 1 else ShardSequence(parts)


def _numbered_files(file: Path) -> list[str]:
    found = sorted(file.parent.glob(f"{file.stem}-*-of-*{file.suffix}"))
    numbers = [_NUMBERED.fullmatch(path.stem.removeprefix(file.stem)) for path in found]
    if not found or None in numbers:
        raise BadRequest(f"The shard {file} does not exist.")
    of = int(numbers[0][2])
    if [(int(number[1]), int(number[2])) for number in numbers] != [(i, of) for i in range(of)]:
        raise DataRejected(f"The split {file} has {len(found)} of {of} shards. Tokenise again.")
    return [str(path) for path in found]


def _read_one(file: str, kind: str) -> OneShard:
    try:
        header, start = _read_header(Path(file))
        layout = "image chat" if kind == "chat" and "media" in header else kind
        read = _SHARDS[layout](**_map_tensors(Path(file), LAYOUTS[layout], header, start))
    except (ValueError, KeyError, TypeError) as error:
        raise DataRejected(f"The shard {file} cannot be read as {LAYOUTS[kind].what} ({error}). Tokenise again.") from error
    _require_whole(file, read.columns())
    return read


def _require_whole(file: str, columns: Columns) -> None:
    laid = [(values, offsets) for values, offsets in columns.values() if offsets is not None]
    rows = {len(offsets) - 1 for _, offsets in laid} | {len(values) for values, offsets in columns.values() if offsets is None}
    if len(rows) != 1 or rows == {-1} or any(offsets[-1] != len(values) for values, offsets in laid):
        raise DataRejected(f"The shard {file} is torn: its offsets do not cover its tokens. Tokenise again.")


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The tensors by name, and where they begin, bytes."""
    with file.open("rb") as content:
        header_bytes = int.from_bytes(content.read(8), "little")
        return json.loads(content.read(header_bytes)), 8 + header_bytes


def _map_tensors(file: Path, layout: Layout, header: dict[str, Any], tensors_start: int) -> dict[str, np.ndarray]:
    """safetensors' own readers copy every tensor into memory; its layout (length, JSON header, bytes) is simple to map."""
    arrays = {}
    for name, dtype in layout.tensors.items():
        entry = header[name]
        if entry["dtype"] != TAGS[dtype]:
            raise ValueError(f"`{name}` is {entry['dtype']}, not {TAGS[dtype]}")
        start, (length,) = tensors_start + entry["data_offsets"][0], entry["shape"]
        # A file of no bytes cannot be mapped.
        arrays[name] = np.memmap(file, dtype, "r", start, (length,)) if length else np.empty(0, dtype)
    return arrays
