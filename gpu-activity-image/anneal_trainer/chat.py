"""Chats as a model sees them: the model's own template and tokenizer, and which characters of a chat the model must learn to write.

Training, evaluation and serving render through this one class. Nothing here imports torch, which takes seconds.
"""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from anneal_trainer.images import ImageReader
from anneal_trainer.protocol import BadRequest
from anneal_trainer.special_text import Marks, RenamedTokenizer, Rendered, Span, TemplateError, Tokens, alternatives, mark_special_texts
from anneal_trainer.template import IMAGE_MARK, Message, Template, Tools
from anneal_trainer.turns import RenderedChat, locate_turns, require_shown

# Stands in a message's content where its next image belongs (`src/contracts/rows.ts`).
IMAGE_TAG = "<image>"
# A model with one of them, and with a part that sees, reads images.
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")
# Longer texts are cut into tokens by portions, each up to a line break, so that memory stays flat, characters.
_PORTION_MAX = 1 << 20


class Chat:
    """A tokenizer and its chat template, read from a model folder."""

    def __init__(self, folder: str, for_chats: bool = True, media: Path = Path("media")):
        """`for_chats=False`: a folder without a template is refused only when a chat comes. `media`: where images lie."""
        self.folder = Path(folder)
        self.images = ImageReader(self.folder, media)
        self._tokenizer_file = self.folder / "tokenizer.json"
        if not self._tokenizer_file.is_file():
            raise BadRequest(f"The tokenizer folder {folder} has no tokenizer.json; give a folder in Hugging Face layout.")
        self._tokenizer = Tokenizer.from_file(str(self._tokenizer_file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._config = _read_json(self.folder / "tokenizer_config.json")
        self._variables = {name: _token_text(self._config.get(name)) for name in _TOKEN_NAMES}
        added = self._tokenizer.get_added_tokens_decoder()
        self._special_tokens = {id: token for id, token in added.items() if token.special}
        self._special_pattern = alternatives(token.content for token in self._special_tokens.values())
        self._special_texts = tuple(
            {*(token.content for token in self._special_tokens.values()), *filter(None, [self._variables["eos_token"]])}
        )
        if for_chats:
            _ = self._template

    @cached_property
    def _template(self) -> Template:
        source = self.template
        if source is None:
            raise BadRequest(f"The tokenizer in {self.folder} has no chat template; add chat_template.jinja or choose a chat model.")
        return Template(source, self._variables)

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

    @cached_property
    def _end_texts(self) -> tuple[str, ...]:
        ends = self.end_token_ids()
        return tuple(token.content for id, token in self._special_tokens.items() if id in ends)

    @property
    def reads_images(self) -> bool:
        has_processor = any((self.folder / name).is_file() for name in PROCESSOR_FILES)
        return has_processor and "vision_config" in _read_json(self.folder / "config.json")

    def encode(self, rendered: Rendered) -> list[int]:
        """Token ids of rendered text; the template has already written every special token."""
        return self.encode_batch([rendered])[0].ids

    def encode_batch(self, chats: list[Rendered]) -> list[Tokens | Encoding]:
        encodings = iter(self._tokenizer.encode_batch([chat.text for chat in chats if not chat.literal], add_special_tokens=False))
        return [self._renamed_tokenizer.encode(chat) if chat.literal else next(encodings) for chat in chats]

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def encode_document(self, text: str) -> Tokens:
        """A text without turns, between the tokens that the tokenizer begins and ends a text with. The end token always ends it.

        What spells a special token is ordinary text.
        """
        first, last = self._document_edges
        ids, offsets, at = list(first), [(0, 0)] * len(first), 0
        for portion in _portions(text):
            literal = tuple(match.span() for match in self._special_pattern.finditer(portion))
            (tokens,) = self.encode_batch([Rendered(portion, literal)])
            ids += tokens.ids
            offsets += [(at + start, at + end) for start, end in tokens.offsets]
            at += len(portion)
        return Tokens(ids + last, offsets + [(at, at)] * len(last))

    @cached_property
    def _document_edges(self) -> tuple[list[int], list[int]]:
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        whole = self._tokenizer.encode("a", add_special_tokens=True).ids
        start = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        end = self._tokenizer.token_to_id(self._variables["eos_token"]) if self._variables["eos_token"] else None
        last = whole[start + len(bare) :]
        return whole[:start], last if end is None or end in last else [*last, end]

    def render(self, messages: list[Message], tools: str | None = None, generate: bool = False, shows_images: bool = False) -> Rendered:
        """The chat as text; with `generate` it ends where the model's next turn begins. `shows_images`: IMAGE_TAG is one, not text."""
        shown, schemas, marks = self._prepare(messages, tools, shows_images)
        return self._reveal(marks, self._template.run(shown, schemas, generate, shows_images))

    def render_with_spans(
        self, messages: list[Message], tools: str | None = None, shows_images: bool = False
    ) -> tuple[Rendered, list[Span]]:
        """The chat as text, and the character ranges that are trained on: for each assistant turn with a weight other than 0
        its content and its end-of-turn token, without the role header."""
        shown, schemas, marks = self._prepare(messages, tools, shows_images)
        turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        wanted = [i for i in turns if messages[i].get("weight") != 0]
        if self._template.marks_answers:
            text, marked = self._template.run_marked(shown, schemas, shows_images)
            if len(marked) != len(turns):
                raise TemplateError(f"The template marks {len(marked)} generations for {len(turns)} assistant turns.")
            spans = dict(zip(turns, marked, strict=True))
        else:

            def run(part: list[Message], generate: bool) -> str:
                return self._template.run(part, schemas, generate, shows_images)

            text = run(shown, generate=False)
            spans = locate_turns(RenderedChat(shown, text, run, self._special_texts), wanted)
        for turn in wanted:
            require_shown(shown, turn, text[slice(*spans[turn])])
        text, ends = self._with_ends(text, [spans[i] for i in wanted])
        return self._reveal(marks, text), ends

    def _with_ends(self, text: str, spans: list[Span]) -> tuple[str, list[Span]]:
        """Turns that end where the next one begins do so with the token that begins it, if it ends answers, and the newest with the end token.

        From turns without an end a model would not learn to stop.
        """
        ended = []
        for start, end in spans:
            if not text[start:end].rstrip().endswith(self._special_texts):
                token = next((token for token in self._end_texts if text.startswith(token, end)), "")
                if not token and end == len(text):
                    token = self._variables["eos_token"] or ""
                    text += token
                end += len(token)
            ended.append((start, end))
        return text, ended

    def render_answer(
        self, prompt: list[Message], answer: Message, tools: str | None = None, shows_images: bool = False
    ) -> tuple[Rendered, Rendered]:
        """The prompt up to where the model's turn begins, and what the model must write there, its end-of-turn token included."""
        text = self.render(prompt, tools, generate=True, shows_images=shows_images)
        whole, spans = self.render_with_spans([*prompt, {**answer, "weight": 1}], tools, shows_images)
        return text, whole.cut(*spans[-1])

    def _prepare(self, messages: list[Message], tools: str | None, shows_images: bool) -> tuple[list[Message], Tools, Marks | None]:
        """The chat as templates expect it, with marks where it spells special tokens and where it shows images."""
        if shows_images:
            messages = [{**message, "content": message["content"].replace(IMAGE_TAG, IMAGE_MARK)} for message in messages]
        shown, schemas = self._template.prepare(messages, tools)
        marks = mark_special_texts([shown, schemas], self._special_pattern)
        return (shown, schemas, None) if marks is None else (marks.hide(shown), marks.hide(schemas), marks)

    def _reveal(self, marks: Marks | None, text: str) -> Rendered:
        if marks is None:
            return Rendered(text)
        rendered = marks.reveal(text)
        if rendered.literal:
            self._renamed_tokenizer.encode(rendered)  # what cannot be encoded is refused here, where the chat is known
        return rendered

    @cached_property
    def template(self) -> str | None:
        """The text of the chat template; None where the folder has none. Older processors keep theirs in a JSON file."""
        file, older = self.folder / "chat_template.jinja", _read_json(self.folder / "chat_template.json")
        template = file.read_text("utf-8") if file.is_file() else older.get("chat_template") or self._config.get("chat_template")
        if isinstance(template, list):
            template = next((entry["template"] for entry in template if entry["name"] == "default"), None)
        return template or None


def _portions(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PORTION_MAX:
        end = text.rfind("\n", start, start + _PORTION_MAX) + 1 or start + _PORTION_MAX
        yield text[start:end]
        start = end
    yield text[start:]


def _token_text(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}
