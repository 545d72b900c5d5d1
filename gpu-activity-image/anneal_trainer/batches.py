"""From a shard to batches: the order of rows in each epoch, streams, and padding.

Order and token dropout are pure functions of (seed, epoch, row), so a resumed run needs no saved position: it counts batches.
"""

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import pyarrow
import torch

from anneal_trainer.images import ImageReader, digests_of
from anneal_trainer.shards import AnyShard, OneShard

# Label of positions without a loss; torch's cross-entropy ignores it by the same number.
NO_LABEL = -100

# Rows are sorted by length inside windows of so many micro-batches: enough to leave little padding, few enough to stay random.
_WINDOW_BATCHES = 16

# Rows of a stream that are shuffled among themselves: as many as are read ahead, and no more than a few MB of tokens.
_WINDOW_ROWS = 1024

Row = dict[str, Any]


def as_dataset(shard: AnyShard) -> datasets.Dataset:
    """The shard as the table type that TRL insists on, without copying its tokens."""
    table = datasets.table.InMemoryTable(pyarrow.concat_tables([_to_table(part) for part in shard.parts]))
    # A fingerprint of our own, or the whole table would be hashed.
    return datasets.Dataset(table, fingerprint="anneal-shard").with_format("numpy")


def _to_table(shard: OneShard) -> pyarrow.Table:
    columns = {
        name: pyarrow.array(values)
        if offsets is None
        else pyarrow.LargeListArray.from_arrays(pyarrow.array(offsets), pyarrow.array(values))
        for name, (values, offsets) in shard.columns().items()
    }
    return pyarrow.table(columns)


def as_stream(shard: AnyShard, seed: int) -> datasets.IterableDataset:
    """The shard's rows front to back, epoch after epoch without an end, shuffled in windows.

    One epoch to transformers, because it resumes a stream without a length at the start of its epoch (5.23).
    """
    source = datasets.iterable_dataset.ExamplesIterable(_stream_rows, {"shard": shard, "seed": seed})
    return datasets.IterableDataset(source)


def _stream_rows(shard: AnyShard, seed: int) -> Iterator[tuple[int, Row]]:
    for number, (epoch, index) in enumerate(_stream_order(len(shard), seed)):
        yield number, {**shard.row(index), "epoch": epoch}


def _stream_order(rows: int, seed: int) -> Iterator[tuple[int, int]]:
    epoch = 0
    while True:
        for start in range(0, rows, _WINDOW_ROWS):
            window = list(range(start, min(start + _WINDOW_ROWS, rows)))
            random.Random(f"{seed}/{epoch}/{start}").shuffle(window)
            yield from ((epoch, row) for row in window)
        epoch += 1


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


class TokenDropout:
    """Replaces a share of the tokens without a label by random ones; special tokens neither go nor come.

    Keyed by seed, epoch and row, so that neither a resume nor the number of dataloader workers changes what is drawn. With
    `is_keyed=False` it draws from the process's random stream, as collators commonly do, and a resumed run draws otherwise.
    """

    def __init__(self, share: float, seed: int, vocabulary: int, special: list[int], is_keyed: bool = True):
        self._share = share
        self._seed = seed
        self._is_ordinary = np.ones(vocabulary, bool)
        self._is_ordinary[special] = False
        self._ordinary = np.flatnonzero(self._is_ordinary)
        self._is_keyed = is_keyed

    def apply(self, ids: np.ndarray, labelled: np.ndarray, epoch: int) -> np.ndarray:
        if not self._share:
            return ids
        rng = np.random.default_rng(self._key(ids, epoch))
        hit = (rng.random(len(ids)) < self._share) & ~labelled.astype(bool) & self._is_ordinary[ids]
        return np.where(hit, rng.choice(self._ordinary, len(ids)), ids)

    def _key(self, ids: np.ndarray, epoch: int) -> int:
        if not self._is_keyed:
            return int(torch.randint(1 << 62, ()))
        digest = hashlib.blake2b(f"{self._seed}/{epoch}/".encode() + ids.astype("<i4").tobytes(), digest_size=8)
        return int.from_bytes(digest.digest(), "little")


class PadCollator:
    """Pads rows on the right. Labels come from the mask alone: the pad token is often also the end-of-turn token."""

    def __init__(self, pad_id: int, dropout: TokenDropout | None = None):
        self._pad_id = pad_id
        self._dropout = dropout
        # The epoch of rows that do not bring their own.
        self.epoch = 0

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        """Returns input_ids, labels, and attention_mask or (packed rows) position_ids, each (rows, longest), int64."""
        shape = (len(rows), max(len(row["input_ids"]) for row in rows))
        input_ids = np.full(shape, self._pad_id, np.int64)
        labels = np.full(shape, NO_LABEL, np.int64)
        for i, row in enumerate(rows):
            length = len(row["input_ids"])
            labels[i, :length] = np.where(row["trainable"], row["input_ids"], NO_LABEL)
            input_ids[i, :length] = self._drop(row)
        # Nothing comes before the first token that could predict it.
        labels[:, 0] = NO_LABEL
        if "seq_lengths" in rows[0]:
            positions = _packed_positions(shape, rows)
            labels[positions == 0] = NO_LABEL
            return _to_tensors(input_ids=input_ids, position_ids=positions, labels=labels)
        return _to_tensors(input_ids=input_ids, attention_mask=_mask(shape, rows), labels=labels)

    def _drop(self, row: Row) -> np.ndarray:
        ids = row["input_ids"]
        return self._dropout.apply(ids, row["trainable"], row.get("epoch", self.epoch)) if self._dropout else ids


class ImageCollator(PadCollator):
    """Pads as it does, and adds what the model's processor makes of the rows' images: a function of the micro-batch's rows alone."""

    def __init__(self, pad_id: int, images: ImageReader):
        super().__init__(pad_id)
        self._images = images

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        batch = super().__call__(rows)
        digests = [digest for row in rows for digest in digests_of(row["media"])]
        return {**batch, **self._images.inputs(digests, batch["input_ids"])}


class AnswerCollator:
    """Pads prompts with answers on the right; the base of the collators of the methods that compare answers."""

    def __init__(self, pad_id: int, dropout: TokenDropout | None = None):
        self._pad_id = pad_id
        self._dropout = dropout
        self.epoch = 0

    def _drop(self, prompt: np.ndarray) -> np.ndarray:
        return self._dropout.apply(prompt, np.zeros(len(prompt), bool), self.epoch) if self._dropout else prompt

    def _join(self, prompts: list[np.ndarray], answers: list[np.ndarray], prefix: str = "") -> dict[str, np.ndarray]:
        pairs = list(zip(prompts, answers, strict=True))
        shape = (len(pairs), max(len(prompt) + len(answer) for prompt, answer in pairs))
        input_ids = np.full(shape, self._pad_id, np.int64)
        attention_mask, completion_mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for i, (prompt, answer) in enumerate(pairs):
            start, end = len(prompt), len(prompt) + len(answer)
            input_ids[i, :start], input_ids[i, start:end] = prompt, answer
            attention_mask[i, :end] = 1
            completion_mask[i, start:end] = 1
        return {f"{prefix}input_ids": input_ids, f"{prefix}attention_mask": attention_mask, f"{prefix}completion_mask": completion_mask}


class PreferenceCollator(AnswerCollator):
    """Chosen rows first, then the rejected ones of the same prompts; the layout of TRL's DPO and reward trainers."""

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        """Returns input_ids, attention_mask and completion_mask, each (2 × rows, longest), int64."""
        prompts = [self._drop(row["prompt"]) for row in rows]
        answers = [row[name] for name in ("chosen", "rejected") for row in rows]
        return _to_tensors(**self._join(prompts * 2, answers))


class JudgedCollator(AnswerCollator):
    """The layout of TRL's KTO trainer: each prompt with its own answer, and once more with that of the row before it.

    The second is what KTO estimates its KL term from. TRL pairs neighbours of the data set; here it is neighbours of the micro-batch,
    as TRL does it for images: the pairs then depend on nothing but the micro-batch's rows, so that a resumed run makes the same.
    """

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        """Returns (KL_)input_ids, (KL_)attention_mask and (KL_)completion_mask, each (rows, longest), int64, and label (rows,), bool."""
        prompts, answers = [self._drop(row["prompt"]) for row in rows], [row["completion"] for row in rows]
        label = np.array([bool(row["label"]) for row in rows])
        return _to_tensors(**self._join(prompts, answers), **self._join(prompts, answers[-1:] + answers[:-1], "KL_"), label=label)


Collator = PadCollator | PreferenceCollator | JudgedCollator


def _mask(shape: tuple[int, int], rows: list[Row]) -> np.ndarray:
    lengths = np.array([len(row["input_ids"]) for row in rows])
    return (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)


def _packed_positions(shape: tuple[int, int], rows: list[Row]) -> np.ndarray:
    """Positions that start at 0 with each sequence, by which transformers keeps sequences from seeing each other; padding is alone."""
    positions = np.zeros(shape, np.int64)
    for i, row in enumerate(rows):
        starts = np.concatenate([np.arange(length) for length in row["seq_lengths"]])
        positions[i, : len(starts)] = starts
    return positions


def _to_tensors(**arrays: np.ndarray) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
