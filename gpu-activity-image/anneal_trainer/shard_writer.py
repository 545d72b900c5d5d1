"""Writes a tokenised shard row by row: tokens go to the disk as they come, so that memory stays flat. Its bytes are safetensors' own."""

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import numpy as np

from anneal_trainer.files import replacing_file

# Names of the types in a header, in the order in which safetensors lays tensors: the widest first.
TAGS = {np.int64: "I64", np.int32: "I32", np.uint8: "U8"}
# Tensors begin at a multiple of it, bytes.
_ALIGNMENT = 8
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Layout:
    """`lists`: values of each row, laid end to end; `scalars`: one value a row; `what` the rows are.

    `even`: lists that have one length in each row, and their offsets in common.
    """

    what: str
    lists: dict[str, type]
    scalars: dict[str, type]
    even: tuple[str, ...] = ()

    def offsets_of(self, name: str) -> str:
        return "offsets" if name in self.even else f"{name}_offsets"

    @property
    def tensors(self) -> dict[str, type]:
        return {**self.lists, **self.scalars, **{self.offsets_of(name): np.int64 for name in self.lists}}


_CHAT = {"input_ids": np.int32, "trainable": np.uint8}

LAYOUTS = {
    "chat": Layout("chat rows", _CHAT, {}, even=("input_ids", "trainable")),
    "image chat": Layout("chat rows with images", {**_CHAT, "media": np.uint8}, {}, even=("input_ids", "trainable")),
    "pair": Layout(
        "preference pairs, which `train.method: dpo` and `reward` need",
        {"prompt": np.int32, "chosen": np.int32, "rejected": np.int32},
        {},
    ),
    "judged": Layout("judged answers, which `train.method: kto` needs", {"prompt": np.int32, "completion": np.int32}, {"label": np.uint8}),
}


@dataclass(frozen=True)
class Block:
    """Some rows of a shard: values by name, and the lengths of the rows' lists by the name of their offsets."""

    rows: int
    values: dict[str, np.ndarray]
    lengths: dict[str, np.ndarray]

    @staticmethod
    def of(layout: Layout, rows: Sequence[dict[str, Any]]) -> "Block":
        values = {name: np.concatenate([row[name] for row in rows] or [[]]).astype(dtype) for name, dtype in layout.lists.items()}
        values |= {name: np.array([row[name] for row in rows], dtype) for name, dtype in layout.scalars.items()}
        lengths = {layout.offsets_of(name): np.array([len(row[name]) for row in rows], np.int64) for name in layout.lists}
        return Block(len(rows), values, lengths)


class ShardWriter:
    """The file appears whole at the end of the block, or not at all."""

    def __init__(self, file: Path, kind: str):
        self._file = file
        self._layout = LAYOUTS[kind]
        self._sizes = dict.fromkeys(self._layout.tensors, 0)

    def __enter__(self) -> "ShardWriter":
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._columns: dict[str, BinaryIO] = {}
        self._stack = ExitStack()
        for name in self._layout.tensors:
            self._columns[name] = self._stack.enter_context(TemporaryFile(dir=self._file.parent))
        self._ends = {self._layout.offsets_of(name): 0 for name in self._layout.lists}
        for name in self._ends:
            self._append(name, np.zeros(1, np.int64))
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        with self._stack:
            if kind is None:
                self._finish()

    def add(self, block: Block) -> None:
        """The same rows give the same bytes, in whatever blocks they come."""
        for name, values in block.values.items():
            self._append(name, values)
        for name, lengths in block.lengths.items():
            ends = self._ends[name] + np.cumsum(lengths)
            self._append(name, ends)
            self._ends[name] = int(ends[-1]) if len(ends) else self._ends[name]

    def _append(self, name: str, values: np.ndarray) -> None:
        self._columns[name].write(values.astype(self._layout.tensors[name]).tobytes())
        self._sizes[name] += len(values)

    def _finish(self) -> None:
        types = self._layout.tensors
        names = sorted(types, key=lambda name: (list(TAGS).index(types[name]), name))
        with replacing_file(self._file) as temporary:
            with temporary.open("wb") as out:
                out.write(self._header(names))
                for name in names:
                    self._columns[name].seek(0)
                    shutil.copyfileobj(self._columns[name], out, _COPY_BYTES)
            temporary.chmod(0o644)

    def _header(self, names: list[str]) -> bytes:
        entries, at = {}, 0
        for name in names:
            dtype = self._layout.tensors[name]
            end = at + self._sizes[name] * np.dtype(dtype).itemsize
            entries[name] = {"dtype": TAGS[dtype], "shape": [self._sizes[name]], "data_offsets": [at, end]}
            at = end
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        return len(text).to_bytes(8, "little") + text
