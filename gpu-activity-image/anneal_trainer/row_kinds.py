"""What each kind of row becomes in a shard: a chat with a mask, a pair of answers to one prompt, or a judged answer.

A row is rendered as one or more texts, which are encoded together with those of other rows, and accepted from their tokens.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from anneal_trainer.chat import Chat
from anneal_trainer.rows import Row
from anneal_trainer.shards import write_judged_shard, write_preference_shard, write_shard
from anneal_trainer.special_text import Rendered, Span, Tokens

# A row as its shard's writer takes it.
Parts = tuple[Any, ...]


class Rejected(Exception):
    """A row that cannot be trained on: `code`, a sentence, and the row's length where that is what is wrong."""

    def __init__(self, code: str, message: str, tokens: int | None = None):
        super().__init__(message)
        self.code = code
        self.tokens = tokens


@dataclass(frozen=True)
class Counts:
    """`longest`: what goes through the model at once."""

    tokens: int
    trainable: int
    longest: int


class RowKind(Protocol):
    def render(self, chat: Chat, row: Row) -> tuple[list[Rendered], Any]:
        """Texts to encode, and what `accept` needs besides their tokens; raises TemplateError."""

    def accept(self, encoded: list[Tokens], extra: Any, max_length: int) -> Parts:
        """Raises Rejected."""

    def count(self, parts: Parts) -> Counts: ...

    def sample(self, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
        """One reading of the row: token ids and the mask of those that have a label."""

    def write(self, file: Path, rows: list[Parts]) -> None: ...


class _Chats:
    def render(self, chat: Chat, row: Row) -> tuple[list[Rendered], list[Span]]:
        text, spans = chat.render_with_spans(row["messages"], row.get("tools"))
        return [text], spans

    def accept(self, encoded: list[Tokens], extra: list[Span], max_length: int) -> Parts:
        (row,) = encoded
        trainable = trainable_mask(np.array(row.offsets).reshape(-1, 2), extra)
        if not trainable.any():
            message = "No token of the row is trained on; give an assistant message content and a weight other than 0."
            raise Rejected("no_trainable_token", message)
        # What follows the last label (the template's closing line break) cannot change a loss; it would only cost time.
        tokens = int(np.flatnonzero(trainable)[-1]) + 1
        _require_length(tokens, max_length, "The row")
        return np.array(row.ids[:tokens], np.int32), trainable[:tokens]

    def count(self, parts: Parts) -> Counts:
        ids, trainable = parts
        return Counts(len(ids), int(trainable.sum()), len(ids))

    def sample(self, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
        return parts

    def write(self, file: Path, rows: list[Parts]) -> None:
        write_shard(file, rows)


class _Pairs:
    def render(self, chat: Chat, row: Row) -> tuple[list[Rendered], None]:
        rendered = [chat.render_answer(row["prompt"], row[name], row.get("tools")) for name in ("chosen", "rejected")]
        return [rendered[0][0], *(answer for _, answer in rendered)], None

    def accept(self, encoded: list[Tokens], extra: None, max_length: int) -> Parts:
        prompt, chosen, rejected = (np.array(text.ids, np.int32) for text in encoded)
        for name, answer in (("chosen", chosen), ("rejected", rejected)):
            _require_answer(prompt, answer, name, max_length)
        if np.array_equal(chosen, rejected):
            message = "The template makes the same tokens of `chosen` and `rejected`; let them differ in more than white space."
            raise Rejected("chosen_equals_rejected", message)
        return prompt, chosen, rejected

    def count(self, parts: Parts) -> Counts:
        prompt, chosen, rejected = map(len, parts)
        return Counts(prompt + chosen + rejected, chosen + rejected, prompt + max(chosen, rejected))

    def sample(self, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
        return _join(parts[0], parts[1])

    def write(self, file: Path, rows: list[Parts]) -> None:
        write_preference_shard(file, rows)


class _Judged:
    def render(self, chat: Chat, row: Row) -> tuple[list[Rendered], bool]:
        return list(chat.render_answer(row["prompt"], row["completion"], row.get("tools"))), row["label"]

    def accept(self, encoded: list[Tokens], extra: bool, max_length: int) -> Parts:
        prompt, completion = (np.array(text.ids, np.int32) for text in encoded)
        _require_answer(prompt, completion, "completion", max_length)
        return prompt, completion, extra

    def count(self, parts: Parts) -> Counts:
        prompt, completion = len(parts[0]), len(parts[1])
        return Counts(prompt + completion, completion, prompt + completion)

    def sample(self, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
        return _join(parts[0], parts[1])

    def write(self, file: Path, rows: list[Parts]) -> None:
        write_judged_shard(file, rows)


KINDS: dict[str, RowKind] = {"chat": _Chats(), "pair": _Pairs(), "judged": _Judged()}


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


def _require_answer(prompt: np.ndarray, answer: np.ndarray, name: str, max_length: int) -> None:
    if not len(answer):
        raise Rejected("no_trainable_token", f"The template makes no token of `{name}`; give it other content.")
    _require_length(len(prompt) + len(answer), max_length, f"The prompt with `{name}`")


def _require_length(tokens: int, max_length: int, what: str) -> None:
    if tokens > max_length:
        message = f"{what} has {tokens} tokens and `data.maxLength` is {max_length}; shorten it or raise the limit."
        raise Rejected("too_long", message, tokens)


def _join(prompt: np.ndarray, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    trainable = np.concatenate([np.zeros(len(prompt), np.uint8), np.ones(len(answer), np.uint8)])
    return np.concatenate([prompt, answer]), trainable
