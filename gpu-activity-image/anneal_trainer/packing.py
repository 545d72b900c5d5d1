"""Short rows share a row: which ones is decided by their lengths alone, and their tokens are read when the row's turn comes.

The plan is TRL's (`pack_dataset` with `bfd`: best fit, longest first), which makes the packed rows at once and keeps them in memory.
"""

from bisect import bisect_left, insort
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow

from anneal_trainer.shards import AnyShard

# Rows that are packed among themselves: TRL packs the batches of `datasets.map`.
_WINDOW_ROWS = 1000


@dataclass(frozen=True)
class Packed:
    """`dataset` has `input_ids`, `trainable`, and in `seq_lengths` what each row is made of; `lengths` are the packed rows'."""

    dataset: datasets.Dataset
    lengths: np.ndarray


def pack_rows(shard: AnyShard) -> Packed:
    """No packed row is longer than the longest row."""
    lengths = shard.lengths
    bins = plan_bins(lengths)
    ends = np.cumsum([0, *map(len, bins)])
    column = pyarrow.LargeListArray.from_arrays(pyarrow.array(ends), pyarrow.array(np.concatenate(bins)))
    table = datasets.table.InMemoryTable(pyarrow.table({"rows": column}))
    dataset = datasets.Dataset(table, fingerprint="anneal-packed").with_transform(_BinReader(shard))
    return Packed(dataset, np.array([lengths[rows].sum() for rows in bins]))


def plan_bins(lengths: np.ndarray) -> list[list[int]]:
    """Row numbers of each packed row."""
    room = int(lengths.max(initial=0))
    windows = range(0, len(lengths), _WINDOW_ROWS)
    return [bin for start in windows for bin in _pack_window(lengths[start : start + _WINDOW_ROWS], start, room)]


def _pack_window(lengths: np.ndarray, first: int, room: int) -> list[list[int]]:
    bins: list[list[int]] = []
    # By the room that is left: bins in the order in which they came to have it.
    by_space: dict[int, deque[list[int]]] = defaultdict(deque)
    spaces: list[int] = []
    for index in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[index])
        at = bisect_left(spaces, length)
        if at == len(spaces):
            space, bin = room, []
            bins.append(bin)
        else:
            space = spaces[at]
            bin = by_space[space].popleft()
            if not by_space[space]:
                del spaces[at]
        bin.append(first + index)
        left = space - length
        if left and not by_space[left]:
            insort(spaces, left)
        by_space[left].append(bin)
    return bins


class _BinReader:
    """Makes the rows of a batch from the shard's."""

    def __init__(self, shard: AnyShard):
        self._shard = shard

    def __call__(self, batch: dict[str, list[list[int]]]) -> dict[str, list[np.ndarray]]:
        packed: dict[str, list[np.ndarray]] = {"input_ids": [], "trainable": [], "seq_lengths": []}
        for bin in batch["rows"]:
            rows = [self._shard.row(index) for index in bin]
            for name in ("input_ids", "trainable"):
                packed[name].append(np.concatenate([row[name] for row in rows]))
            packed["seq_lengths"].append(np.array([len(row["input_ids"]) for row in rows], np.int32))
        return packed

    def __getstate__(self) -> dict[str, Any]:
        # `datasets` hashes what a table is read by, which would read the tokens; the table has a name of ours. It is never unpickled.
        return {}
