"""What most people would write with Hugging Face `datasets`: read chats, or questions in CSV, check, mask, drop copies, split.

Prints its accounts as JSON. Those of CSV lack the rows in which a quote stands inside a field: Python's reader takes them.
"""

import csv
import hashlib
import json
import re
import sys
import time
from collections import Counter

import datasets

ROLES = {"system", "developer", "user", "assistant", "tool"}
PATTERNS = {
    "email": re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}"),
    "phone": re.compile(r"\+1 \(\d{3}\) \d{3}-\d{4}"),
    "card": re.compile(r"\b(?:\d{4} ){3}\d{4}\b"),
    "ip": re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b"),
    "secret": re.compile(r"\bsk-[A-Za-z0-9]{40}\b"),
}


def passes_luhn(number: str) -> bool:
    digits = [int(digit) for digit in number if digit.isdigit()][::-1]
    doubled = (digit * 2 if i % 2 else digit for i, digit in enumerate(digits))
    return sum(n - 9 if n > 9 else n for n in doubled) % 10 == 0


def mask(text: str, found: Counter) -> str:
    for kind, pattern in PATTERNS.items():

        def replace(match: re.Match, kind: str = kind) -> str:
            if kind == "card" and not passes_luhn(match[0]):
                return match[0]
            found[kind] += 1
            return f"<{kind.upper()}>"

        text = pattern.sub(replace, text)
    return text


def fault_of(messages: object) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "wrong_type"
    for message in messages:
        if "content" not in message or "role" not in message:
            return "missing_field"
        if message["role"] not in ROLES:
            return "unknown_role"
        if not isinstance(message["content"], str):
            return "wrong_type"
    if any(not message["content"].strip() for message in messages):
        return "empty_content"
    turns = [message["role"] for message in messages if message["role"] != "system"]
    if any(role != ("user", "assistant")[i % 2] for i, role in enumerate(turns)):
        return "bad_turn_order"
    return None if messages[-1]["role"] == "assistant" else "last_not_assistant"


def read_line(line: str) -> tuple[str | None, list | None]:
    """Code and messages of a line of JSON."""
    try:
        value = json.loads(line.encode("latin-1").decode())
    except UnicodeDecodeError:
        return "invalid_utf8", None
    except json.JSONDecodeError:
        return "invalid_json", None
    if "messages" not in value:
        return "unknown_shape", None
    return fault_of(value["messages"]), value["messages"]


def read_record(fields: list[str]) -> tuple[str | None, list | None]:
    """Code and messages of a record of CSV: ticket, question, answer, category."""
    try:
        fields = [field.encode("latin-1").decode() for field in fields]
    except UnicodeDecodeError:
        return "invalid_utf8", None
    if len(fields) != 4:
        return "csv_too_many_columns" if len(fields) > 4 else "csv_missing_columns", None
    messages = [{"role": "user", "content": fields[1]}, {"role": "assistant", "content": fields[2]}]
    return fault_of(messages), messages


def clean(batch: dict) -> dict:
    out = {"code": [], "row": [], "id": [], "split": [], "pii": []}
    read = read_line if "text" in batch else read_record
    for given in next(iter(batch.values())):
        row, split, found = "", "", Counter()
        code, messages = read(given)
        if code is None:
            messages = [{"role": m["role"], "content": mask(m["content"], found)} for m in messages]
            row = json.dumps({"messages": messages}, ensure_ascii=False, separators=(",", ":"))
            question = next(m["content"] for m in messages if m["role"] == "user")
            group = hashlib.sha256(" ".join(question.lower().split()).encode()).hexdigest()
            share = int(group[:12], 16) / 16**12
            split = "test" if share < 0.1 else "validation" if share < 0.15 else "train"
        out["code"].append(code or "")
        out["row"].append(row)
        out["id"].append(hashlib.sha256(row.encode()).hexdigest()[:32])
        out["split"].append(split)
        out["pii"].append(json.dumps(found))
    return out


def load(path: str, cache: str) -> datasets.Dataset:
    """As bytes, a character each: what is not UTF-8 would end the load. `load_dataset("csv")` ends at a record of too many fields."""
    if not path.endswith(".csv"):
        return datasets.load_dataset("text", data_files=path, split="train", encoding="latin-1", cache_dir=cache)
    return datasets.Dataset.from_generator(records_of, gen_kwargs={"path": path}, cache_dir=cache)


def records_of(path: str):
    with open(path, encoding="latin-1", newline="") as file:
        records = csv.reader(file)
        next(records)
        for fields in records:
            yield {"fields": fields}


def main(path: str, out: str) -> None:
    datasets.disable_progress_bars()
    start = time.perf_counter()
    loaded = load(path, f"{out}/cache")
    rows = loaded.map(clean, batched=True, remove_columns=loaded.column_names, keep_in_memory=True)
    codes = Counter(code for code in rows["code"] if code)
    found = sum((Counter(json.loads(pii)) for pii in rows["pii"]), Counter())
    seen: set[str] = set()
    first = [not (i in seen or seen.add(i)) for i in rows["id"]]
    kept = [i for i, code in enumerate(rows["code"]) if not code and first[i]]
    rows = rows.add_column("first", first)
    for split in ("train", "validation", "test"):
        part = rows.filter(lambda row, name=split: row["first"] and row["split"] == name)
        part.select_columns(["id", "row"]).to_json(f"{out}/{split}.jsonl")
    seconds = time.perf_counter() - start
    accounts = {
        "rowsIn": len(rows),
        "duplicates": len(rows) - len(kept) - sum(codes.values()),
        "dropped": dict(codes),
        "pii": dict(found),
    }
    print(json.dumps({"seconds": seconds, **accounts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
