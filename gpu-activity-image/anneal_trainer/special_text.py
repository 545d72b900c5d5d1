"""The text of special tokens inside messages: ordinary text to the model, so that nothing that somebody writes can end a turn or begin one.

Templates see a mark in its place, and the tokenizer then knows its own special tokens by other names. Marks and names are as long as
what they stand for, so that places in the text stay what they are. Chats without such text never come here.
Not covered: control text of templates that is no special token, such as Llama 2's `[INST]`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer

Span = tuple[int, int]

# Letters that templates leave alone: printable, without case, in nobody's text (CJK extension G, 4,938 of them).
_MARKS = range(0x30000, 0x3134A)
# Letters of the names: private use, plane 15, one for each special token.
_NAMES_FIRST = 0xF0000
_NAME = re.compile("[\U000f0000-\U000ffffd]")


class TemplateError(Exception):
    """The template cannot render this chat, or its text cannot be matched to the chat's turns or made into tokens."""

    # Of the row, in the quarantine.
    code = "wrong_type"


class LeftOut(TemplateError):
    """The template shows a chat without something that the model was to learn to write."""

    code = "left_out_by_template"


@dataclass(frozen=True)
class Rendered:
    """A chat as text. `literal`: where a message spells a special token, in order."""

    text: str
    literal: tuple[Span, ...] = ()

    def cut(self, start: int, end: int) -> "Rendered":
        inside = tuple((a - start, b - start) for a, b in self.literal if start <= a and b <= end)
        return Rendered(self.text[start:end], inside)


@dataclass(frozen=True)
class Tokens:
    """`offsets`: each token's characters as [start, end)."""

    ids: list[int]
    offsets: list[Span]


class Marks:
    """Stand for the special tokens that one chat spells."""

    def __init__(self, found: Iterable[str], used: set[str]):
        """`used`: the letters of the chat."""
        free = (letter for letter in map(chr, _MARKS) if letter not in used)
        self._letters = dict(zip(sorted(found), free, strict=False))
        self._texts = {letter * len(text): text for text, letter in self._letters.items()}
        self._pattern = alternatives(self._letters)

    def hide(self, value: Any) -> Any:
        """A copy of messages, tools or text with marks in place of the texts."""
        match value:
            case str():
                return self._pattern.sub(lambda match: self._letters[match[0]] * len(match[0]), value)
            case dict():
                return {self.hide(key): self.hide(inner) for key, inner in value.items()}
            case list():
                return [self.hide(inner) for inner in value]
            case _:
                return value

    def reveal(self, text: str) -> Rendered:
        spans = tuple(match.span() for match in alternatives(self._texts).finditer(text))
        for mark, original in self._texts.items():
            text = text.replace(mark, original)
        for original, letter in self._letters.items():
            if letter in text or json.dumps(letter)[1:-1] in text:
                raise TemplateError(f"The chat template cuts or escapes {original}, which a message spells; take it out.")
        return Rendered(text, spans)


class RenamedTokenizer:
    """A tokenizer that knows its special tokens by other names; their own are ordinary text to it."""

    def __init__(self, file: str, tokens: Mapping[int, AddedToken]):
        """`tokens`: the special tokens by id."""
        self._tokenizer = Tokenizer.from_file(file)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        self._special_ids = set(tokens)
        self._names = {token.content: chr(_NAMES_FIRST + i) * len(token.content) for i, token in enumerate(tokens.values())}
        self._tokenizer.add_tokens([_renamed(token, self._names[token.content]) for token in tokens.values()])
        self._ids = {self._tokenizer.token_to_id(self._names[token.content]): id for id, token in tokens.items()}
        self._pattern = alternatives(self._names)

    def encode(self, rendered: Rendered) -> Tokens:
        if _NAME.search(rendered.text):
            raise TemplateError("The text spells a special token and has private-use characters (U+F0000 and up); take one out.")
        encoding = self._tokenizer.encode(self._rename(rendered), add_special_tokens=False)
        if not self._special_ids.isdisjoint(encoding.ids):
            raise TemplateError("This tokenizer has no other way to write the special token that a message spells; take it out.")
        return Tokens([self._ids.get(id, id) for id in encoding.ids], encoding.offsets)

    def _rename(self, rendered: Rendered) -> str:
        """What the template wrote gets the names; what messages spell stays."""
        pieces, at = [], 0
        for start, end in rendered.literal:
            pieces += [self._with_names(rendered.text[at:start]), rendered.text[start:end]]
            at = end
        return "".join([*pieces, self._with_names(rendered.text[at:])])

    def _with_names(self, text: str) -> str:
        return self._pattern.sub(lambda match: self._names[match[0]], text)


def mark_special_texts(chat: Any, specials: re.Pattern[str]) -> Marks | None:
    """None for a chat without such text."""
    texts = _texts_of(chat)
    if not specials.search("\n".join(texts)):
        return None
    found = {text for whole in texts for text in specials.findall(whole)}
    return Marks(found, set().union(*texts)) if found else None


def _texts_of(value: Any) -> list[str]:
    """Every text of messages and tools, names of fields included."""
    texts, left = [], [value]
    while left:
        inner = left.pop()
        if isinstance(inner, str):
            texts.append(inner)
        elif isinstance(inner, dict):
            texts += inner
            left += inner.values()
        elif isinstance(inner, list):
            left += inner
    return texts


def alternatives(texts: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the texts, the longest first as tokenizers do; nothing where there are none."""
    return re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)) or "(?!)")


def _renamed(token: AddedToken, name: str) -> AddedToken:
    # Not `special`: those are what `encode_special_tokens` turns off.
    return AddedToken(
        name,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=False,
    )
