"""The `tokenise` command: rows of chats become shards of token ids with a mask of the tokens that are trained on."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from anneal_trainer.chat import Chat, TemplateError
from anneal_trainer.files import sha256_file
from anneal_trainer.protocol import DataRejected, Emit, SplitFiles, TokeniseJob
from anneal_trainer.rows import Row, count_rows, read_rows, write_json_lines
from anneal_trainer.shards import write_shard
from anneal_trainer.special_text import Rendered, Span, Tokens

# Rows tokenised at once: enough to fill the tokenizer's batch, few enough for smooth progress and flat memory.
_BATCH_ROWS = 512

TokenRow = tuple[np.ndarray, np.ndarray]


@dataclass
class _Split:
    name: str
    rows: list[TokenRow] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    unrendered: list[str] = field(default_factory=list)

    def reject(self, index: int, code: str, message: str) -> None:
        self.rejected.append({"split": self.name, "index": index, "code": code, "message": message})

    def summary(self) -> dict[str, int]:
        return {
            "rows": len(self.rows),
            "tokens": sum(len(ids) for ids, _ in self.rows),
            "trainableTokens": sum(int(trainable.sum()) for _, trainable in self.rows),
            "longest": max((len(ids) for ids, _ in self.rows), default=0),
        }


def tokenise(job: TokeniseJob, emit: Emit) -> None:
    emit({"ev": "phase", "phase": "load", "detail": "tokenizer"})
    chat = Chat(job.tokenizer)
    emit({"ev": "phase", "phase": "tokenise"})
    of = sum(count_rows(split.rows) for split in job.splits)
    done, splits = 0, []
    for files in job.splits:
        split = _Split(files.name)
        for batch in _batches(files):
            _tokenise_batch(chat, batch, job.max_length, split)
            done += len(batch)
            emit({"ev": "progress", "done": done, "of": of, "detail": files.name})
        splits.append(split)
    _require_some_rendered(splits, of)
    _write(job, splits)
    emit({"ev": "done", "result": _result(chat, splits)})


def _batches(files: SplitFiles) -> Iterator[list[tuple[int, Row]]]:
    numbered = enumerate(read_rows(files.rows))
    while batch := list(islice(numbered, _BATCH_ROWS)):
        yield batch


def _tokenise_batch(chat: Chat, batch: list[tuple[int, Row]], max_length: int, split: _Split) -> None:
    rendered: list[tuple[int, Rendered, list[Span]]] = []
    for index, row in batch:
        try:
            rendered.append((index, *chat.render_with_spans(row["messages"], row.get("tools"))))
        except TemplateError as error:
            split.reject(index, "wrong_type", str(error))
            split.unrendered.append(str(error))
    encoded = chat.encode_batch([text for _, text, _ in rendered])
    for (index, _, spans), tokens in zip(rendered, encoded, strict=True):
        _accept(split, index, tokens, spans, max_length)


def _accept(split: _Split, index: int, row: Tokens, spans: list[Span], max_length: int) -> None:
    trainable = trainable_mask(np.array(row.offsets).reshape(-1, 2), spans)
    if not trainable.any():
        message = "No token of the row is trained on; give an assistant message content and a weight other than 0."
        return split.reject(index, "no_trainable_token", message)
    # What follows the last label (the template's closing line break) cannot change a loss; it would only cost time.
    tokens = int(np.flatnonzero(trainable)[-1]) + 1
    if tokens > max_length:
        message = f"The row has {tokens} tokens and `data.maxLength` is {max_length}; shorten it or raise the limit."
        return split.reject(index, "too_long", message)
    split.rows.append((np.array(row.ids[:tokens], np.int32), trainable[:tokens]))


def trainable_mask(offsets: np.ndarray, spans: list[Span]) -> np.ndarray:
    """Marks the tokens that lie wholly within a span.

    Args:
        offsets: (tokens, 2), each token's characters as [start, end).
        spans: character ranges, [start, end).
    Returns:
        (tokens,) uint8. A token that straddles a span's edge is not marked: at inference the prompt already holds it.
    """
    mask = np.zeros(len(offsets), np.uint8)
    for start, end in spans:
        mask |= (offsets[:, 0] >= start) & (offsets[:, 1] <= end) & (offsets[:, 0] < offsets[:, 1])
    return mask


def _require_some_rendered(splits: list[_Split], of: int) -> None:
    failures = [message for split in splits for message in split.unrendered]
    if of and len(failures) == of:
        raise DataRejected(f"The chat template cannot render any of the {of} rows; the first says: {failures[0]}")


def _write(job: TokeniseJob, splits: list[_Split]) -> None:
    for files, split in zip(job.splits, splits, strict=True):
        write_shard(Path(files.out), split.rows)
    write_json_lines(job.rejected, (rejection for split in splits for rejection in split.rejected))


def _result(chat: Chat, splits: list[_Split]) -> dict[str, Any]:
    first = next((split.rows[0] for split in splits if split.rows), None)
    return {
        "splits": {split.name: split.summary() for split in splits},
        "rejected": sum(len(split.rejected) for split in splits),
        "templateSha256": hashlib.sha256(chat.template.encode()).hexdigest(),
        "tokenizerSha256": sha256_file(chat.folder / "tokenizer.json"),
        "sample": _sample(chat, first) if first else [],
    }


def _sample(chat: Chat, row: TokenRow) -> list[dict[str, Any]]:
    """The row decoded, cut where the mask changes."""
    ids, trainable = row
    cuts = [0, *(np.flatnonzero(np.diff(trainable)) + 1).tolist(), len(ids)]
    return [{"text": chat.decode(ids[a:b].tolist(), skip_special_tokens=False), "trainable": bool(trainable[a])} for a, b in pairwise(cuts)]
