"""Which tokens are trained on, which rows are refused, and that the bytes are the same each time."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from anneal_trainer.chat import Chat
from anneal_trainer.protocol import DataRejected, SplitFiles, TokeniseJob
from anneal_trainer.shards import read_shard
from anneal_trainer.tokenise import tokenise
from support import GOLDEN, TINY, Events, example_rows, make_row, write_rows
from transformers import AutoTokenizer

SYSTEM = {"role": "system", "content": "Be brief."}
TURN_END = "<|im_end|>\n"
PROMPT_END = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}" + TURN_END + "{% endfor %}" + PROMPT_END


def run(folder: Path, rows: list[dict], tokenizer: str = TINY, max_length: int = 128):
    write_rows(folder / "rows.jsonl", rows)
    split = SplitFiles("train", str(folder / "rows.jsonl"), str(folder / "train.safetensors"))
    events = Events()
    tokenise(TokeniseJob(1, "tokenise", tokenizer, max_length, [split], str(folder / "rejected.jsonl")), events)
    rejected = [json.loads(line) for line in (folder / "rejected.jsonl").read_text("utf-8").splitlines()]
    return read_shard(split.out), rejected, events


def trained_text(shard, row: int = 0, tokenizer: str = TINY) -> str:
    ids, mask = (values[shard.offsets[row] : shard.offsets[row + 1]] for values in (shard.input_ids, shard.trainable))
    return Chat(tokenizer).decode(ids[mask == 1].tolist(), skip_special_tokens=False)


def with_template(folder: Path, template: str) -> str:
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    return str(folder)


def turns(*contents: str, **last) -> list[dict]:
    roles = ["user", "assistant"] * len(contents)
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    messages[-1].update(last)
    return messages


def test_mask_covers_exactly_the_answer_and_its_end(tmp_path: Path):
    shard, rejected, events = run(tmp_path, [make_row(0, [SYSTEM, *turns("2+2?", "It is 4, naïvely 四.")])])
    assert trained_text(shard) == "It is 4, naïvely 四.<|im_end|>"
    assert shard.input_ids[-1] == AutoTokenizer.from_pretrained(TINY).eos_token_id and shard.trainable[-1] == 1
    assert rejected == []
    golden = json.loads((GOLDEN / "results.json").read_text("utf-8"))["tokenise"]
    assert set(events.result()) == set(golden) and set(events.result()["splits"]["train"]) == set(golden["splits"]["train"])
    assert [piece["trainable"] for piece in events.result()["sample"]] == [False, True]


def test_ids_are_those_of_the_models_own_tokenizer(tmp_path: Path):
    messages = [SYSTEM, *turns("Hello\tthere", " spaced  answer\n\nwith lines ")]
    shard, _, _ = run(tmp_path, [make_row(0, messages)])
    own = AutoTokenizer.from_pretrained(TINY).apply_chat_template(messages)["input_ids"]
    # All but the line break behind the last end-of-turn token.
    assert shard.input_ids.tolist() == own[:-1]


def test_turns_with_weight_0_are_context_only(tmp_path: Path):
    messages = [SYSTEM, *turns("a?", "first"), *turns("b?", "second", weight=0), *turns("c?", "third", weight=1)]
    shard, _, _ = run(tmp_path, [make_row(0, messages)])
    assert trained_text(shard) == "first<|im_end|>third<|im_end|>"


def test_answer_equal_to_the_question_is_not_mistaken_for_it(tmp_path: Path):
    template = CHATML.replace("{{ m.content }}", "{% if loop.last %}{{ m.content }}{% else %}{{ m.content | trim }}{% endif %}")
    folder = with_template(tmp_path / "tokenizer", template)
    shard, _, _ = run(tmp_path, [make_row(0, turns("same", "same ", "same", "same"))], folder)
    assert trained_text(shard, tokenizer=folder) == "same<|im_end|>same<|im_end|>"


def test_generation_marks_of_a_template_are_obeyed(tmp_path: Path):
    answer = "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    marked = CHATML.replace(
        "{{ m.content }}<|im_end|>", "{% if m.role == 'assistant' %}" + answer + "{% else %}{{ m.content }}<|im_end|>{% endif %}"
    )
    folder = with_template(tmp_path / "tokenizer", marked)
    shard, _, _ = run(tmp_path, [make_row(0, [SYSTEM, *turns("a?", "one", "b?", "two", weight=0)])], folder)
    assert trained_text(shard, tokenizer=folder) == "one<|im_end|>"


def test_tool_calls_reach_the_template_as_objects(tmp_path: Path):
    calls = "{% for c in m.tool_calls %}{{ c.function.name ~ c.function.arguments.area }}{% endfor %}"
    template = CHATML.replace("{{ m.content }}", "{{ m.content }}" + calls)
    folder = with_template(tmp_path / "tokenizer", template)
    called = json.dumps([{"id": "1", "type": "function", "function": {"name": "on", "arguments": '{"area": "kitchen"}'}}])
    messages = [
        *turns("light", ""),
        {"role": "tool", "content": "done", "tool_call_id": "1"},
        {"role": "assistant", "content": "It is on."},
    ]
    messages[1]["tool_calls"] = called
    shard, rejected, _ = run(tmp_path, [make_row(0, messages)], folder)
    assert rejected == []
    assert trained_text(shard, tokenizer=folder) == "onkitchen<|im_end|>It is on.<|im_end|>"


def test_rows_are_refused_with_code_and_place(tmp_path: Path):
    rows = [
        make_row(0, turns("ok?", "ok")),
        make_row(1, turns("long?", "word " * 300)),
        make_row(2, turns("nothing?", "x", weight=0)),
    ]
    shard, rejected, events = run(tmp_path, rows)
    assert len(shard) == 1
    assert [(entry["split"], entry["index"], entry["code"]) for entry in rejected] == [
        ("train", 1, "too_long"),
        ("train", 2, "no_trainable_token"),
    ]
    assert "128" in rejected[0]["message"]
    assert events.result()["rejected"] == 2


def test_rows_that_a_template_refuses_are_dropped_and_counted(tmp_path: Path):
    picky = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
    folder = with_template(tmp_path / "tokenizer", picky)
    bad, good = make_row(0, [SYSTEM, *turns("a?", "b")]), make_row(1, turns("a?", "b"))
    shard, rejected, events = run(tmp_path, [bad, good], folder)
    assert len(shard) == 1
    assert rejected[0]["code"] == "wrong_type" and "no system role" in rejected[0]["message"]
    assert rejected[0]["src"] == {"source": 0, "line": 1} and rejected[0]["preview"].startswith('{"messages": [{"role": "system"')
    assert events.result()["unrendered"] == {"rows": 1, "first": rejected[0]["message"]}


def test_same_rows_give_the_same_bytes_and_a_torn_shard_is_refused(tmp_path: Path):
    rows = example_rows(20, 3)
    run(tmp_path, rows)
    first = (tmp_path / "train.safetensors").read_bytes()
    shard, _, _ = run(tmp_path, rows)
    assert (tmp_path / "train.safetensors").read_bytes() == first
    assert isinstance(shard.input_ids, np.memmap)
    (tmp_path / "torn.safetensors").write_bytes(first[:-50])
    with pytest.raises(DataRejected, match="Tokenise again"):
        read_shard(str(tmp_path / "torn.safetensors"))


def test_rows_whose_text_beside_calls_a_template_leaves_out_are_counted_by_a_code_of_their_own(tmp_path: Path):
    shown = "{% if m.tool_calls %}{% for call in m.tool_calls %}{{ call.function.name }}{% endfor %}{% else %}{{ m.content }}{% endif %}"
    folder = with_template(tmp_path / "tokenizer", CHATML.replace("{{ m.content }}", shown))
    call = {"id": "call00001", "type": "function", "function": {"name": "on", "arguments": "{}"}}
    user, answer = {"role": "user", "content": "light?"}, {"role": "assistant", "tool_calls": json.dumps([call])}
    rows = [make_row(0, [user, {**answer, "content": "Let me look."}]), make_row(1, [user, {**answer, "content": ""}])]
    shard, rejected, _ = run(tmp_path, rows, folder)
    assert trained_text(shard, tokenizer=folder) == "on<|im_end|>"
    assert [(entry["index"], entry["code"]) for entry in rejected] == [(0, "left_out_by_template")]
    assert "text beside the tool calls of `messages[1]`; take it out of the row" in rejected[0]["message"]
