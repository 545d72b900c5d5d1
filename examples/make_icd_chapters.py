"""Writes the data of the second example: a diagnosis and the chapter of ICD-10-CM that it belongs to.

    python examples/make_icd_chapters.py <outdir>

The phrases are the descriptions and inclusion terms of ICD-10-CM, a work of the US government (CDC/NCHS), as they come with the
package `simple-icd-10-cm` (MIT). A row's `category` is the 3-character category: rows of one must not lie on both sides of the
split, because they resemble each other. The same package gives the same bytes.
"""

import importlib.util
import json
import random
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

SEED = 20261124

#: Rows of each chapter: 21 × 67 = 1,407.
ROWS_PER_CHAPTER = 67

#: Phrases outside these lengths, in characters, are fragments or lists.
LENGTH_MIN, LENGTH_MAX = 4, 90

#: Chapter number and the word that names it. Chapter 22 (codes for special purposes) has too few phrases.
CHAPTERS = dict(
    enumerate(
        [
            "infections",
            "neoplasms",
            "blood",
            "endocrine",
            "mental",
            "nervous",
            "eye",
            "ear",
            "circulatory",
            "respiratory",
            "digestive",
            "skin",
            "musculoskeletal",
            "genitourinary",
            "pregnancy",
            "perinatal",
            "congenital",
            "symptoms",
            "injury",
            "external",
            "services",
        ],
        start=1,
    )
)

Phrases = dict[str, list[str]]  # by category


def read_phrases(xml: Path) -> dict[str, Phrases]:
    """Phrases by chapter and category, inclusion terms (what clinicians write) first; those of two chapters are left out."""
    found: dict[str, tuple[str, str, str, bool]] = {}
    ambiguous: set[str] = set()
    for chapter in ElementTree.parse(xml).getroot().findall("chapter"):
        label = CHAPTERS.get(int(chapter.findtext("name")))
        for diagnosis in chapter.iter("diag") if label else ():
            terms = [(note.text, True) for note in diagnosis.findall("inclusionTerm/note")]
            for text, is_term in [*terms, (diagnosis.findtext("desc"), False)]:
                phrase = re.sub(r"\s+", " ", text or "").strip()
                key = re.sub(r"\W+", " ", phrase.lower()).strip()
                if not LENGTH_MIN <= len(phrase) <= LENGTH_MAX:
                    continue
                if key in found and found[key][1] != label:
                    ambiguous.add(key)
                found.setdefault(key, (phrase, label, diagnosis.findtext("name")[:3], is_term))
    phrases: dict[str, Phrases] = defaultdict(lambda: defaultdict(list))
    for key, (phrase, label, category, _is_term) in sorted(found.items(), key=lambda entry: not entry[1][3]):
        if key not in ambiguous:
            phrases[label][category].append(phrase)
    return phrases


def choose_rows(phrases: Phrases, label: str, rng: random.Random) -> list[dict[str, str]]:
    """One phrase of each category before a second of any."""
    rows: list[dict[str, str]] = []
    depth = 0
    while len(rows) < ROWS_PER_CHAPTER:
        categories = [c for c in sorted(phrases) if len(phrases[c]) > depth]
        if not categories:
            break
        rng.shuffle(categories)
        for category in categories[: ROWS_PER_CHAPTER - len(rows)]:
            rows.append({"question": phrases[category][depth], "answer": label, "category": category})
        depth += 1
    return rows


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("Usage: make_icd_chapters.py <outdir>")
    package = importlib.util.find_spec("simple_icd_10_cm")
    if package is None:
        sys.exit("The package simple-icd-10-cm is not installed; run the set-up first.")
    (xml,) = (Path(package.origin).parent / "data").glob("icd10c-tabular-*.xml")
    phrases = read_phrases(xml)
    rng = random.Random(SEED)
    rows = [row for label in CHAPTERS.values() for row in choose_rows(phrases[label], label, rng)]
    rng.shuffle(rows)
    outdir = Path(sys.argv[1])
    outdir.mkdir(parents=True, exist_ok=True)
    (outdir / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    truth = {"rowsIn": len(rows), "kept": len(rows), "duplicates": 0, "dropped": {}}
    (outdir / "truth.json").write_text(json.dumps(truth, indent=2) + "\n")


if __name__ == "__main__":
    main()
