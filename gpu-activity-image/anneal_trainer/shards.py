"""Tokenised shards: one safetensors file a split, rows laid end to end, read by memory map.

Chat rows: `input_ids` (int32, tokens), `trainable` (uint8, tokens; 1 = has a label), `offsets` (int64, rows + 1). Preference pairs:
`prompt`, `chosen`, `rejected` (int32, tokens), each with its `<name>_offsets` (int64, rows + 1); both answers go on from the prompt.
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

# Name → (values, offsets).
Columns = dict[str, tuple[np.ndarray, np.ndarray]]


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
    shard = PreferenceShard(**_map(file, _PAIR_TENSORS, "preference pairs, which `train.method: dpo` needs"))
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
    rows = {len(offsets) for _, offsets in columns.values()}
    if len(rows) != 1 or rows == {0} or any(offsets[-1] != len(values) for values, offsets in columns.values()):
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
