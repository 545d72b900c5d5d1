"""Rows of a dataset as JSON lines (`src/contracts/rows.ts`), read and written."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from anneal_trainer.files import replacing_file
from anneal_trainer.protocol import BadRequest, DataRejected

Row = dict[str, Any]

# What the rows of each training method are.
ROW_KINDS = {"sft": "chat", "dpo": "pair", "reward": "pair", "kto": "judged"}

# By kind: fields that hold messages, and others with their types.
_FIELDS: dict[str, tuple[tuple[str, ...], tuple[tuple[str, type], ...]]] = {
    "chat": (("messages",), ()),
    "pair": (("prompt",), (("chosen", dict), ("rejected", dict))),
    "judged": (("prompt",), (("completion", dict), ("label", bool))),
}


def read_rows(file: str, kind: str = "chat") -> Iterator[Row]:
    """`kind`: `chat`, `pair` or `judged`."""
    require_rows(file)
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield parse_row(line, kind, f"Line {number} of {file}")


def write_json_lines(file: str, values: Iterable[dict[str, Any]]) -> None:
    """Writes one object a line; the file appears whole or not at all."""
    with replacing_file(Path(file)) as temporary, temporary.open("wb") as out:
        out.writelines(map(to_json_line, values))


def to_json_line(value: dict[str, Any]) -> bytes:
    # Half of a surrogate pair, which JSON can spell, stays what it was.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"


def require_rows(file: str) -> None:
    if not Path(file).is_file():
        raise BadRequest(f"The rows file {file} does not exist.")


def parse_row(line: str | bytes, kind: str, where: str) -> Row:
    """Raises DataRejected. Among chats there may be texts without turns, rows with `text`."""
    lists, others = _FIELDS[kind]
    try:
        row = json.loads(line)
        if kind == "chat" and isinstance(row.get("text"), str):
            return row
        if all(isinstance(row[name], list) and row[name] for name in lists) and all(isinstance(row[name], type) for name, type in others):
            return row
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    names = " and ".join(f"`{name}`" for name in (*lists, *(name for name, _ in others)))
    raise DataRejected(f"{where} is not a row with {names}; make the dataset again.")
