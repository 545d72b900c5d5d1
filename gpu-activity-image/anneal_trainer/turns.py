"""Where each assistant turn lies in a rendered chat, for templates that do not mark it: by what the text is without the turn.

A turn begins where the template asks the model to write, and ends with its end-of-turn token. A template that renders earlier turns
otherwise than the newest (it strips their reasoning, moves the system message, or refuses a part of a chat) is rendered once more with
other words in the place of the turn's. What cannot be told for certain is an error, never a guess.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from anneal_trainer.special_text import LeftOut, Span, TemplateError
from anneal_trainer.template import Message

# Stands for a turn's content: a letter of CJK extension G, printable and in nobody's text, as often as no trimming takes all of it.
_STAND_IN = "\U00031349" * 3
_THINKING = re.compile("</?think>")


@dataclass(frozen=True)
class RenderedChat:
    """`text` is what `render` makes of all `messages`; `special`: texts of special tokens, which no content can hold."""

    messages: list[Message]
    text: str
    render: Callable[[list[Message], bool], str]
    special: tuple[str, ...]
    _prompts: dict[int, str | None] = field(default_factory=dict)

    def prompt(self, turn: int) -> str | None:
        """What the model is asked with for this turn."""
        if turn not in self._prompts:
            self._prompts[turn] = self.try_render(self.messages[:turn], generate=True)
        return self._prompts[turn]

    def try_render(self, messages: list[Message], generate: bool = False) -> str | None:
        """None where the template refuses this part of the chat; what it makes of the whole is known."""
        try:
            return self.render(messages, generate)
        except TemplateError:
            return None


def locate_turns(chat: RenderedChat, turns: list[int]) -> dict[int, Span]:
    """Character ranges by message; raises TemplateError."""
    end_of_turn = _end_of_turn(chat)
    spans = {turn: _locate(chat, turn, end_of_turn) for turn in turns}
    at = 0
    for turn, (start, end) in spans.items():
        if not at <= start <= end:
            raise _unclear(turn)
        at = end
    return spans


def _locate(chat: RenderedChat, turn: int, end_of_turn: str | None) -> Span:
    message, text = chat.messages[turn], chat.text
    before, is_newest = chat.prompt(turn), turn + 1 == len(chat.messages)
    if before is None or not text.startswith(before):
        return _locate_by_stand_in(chat, turn, end_of_turn)
    start = len(before)
    if end_of_turn and not message.get("tool_calls"):
        end = text.find(end_of_turn, start)
        if end >= 0 and _without_reasoning(text[start:end]) == _without_reasoning(message["content"]):
            return start, end + len(end_of_turn)
    through = text if is_newest else chat.try_render(chat.messages[: turn + 1])
    if through is not None and text.startswith(through):
        return _trim_after_special(chat, start, len(through))
    return _locate_by_stand_in(chat, turn, end_of_turn)


def _end_of_turn(chat: RenderedChat) -> str | None:
    """The special token behind the answer of the chat's last turn, or several that follow each other at once."""
    newest = chat.messages[-1]
    before = chat.prompt(len(chat.messages) - 1) if newest["role"] == "assistant" else None
    if before is None or not chat.text.startswith(before):
        return None
    answer, shown = _without_reasoning(newest["content"]), chat.text[len(before) :]
    if not answer:
        answer = _STAND_IN
        shown = chat.try_render([*chat.messages[:-1], {"role": newest["role"], "content": answer}]) or ""
    _, found, rest = shown.rpartition("</think>")[2].partition(answer)
    rest = rest.lstrip()
    end = 0
    while token := _leading_special(chat, rest[end:]):
        end += len(token)
    return rest[:end] if found and end else None


def _leading_special(chat: RenderedChat, text: str) -> str | None:
    return max((token for token in chat.special if text.startswith(token)), key=len, default=None)


def _trim_after_special(chat: RenderedChat, start: int, end: int) -> Span:
    """Templates write a line break after the end-of-turn token, which the model never has to write."""
    kept = chat.text[start:end].rstrip()
    return (start, start + len(kept)) if kept.endswith(chat.special) else (start, end)


def _locate_by_stand_in(chat: RenderedChat, turn: int, end_of_turn: str | None) -> Span:
    """From where the model is asked for the turn, to behind what follows its answer or its first call's name."""
    message, asked = chat.messages[turn], _asked_at(chat, turn)
    other = _with_stand_in(message)
    if message.get("tool_calls"):
        named = _place_of_name(chat, turn, other)
        if named is None or asked is None or asked > named[0]:
            raise _unclear(turn)
        return asked, _end_behind(chat, turn, other, named[1])
    place = _place_of(chat, turn, other) if asked is not None else None
    if place is None:
        # What comes with the answer is then told apart by what stands there without it.
        other = {"role": message["role"], "content": _STAND_IN}
        place = _place_of(chat, turn, other)
    if place is None or _without_reasoning(message["content"]) not in chat.text[slice(*place)]:
        raise _unclear(turn)
    start = place[0] if asked is None else min(asked, place[0])
    if end_of_turn and chat.text.startswith(end_of_turn, place[1]):
        return start, place[1] + len(end_of_turn)
    return start, _end_behind(chat, turn, other, place[1])


def _with_stand_in(message: Message) -> Message:
    """The message with other words for its answer, or with another name for its first call, and the same reasoning."""
    if message.get("tool_calls"):
        first, *others = message["tool_calls"]
        return {**message, "tool_calls": [{**first, "function": {**first["function"], "name": _STAND_IN}}, *others]}
    answer = _without_reasoning(message["content"])
    head, found, tail = message["content"].rpartition(answer)
    return {**message, "content": head + _STAND_IN + tail if answer and found else message["content"] + _STAND_IN}


def _end_behind(chat: RenderedChat, turn: int, other: Message, at: int) -> int:
    """Where the turn ends whose answer or first name ends at `at`: as it does where nothing follows it, up to its last special token."""
    shown = chat.try_render([*chat.messages[:turn], other]) or ""
    tail = shown.partition(_STAND_IN)[2]
    same = _common_length(tail, chat.text, at)
    end = max((_end_of_last(token, tail[:same]) for token in chat.special), default=0)
    if end:
        return at + end
    if chat.messages[turn].get("tool_calls"):
        if tail and same == len(tail):
            return at + same
        raise _unclear(turn)
    kept = chat.text[at:].lstrip()
    token = _leading_special(chat, kept)
    return at if token is None else len(chat.text) - len(kept) + len(token)


def _common_length(text: str, other: str, at: int) -> int:
    """How much of `text` stands in `other` from `at` on, characters."""
    length = 0
    while length < len(text) and other.startswith(text[length], at + length):
        length += 1
    return length


def _place_of(chat: RenderedChat, index: int, other: Message) -> Span | None:
    """What stands in the text where the stand-in is once `other` takes the message's place; None where that is not certain."""
    shown = chat.try_render([*chat.messages[:index], other, *chat.messages[index + 1 :]])
    head, found, tail = (shown or "").partition(_STAND_IN)
    start, end = len(head), len(chat.text) - len(tail)
    is_certain = found and _STAND_IN not in chat.text + tail and start <= end
    return (start, end) if is_certain and chat.text.startswith(head) and chat.text.endswith(tail) else None


def _place_of_name(chat: RenderedChat, turn: int, other: Message) -> Span | None:
    """As `_place_of`, of the first call's name, which templates may show once more with what the tool answers."""
    name = chat.messages[turn]["tool_calls"][0]["function"]["name"]
    shown = chat.try_render([*chat.messages[:turn], other, *chat.messages[turn + 1 :]]) or ""
    start = shown.find(_STAND_IN)
    return (start, start + len(name)) if start >= 0 and shown.replace(_STAND_IN, name) == chat.text else None


def _asked_at(chat: RenderedChat, turn: int) -> int | None:
    """Where the model is asked for the turn: behind the message before it, and what the template writes between the two.

    A question that begins the model's reasoning counts up to where a turn with other reasoning, or none, goes another way.
    """
    before = chat.prompt(turn)
    earlier = chat.messages[turn - 1] if turn else None
    place = _place_of(chat, turn - 1, {**earlier, "content": _STAND_IN}) if before and earlier and earlier["content"] else None
    if place is None:
        return None
    _, _, asking = before.rpartition(earlier["content"].strip())
    same = _common_length(asking, chat.text, place[1])
    if same < len(asking):
        same = max([0, asking.rfind("\n", 0, same) + 1, *(_end_of_last(token, asking[:same]) for token in chat.special)])
    return place[1] + same if same else None


def _end_of_last(token: str, text: str) -> int:
    return text.rfind(token) + len(token) if token in text else 0


def _without_reasoning(content: str) -> str:
    """Templates may leave reasoning out of earlier turns."""
    return content.rpartition("</think>")[2].strip()


def require_shown(messages: list[Message], turn: int, shown: str) -> None:
    """Nothing that the model is to write may be left out without a word: `shown` is the turn's text.

    Reasoning counts in the newest turn alone, as templates take it out of earlier ones.
    """
    message = messages[turn]
    if any(call["function"]["name"] not in shown for call in message.get("tool_calls") or []):
        raise LeftOut(f"The template leaves out tool calls of `messages[{turn}]`; take the row out or choose another template.")
    if message.get("tool_calls") and _without_reasoning(message["content"]) not in shown:
        raise LeftOut(
            f"The template leaves out the text beside the tool calls of `messages[{turn}]`; take it out of the row, give the message "
            "`weight: 0`, or choose another template."
        )
    if turn + 1 < len(messages):
        return
    thoughts = {"content": _THINKING.split(message["content"])[:-1], "reasoning_content": [message.get("reasoning_content") or ""]}
    for name, parts in thoughts.items():
        if any(part.strip() not in shown for part in parts):
            raise LeftOut(
                f"The template leaves the reasoning of `messages[{turn}].{name}` out; take it out of the row or choose another template."
            )


def _unclear(turn: int) -> TemplateError:
    return TemplateError(
        f"It is not clear which part of the template's text is `messages[{turn}]`, so that nothing of the row can be trained on; "
        "mark it with {% generation %} in the template."
    )
