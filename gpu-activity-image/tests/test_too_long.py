"""Rows longer than the limit: what stays of them, what is trained on how often, and that rows and shards match."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from anneal_trainer.chat import Chat
from anneal_trainer.protocol import SplitFiles, TokeniseJob
from anneal_trainer.shards import read_judged_shard, read_preference_shard, read_shard
from anneal_trainer.tokenise import tokenise
from support import TINY, Events, example_rows, make_row, write_rows

LIMIT = 60
SYSTEM = {"role": "system", "content": "Be brief."}
READERS = {"chat": read_shard, "pair": read_preference_shard, "judged": read_judged_shard}


@pytest.fixture(scope="module")
def chat() -> Chat:
    return Chat(TINY)


def run(folder: Path, rows: list[dict], too_long: str, kind: str = "chat", split: str = "train", tokenizer: str = TINY):
    write_rows(folder / "rows.jsonl", rows)
    files = SplitFiles(split, str(folder / "rows.jsonl"), str(folder / "out.safetensors"), str(folder / "kept.jsonl"))
    job = TokeniseJob(1, "tokenise", tokenizer, LIMIT, [files], str(folder / "rejected.jsonl"), kind, too_long)
    events = Events()
    tokenise(job, events)
    kept, rejected = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()] for name in ("kept", "rejected")
    )
    shard = READERS[kind](files.out)
    assert len(kept) == len(shard) == events.result()["splits"][split]["rows"]
    return shard, kept, rejected, events.result()


def exchange(number: int, words: int = 2, **answer) -> list[dict]:
    question = {"role": "user", "content": f"question {number}?"}
    return [question, {"role": "assistant", "content": f"a{number} " + "word " * words, **answer}]


def trained_answers(chat: Chat, shard) -> list[str]:
    """The first word of every answer that is trained on, in order."""
    texts = []
    for row in map(shard.row, range(len(shard))):
        ids = row["input_ids"][row["trainable"] == 1].tolist()
        texts += [text.split()[0] for text in chat.decode(ids, skip_special_tokens=False).split("<|im_end|>") if text.strip()]
    return texts


def test_truncated_chats_end_with_the_last_answer_that_fits(tmp_path: Path, chat: Chat):
    long = [SYSTEM, *(message for i in range(9) for message in exchange(i))]
    shard, kept, rejected, result = run(tmp_path, [make_row(0, long), make_row(1, exchange(9))], "truncate")
    assert rejected == [] and result["cut"]["truncated"] == 1 and shard.lengths.max() <= LIMIT
    # The row says what the shard holds, and the tokens are those of the shorter chat.
    assert kept[0]["id"] == make_row(0, [])["id"] and kept[0]["messages"] == long[: len(kept[0]["messages"])]
    assert shard.row(0)["input_ids"].tolist() == chat.encode(chat.render(kept[0]["messages"]))[:-1]
    assert trained_answers(chat, shard) == ["a0", "a1", "a9"]
    assert len(chat.encode(chat.render(long[:7]))) - 1 > LIMIT


def test_a_first_answer_that_is_too_long_is_cut_and_one_behind_a_long_question_is_dropped(tmp_path: Path, chat: Chat):
    answered = [SYSTEM, *exchange(0, words=200)]
    asked = [{"role": "user", "content": "why " * 200}, {"role": "assistant", "content": "so"}]
    rows = [make_row(0, answered), make_row(1, asked)]
    shard, kept, rejected, result = run(tmp_path, rows, "truncate")
    assert shard.lengths.tolist() == [LIMIT] and kept == rows[:1]
    assert result["cut"]["lostTokens"] == len(chat.encode(chat.render(answered))) - 1 - LIMIT
    assert [(row["index"], row["code"]) for row in rejected] == [(1, "no_trainable_token")]
    # Half an answer is nothing to judge a model by.
    _, kept, rejected, _ = run(tmp_path, rows, "truncate", split="test")
    assert kept == [] and {row["code"] for row in rejected} == {"too_long"}


def test_split_chats_train_every_answer_once_behind_what_came_before(tmp_path: Path, chat: Chat):
    messages = [SYSTEM, *(message for i in range(20) for message in exchange(i, weight=0 if i == 3 else 1))]
    shard, kept, rejected, result = run(tmp_path, [make_row(0, exchange(90)), make_row(7, messages), make_row(8, exchange(91))], "split")
    assert rejected == [] and shard.lengths.max() <= LIMIT
    assert trained_answers(chat, shard) == ["a90", *(f"a{i}" for i in range(20) if i != 3), "a91"]
    pieces = kept[1:-1]
    assert result["cut"] == {"truncated": 0, "lostTokens": 0, "split": {"rows": 1, "into": len(pieces)}, "lostTurns": 0}
    assert [piece["id"] for piece in pieces] == [f"{7:032x}#{k}" for k in range(1, len(pieces) + 1)]
    for piece in pieces:
        assert piece["messages"][0] == SYSTEM and piece["messages"][1]["role"] == "user"
        assert (piece["group"], piece["src"]) == ("0" * 16, {"source": 0, "line": 8})
    # All but the first begin with an exchange that is only read.
    assert all(piece["messages"][2]["weight"] == 0 for piece in pieces[1:])
    assert shard.lengths.sum() < 2.5 * len(chat.encode(chat.render(messages)))


def test_an_exchange_that_fits_nowhere_is_counted_and_a_chat_of_nothing_else_is_dropped(tmp_path: Path, chat: Chat):
    rows = [make_row(0, [*exchange(0), *exchange(1, words=200), *exchange(2)]), make_row(1, exchange(3, words=200))]
    shard, _, rejected, result = run(tmp_path, rows, "split")
    assert trained_answers(chat, shard) == ["a0", "a2"]
    assert result["cut"] == {"truncated": 0, "lostTokens": 0, "split": {"rows": 1, "into": 2}, "lostTurns": 1}
    assert [(row["index"], row["code"]) for row in rejected] == [(1, "too_long")] and rejected[0]["tokens"] > 200


def test_texts_become_blocks_of_which_every_token_is_trained_on(tmp_path: Path, chat: Chat):
    text = "One <|im_end|> line.\n" + "Zwölf Boxkämpfer jagen Viktor. " * 20
    rows = [{**make_row(0, []), "text": text}, {**make_row(1, []), "text": "Short."}, make_row(2, exchange(0))]
    rows = [{key: value for key, value in row.items() if value != []} for row in rows]
    shard, kept, rejected, result = run(tmp_path, rows, "auto")
    assert rejected == [] and [row["id"].partition("#")[2] for row in kept] == [*map(str, range(1, len(kept) - 1)), "", ""]
    whole = [id for i in range(len(kept) - 2) for id in shard.row(i)["input_ids"].tolist()]
    # The special token that the text spells is text; the one at the end is the tokenizer's.
    assert chat.decode(whole[:-1], skip_special_tokens=False) == text and whole.count(2) == 1 and whole[-1] == 2
    assert "".join(row["text"] for row in kept[:-2]) == text and kept[-2:] == rows[1:]
    assert all(shard.row(i)["trainable"].all() for i in range(len(kept) - 1)) and not shard.row(len(kept) - 1)["trainable"].all()
    assert result["cut"]["split"] == {"rows": 1, "into": len(kept) - 2}
    _, kept, _, result = run(tmp_path, rows[:2], "truncate")
    assert [text.startswith(row["text"]) for row in kept] == [True, False] and result["cut"]["truncated"] == 1
    assert result["cut"]["lostTokens"] == len(whole) - LIMIT
    assert [row["code"] for row in run(tmp_path, rows[:2], "drop")[2]] == ["too_long"]


def test_pairs_and_judged_answers_are_truncated_behind_their_prompt_and_never_split(tmp_path: Path):
    prompt = [{"role": "user", "content": "Say it."}]
    long, longer = ({"role": "assistant", "content": f"{word} " * 100} for word in ("yes", "no"))
    origin = {key: value for key, value in make_row(0, []).items() if key != "messages"}
    pair = {**origin, "prompt": prompt, "chosen": long, "rejected": longer}
    judged = {**origin, "prompt": prompt, "completion": long, "label": True}
    same = {**pair, "chosen": {**long, "content": long["content"] + "yes"}, "rejected": long}
    shard, kept, rejected, result = run(tmp_path, [pair, same], "truncate", "pair")
    assert result["cut"]["truncated"] == 1 and result["cut"]["lostTokens"] > LIMIT
    assert shard.lengths.tolist() == [LIMIT] and kept == [pair] and rejected[0]["code"] == "chosen_equals_rejected"
    shard, _, _, _ = run(tmp_path, [judged], "truncate", "judged")
    assert shard.lengths.tolist() == [LIMIT] and shard.label.tolist() == [1]
    assert [row["code"] for row in run(tmp_path, [pair], "split", "pair")[2]] == ["too_long"]


def test_rows_with_images_are_refused_where_the_model_reads_text_alone(tmp_path: Path):
    row = {**make_row(0, exchange(0)), "media": [{"digest": "0" * 64}]}
    rejected = run(tmp_path, [row], "auto")[2]
    assert rejected[0]["code"] == "media_not_trained" and "reads text alone" in rejected[0]["message"]


def test_the_bytes_are_the_same_with_one_process_and_with_three(tmp_path: Path):
    rows = [row for i in range(3000) for row in example_rows(1, i)] + [make_row(9, exchange(0, words=300))] * 3
    write_rows(tmp_path / "rows.jsonl", rows * 2)
    outputs = []
    for processes in (1, 3):
        folder = tmp_path / str(processes)
        files = SplitFiles("train", str(tmp_path / "rows.jsonl"), str(folder / "out.safetensors"), str(folder / "kept.jsonl"))
        job = TokeniseJob(1, "tokenise", TINY, 128, [files], str(folder / "rejected.jsonl"), processes=processes)
        events = Events()
        tokenise(job, events)
        outputs.append([*[(folder / name).read_bytes() for name in ("out.safetensors", "kept.jsonl", "rejected.jsonl")], events.result()])
    assert outputs[0] == outputs[1]
    result = outputs[0][-1]
    assert result["rejected"] == 6 and sum(result["splits"]["train"]["histogram"]) == 6000
    assert [json.loads(line)["index"] for line in outputs[0][2].splitlines()] == [3000, 3001, 3002, 6003, 6004, 6005]


def test_the_sample_is_short_however_long_the_row(tmp_path: Path):
    write_rows(tmp_path / "rows.jsonl", [make_row(0, exchange(0, words=5000))])
    files = SplitFiles("train", str(tmp_path / "rows.jsonl"), str(tmp_path / "out.safetensors"))
    job = TokeniseJob(1, "tokenise", TINY, 131072, [files], str(tmp_path / "rejected.jsonl"))
    events = Events()
    tokenise(replace(job, processes=1), events)
    assert np.sum([len(piece["text"]) for piece in events.result()["sample"]]) == 2000
