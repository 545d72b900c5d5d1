"""A chat template: messages in, text out, the same text on every day."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from jinja2 import Template as Program
from transformers.utils.chat_template_utils import _compile_jinja_template, _render_with_assistant_indices

from anneal_trainer.special_text import Span, TemplateError

Message = dict[str, Any]
Tools = list[dict[str, Any]] | None
Text = TypeVar("Text")

# Some templates print today's date: by `date_string` where it is given, or by `strftime_now`. A fixed one keeps the bytes of a
# dataset the same on every day, and a model is asked under the date that it was trained under.
_DATE = "01 Jan 2025"
# Jinja takes the line break behind a block away, so that the template begins at the start of a line as before.
_FIXED_DATE = "{% macro strftime_now(format) %}" + _DATE + "{% endmacro %}\n"

# Stands where a message shows an image: a letter behind those of CJK extension G, in nobody's text.
IMAGE_MARK = "\U0003134b"
_GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
_SHOWN_FIELDS = ("role", "content", "name", "tool_call_id", "reasoning_content")


@dataclass(frozen=True)
class _CallForm:
    """`parses`: arguments are objects rather than JSON text. `empty`: the content of a message that has calls alone."""

    parses: bool
    empty: str | None


# As templates read them, the most usual first.
_CALL_FORMS = [_CallForm(parses, empty) for empty in ("", None) for parses in (True, False)]


class Template:
    """`variables`: texts of the tokenizer's special tokens, as templates name them."""

    def __init__(self, source: str, variables: dict[str, str | None]):
        self.source = source
        self.marks_answers = _GENERATION_MARK.search(source) is not None
        self._variables = {"date_string": _DATE, "documents": None, **variables}
        self._knows_developers = "developer" in source

    @cached_property
    def _program(self) -> Program:
        # transformers' own entry copies every message before each rendering, which takes longer than the rendering.
        return _compile_jinja_template(_FIXED_DATE + self.source if "strftime_now" in self.source else self.source)

    def run(self, messages: list[Message], tools: Tools, generate: bool = False, shows_images: bool = False) -> str:
        """`shows_images`: marks in the contents are images."""
        return self._render(self._as_read(messages, shows_images), tools, generate)

    def _render(self, messages: list[Message], tools: Tools, generate: bool) -> str:
        return _guarded(lambda: self._program.render(messages=messages, tools=tools, add_generation_prompt=generate, **self._variables))

    def run_marked(self, messages: list[Message], tools: Tools, shows_images: bool = False) -> tuple[str, list[Span]]:
        """The text, and the character ranges of its `generation` blocks."""
        chat = {"messages": self._as_read(messages, shows_images), "tools": tools, "add_generation_prompt": False}
        return _guarded(lambda: _render_with_assistant_indices(compiled_template=self._program, **chat, **self._variables))

    def _as_read(self, messages: list[Message], shows_images: bool) -> list[Message]:
        if shows_images or self._reads_parts_alone:
            return [_in_parts(message, shows_images) for message in messages]
        return [self._emptied(message) for message in messages]

    def _emptied(self, message: Message) -> Message:
        if message.get("content") or not message.get("tool_calls"):
            return message
        return {**message, "content": self._call_form.empty}

    @cached_property
    def _reads_parts_alone(self) -> bool:
        """Templates of some models that read images show nothing of a content that is no list of parts."""
        # No template writes this letter by itself.
        message = {"role": "user", "content": IMAGE_MARK}
        return not self._shows([message]) and self._shows([_in_parts(message, shows_images=False)])

    def _shows(self, messages: list[Message], tools: Tools = None) -> bool:
        try:
            return IMAGE_MARK in self._render(messages, tools, generate=False)
        except TemplateError:
            return False

    def prepare(self, messages: list[Message], tools: str | None) -> tuple[list[Message], Tools]:
        """OpenAI's messages as templates expect them: tool calls as objects, `developer` as `system` where it is unknown."""
        try:
            return [self._prepare(message) for message in messages], json.loads(tools) if tools else None
        except (ValueError, TypeError, AttributeError) as error:
            raise TemplateError(f"The tools or tool calls of these messages cannot be read: {error}") from error

    def _prepare(self, message: Message) -> Message:
        shown = {name: message[name] for name in _SHOWN_FIELDS if name in message}
        if message["role"] == "developer" and not self._knows_developers:
            shown["role"] = "system"
        if message.get("reasoning_content"):
            # The name that gpt-oss reads.
            shown["thinking"] = message["reasoning_content"]
        if message.get("tool_calls"):
            calls = json.loads(message["tool_calls"])
            shown["tool_calls"] = [_parse_arguments(call) for call in calls] if self._call_form.parses else calls
        return shown

    @cached_property
    def _call_form(self) -> _CallForm:
        """Raises TemplateError where the template shows no calls in any form."""
        tool = {"name": "a", "description": "", "parameters": {"type": "object", "properties": {}}}
        for form in _CALL_FORMS:
            # Nine letters: some templates refuse other ids. Some show calls only where there are tools.
            function = {"name": IMAGE_MARK, "arguments": {} if form.parses else "{}"}
            call = {"id": "a23456789", "type": "function", "function": function}
            messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": form.empty, "tool_calls": [call]}]
            if any(self._shows(messages, tools) for tools in (None, [{"type": "function", "function": tool}])):
                return form
        raise TemplateError("The chat template shows no tool calls; take the rows with calls out or choose another template.")


def _guarded(render: Callable[[], Text]) -> Text:
    """A template is a program from elsewhere: whatever it raises is about this chat."""
    try:
        return render()
    except Exception as error:
        raise TemplateError(f"The chat template refuses these messages: {error}") from error


def _in_parts(message: Message, shows_images: bool) -> Message:
    texts = message["content"].split(IMAGE_MARK) if shows_images else [message["content"]]
    parts: list[dict[str, str]] = []
    for number, text in enumerate(texts):
        parts += [{"type": "image"}] if number else []
        parts += [{"type": "text", "text": text}] if text or len(texts) == 1 else []
    return {**message, "content": parts}


def _parse_arguments(call: dict[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    if isinstance(function.get("arguments"), str):
        function["arguments"] = json.loads(function["arguments"])
    return {**call, "function": function}
