"""The `tokenise` command: rows become shards of token ids, with a mask of the tokens that are trained on or as prompts and answers."""

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
from anneal_trainer.row_kinds import KINDS, Parts, Rejected, RowKind
from anneal_trainer.rows import Row, count_rows, read_rows, write_json_lines
from anneal_trainer.special_text import Rendered

# Rows tokenised at once: enough to fill the tokenizer's batch, few enough for smooth progress and flat memory.
_BATCH_ROWS = 512


@dataclass
class _Split:
    name: str
    kind: RowKind
    rows: list[Parts] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    unrendered: list[str] = field(default_factory=list)

    def reject(self, index: int, rejection: Rejected) -> None:
        entry = {"split": self.name, "index": index, "code": rejection.code, "message": str(rejection)}
        self.rejected.append(entry if rejection.tokens is None else {**entry, "tokens": rejection.tokens})

    def summary(self) -> dict[str, int]:
        counts = [self.kind.count(parts) for parts in self.rows]
        return {
            "rows": len(self.rows),
            "tokens": sum(row.tokens for row in counts),
            "trainableTokens": sum(row.trainable for row in counts),
            "longest": max((row.longest for row in counts), default=0),
        }


def tokenise(job: TokeniseJob, emit: Emit) -> None:
    emit({"ev": "phase", "phase": "load", "detail": "tokenizer"})
    chat, kind = Chat(job.tokenizer), KINDS[job.kind]
    emit({"ev": "phase", "phase": "tokenise"})
    of = sum(count_rows(split.rows) for split in job.splits)
    done, splits = 0, []
    for files in job.splits:
        split = _Split(files.name, kind)
        for batch in _batches(files, job.kind):
            _tokenise_batch(chat, batch, job.max_length, split)
            done += len(batch)
            emit({"ev": "progress", "done": done, "of": of, "detail": files.name})
        splits.append(split)
    _require_some_rendered(splits, of)
    _write(job, splits)
    emit({"ev": "done", "result": _result(chat, splits)})


def _batches(files: SplitFiles, kind: str) -> Iterator[list[tuple[int, Row]]]:
    numbered = enumerate(read_rows(files.rows, kind))
    while batch := list(islice(numbered, _BATCH_ROWS)):
        yield batch


def _tokenise_batch(chat: Chat, batch: list[tuple[int, Row]], max_length: int, split: _Split) -> None:
    rendered: list[tuple[int, list[Rendered], Any]] = []
    for index, row in batch:
        try:
            rendered.append((index, *split.kind.render(chat, row)))
        except TemplateError as error:
            split.reject(index, Rejected("wrong_type", str(error)))
            split.unrendered.append(str(error))
    encoded = iter(chat.encode_batch([text for _, texts, _ in rendered for text in texts]))
    for index, texts, extra in rendered:
        try:
            split.rows.append(split.kind.accept([next(encoded) for _ in texts], extra, max_length))
        except Rejected as rejection:
            split.reject(index, rejection)


def _require_some_rendered(splits: list[_Split], of: int) -> None:
    failures = [message for split in splits for message in split.unrendered]
    if of and len(failures) == of:
        raise DataRejected(f"The chat template cannot render any of the {of} rows; the first says: {failures[0]}")


def _write(job: TokeniseJob, splits: list[_Split]) -> None:
    for files, split in zip(job.splits, splits, strict=True):
        split.kind.write(Path(files.out), split.rows)
    write_json_lines(job.rejected, (rejection for split in splits for rejection in split.rejected))


def _result(chat: Chat, splits: list[_Split]) -> dict[str, Any]:
    first = next((split for split in splits if split.rows), None)
    return {
        "splits": {split.name: split.summary() for split in splits},
        "rejected": sum(len(split.rejected) for split in splits),
        "templateSha256": hashlib.sha256(chat.template.encode()).hexdigest(),
        "tokenizerSha256": sha256_file(chat.folder / "tokenizer.json"),
        "sample": _sample(chat, *first.kind.sample(first.rows[0])) if first else [],
    }


def _sample(chat: Chat, ids: np.ndarray, trainable: np.ndarray) -> list[dict[str, Any]]:
    """The row decoded, cut where the mask changes."""
    cuts = [0, *(np.flatnonzero(np.diff(trainable)) + 1).tolist(), len(ids)]
    return [{"text": chat.decode(ids[a:b].tolist(), skip_special_tokens=False), "trainable": bool(trainable[a])} for a, b in pairwise(cuts)]
