"""The `tokenise` command: rows become shards of token ids, with a mask of the tokens that are trained on or as prompts and answers.

Batches of lines go to as many processes as there are cores and come back in order, so that memory is flat and the bytes are the same.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from anneal_trainer.chat import Chat
from anneal_trainer.files import replacing_file, sha256_file
from anneal_trainer.images import media_beside
from anneal_trainer.ordered_work import map_in_order
from anneal_trainer.protocol import Emit, SplitFiles, TokeniseJob
from anneal_trainer.rows import require_rows, to_json_line
from anneal_trainer.shard_writer import ShardWriter
from anneal_trainer.token_batch import Lines, Rules, TokenBatch, layout_of, tokenise_lines

# Text tokenised at once: the tokenizer holds some 50 bytes for each of its own, and progress stays smooth, bytes.
_BATCH_BYTES = 256 * 1024
# A second process is worth its fork from here on, bytes.
_PROCESS_BYTES_MIN = 1 << 20


class _Split:
    """What became of a split so far."""

    def __init__(self, name: str):
        self._name = name
        self.rows_in = self.rows = self.tokens = self.trainable = self.longest = 0
        self.histogram: list[int] = []

    def rejected(self, batch: TokenBatch) -> list[dict[str, Any]]:
        """Of the batch that is to be added next."""
        return [{"split": self._name, **row, "index": self.rows_in + row["index"]} for row in batch.rejected]

    def add(self, batch: TokenBatch) -> None:
        self.rows_in += batch.rows_in
        self.rows += batch.block.rows
        self.tokens += batch.tokens
        self.trainable += batch.trainable
        self.longest = max(self.longest, batch.longest)
        self.histogram += [0] * (len(batch.histogram) - len(self.histogram))
        for bucket, rows in enumerate(batch.histogram):
            self.histogram[bucket] += rows

    def summary(self) -> dict[str, Any]:
        counts = {"rows": self.rows, "tokens": self.tokens, "trainableTokens": self.trainable}
        return {**counts, "longest": self.longest, "histogram": self.histogram}


class _Result:
    """What all splits together come to."""

    def __init__(self, chat: Chat):
        self._chat = chat
        self._splits: dict[str, Any] = {}
        self._sample: list[dict[str, Any]] = []
        self._rejected = self._unrendered = self._truncated = self._split_rows = self._split_into = 0
        self._lost_turns = self._lost_tokens = 0
        self._refusal: str | None = None

    def add(self, batch: TokenBatch) -> None:
        self._rejected += len(batch.rejected)
        self._unrendered += batch.unrendered
        self._refusal = self._refusal or batch.refusal
        self._truncated += batch.truncated
        self._split_rows += batch.split_rows
        self._split_into += batch.split_into
        self._lost_turns += batch.lost_turns
        self._lost_tokens += batch.lost_tokens
        self._sample = self._sample or batch.sample

    def end_split(self, name: str, split: _Split) -> None:
        self._splits[name] = split.summary()

    def to_json(self) -> dict[str, Any]:
        split = {"rows": self._split_rows, "into": self._split_into}
        return {
            "splits": self._splits,
            "rejected": self._rejected,
            "cut": {"truncated": self._truncated, "lostTokens": self._lost_tokens, "split": split, "lostTurns": self._lost_turns},
            "unrendered": {"rows": self._unrendered, "first": self._refusal} if self._unrendered else None,
            "templateSha256": hashlib.sha256((self._chat.template or "").encode()).hexdigest(),
            "tokenizerSha256": sha256_file(self._chat.folder / "tokenizer.json"),
            "sample": self._sample,
        }


def tokenise(job: TokeniseJob, emit: Emit) -> None:
    emit({"ev": "phase", "phase": "load", "detail": "tokenizer"})
    for files in job.splits:
        require_rows(files.rows)
    chat = Chat(job.tokenizer, for_chats=False, media=media_beside(job.splits[0].rows))
    if chat.reads_images:
        # Or each process would read the processor anew.
        chat.images.load()
    emit({"ev": "phase", "phase": "tokenise"})
    result = _Result(chat)
    of = sum(os.path.getsize(split.rows) for split in job.splits)
    done = 0
    with _open_replacing(Path(job.rejected)) as rejected:
        for files in job.splits:
            split = _Split(files.name)
            for batch in _write_split(job, chat, files):
                rejected.writelines(map(to_json_line, split.rejected(batch)))
                split.add(batch)
                result.add(batch)
                done += batch.size_bytes
                emit({"ev": "progress", "done": done, "of": of, "detail": files.name})
            result.end_split(files.name, split)
    emit({"ev": "done", "result": result.to_json()})


def _write_split(job: TokeniseJob, chat: Chat, files: SplitFiles) -> Iterator[TokenBatch]:
    """Yields each batch once its tokens and rows are written."""
    rules = Rules(job.kind, job.max_length, job.too_long, files.name == "test", files.kept is not None)
    work = partial(tokenise_lines, chat, rules)
    size = os.path.getsize(files.rows)
    processes = max(1, min(job.processes or _cores(), size // _PROCESS_BYTES_MIN))
    with ExitStack() as stack:
        shard = stack.enter_context(ShardWriter(Path(files.out), layout_of(chat, job.kind)))
        kept = stack.enter_context(_open_replacing(Path(files.kept))) if files.kept else None
        for batch in map_in_order(work, _cut_lines(files.rows, size), processes):
            shard.add(batch.block)
            if kept is not None:
                kept.write(batch.kept)
            yield batch


def _cores() -> int:
    # Not on macOS.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _open_replacing(file: Path) -> Iterator[BinaryIO]:
    with replacing_file(file) as temporary, temporary.open("wb") as out:
        yield out


def _cut_lines(file: str, size: int) -> Iterator[Lines]:
    """Ranges of whole lines."""
    with open(file, "rb") as rows:
        start = 0
        while start < size:
            rows.seek(min(start + _BATCH_BYTES, size))
            rows.readline()
            end = rows.tell()
            yield Lines(file, start, end)
            start = end
