"""Chats as a model sees them: the model's own template and tokenizer, and which characters of a chat the model must learn to write.

Training, evaluation and serving render through this one class. Nothing here imports torch, which takes seconds.
"""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from anneal_trainer.protocol import BadRequest
from anneal_trainer.special_text import Marks, RenamedTokenizer, Rendered, Span, TemplateError, Tokens, alternatives, mark_special_texts

# Some templates print today's date: by `date_string` where it is given, or by `strftime_now`. A fixed one keeps the bytes of a
# dataset the same on every day, and a model is asked under the date that it was trained under.
_TEMPLATE_DATE = "01 Jan 2025"
# Jinja takes the line break behind a block away, so that the template begins at the start of a line as before.
_FIXED_DATE = "{% macro strftime_now(format) %}" + _TEMPLATE_DATE + "{% endmacro %}\n"

_GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")

Message = dict[str, Any]
Tools = list[dict[str, Any]] | None


class Chat:
    """A tokenizer and its chat template, read from a model folder."""

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self._tokenizer_file = self.folder / "tokenizer.json"
        if not self._tokenizer_file.is_file():
            raise BadRequest(f"The tokenizer folder {folder} has no tokenizer.json; give a folder in Hugging Face layout.")
        self._tokenizer = Tokenizer.from_file(str(self._tokenizer_file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._config = _read_json(self.folder / "tokenizer_config.json")
        self.template = self._read_template()
        self._program = _FIXED_DATE + self.template if "strftime_now" in self.template else self.template
        self._variables = {name: _token_text(self._config.get(name)) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
        added = self._tokenizer.get_added_tokens_decoder()
        self._special_tokens = {id: token for id, token in added.items() if token.special}
        self._special_pattern = alternatives(token.content for token in self._special_tokens.values())
        self._special_texts = tuple(
            {*(token.content for token in self._special_tokens.values()), *filter(None, [self._variables["eos_token"]])}
        )

    @cached_property
    def _renamed_tokenizer(self) -> RenamedTokenizer:
        return RenamedTokenizer(str(self._tokenizer_file), self._special_tokens)

    def end_token_ids(self) -> set[int]:
        """Tokens that end a turn: the tokenizer's end token and what the generation configuration, or else the model's, adds."""
        generation = self.folder / "generation_config.json"
        named = _read_json(generation if generation.is_file() else self.folder / "config.json").get("eos_token_id")
        ids = set(named if isinstance(named, list) else [named])
        ids.add(self._tokenizer.token_to_id(self._variables["eos_token"]) if self._variables["eos_token"] else None)
        return {id for id in ids if id is not None}

    def encode(self, rendered: Rendered) -> list[int]:
        """Token ids of rendered text; the template has already written every special token."""
        return self.encode_batch([rendered])[0].ids

    def encode_batch(self, chats: list[Rendered]) -> list[Tokens]:
        encodings = iter(self._tokenizer.encode_batch([chat.text for chat in chats if not chat.literal], add_special_tokens=False))
        return [self._renamed_tokenizer.encode(chat) if chat.literal else _tokens_of(next(encodings)) for chat in chats]

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def render(self, messages: list[Message], tools: str | None = None, generate: bool = False) -> Rendered:
        """The chat as text; with `generate` it ends where the model's next turn begins."""
        shown, schemas, marks = self._prepare(messages, tools)
        return self._reveal(marks, self._text(shown, schemas, generate))

    def render_with_spans(self, messages: list[Message], tools: str | None = None) -> tuple[Rendered, list[Span]]:
        """The chat as text, and the character ranges that are trained on: for each assistant turn with a weight other than 0
        its content and its end-of-turn token, without the role header."""
        shown, schemas, marks = self._prepare(messages, tools)
        turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if _GENERATION_MARK.search(self.template):
            text, marked = self._run_template(shown, schemas, return_assistant_tokens_mask=True)
            if len(marked) != len(turns):
                raise TemplateError(f"The template marks {len(marked)} generations for {len(turns)} assistant turns.")
            spans = dict(zip(turns, marked, strict=True))
        else:
            text = self._text(shown, schemas)
            spans = self._locate_turns(text, shown, schemas, turns)
        return self._reveal(marks, text), [spans[i] for i in turns if messages[i].get("weight") != 0]

    def render_answer(self, prompt: list[Message], answer: Message, tools: str | None = None) -> tuple[Rendered, Rendered]:
        """The prompt up to where the model's turn begins, and what the model must write there, its end-of-turn token included."""
        text = self.render(prompt, tools, generate=True)
        whole, spans = self.render_with_spans([*prompt, {**answer, "weight": 1}], tools)
        return text, whole.cut(*spans[-1])

    def _prepare(self, messages: list[Message], tools: str | None) -> tuple[list[Message], Tools, Marks | None]:
        """The chat as templates expect it, with marks where it spells special tokens."""
        try:
            chat = [[self._for_template(message) for message in messages], json.loads(tools) if tools else None]
        except (ValueError, TypeError, AttributeError) as error:
            raise TemplateError(f"The tools or tool calls of these messages cannot be read: {error}") from error
        marks = mark_special_texts(chat, self._special_pattern)
        shown, schemas = chat if marks is None else marks.hide(chat)
        return shown, schemas, marks

    def _reveal(self, marks: Marks | None, text: str) -> Rendered:
        if marks is None:
            return Rendered(text)
        rendered = marks.reveal(text)
        if rendered.literal:
            self._renamed_tokenizer.encode(rendered)  # what cannot be encoded is refused here, where the chat is known
        return rendered

    def _locate_turns(self, text: str, messages: list[Message], tools: Tools, turns: list[int]) -> dict[int, Span]:
        spans: dict[int, Span] = {}
        for i in turns:
            through = text if i + 1 == len(messages) else self._text(messages[: i + 1], tools)
            before = self._text(messages[:i], tools, generate=True)
            if through.startswith(before) and text.startswith(through):
                spans[i] = self._trim_after_end_of_turn(text, len(before), len(through))
            else:
                spans[i] = self._find_content(text, self._text(messages[:i], tools), messages[i]["content"], i)
        return spans

    def _trim_after_end_of_turn(self, text: str, start: int, end: int) -> Span:
        """Templates write a line break after the end-of-turn token, which the model never has to write."""
        kept = text[start:end].rstrip()
        return (start, start + len(kept)) if kept.endswith(self._special_texts) else (start, end)

    def _find_content(self, text: str, earlier: str, content: str, turn: int) -> Span:
        """For templates that render a turn differently once others follow: looks for the content behind the earlier turns."""
        content = content.strip()
        start = text.find(content, _common_prefix(text, earlier)) if content else -1
        if start < 0:
            raise TemplateError(f"The template's text does not hold `messages[{turn}].content` as it was given.")
        end = start + len(content)
        rest = text[end:].lstrip()
        special = next((token for token in self._special_texts if rest.startswith(token)), None)
        return (start, end) if special is None else (start, text.index(special, end) + len(special))

    def _text(self, messages: list[Message], tools: Tools, generate: bool = False) -> str:
        return self._run_template(messages, tools, add_generation_prompt=generate)[0]

    def _run_template(self, messages: list[Message], tools: Tools, **options: Any) -> tuple[str, list[Span]]:
        try:
            texts, marks = render_jinja_template(
                conversations=[messages],
                tools=tools,
                chat_template=self._program,
                date_string=_TEMPLATE_DATE,
                **self._variables,
                **options,
            )
        # A template is a program from elsewhere: whatever it raises is about this chat.
        except Exception as error:
            raise TemplateError(f"The chat template refuses these messages: {error}") from error
        return texts[0], marks[0] if marks else []

    def _for_template(self, message: Message) -> Message:
        """OpenAI's message as templates expect it: tool calls as objects, `developer` as `system` where it is unknown."""
        shown = {key: value for key, value in message.items() if key in ("role", "content", "name", "tool_call_id")}
        if message["role"] == "developer" and "developer" not in self.template:
            shown["role"] = "system"
        if message.get("tool_calls"):
            shown["tool_calls"] = [_parse_arguments(call) for call in json.loads(message["tool_calls"])]
        return shown

    def _read_template(self) -> str:
        file = self.folder / "chat_template.jinja"
        template = file.read_text("utf-8") if file.is_file() else self._config.get("chat_template")
        if isinstance(template, list):
            template = next((entry["template"] for entry in template if entry["name"] == "default"), None)
        if not template:
            raise BadRequest(f"The tokenizer in {self.folder} has no chat template; add chat_template.jinja or choose a chat model.")
        return template


def _tokens_of(encoding: Encoding) -> Tokens:
    return Tokens(encoding.ids, encoding.offsets)


def _parse_arguments(call: dict[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    if isinstance(function.get("arguments"), str):
        function["arguments"] = json.loads(function["arguments"])
    return {**call, "function": function}


def _token_text(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def _common_prefix(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
