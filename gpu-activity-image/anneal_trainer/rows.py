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


def count_rows(file: str) -> int:
    _require(file)
    with open(file, "rb") as lines:
        return sum(1 for line in lines if line.strip())


def read_rows(file: str, kind: str = "chat") -> Iterator[Row]:
    """`kind`: `chat`, `pair` or `judged`."""
    _require(file)
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _parse(line, kind, f"Line {number} of {file}")


def write_json_lines(file: str, values: Iterable[dict[str, Any]]) -> None:
    """Writes one object a line; the file appears whole or not at all."""
    with replacing_file(Path(file)) as temporary, temporary.open("w", encoding="utf-8") as out:
        for value in values:
            out.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def _require(file: str) -> None:
    if not Path(file).is_file():
        raise BadRequest(f"The rows file {file} does not exist.")


def _parse(line: str, kind: str, where: str) -> Row:
    lists, others = _FIELDS[kind]
    try:
        row = json.loads(line)
        if all(isinstance(row[name], list) and row[name] for name in lists) and all(isinstance(row[name], type) for name, type in others):
            return row
    except (ValueError, KeyError, TypeError):
        pass
    names = " and ".join(f"`{name}`" for name in (*lists, *(name for name, _ in others)))
    raise DataRejected(f"{where} is not a row with {names}; make the dataset again.")
