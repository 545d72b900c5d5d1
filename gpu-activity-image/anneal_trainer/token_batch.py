"""Some lines of a rows file as tokens: a pure function of the lines, the tokenizer and the rules."""

import json
import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from tokenizers import Encoding

from anneal_trainer.chat import Chat
from anneal_trainer.row_kinds import KINDS, Parts, Rejected
from anneal_trainer.rows import Row, parse_row, to_json_line
from anneal_trainer.shard_writer import LAYOUTS, Block
from anneal_trainer.special_text import Rendered, TemplateError, Tokens
from anneal_trainer.too_long import LongChat, Pieces, cut_document, split_chat, truncate_answers, truncate_chat

# Of a rejected row, so that personal data can be found before the rest is cut away, characters.
_PREVIEW_MAX = 2_300
# Of the decoded row that people look at, characters.
_SAMPLE_MAX = 2_000
# Of a histogram: so many to each doubling of the length.
_BUCKETS_PER_OCTAVE = 4
_NOT_CONTENT = ("id", "group", "src")


@dataclass(frozen=True)
class Lines:
    """Whole lines of a file, from byte `start` up to `end`."""

    file: str
    start: int
    end: int


@dataclass(frozen=True)
class Rules:
    """`whole_turns_only`: answers are judged, so that half of one is of no use. `keep`: the rows are written, too."""

    kind: str
    max_length: int
    too_long: str
    whole_turns_only: bool
    keep: bool


@dataclass
class TokenBatch:
    """`rejected` have their index within the batch."""

    size_bytes: int
    rows_in: int
    block: Block
    kept: bytes
    rejected: list[dict[str, Any]]
    unrendered: int
    refusal: str | None
    tokens: int
    trainable: int
    longest: int
    histogram: list[int]
    truncated: int
    split_rows: int
    split_into: int
    lost_turns: int
    lost_tokens: int
    sample: list[dict[str, Any]]


@dataclass
class _Rendered:
    index: int
    row: Row
    texts: list[Rendered]
    extra: Any


@dataclass
class _Work:
    """`done`: by row its pieces with their tokens; None stands for the line as it is."""

    chat: Chat
    rules: Rules
    lines: list[bytes]
    done: dict[int, list[tuple[Row | None, Parts]]] = field(default_factory=dict)
    rejected: dict[int, dict[str, Any]] = field(default_factory=dict)
    unrendered: int = 0
    refusal: str | None = None
    truncated: int = 0
    split_rows: int = 0
    split_into: int = 0
    lost_turns: int = 0
    lost_tokens: int = 0

    def reject(self, index: int, row: Row, rejection: Rejected) -> None:
        content = {name: value for name, value in row.items() if name not in _NOT_CONTENT}
        entry = {"index": index, "code": rejection.code, "message": str(rejection)}
        length = {} if rejection.tokens is None else {"tokens": rejection.tokens}
        preview = json.dumps(content, ensure_ascii=False)[:_PREVIEW_MAX]
        self.rejected[index] = {**entry, **length, "src": row.get("src"), "preview": preview}

    def refuse(self, index: int, row: Row, error: TemplateError) -> None:
        self.reject(index, row, Rejected(error.code, str(error)))
        self.unrendered += 1
        self.refusal = self.refusal or str(error)

    def keep_pieces(self, index: int, row: Row, pieces: Pieces) -> None:
        self.done[index] = [(None if piece is row else piece, parts) for piece, parts in pieces.rows]
        self.lost_turns += pieces.lost_turns
        self.lost_tokens += pieces.lost_tokens
        if pieces.how == "truncated":
            self.truncated += 1
        elif pieces.how == "split":
            self.split_rows += 1
            self.split_into += len(pieces.rows)


def tokenise_lines(chat: Chat, rules: Rules, lines: Lines) -> TokenBatch:
    with open(lines.file, "rb") as file:
        file.seek(lines.start)
        content = file.read(lines.end - lines.start)
    work = _Work(chat, rules, [line for line in content.split(b"\n") if line.strip()])
    rendered = _render_all(work, lines)
    encoded = iter(chat.encode_batch([text for chunk in rendered for text in chunk.texts]))
    for chunk in rendered:
        _accept(work, chunk, [next(encoded) for _ in chunk.texts])
    return _finish(work, len(content))


def _render_all(work: _Work, lines: Lines) -> list[_Rendered]:
    rendered = []
    for index, line in enumerate(work.lines):
        row = parse_row(line, work.rules.kind, f"A line after byte {lines.start} of {lines.file}")
        try:
            if work.rules.kind == "chat" and "text" in row:
                work.keep_pieces(index, row, cut_document(work.chat, row, work.rules.max_length, work.rules.too_long))
            else:
                _refuse_media(work.chat, row)
                rendered.append(_Rendered(index, row, *KINDS[work.rules.kind].render(work.chat, row)))
        except TemplateError as error:
            work.refuse(index, row, error)
        except Rejected as rejection:
            work.reject(index, row, rejection)
    return rendered


def _refuse_media(chat: Chat, row: Row) -> None:
    images = len(row.get("media") or [])
    if images and not chat.reads_images:
        why = "the base model reads text alone (it has no image processor, `preprocessor_config.json`, or no part that sees)"
        raise Rejected("media_not_trained", f"The row has {images} images, and {why}; take the row out or its images.")


def _accept(work: _Work, chunk: _Rendered, encoded: list[Tokens | Encoding]) -> None:
    try:
        work.done[chunk.index] = [(None, KINDS[work.rules.kind].accept(encoded, chunk.extra, work.rules.max_length))]
    except Rejected as rejection:
        # Cut elsewhere, a row would have to be parted from its images.
        if rejection.code == "too_long" and work.rules.too_long in ("truncate", "split") and not chunk.row.get("media"):
            _shorten(work, chunk, encoded, rejection)
        else:
            work.reject(chunk.index, chunk.row, rejection)


def _shorten(work: _Work, chunk: _Rendered, encoded: list[Tokens | Encoding], rejection: Rejected) -> None:
    try:
        work.keep_pieces(chunk.index, chunk.row, _pieces_of(work, chunk, encoded, rejection))
    except Rejected as final:
        work.reject(chunk.index, chunk.row, final)


def _pieces_of(work: _Work, chunk: _Rendered, encoded: list[Tokens | Encoding], rejection: Rejected) -> Pieces:
    rules = work.rules
    if rules.kind == "chat":
        long = LongChat(chunk.row, encoded[0], chunk.extra)
        if rules.too_long == "split":
            return split_chat(work.chat, long, rules.max_length)
        return truncate_chat(work.chat, long, rules.max_length, rules.whole_turns_only)
    if rules.too_long == "split" or rules.whole_turns_only:
        raise rejection
    names = ("chosen", "rejected") if rules.kind == "pair" else ("completion",)
    parts = truncate_answers(encoded, names, rules.max_length)
    lost = sum(len(answer.ids) for answer in encoded[1:]) - sum(len(parts[name]) for name in names)
    kept = parts if rules.kind == "pair" else {**parts, "label": chunk.extra}
    return Pieces("truncated", [(chunk.row, kept)], lost_tokens=lost)


def _finish(work: _Work, size_bytes: int) -> TokenBatch:
    kind = KINDS[work.rules.kind]
    pieces = [(index, *piece) for index in sorted(work.done) for piece in work.done[index]]
    counts = [kind.count(parts) for _, _, parts in pieces]
    kept = [work.lines[index] + b"\n" if row is None else to_json_line(row) for index, row, _ in pieces] if work.rules.keep else []
    return TokenBatch(
        size_bytes=size_bytes,
        rows_in=len(work.lines),
        block=Block.of(LAYOUTS[layout_of(work.chat, work.rules.kind)], [parts for *_, parts in pieces]),
        kept=b"".join(kept),
        rejected=[work.rejected[index] for index in sorted(work.rejected)],
        unrendered=work.unrendered,
        refusal=work.refusal,
        tokens=sum(row.tokens for row in counts),
        trainable=sum(row.trainable for row in counts),
        longest=max((row.longest for row in counts), default=0),
        histogram=_histogram([row.longest for row in counts]),
        truncated=work.truncated,
        split_rows=work.split_rows,
        split_into=work.split_into,
        lost_turns=work.lost_turns,
        lost_tokens=work.lost_tokens,
        sample=_sample(work.chat, *kind.sample(pieces[0][2])) if pieces else [],
    )


def layout_of(chat: Chat, kind: str) -> str:
    """Which of LAYOUTS rows of the kind have: with a base model that reads images every chat has room for some."""
    return "image chat" if kind == "chat" and chat.reads_images else kind


def _histogram(lengths: list[int]) -> list[int]:
    """Entry b counts lengths of 2^(b/4) up to but not including 2^((b+1)/4)."""
    return np.bincount([math.floor(_BUCKETS_PER_OCTAVE * math.log2(length)) for length in lengths]).tolist() if lengths else []


def _sample(chat: Chat, ids: np.ndarray, trainable: np.ndarray) -> list[dict[str, Any]]:
    """The row decoded, cut where the mask changes."""
    ids, trainable = ids[:_SAMPLE_MAX], trainable[:_SAMPLE_MAX]
    cuts = [0, *(np.flatnonzero(np.diff(trainable)) + 1).tolist(), len(ids)]
    pieces, left = [], _SAMPLE_MAX
    for start, end in pairwise(cuts):
        text = chat.decode(ids[start:end].tolist(), skip_special_tokens=False)[:left]
        if text:
            pieces.append({"text": text, "trainable": bool(trainable[start])})
        left -= len(text)
    return pieces
