"""What each kind of row becomes in a shard: a chat or a text with a mask, a pair of answers to one prompt, or a judged answer.

A row is rendered as one or more texts, which are encoded together with those of other rows, and accepted from their tokens.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from tokenizers import Encoding

from anneal_trainer.chat import Chat
from anneal_trainer.rows import Row
from anneal_trainer.special_text import Rendered, Span, Tokens

# A row as its shard's writer takes it: values by the name of the tensor.
Parts = dict[str, Any]


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

    def accept(self, encoded: list[Tokens | Encoding], extra: Any, max_length: int) -> Parts:
        """Raises Rejected."""

    def count(self, parts: Parts) -> Counts: ...

    def sample(self, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
        """One reading of the row: token ids and the mask of those that have a label."""


class _Chats:
    def render(self, chat: Chat, row: Row) -> tuple[list[Rendered], list[Span]]:
        text, spans = chat.render_with_spans(row["messages"], row.get("tools"))
        return [text], spans

    def accept(self, encoded: list[Tokens | Encoding], extra: list[Span], max_length: int) -> Parts:
        parts = self.accept_any_length(encoded[0], extra)
        require_length(len(parts["input_ids"]), max_length, "The row")
        return parts

    def accept_any_length(self, row: Tokens | Encoding, spans: list[Span]) -> Parts:
        runs = [trainable_run(row, span) for span in spans]
        runs = [(start, end) for start, end in runs if start < end]
        if not runs:
            message = "No token of the row is trained on; give an assistant message content and a weight other than 0."
            raise Rejected("no_trainable_token", message)
        # What follows the last label (the template's closing line break) cannot change a loss; it would only cost time.
        tokens = max(end for _, end in runs)
        trainable = np.zeros(tokens, np.uint8)
        for start, end in runs:
            trainable[start:end] = 1
        return {"input_ids": np.array(row.ids[:tokens], np.int32), "trainable": trainable}

    def count(self, parts: Parts) -> Counts:
        tokens = len(parts["input_ids"])
        return Counts(tokens, int(parts["trainable"].sum()), tokens)

    def sample(self, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
        return parts["input_ids"], parts["trainable"]


class _Pairs:
    def render(self, chat: Chat, row: Row) -> tuple[list[Rendered], None]:
        rendered = [chat.render_answer(row["prompt"], row[name], row.get("tools")) for name in ("chosen", "rejected")]
        return [rendered[0][0], *(answer for _, answer in rendered)], None

    def accept(self, encoded: list[Tokens | Encoding], extra: None, max_length: int) -> Parts:
        prompt, chosen, rejected = (np.array(text.ids, np.int32) for text in encoded)
        for name, answer in (("chosen", chosen), ("rejected", rejected)):
            require_answer(prompt, answer, name, max_length)
        require_difference(chosen, rejected)
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}

    def count(self, parts: Parts) -> Counts:
        prompt, chosen, rejected = map(len, parts.values())
        return Counts(prompt + chosen + rejected, chosen + rejected, prompt + max(chosen, rejected))

    def sample(self, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
        return _join(parts["prompt"], parts["chosen"])


class _Judged:
    def render(self, chat: Chat, row: Row) -> tuple[list[Rendered], bool]:
        return list(chat.render_answer(row["prompt"], row["completion"], row.get("tools"))), row["label"]

    def accept(self, encoded: list[Tokens | Encoding], extra: bool, max_length: int) -> Parts:
        prompt, completion = (np.array(text.ids, np.int32) for text in encoded)
        require_answer(prompt, completion, "completion", max_length)
        return {"prompt": prompt, "completion": completion, "label": extra}

    def count(self, parts: Parts) -> Counts:
        prompt, completion = len(parts["prompt"]), len(parts["completion"])
        return Counts(prompt + completion, completion, prompt + completion)

    def sample(self, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
        return _join(parts["prompt"], parts["completion"])


CHATS = _Chats()
KINDS: dict[str, RowKind] = {"chat": CHATS, "pair": _Pairs(), "judged": _Judged()}


def trainable_run(row: Tokens | Encoding, span: Span) -> tuple[int, int]:
    """The tokens that lie wholly within a span of characters, [start, end) both.

    A token that straddles the span's edge is not among them: at inference the prompt already holds it.
    """
    start, end = span
    if start >= end:
        return 0, 0
    if isinstance(row, Encoding):
        # Two look-ups in place of a list of every token's characters.
        first, last = row.char_to_token(start), row.char_to_token(end - 1)
        if first is not None and last is not None:
            while first <= last and row.token_to_chars(first)[0] < start:
                first += 1
            while last + 1 < len(row) and (chars := row.token_to_chars(last + 1)) is not None and start < chars[1] <= end:
                last += 1
            while last >= first and row.token_to_chars(last)[1] > end:
                last -= 1
            return first, last + 1
    offsets = np.array(row.offsets).reshape(-1, 2)
    inside = np.flatnonzero((offsets[:, 0] >= start) & (offsets[:, 1] <= end) & (offsets[:, 0] < offsets[:, 1]))
    return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)


def require_answer(prompt: np.ndarray, answer: np.ndarray, name: str, max_length: int) -> None:
    if not len(answer):
        raise Rejected("no_trainable_token", f"The template makes no token of `{name}`; give it other content.")
    require_length(len(prompt) + len(answer), max_length, f"The prompt with `{name}`")


def require_difference(chosen: np.ndarray, rejected: np.ndarray) -> None:
    if np.array_equal(chosen, rejected):
        message = "The template makes the same tokens of `chosen` and `rejected`; let them differ in more than white space."
        raise Rejected("chosen_equals_rejected", message)


def require_length(tokens: int, max_length: int, what: str) -> None:
    if tokens > max_length:
        message = f"{what} has {tokens} tokens and `data.maxLength` is {max_length}; shorten it, raise the limit or set `data.tooLong`."
        raise Rejected("too_long", message, tokens)


def _join(prompt: np.ndarray, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    trainable = np.concatenate([np.zeros(len(prompt), np.uint8), np.ones(len(answer), np.uint8)])
    return np.concatenate([prompt, answer]), trainable
