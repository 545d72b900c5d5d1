"""Tokenised shards: one safetensors file a split, rows laid end to end, read by memory map.

Chat rows: `input_ids` (int32, tokens), `trainable` (uint8, tokens; 1 = has a label), `offsets` (int64, rows + 1). Preference pairs:
`prompt`, `chosen`, `rejected` (int32, tokens), each with its `<name>_offsets` (int64, rows + 1); both answers go on from the prompt.
Judged answers: `prompt` and `completion` in the same way, `label` (uint8, rows; 1 = a good answer).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from anneal_trainer.files import replacing_file
from anneal_trainer.protocol import BadRequest, DataRejected

_INT32, _UINT8, _INT64 = ("I32", np.int32), ("U8", np.uint8), ("I64", np.int64)
_ROW_TENSORS = {"input_ids": _INT32, "trainable": _UINT8, "offsets": _INT64}
_PAIR_PARTS = ("prompt", "chosen", "rejected")
_PAIR_TENSORS = {name: _INT32 for name in _PAIR_PARTS} | {f"{name}_offsets": _INT64 for name in _PAIR_PARTS}

_JUDGED_PARTS = ("prompt", "completion")
_JUDGED_TENSORS = {name: _INT32 for name in _JUDGED_PARTS} | {f"{name}_offsets": _INT64 for name in _JUDGED_PARTS} | {"label": _UINT8}

# Name → (values, offsets); without offsets there is one value a row.
Columns = dict[str, tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True)
class Shard:
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
class PreferenceShard:
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
        return {name: (getattr(self, name), getattr(self, f"{name}_offsets")) for name in _PAIR_PARTS}


@dataclass(frozen=True)
class JudgedShard:
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
        parts = {name: (getattr(self, name), getattr(self, f"{name}_offsets")) for name in _JUDGED_PARTS}
        return {**parts, "label": (self.label, None)}


AnyShard = Shard | PreferenceShard | JudgedShard


def write_shard(file: Path, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Writes (ids, trainable) rows; the same rows give the same bytes."""
    input_ids, offsets = _lay_end_to_end([ids for ids, _ in rows], np.int32)
    trainable, _ = _lay_end_to_end([trainable for _, trainable in rows], np.uint8)
    _write(file, {"input_ids": input_ids, "trainable": trainable, "offsets": offsets})


def write_preference_shard(file: Path, pairs: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """Writes (prompt, chosen, rejected) pairs; the same pairs give the same bytes."""
    tensors = {}
    for part, name in enumerate(_PAIR_PARTS):
        tensors[name], tensors[f"{name}_offsets"] = _lay_end_to_end([pair[part] for pair in pairs], np.int32)
    _write(file, tensors)


def write_judged_shard(file: Path, rows: Sequence[tuple[np.ndarray, np.ndarray, bool]]) -> None:
    """Writes (prompt, completion, label) rows; the same rows give the same bytes."""
    tensors = {"label": np.array([label for _, _, label in rows], np.uint8)}
    for part, name in enumerate(_JUDGED_PARTS):
        tensors[name], tensors[f"{name}_offsets"] = _lay_end_to_end([row[part] for row in rows], np.int32)
    _write(file, tensors)


def write_longest_row(file: Path, shard: AnyShard, rows: int) -> int:
    """Writes so many copies of the longest row, for measurements; returns its tokens."""
    index = int(np.argmax(shard.lengths))
    tensors: dict[str, np.ndarray] = {}
    for name, (values, offsets) in shard.columns().items():
        piece = values[index : index + 1] if offsets is None else values[offsets[index] : offsets[index + 1]]
        tensors[name] = np.tile(piece, rows)
        if offsets is not None:
            tensors["offsets" if isinstance(shard, Shard) else f"{name}_offsets"] = np.arange(rows + 1, dtype=np.int64) * len(piece)
    _write(file, tensors)
    return int(shard.lengths[index])


def _lay_end_to_end(rows: list[np.ndarray], dtype: type) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return np.concatenate(rows or [[]]).astype(dtype), offsets


def _write(file: Path, tensors: dict[str, np.ndarray]) -> None:
    with replacing_file(file) as temporary:
        save_file(tensors, temporary)
        temporary.chmod(0o644)


def read_shard(file: str) -> Shard:
    """Maps a shard's tensors without reading its tokens; raises DataRejected if they do not fit each other."""
    shard = Shard(**_map(file, _ROW_TENSORS, "chat rows"))
    _require_whole(file, shard.columns())
    return shard


def read_preference_shard(file: str) -> PreferenceShard:
    """The same for preference pairs."""
    shard = PreferenceShard(**_map(file, _PAIR_TENSORS, "preference pairs, which `train.method: dpo` and `reward` need"))
    _require_whole(file, shard.columns())
    return shard


def read_judged_shard(file: str) -> JudgedShard:
    """The same for judged answers."""
    shard = JudgedShard(**_map(file, _JUDGED_TENSORS, "judged answers, which `train.method: kto` needs"))
    _require_whole(file, shard.columns())
    return shard


def _map(file: str, wanted: dict[str, tuple[str, type]], kind: str) -> dict[str, np.ndarray]:
    if not Path(file).is_file():
        raise BadRequest(f"The shard {file} does not exist.")
    try:
        return _map_tensors(Path(file), wanted)
    except (ValueError, KeyError, TypeError) as error:
        raise DataRejected(f"The shard {file} cannot be read as {kind} ({error}). Tokenise again.") from error


def _require_whole(file: str, columns: Columns) -> None:
    laid = [(values, offsets) for values, offsets in columns.values() if offsets is not None]
    rows = {len(offsets) - 1 for _, offsets in laid} | {len(values) for values, offsets in columns.values() if offsets is None}
    if len(rows) != 1 or rows == {-1} or any(offsets[-1] != len(values) for values, offsets in laid):
        raise DataRejected(f"The shard {file} is torn: its offsets do not cover its tokens. Tokenise again.")


def _map_tensors(file: Path, wanted: dict[str, tuple[str, type]]) -> dict[str, np.ndarray]:
    """safetensors' own readers copy every tensor into memory; its layout (length, JSON header, bytes) is simple to map."""
    with file.open("rb") as content:
        header_bytes = int.from_bytes(content.read(8), "little")
        header = json.loads(content.read(header_bytes))
    arrays = {}
    for name, (tag, dtype) in wanted.items():
        entry = header[name]
        if entry["dtype"] != tag:
            raise ValueError(f"`{name}` is {entry['dtype']}, not {tag}")
        start, (length,) = 8 + header_bytes + entry["data_offsets"][0], entry["shape"]
        # A file of no bytes cannot be mapped.
        arrays[name] = np.memmap(file, dtype, "r", start, (length,)) if length else np.empty(0, dtype)
    return arrays
