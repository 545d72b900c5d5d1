"""Tokenised shards: one safetensors file a split, rows laid end to end, read by memory map.

`input_ids` (int32, tokens), `trainable` (uint8, tokens; 1 = has a label), `offsets` (int64, rows + 1).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from anneal_trainer.files import replacing_file
from anneal_trainer.protocol import BadRequest, DataRejected

_TENSORS = {"input_ids": ("I32", np.int32), "trainable": ("U8", np.uint8), "offsets": ("I64", np.int64)}


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


def write_shard(file: Path, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Writes (ids, trainable) rows; the same rows give the same bytes."""
    lengths = [len(ids) for ids, _ in rows]
    tensors = {
        "input_ids": np.concatenate([ids for ids, _ in rows] or [[]]).astype(np.int32),
        "trainable": np.concatenate([trainable for _, trainable in rows] or [[]]).astype(np.uint8),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    }
    with replacing_file(file) as temporary:
        save_file(tensors, temporary)
        temporary.chmod(0o644)


def read_shard(file: str) -> Shard:
    """Maps a shard's tensors without reading its tokens; raises DataRejected if they do not fit each other."""
    if not Path(file).is_file():
        raise BadRequest(f"The shard {file} does not exist.")
    try:
        shard = _map_tensors(Path(file))
    except (ValueError, KeyError, TypeError) as error:
        raise DataRejected(f"The shard {file} cannot be read ({error}). Tokenise again.") from error
    if len(shard.offsets) < 1 or not shard.offsets[-1] == len(shard.input_ids) == len(shard.trainable):
        raise DataRejected(f"The shard {file} is torn: its offsets do not cover its tokens. Tokenise again.")
    return shard


def _map_tensors(file: Path) -> Shard:
    """safetensors' own readers copy every tensor into memory; its layout (length, JSON header, bytes) is simple to map."""
    with file.open("rb") as content:
        header_bytes = int.from_bytes(content.read(8), "little")
        header = json.loads(content.read(header_bytes))
    arrays = {}
    for name, (tag, dtype) in _TENSORS.items():
        entry = header[name]
        if entry["dtype"] != tag:
            raise ValueError(f"`{name}` is {entry['dtype']}, not {tag}")
        start, (length,) = 8 + header_bytes + entry["data_offsets"][0], entry["shape"]
        # A file of no bytes cannot be mapped.
        arrays[name] = np.memmap(file, dtype, "r", start, (length,)) if length else np.empty(0, dtype)
    return Shard(**arrays)
