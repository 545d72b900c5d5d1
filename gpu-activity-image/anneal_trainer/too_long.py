"""What becomes of rows that are longer than the limit: cut at their front's last whole turn, or into several rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from tokenizers import Encoding

from anneal_trainer.chat import Chat
from anneal_trainer.row_kinds import CHATS, Parts, Rejected, Shown, chat_parts, require_difference, require_length, trainable_run
from anneal_trainer.rows import Row
from anneal_trainer.special_text import TemplateError, Tokens

# Room that a piece of a chat gives to what came before at most: the pieces then have no more than about twice the chat's tokens.
_CONTEXT_SHARE = 0.5
# What a message is longer in tokens than its content says, about, in characters.
_MESSAGE_EXTRA = 20


@dataclass(frozen=True)
class Pieces:
    """The rows that a row became. `lost_turns`: what was to be trained on and fits nowhere. `lost_tokens`: what truncation cut off."""

    how: Literal["whole", "truncated", "split"]
    rows: list[tuple[Row, Parts]]
    lost_turns: int = 0
    lost_tokens: int = 0


@dataclass(frozen=True)
class LongChat:
    row: Row
    encoded: Tokens | Encoding
    # The turns that are trained on.
    shown: Shown


def truncate_chat(chat: Chat, long: LongChat, limit: int, whole_turns_only: bool) -> Pieces:
    """Ends with the last turn that is trained on and fits; where none does, its front stays, unless `whole_turns_only`.

    Raises Rejected.
    """
    whole = CHATS.accept_any_length(long.encoded, long.shown)
    messages = long.row["messages"]
    trained = [i for i, message in enumerate(messages) if _is_trained(message)]
    fitting = [turn for turn, span in zip(trained, long.shown.spans, strict=True) if trainable_run(long.encoded, span)[1] <= limit]
    for turn in reversed(fitting):
        shorter = {**long.row, "messages": messages[: turn + 1]}
        parts = _try_accept(chat, shorter, limit)
        if parts is not None:
            return Pieces("truncated", [(shorter, parts)], lost_tokens=len(whole["input_ids"]) - len(parts["input_ids"]))
    if whole_turns_only:
        message = f"The row has {len(whole['input_ids'])} tokens and `data.maxLength` is {limit}; held-out answers are not cut, so shorten it or raise the limit."
        raise Rejected("too_long", message, len(whole["input_ids"]))
    front = whole["trainable"][:limit]
    if not front.any():
        message = f"The row has {len(whole['input_ids'])} tokens and none of the first {limit} (`data.maxLength`) is trained on."
        raise Rejected("no_trainable_token", message, len(whole["input_ids"]))
    tokens = int(np.flatnonzero(front)[-1]) + 1
    parts = chat_parts(whole["input_ids"][:tokens], front[:tokens])
    return Pieces("truncated", [(long.row, parts)], lost_tokens=len(whole["input_ids"]) - tokens)


def split_chat(chat: Chat, long: LongChat, limit: int) -> Pieces:
    """Cuts at user turns. Every turn that is trained on is trained on once; what comes before it in its piece is context.

    Raises Rejected where there is nothing to cut.
    """
    tokens = len(CHATS.accept_any_length(long.encoded, long.shown)["input_ids"])
    splitter = _Splitter(chat, long.row, tokens, limit)
    pieces = list(splitter.pieces())
    if not pieces:
        require_length(tokens, limit, "The row, none of whose exchanges fits alone,")
    return Pieces("split", _numbered(long.row, pieces), splitter.lost_turns)


class _Splitter:
    """An exchange is a user turn with all that follows up to the next; what stands before the first is in every piece."""

    def __init__(self, chat: Chat, row: Row, tokens: int, limit: int):
        self._chat, self._row, self._limit = chat, row, limit
        messages = row["messages"]
        starts = [i for i, message in enumerate(messages) if message["role"] == "user"]
        self._head = messages[: starts[0]] if starts else messages
        ends = [*starts[1:], len(messages)]
        self._exchanges = [messages[start:end] for start, end in zip(starts, ends, strict=True)] if starts else []
        per_character = tokens / max(1, _characters(messages))
        self._head_size = _characters(self._head) * per_character
        self._sizes = [_characters(exchange) * per_character for exchange in self._exchanges]
        self.lost_turns = sum(map(_is_trained, self._head)) if self._exchanges else 0

    def pieces(self) -> Iterator[tuple[Row, Parts]]:
        start = 0
        while start < len(self._exchanges):
            piece, start = self._next(start)
            if piece is not None:
                yield piece

    def _next(self, start: int) -> tuple[tuple[Row, Parts] | None, int]:
        """The piece whose new exchanges begin at `start`, and where the next piece's begin."""
        end = self._last_that_fits(start)
        context = self._first_context(start, end)
        while True:
            row = self._piece(context, start, end)
            if not any(map(_is_trained, row["messages"])):
                return None, end
            parts = _try_accept(self._chat, row, self._limit)
            if parts is not None:
                return (row, parts), end
            if context < start:
                context += 1
            elif end > start + 1:
                end -= 1
            else:
                self.lost_turns += sum(map(_is_trained, self._exchanges[start]))
                return None, end

    def _last_that_fits(self, start: int) -> int:
        room = (self._limit if start == 0 else self._limit * (1 - _CONTEXT_SHARE)) - self._head_size
        end = start + 1
        while end < len(self._sizes) and sum(self._sizes[start : end + 1]) <= room:
            end += 1
        return end

    def _first_context(self, start: int, end: int) -> int:
        first = start
        while first > 0 and self._head_size + sum(self._sizes[first - 1 : end]) <= self._limit:
            first -= 1
        return first

    def _piece(self, context: int, start: int, end: int) -> Row:
        earlier = [message for exchange in self._exchanges[context:start] for message in exchange]
        new = [message for exchange in self._exchanges[start:end] for message in exchange]
        return {**self._row, "messages": [*map(_as_context, [*self._head, *earlier]), *new]}


def cut_document(chat: Chat, row: Row, limit: int, too_long: str) -> Pieces:
    """A text row as blocks of at most `limit` tokens, all of which are trained on. Raises Rejected."""
    tokens = chat.encode_document(row["text"])
    if len(tokens.ids) < 2:
        raise Rejected("no_trainable_token", "The text is one token; nothing comes before it that could predict it.")
    if len(tokens.ids) <= limit:
        return Pieces("whole", [(row, _block(tokens.ids))])
    if too_long == "drop":
        require_length(len(tokens.ids), limit, "The text")
    starts = range(0, len(tokens.ids), limit) if too_long != "truncate" else [0]
    # A block of one token would train nothing.
    blocks = [(start, min(start + limit, len(tokens.ids))) for start in starts if start + 1 < len(tokens.ids)]
    pieces = [({**row, "text": _text_of(row["text"], tokens, *block)}, _block(tokens.ids[slice(*block)])) for block in blocks]
    if too_long == "truncate":
        return Pieces("truncated", pieces, lost_tokens=len(tokens.ids) - limit)
    return Pieces("split", _numbered(row, pieces))


def truncate_answers(encoded: list[Tokens | Encoding], names: tuple[str, ...], limit: int) -> Parts:
    """A prompt and the fronts of its answers. Raises Rejected."""
    prompt, *answers = (np.array(text.ids, np.int32) for text in encoded)
    if len(prompt) >= limit:
        message = f"The prompt has {len(prompt)} tokens and `data.maxLength` is {limit}: nothing of an answer fits behind it."
        raise Rejected("no_trainable_token", message, len(prompt))
    kept = [answer[: limit - len(prompt)] for answer in answers]
    if len(kept) == 2:
        require_difference(*kept)
    return {"prompt": prompt, **dict(zip(names, kept, strict=True))}


def _try_accept(chat: Chat, row: Row, limit: int) -> Parts | None:
    """None where the row is too long or cannot be rendered."""
    try:
        texts, shown = CHATS.render(chat, row)
        return CHATS.accept(chat.encode_batch(texts), shown, limit)
    except (Rejected, TemplateError):
        return None


def _numbered(row: Row, pieces: list[tuple[Row, Parts]]) -> list[tuple[Row, Parts]]:
    return [({**piece, "id": f"{row['id']}#{number}"}, parts) for number, (piece, parts) in enumerate(pieces, 1)]


def _is_trained(message: dict[str, Any]) -> bool:
    return message["role"] == "assistant" and message.get("weight") != 0


def _as_context(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "weight": 0} if message["role"] == "assistant" else message


def _characters(messages: list[dict[str, Any]]) -> int:
    texts = ("content", "tool_calls", "reasoning_content")
    return sum(sum(len(message.get(name) or "") for name in texts) + _MESSAGE_EXTRA for message in messages)


def _block(ids: list[int]) -> Parts:
    return chat_parts(ids, np.ones(len(ids), np.uint8))


def _text_of(text: str, tokens: Tokens, start: int, end: int) -> str:
    return text[tokens.offsets[start][0] : tokens.offsets[end - 1][1]]
