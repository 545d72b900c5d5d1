"""Writes the demo's data: spoken home-automation commands and the JSON tool calls that they mean.

    python examples/make_home_assistant.py <outdir>

The sentences are sampled from the grammar of the package `home-assistant-intents` (Apache-2.0): production grammar, not people's
messages. The files are messy on purpose: duplicates across files and broken rows of many kinds, counted in `truth.json`.
The same package gives the same bytes.
"""

import csv
import importlib.util
import io
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

SEED = 3

INTENTS = [
    "HassTurnOn",
    "HassTurnOff",
    "HassLightSet",
    "HassClimateSetTemperature",
    "HassClimateGetTemperature",
    "HassFanSetSpeed",
    "HassSetVolume",
    "HassMediaPause",
    "HassCancelTimer",
    "HassStartTimer",
    "HassShoppingListAddItem",
    "HassGetWeather",
]

#: Kept rows of each intent. Balance matters: an intent with few rows is not learnt.
ROWS_PER_INTENT = 104

#: Tries for a sentence that is new; a block of the grammar that gives none in so many is used up.
TRIES = 60

#: Slots whose values only an installation knows. Templates with other ones are left out.
AREAS = [
    "kitchen",
    "living room",
    "bedroom",
    "bathroom",
    "office",
    "garage",
    "hallway",
    "basement",
    "attic",
    "dining room",
    "guest room",
    "laundry room",
    "nursery",
    "library",
    "garden",
    "patio",
    "study",
    "pantry",
    "balcony",
    "playroom",
]
ITEMS = [
    "milk",
    "bread",
    "butter",
    "eggs",
    "cheese",
    "apples",
    "bananas",
    "rice",
    "pasta",
    "coffee",
    "tea",
    "sugar",
    "flour",
    "salt",
    "olive oil",
    "tomatoes",
    "potatoes",
    "onions",
    "garlic",
    "carrots",
    "lettuce",
    "cucumbers",
    "yoghurt",
    "orange juice",
    "chicken",
    "salmon",
    "ham",
    "beans",
    "lentils",
    "honey",
    "jam",
    "chocolate",
    "cookies",
    "toilet paper",
    "dish soap",
    "shampoo",
    "toothpaste",
    "batteries",
    "light bulbs",
    "cat food",
    "dog food",
    "paper towels",
    "napkins",
    "ice cream",
    "frozen peas",
    "oats",
    "cereal",
    "mustard",
    "ketchup",
    "peanut butter",
    "lemons",
    "grapes",
    "mushrooms",
    "spinach",
    "tofu",
    "water",
    "candles",
    "sponges",
]
PLACES = [
    "Amsterdam",
    "Athens",
    "Berlin",
    "Boston",
    "Chicago",
    "Copenhagen",
    "Denver",
    "Dublin",
    "Geneva",
    "Hamburg",
    "Helsinki",
    "Lisbon",
    "London",
    "Madrid",
    "Milan",
    "Montreal",
    "Munich",
    "Oslo",
    "Paris",
    "Porto",
    "Prague",
    "Rome",
    "Seattle",
    "Sydney",
    "Tokyo",
    "Toronto",
    "Vienna",
    "Warsaw",
    "Zurich",
    "Vancouver",
]
UNKNOWN_SLOTS = ("{floor}", "timer_name", "timer_command", "{zone}", "timer_half")

#: Room temperatures; the grammar allows 0 to 100.
TEMPERATURES = (12, 30)

Value = str | int


# --- The grammar: text, [optional], (a|b), (a;b) in any order, {list} or {list:slot}, <rule> ---------------------------------


def parse_template(text: str):
    """The template as nested tuples: ("text", t), ("seq", …), ("alt", …), ("any_order", …), ("slot", list, name), ("rule", name)."""
    node, rest = _parse_group(text, "")
    if rest:
        raise ValueError(f"Template {text!r} has {rest!r} after its end.")
    return node


def _parse_group(text: str, closing: str):
    """The choices up to the closing bracket, and the text after it."""
    branches, sequence, kind = [], [], "alt"
    while text and text[0] != closing:
        char = text[0]
        if char in "|;":
            kind = "any_order" if char == ";" else kind
            branches.append(("seq", *sequence))
            sequence, text = [], text[1:]
        elif char in "([":
            inner, text = _parse_group(text[1:], ")" if char == "(" else "]")
            sequence.append(inner if char == "(" else ("optional", inner))
        elif char == "{":
            inside, text = text[1:].split("}", 1)
            list_name, _, slot = inside.partition(":")
            sequence.append(("slot", list_name, slot or list_name))
        elif char == "<":
            name, text = text[1:].split(">", 1)
            sequence.append(("rule", name))
        else:
            plain = re.match(r"[^()\[\]{}<>|;]+", text).group()
            sequence.append(("text", plain))
            text = text[len(plain) :]
    branches.append(("seq", *sequence))
    node = branches[0] if len(branches) == 1 else (kind, *branches)
    return node, text[len(closing) :]


class Grammar:
    """Samples sentences with their slots."""

    def __init__(self, definition: dict, rng: random.Random):
        self.rng = rng
        self.lists = definition["lists"]
        self.rules = {name: parse_template(text) for name, text in definition["expansion_rules"].items()}

    def sample(self, node) -> tuple[str, dict[str, Value]]:
        slots: dict[str, Value] = {}
        text = self._expand(node, slots)
        return re.sub(r"\s+", " ", text).strip(), slots

    def _expand(self, node, slots: dict[str, Value]) -> str:
        kind, *parts = node
        if kind == "text":
            return parts[0]
        if kind == "seq":
            return "".join(self._expand(part, slots) for part in parts)
        if kind == "alt":
            return self._expand(self.rng.choice(parts), slots)
        if kind == "any_order":
            order = self.rng.sample(parts, len(parts))
            return " ".join(self._expand(part, slots) for part in order)
        if kind == "optional":
            return self._expand(parts[0], slots) if self.rng.random() < 0.4 else ""
        if kind == "rule":
            return self._expand(self.rules[parts[0]], slots)
        spoken, value = self._value(parts[0])
        slots[parts[1]] = value
        return spoken

    def _value(self, name: str) -> tuple[str, Value]:
        """What is said, and what it means."""
        given = {"area": AREAS, "shopping_list_item": ITEMS, "name": PLACES}.get(name)
        if given is not None:
            word = self.rng.choice(given)
            return word, word
        values = self.lists[name]
        if "range" in values:
            low, high = TEMPERATURES if name == "temperature" else (values["range"]["from"], values["range"]["to"])
            number = self.rng.randrange(low, high + 1, values["range"].get("step", 1))
            return str(number), number
        value = self.rng.choice(values["values"])
        spoken, _ = self.sample(parse_template(value["in"]))
        return spoken, value["out"]


# --- The rows --------------------------------------------------------------------------------------------------------------


def read_blocks(definition: dict, intent: str) -> list[tuple[list, dict[str, Value]]]:
    """Each block of an intent: its usable templates and the slots that it always has."""
    blocks = []
    for block in definition["intents"][intent]["data"]:
        usable = [t for t in block["sentences"] if is_usable(t, intent)]
        if usable:
            # Places take no article.
            templates = [parse_template(t.replace("[<the>] {name}", "{name}")) for t in usable]
            blocks.append((templates, block.get("slots", {})))
    # What all blocks of an intent share, its name says already.
    shared = set.intersection(*(set(fixed.items()) for _, fixed in blocks))
    return [(templates, dict(set(fixed.items()) - shared)) for templates, fixed in blocks]


def is_usable(template: str, intent: str) -> bool:
    if "{name}" in template:
        return intent == "HassGetWeather"
    return not any(slot in template for slot in UNKNOWN_SLOTS)


def sample_intent(grammar: Grammar, blocks, intent: str, taken: dict[str, str], wanted: int) -> list[tuple[str, str]]:
    """Sentences that are new, from each block in turn, so that none of them outweighs the others."""
    rows: list[tuple[str, str]] = []
    open_blocks = list(blocks)
    while open_blocks and len(rows) < wanted:
        for block in list(open_blocks):
            row = sample_new(grammar, block, intent, taken)
            if row is None:
                open_blocks.remove(block)
            elif len(rows) < wanted:
                taken[row[0].lower()] = row[1]
                rows.append(row)
    return rows


def sample_new(grammar: Grammar, block, intent: str, taken: dict[str, str]) -> tuple[str, str] | None:
    templates, fixed = block
    for _ in range(TRIES):
        sentence, slots = grammar.sample(grammar.rng.choice(templates))
        if sentence.lower() not in taken:
            merged = dict(sorted({**fixed, **slots}.items()))
            return sentence, json.dumps({"intent": intent.removeprefix("Hass"), "slots": merged})
    return None


# --- The mess --------------------------------------------------------------------------------------------------------------
# Each maker of a broken row gives the text that goes into the file and the code under which it must be dropped.


def chat(question, answer) -> dict:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


BROKEN_CHAT = [
    lambda q, a: (json.dumps(chat(q, a))[:-14], "invalid_json"),
    lambda q, a: (json.dumps(chat(q, a)).replace('"role"', "role", 1), "invalid_json"),
    lambda q, a: (json.dumps(chat(q, a)).encode()[:30] + b"\xff\xfe" + json.dumps(chat(q, a)).encode()[30:], "invalid_utf8"),
    lambda q, a: (json.dumps(chat(21, a)), "wrong_type"),
    lambda q, a: (json.dumps(chat(q, json.loads(a))), "wrong_type"),
    lambda q, a: (json.dumps({"messages": [{"role": "user", "content": q}]}), "last_not_assistant"),
    lambda q, a: (json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant"}]}), "missing_field"),
    lambda q, a: (json.dumps(chat(q, a)).replace('"user"', '"person"', 1), "unknown_role"),
    lambda q, a: (json.dumps(chat(q, "  ")), "empty_content"),
    lambda q, a: (json.dumps([q, a]), "not_object"),
]
BROKEN_CSV = [
    lambda q, a: (f"{q},{a}".replace('"', ""), "csv_too_many_columns"),
    lambda q, a: (q, "csv_missing_columns"),
    lambda q, a: (f"{q},", "empty_content"),
    lambda q, a: (f'{q},the "TurnOn" intent', "csv_stray_quote"),
    lambda q, a: (f'{q},"' + a.replace('"', '""'), "csv_unterminated_quote"),
]
BROKEN_ALPACA = [
    lambda q, a: (json.dumps({"instruction": q, "input": ""}), "missing_field"),
    lambda q, a: (json.dumps({"instruction": q, "input": "", "output": json.loads(a)}), "wrong_type"),
    lambda q, a: (json.dumps({"instruction": "", "input": "", "output": a}), "empty_content"),
    lambda q, a: (json.dumps({"instruction": q, "input": "", "output": a}).replace('"output"', "output"), "invalid_json"),
]


def csv_line(*fields: str) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(fields)
    return out.getvalue()


class MessyFile:
    """The pieces of one file, with the number of rows of each fate."""

    def __init__(self, name: str, write_row, broken):
        self.name, self.write_row, self.broken = name, write_row, broken
        self.pieces: list[bytes] = []
        self.kept = self.duplicates = 0
        self.dropped: Counter[str] = Counter()

    def add_row(self, row: tuple[str, str], is_duplicate: bool = False) -> None:
        self.pieces.append(self.write_row(*row).encode())
        self.duplicates += is_duplicate
        self.kept += not is_duplicate

    def add_broken(self, number: int, row: tuple[str, str]) -> None:
        text, code = self.broken[number](*row)
        self.pieces.append(text if isinstance(text, bytes) else text.encode())
        self.dropped[code] += 1

    @property
    def rows_in(self) -> int:
        return self.kept + self.duplicates + sum(self.dropped.values())

    def truth(self) -> dict:
        return {
            "rowsIn": self.rows_in,
            "kept": self.kept,
            "duplicates": self.duplicates,
            "dropped": dict(sorted(self.dropped.items())),
        }


def spread(rows: list[tuple[str, str]], spare: list[tuple[str, str]], rng: random.Random) -> list[MessyFile]:
    """Deals the rows over the three files, with 3 % duplicates and every broken row in between."""
    files = [
        MessyFile("chat.jsonl", lambda q, a: json.dumps(chat(q, a)), BROKEN_CHAT),
        MessyFile("questions.csv", csv_line, BROKEN_CSV),
        MessyFile("instructions.json", lambda q, a: json.dumps({"instruction": q, "input": "", "output": a}), BROKEN_ALPACA),
    ]
    bounds = [0, len(rows) // 2, len(rows) * 4 // 5, len(rows)]
    earlier: list[tuple[str, str]] = []
    for file, start, end in zip(files, bounds, bounds[1:]):
        plan = [(file.add_row, row) for row in rows[start:end]]
        if earlier:
            copies = rng.sample(earlier, (end - start) * 3 * len(rows) // (100 * (len(rows) - bounds[1])))
            plan += [(lambda row, file=file: file.add_row(row, is_duplicate=True), row) for row in copies]
        plan += [(lambda row, n=n, file=file: file.add_broken(n, row), spare.pop()) for n in range(len(file.broken))]
        rng.shuffle(plan)
        for add, row in plan:
            add(row)
        earlier += rows[start:end]
    return files


# --- The files -------------------------------------------------------------------------------------------------------------


def write_files(files: list[MessyFile], outdir: Path, by_intent: Counter[str]) -> None:
    outdir.mkdir(parents=True, exist_ok=True)
    chats, questions, instructions = files
    half = len(chats.pieces) // 2
    # Blank lines are no rows, and neither is the header.
    (outdir / chats.name).write_bytes(b"\n".join([*chats.pieces[:half], b"", *chats.pieces[half:], b"", b""]))
    (outdir / questions.name).write_bytes(b"\r\n".join([b"question,answer", *questions.pieces, b""]))
    (outdir / instructions.name).write_bytes(b"[\n" + b",\n".join(instructions.pieces) + b"\n]\n")
    truth = {
        "rowsIn": sum(f.rows_in for f in files),
        "kept": sum(f.kept for f in files),
        "duplicates": sum(f.duplicates for f in files),
        "dropped": dict(sorted(sum((f.dropped for f in files), Counter()).items())),
        "files": {f.name: f.truth() for f in files},
        "intents": dict(sorted(by_intent.items())),
    }
    (outdir / "truth.json").write_text(json.dumps(truth, indent=2) + "\n")
    (outdir / "README.md").write_text(describe(truth))


def describe(truth: dict) -> str:
    dropped = "\n".join(f"| dropped: {code} | {n} |" for code, n in truth["dropped"].items())
    intents = "\n".join(f"| {name} | {n} |" for name, n in truth["intents"].items())
    return f"""# Home-automation commands and the JSON tool calls that they mean

Sampled by `examples/make_home_assistant.py` from the English grammar of `home-assistant-intents` (Apache-2.0): sentences of a
production grammar, not people's messages. Rooms, shopping items and places are the script's own lists.

The mess is on purpose, to show what ingest and preprocess do with it: three files in three shapes (`chat.jsonl` OpenAI messages
with blank lines, `questions.csv` with Windows line ends, `instructions.json` an Alpaca array), rows that stand in two files, and
broken rows. `truth.json` has the counts by file.

| rows | count |
|---|---|
| in the files | {truth["rowsIn"]} |
| kept | {truth["kept"]} |
| exact duplicates | {truth["duplicates"]} |
{dropped}

| intent | kept rows |
|---|---|
{intents}
"""


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("Usage: make_home_assistant.py <outdir>")
    package = importlib.util.find_spec("home_assistant_intents")
    if package is None:
        sys.exit("The package home-assistant-intents is not installed; run the set-up first.")
    definition = json.loads((Path(package.origin).parent / "data" / "en.json").read_text())
    rng = random.Random(SEED)
    grammar = Grammar(definition, rng)
    taken: dict[str, str] = {}
    rows: list[tuple[str, str]] = []
    spare: list[tuple[str, str]] = []
    by_intent: Counter[str] = Counter()
    for intent in INTENTS:
        sampled = sample_intent(grammar, read_blocks(definition, intent), intent, taken, ROWS_PER_INTENT + 2)
        rows += sampled[:ROWS_PER_INTENT]
        spare += sampled[ROWS_PER_INTENT:]
        by_intent[intent.removeprefix("Hass")] = len(sampled[:ROWS_PER_INTENT])
    rng.shuffle(rows)
    rng.shuffle(spare)
    write_files(spread(rows, spare, rng), Path(sys.argv[1]), by_intent)


if __name__ == "__main__":
    main()
