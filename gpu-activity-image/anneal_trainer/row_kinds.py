"""What each kind of row becomes in a shard: a chat or a text with a mask, a pair of answers to one prompt, or a judged answer.

A row is rendered as one or more texts, which are encoded together with those of other rows, and accepted from their tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from tokenizers import Encoding

from anneal_trainer.chat import IMAGE_TAG, Chat
from anneal_trainer.images import UnreadableImage
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


@dataclass(frozen=True)
class Shown:
    """What is trained on of a chat, and its images: the characters of each one's tokens, and its digest."""

    spans: list[Span]
    images: list[tuple[Span, str]] = field(default_factory=list)


class _Chats:
    def render(self, chat: Chat, row: Row) -> tuple[list[Rendered], Shown]:
        digests = [image["digest"] for image in row.get("media") or []]
        if not digests:
            text, spans = chat.render_with_spans(row["messages"], row.get("tools"))
            return [text], Shown(spans)
        require_images_in_prompts(row)
        try:
            expanded = chat.images.expand(*chat.render_with_spans(row["messages"], row.get("tools"), shows_images=True), digests)
        except UnreadableImage as error:
            raise Rejected("media_unreadable", f"{error}; save it anew or leave the row out.") from error
        return [expanded.text], Shown(expanded.spans, list(zip(expanded.places, digests, strict=True)))

    def accept(self, encoded: list[Tokens | Encoding], extra: Shown, max_length: int) -> Parts:
        parts = self.accept_any_length(encoded[0], extra)
        require_length(len(parts["input_ids"]), max_length, "The row")
        return parts

    def accept_any_length(self, row: Tokens | Encoding, shown: Shown) -> Parts:
        runs = [trainable_run(row, span) for span in shown.spans]
        runs = [(start, end) for start, end in runs if start < end]
        if not runs:
            message = "No token of the row is trained on; give an assistant message content and a weight other than 0."
            raise Rejected("no_trainable_token", message)
        # What follows the last label (the template's closing line break) cannot change a loss; it would only cost time.
        tokens = max(end for _, end in runs)
        trainable = np.zeros(tokens, np.uint8)
        for start, end in runs:
            trainable[start:end] = 1
        # An image behind the last label goes with its tokens.
        kept = [digest for place, digest in shown.images if trainable_run(row, place)[1] <= tokens]
        return chat_parts(row.ids[:tokens], trainable, kept)

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


def chat_parts(ids: list[int] | np.ndarray, trainable: np.ndarray, images: Sequence[str] = ()) -> Parts:
    """`images`: digests. A shard of a model that reads none leaves them out."""
    return {
        "input_ids": np.asarray(ids, np.int32),
        "trainable": trainable,
        "media": np.frombuffer(bytes.fromhex("".join(images)), np.uint8),
    }


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


def require_images_in_prompts(row: Row) -> None:
    for index, message in enumerate(row["messages"]):
        if message["role"] == "assistant" and message.get("weight") != 0 and IMAGE_TAG in message["content"]:
            said = f"`messages[{index}]` is an answer that shows an image, which no model here learns to make; give it the weight 0."
            raise Rejected("media_not_trained", said)


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
