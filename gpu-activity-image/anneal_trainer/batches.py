"""From a shard to batches: the order of rows in each epoch, and padding.

The order is a pure function of (seed, epoch), so a resumed run needs no saved position: it counts batches.
"""

import random
from collections.abc import Iterator

import datasets
import numpy as np
import pyarrow
import torch

from anneal_trainer.shards import Shard

# Label of positions without a loss; torch's cross-entropy ignores it by the same number.
NO_LABEL = -100

# Rows are sorted by length inside windows of so many micro-batches: enough to leave little padding, few enough to stay random.
_WINDOW_BATCHES = 16


def as_dataset(shard: Shard) -> datasets.Dataset:
    """The shard as the table type that TRL insists on, without copying its tokens."""
    offsets = pyarrow.array(shard.offsets)
    columns = {
        name: pyarrow.LargeListArray.from_arrays(offsets, pyarrow.array(values))
        for name, values in (("input_ids", shard.input_ids), ("trainable", shard.trainable))
    }
    table = datasets.table.InMemoryTable(pyarrow.table(columns))
    # A fingerprint of our own, or the whole table would be hashed.
    return datasets.Dataset(table, fingerprint="anneal-shard").with_format("numpy")


class LengthGroupedOrder(torch.utils.data.Sampler[int]):
    """Yields row numbers so that micro-batches, cut in this order, hold rows of similar length."""

    def __init__(self, lengths: np.ndarray, micro_batch: int, seed: int):
        self._lengths = lengths.tolist()
        self._micro_batch = micro_batch
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        # A text seed is hashed by SHA-512, unlike a tuple's, which depends on PYTHONHASHSEED.
        rng = random.Random(f"{self._seed}/{self.epoch}")
        order = list(range(len(self._lengths)))
        rng.shuffle(order)
        window = self._micro_batch * _WINDOW_BATCHES
        batches: list[list[int]] = []
        for start in range(0, len(order), window):
            ranked = sorted(order[start : start + window], key=self._lengths.__getitem__)
            batches += [ranked[i : i + self._micro_batch] for i in range(0, len(ranked), self._micro_batch)]
        # Only the last batch may be short, or the loader would cut all later ones elsewhere.
        short = batches.pop() if batches and len(batches[-1]) < self._micro_batch else []
        rng.shuffle(batches)
        return iter([row for batch in batches for row in batch] + short)


class PadCollator:
    """Pads rows on the right. Labels come from the mask alone: the pad token is often also the end-of-turn token."""

    def __init__(self, pad_id: int):
        self._pad_id = pad_id

    def __call__(self, rows: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        """Returns input_ids, attention_mask and labels, each (rows, longest), int64."""
        shape = (len(rows), max(len(row["input_ids"]) for row in rows))
        input_ids = np.full(shape, self._pad_id, np.int64)
        attention_mask = np.zeros(shape, np.int64)
        labels = np.full(shape, NO_LABEL, np.int64)
        for i, row in enumerate(rows):
            length = len(row["input_ids"])
            input_ids[i, :length] = row["input_ids"]
            attention_mask[i, :length] = 1
            labels[i, :length] = np.where(row["trainable"], row["input_ids"], NO_LABEL)
        # Nothing comes before the first token that could predict it.
        labels[:, 0] = NO_LABEL
        arrays = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
