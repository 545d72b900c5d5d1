"""Writes the data of the third example: customers' questions with a polite and a curt answer to each.

    python examples/make_preferences.py <outdir>

Every sentence is made here from templates; nobody's messages are in them, and they may be used for anything. `pairs.jsonl` has a prompt,
a chosen and a rejected answer in a row; `dialogues.jsonl` the same as dialogues without a prompt of their own; `answers.jsonl` single
answers with a label, for `train.method: kto`. A few rows are broken on purpose. The same script gives the same bytes. Both answers
say the same and are about as long in half of the rows, so that length alone does not tell them apart.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

SEED = 20261124

#: Rows of `pairs.jsonl`, of `dialogues.jsonl` and of `answers.jsonl` that are good.
PAIRS, DIALOGUES, ANSWERS = 240, 80, 200

THINGS = ("lamp", "kettle", "scarf", "backpack", "desk", "radio", "bicycle bell", "coffee mill", "tent", "camera", "blanket", "toaster")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
PLACES = ("Basel", "Lyon", "Porto", "Graz", "Ghent", "Turku", "Bergen", "Split")

#: Question, polite answer, curt answer of about the same length, curt answer in short.
CASES = (
    (
        "Where is my order {number}?",
        "Thank you for asking. Your order {number} is on its way and should reach you on {day}.",
        "It has been sent, as the page with your orders says. Number {number} will be there on {day}.",
        "On its way. {day}.",
    ),
    (
        "Can I send the {thing} back?",
        "Of course, and we are sorry that the {thing} does not suit you. You have until {day} to send it.",
        "The rules are on the label that came with the {thing}. It has to be here by {day}, not later.",
        "By {day}, not later.",
    ),
    (
        "Do you deliver to {place}?",
        "Yes, gladly. A parcel to {place} leaves on {day}, and we will write to you as soon as it does.",
        "The list of towns is on our page, and {place} is on it. Parcels leave on {day}, not before.",
        "Yes. {day}.",
    ),
    (
        "The {thing} that I bought in {place} is broken.",
        "We are very sorry to hear that. Please send us a photo of the {thing}, and a new one leaves on {day}.",
        "A {thing} breaks when it is used wrongly. Send a photo, or nothing can be done before {day}.",
        "Send a photo first.",
    ),
    (
        "May I change the address of order {number} to {place}?",
        "Certainly, that is done. Order {number} now goes to {place}; thank you for telling us in time.",
        "Addresses should be right from the start. Order {number} was changed to {place} all the same.",
        "Changed. Check next time.",
    ),
    (
        "How long is the guarantee of the {thing}?",
        "Thank you for your question. The {thing} is covered for {years} years, and we are happy to help.",
        "That is written in the papers of the {thing}: {years} years. Nobody can help after that.",
        "{years} years.",
    ),
    (
        "Is the shop in {place} open on {day}?",
        "Yes, you are welcome from {hour} o'clock. We look forward to seeing you in {place} on {day}.",
        "The hours hang on the door in {place}. On {day} it opens at {hour}, as on every other day.",
        "From {hour}.",
    ),
    (
        "I cannot find invoice {number}.",
        "Let us help you with that. We have just sent invoice {number} to you again; please tell us if it is missing.",
        "Invoice {number} was sent once already. It has been sent again, so look into the right folder this time.",
        "Sent again.",
    ),
)


def fill(rng: random.Random) -> dict[str, Any]:
    return {
        "number": rng.randrange(1000, 9999),
        "thing": rng.choice(THINGS),
        "day": rng.choice(DAYS),
        "place": rng.choice(PLACES),
        "years": rng.randrange(2, 8),
        "hour": rng.randrange(7, 11),
    }


def make_cases(count: int, rng: random.Random, seen: set[str]) -> list[tuple[str, str, str]]:
    """(question, polite answer, curt answer); no question comes twice, in no file."""
    cases: list[tuple[str, str, str]] = []
    while len(cases) < count:
        question, polite, curt, short = rng.choice(CASES)
        slots = fill(rng)
        text = question.format(**slots)
        if text not in seen:
            seen.add(text)
            cases.append((text, polite.format(**slots), rng.choice((curt, short)).format(**slots)))
    return cases


def as_pair(question: str, polite: str, curt: str) -> dict[str, Any]:
    return {"prompt": question, "chosen": polite, "rejected": curt}


def as_dialogues(question: str, polite: str, curt: str) -> dict[str, Any]:
    def dialogue(answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    return {"chosen": dialogue(polite), "rejected": dialogue(curt)}


def as_answer(number: int, question: str, polite: str, curt: str) -> dict[str, Any]:
    is_wanted = number % 2 == 0
    return {"prompt": question, "completion": polite if is_wanted else curt, "label": is_wanted}


#: Broken rows and the code of each.
BROKEN_PAIRS = (
    ("chosen_equals_rejected", {"prompt": "Are you open?", "chosen": "Yes.", "rejected": "Yes."}),
    ("empty_answer", {"prompt": "Are you there?", "chosen": "Yes, gladly.", "rejected": ""}),
    ("missing_field", {"prompt": "Do you gift-wrap?", "chosen": "Yes, gladly."}),
    ("not_for_method", {"prompt": "Do you repair?", "completion": "Yes, gladly."}),
)
BROKEN_DIALOGUES = (("prompts_differ", {**as_dialogues("Who?", "We.", "They."), "rejected": as_dialogues("What?", "a", "b")["rejected"]}),)
BROKEN_ANSWERS = (
    ("label_missing", {"prompt": "Do you deliver?", "completion": "Yes, gladly."}),
    ("bad_label", {"prompt": "Do you deliver?", "completion": "Yes.", "label": "so-so"}),
)


def write(file: Path, good: list[dict[str, Any]], broken: tuple[tuple[str, dict[str, Any]], ...], rng: random.Random) -> dict[str, Any]:
    """Good rows, the first of them once more, and broken ones, in a random order; returns what the pipeline must count."""
    lines = [json.dumps(row) for row in [*good, good[0], *(row for _, row in broken)]]
    rng.shuffle(lines)
    file.write_text("".join(line + "\n" for line in lines), "utf-8")
    return {"rowsIn": len(lines), "kept": len(good), "duplicates": 1, "dropped": {code: 1 for code, _ in broken}}


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("Usage: make_preferences.py <outdir>")
    outdir = Path(sys.argv[1])
    outdir.mkdir(parents=True, exist_ok=True)
    rng, seen = random.Random(SEED), set()
    pairs = [as_pair(*case) for case in make_cases(PAIRS, rng, seen)]
    dialogues = [as_dialogues(*case) for case in make_cases(DIALOGUES, rng, seen)]
    answers = [as_answer(i, *case) for i, case in enumerate(make_cases(ANSWERS, rng, seen))]
    files = {
        "pairs.jsonl": write(outdir / "pairs.jsonl", pairs, BROKEN_PAIRS, rng),
        "dialogues.jsonl": write(outdir / "dialogues.jsonl", dialogues, BROKEN_DIALOGUES, rng),
    }
    total = {field: sum(book[field] for book in files.values()) for field in ("rowsIn", "kept", "duplicates")}
    dropped = {code: count for book in files.values() for code, count in book["dropped"].items()}
    judged = write(outdir / "answers.jsonl", answers, BROKEN_ANSWERS, rng)
    truth = {**total, "dropped": dropped, "files": files, "answers": judged}
    (outdir / "truth.json").write_text(json.dumps(truth, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
