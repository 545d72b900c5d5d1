"""Where each assistant turn lies in a rendered chat, for templates that do not mark it: by what the text is without the turn.

A turn begins where the template asks the model to write, and ends with its end-of-turn token. A template that renders earlier turns
otherwise than the newest (it strips their reasoning, moves the system message, or refuses a part of a chat) is rendered once more with
other words in the place of the turn's. What cannot be told for certain is an error, never a guess.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from anneal_trainer.special_text import Span, TemplateError
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
    if is_newest:
        _require_reasoning(message, text[start:], turn)
    if end_of_turn and not message.get("tool_calls"):
        end = text.find(end_of_turn, start)
        if end >= 0 and _without_reasoning(text[start:end]) == _without_reasoning(message["content"]):
            return start, end + len(end_of_turn)
    through = text if is_newest else chat.try_render(chat.messages[: turn + 1])
    if through is not None and text.startswith(through):
        return _trim_after_special(chat, start, len(through))
    return _locate_by_stand_in(chat, turn, end_of_turn)


def _end_of_turn(chat: RenderedChat) -> str | None:
    """The special token behind the answer of the chat's last turn."""
    newest = chat.messages[-1]
    before = chat.prompt(len(chat.messages) - 1) if newest["role"] == "assistant" else None
    if before is None or not chat.text.startswith(before):
        return None
    answer, shown = _without_reasoning(newest["content"]), chat.text[len(before) :]
    if not answer:
        answer = _STAND_IN
        shown = chat.try_render([*chat.messages[:-1], {"role": newest["role"], "content": answer}]) or ""
    _, found, rest = shown.rpartition("</think>")[2].partition(answer)
    return _leading_special(chat, rest.lstrip()) if found else None


def _leading_special(chat: RenderedChat, text: str) -> str | None:
    return max((token for token in chat.special if text.startswith(token)), key=len, default=None)


def _trim_after_special(chat: RenderedChat, start: int, end: int) -> Span:
    """Templates write a line break after the end-of-turn token, which the model never has to write."""
    kept = chat.text[start:end].rstrip()
    return (start, start + len(kept)) if kept.endswith(chat.special) else (start, end)


def _locate_by_stand_in(chat: RenderedChat, turn: int, end_of_turn: str | None) -> Span:
    message, text = chat.messages[turn], chat.text
    prompt_end = _prompt_end(chat, turn)
    if message.get("tool_calls"):
        return _locate_calls(chat, turn, prompt_end, end_of_turn)
    content = _place_of(chat, turn, {"role": message["role"], "content": _STAND_IN})
    if content is None or _without_reasoning(message["content"]) not in text[slice(*content)]:
        raise _unclear(turn)
    start, end = content
    if turn + 1 == len(chat.messages):
        _require_reasoning(message, text[start:end], turn)
    kept = text[end:].lstrip()
    token = _leading_special(chat, kept)
    end = end if token is None else len(text) - len(kept) + len(token)
    return (start if prompt_end is None or prompt_end > start else prompt_end), end


def _locate_calls(chat: RenderedChat, turn: int, prompt_end: int | None, end_of_turn: str | None) -> Span:
    """Calls stand where the content would; they end before the message behind them begins."""
    first, *others = chat.messages[turn]["tool_calls"]
    calls = [{**first, "function": {**first["function"], "name": _STAND_IN}}, *others]
    name = _place_of(chat, turn, {**chat.messages[turn], "tool_calls": calls})
    end = chat.text.find(end_of_turn, name[1]) if name and end_of_turn else -1
    following = chat.messages[turn + 1 : turn + 2]
    behind = _place_of(chat, turn + 1, {**following[0], "content": _STAND_IN}) if following else (len(chat.text), 0)
    if prompt_end is None or name is None or end < 0 or behind is None or not prompt_end <= name[0] <= end < behind[0]:
        raise _unclear(turn)
    return prompt_end, end + len(end_of_turn)


def _place_of(chat: RenderedChat, index: int, other: Message) -> Span | None:
    """What stands in the text where the stand-in is once `other` takes the message's place; None where that is not certain."""
    shown = chat.try_render([*chat.messages[:index], other, *chat.messages[index + 1 :]])
    head, found, tail = (shown or "").partition(_STAND_IN)
    start, end = len(head), len(chat.text) - len(tail)
    is_certain = found and _STAND_IN not in chat.text + tail and start <= end
    return (start, end) if is_certain and chat.text.startswith(head) and chat.text.endswith(tail) else None


def _prompt_end(chat: RenderedChat, turn: int) -> int | None:
    """Where the model is asked for the turn: behind the message before it, and what the template writes between the two."""
    before = chat.prompt(turn)
    earlier = chat.messages[turn - 1] if turn else None
    place = _place_of(chat, turn - 1, {**earlier, "content": _STAND_IN}) if before and earlier and earlier["content"] else None
    if place is None:
        return None
    _, _, asking = before.rpartition(earlier["content"].strip())
    return place[1] + len(asking) if chat.text.startswith(asking, place[1]) else None


def _without_reasoning(content: str) -> str:
    """Templates may leave reasoning out of earlier turns."""
    return content.rpartition("</think>")[2].strip()


def _require_reasoning(message: Message, shown: str, turn: int) -> None:
    """The newest turn is what the model is to write: nothing of it may be left out without a word."""
    thoughts = [part.strip() for part in _THINKING.split(message["content"])[:-1]]
    if any(part not in shown for part in thoughts):
        raise TemplateError(
            f"The template leaves the reasoning of `messages[{turn}].content` out; take it out of the row or choose another template."
        )


def _unclear(turn: int) -> TemplateError:
    return TemplateError(
        f"It is not clear which part of the template's text is `messages[{turn}]`, so that nothing of the row can be trained on; "
        "mark it with {% generation %} in the template."
    )
