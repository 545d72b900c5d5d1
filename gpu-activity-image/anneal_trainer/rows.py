"""Rows of a dataset as JSON lines (`src/contracts/rows.ts`), read and written."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from anneal_trainer.files import replacing_file
from anneal_trainer.protocol import BadRequest, DataRejected

Row = dict[str, Any]


def count_rows(file: str) -> int:
    _require(file)
    with open(file, "rb") as lines:
        return sum(1 for line in lines if line.strip())


def read_rows(file: str) -> Iterator[Row]:
    _require(file)
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _parse(line, file, number)


def write_json_lines(file: str, values: Iterable[dict[str, Any]]) -> None:
    """Writes one object a line; the file appears whole or not at all."""
    with replacing_file(Path(file)) as temporary, temporary.open("w", encoding="utf-8") as out:
        for value in values:
            out.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def _require(file: str) -> None:
    if not Path(file).is_file():
        raise BadRequest(f"The rows file {file} does not exist.")


def _parse(line: str, file: str, number: int) -> Row:
    try:
        row = json.loads(line)
        if isinstance(row["messages"], list) and row["messages"]:
            return row
    except (ValueError, KeyError, TypeError):
        pass
    raise DataRejected(f"Line {number} of {file} is not a row with `messages`; make the dataset again.")
