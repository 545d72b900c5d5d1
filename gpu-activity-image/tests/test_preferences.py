"""Pairs and judged answers: their shards, their likelihoods against plain forward passes, and the rewards of a reward model."""

import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from anneal_trainer.adapters import add_adapter, write_trained
from anneal_trainer.chat import Chat
from anneal_trainer.evaluate import evaluate
from anneal_trainer.models import load_base
from anneal_trainer.protocol import DataRejected, EvaluateJob, SplitFiles, TokeniseJob, Variant
from anneal_trainer.shards import read_judged_shard, read_preference_shard
from anneal_trainer.tokenise import tokenise
from support import GOLDEN, TINY, Events, recipe, write_rows
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

SYSTEM = {"role": "system", "content": "Be polite."}
END = "<|im_end|>"


def user(content: str) -> dict:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict:
    return {"role": "assistant", "content": content}


def origin(index: int) -> dict:
    return {"id": f"{index:032x}", "group": "0" * 16, "src": {"source": 0, "line": index + 1}}


def pair_row(index: int, chosen: str, rejected: str, prompt: list[dict] | None = None) -> dict:
    prompt = prompt or [SYSTEM, user(f"question {index}")]
    return {**origin(index), "prompt": prompt, "chosen": assistant(chosen), "rejected": assistant(rejected)}


def judged_row(index: int, completion: str, label: bool) -> dict:
    return {**origin(index), "prompt": [SYSTEM, user(f"question {index}")], "completion": assistant(completion), "label": label}


def run_tokenise(folder: Path, kind: str, rows: list[dict], max_length: int = 128) -> tuple[str, list[dict], dict]:
    write_rows(folder / "rows.jsonl", rows)
    split = SplitFiles("train", str(folder / "rows.jsonl"), str(folder / "train.safetensors"))
    events = Events()
    tokenise(TokeniseJob(1, "tokenise", TINY, max_length, [split], str(folder / "rejected.jsonl"), kind), events)
    rejected = [json.loads(line) for line in (folder / "rejected.jsonl").read_text("utf-8").splitlines()]
    return split.out, rejected, events.result()


def texts(shard, name: str) -> list[str]:
    values, offsets = getattr(shard, name), getattr(shard, f"{name}_offsets")
    chat = Chat(TINY)
    return [chat.decode(values[a:b].tolist(), skip_special_tokens=False) for a, b in pairwise(offsets)]


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY)


def own_ids(messages: list[dict], generate: bool = False) -> list[int]:
    return tokenizer().apply_chat_template(messages, add_generation_prompt=generate)["input_ids"]


def test_pairs_become_a_prompt_and_two_answers_that_end_with_the_end_of_turn(tmp_path: Path):
    turns = [SYSTEM, user("a?"), assistant("first"), user("b?")]
    rows = [pair_row(0, "Gladly, naïvely 四.", "No"), pair_row(1, "yes", "never ever", turns)]
    out, rejected, result = run_tokenise(tmp_path, "pair", rows)
    shard = read_preference_shard(out)
    assert rejected == []
    assert texts(shard, "chosen") == [f"Gladly, naïvely 四.{END}", f"yes{END}"]
    assert texts(shard, "rejected") == [f"No{END}", f"never ever{END}"]
    # What the model reads at inference, and then what it should write: the template's own tokens.
    for i, row in enumerate(rows):
        prompt, chosen = (
            getattr(shard, n)[getattr(shard, f"{n}_offsets")[i] : getattr(shard, f"{n}_offsets")[i + 1]] for n in ("prompt", "chosen")
        )
        assert prompt.tolist() == own_ids(row["prompt"], generate=True)
        # All but the line break behind the last end-of-turn token.
        assert [*prompt.tolist(), *chosen.tolist()] == own_ids([*row["prompt"], row["chosen"]])[:-1]
    counts, tokens = result["splits"]["train"], {n: len(getattr(shard, n)) for n in ("prompt", "chosen", "rejected")}
    assert counts["rows"] == 2 and counts["tokens"] == sum(tokens.values())
    assert counts["trainableTokens"] == tokens["chosen"] + tokens["rejected"]
    assert counts["longest"] == shard.lengths.max()
    assert [piece["trainable"] for piece in result["sample"]] == [False, True]
    assert result["sample"][1]["text"] == f"Gladly, naïvely 四.{END}"


def test_judged_answers_become_a_prompt_a_completion_and_a_label(tmp_path: Path):
    out, rejected, result = run_tokenise(tmp_path, "judged", [judged_row(0, "Gladly.", True), judged_row(1, "No.", False)])
    shard = read_judged_shard(out)
    assert rejected == [] and shard.label.tolist() == [1, 0]
    assert texts(shard, "completion") == [f"Gladly.{END}", f"No.{END}"]
    assert shard.prompt[: shard.prompt_offsets[1]].tolist() == own_ids([SYSTEM, user("question 0")], generate=True)
    assert result["splits"]["train"]["trainableTokens"] == len(shard.completion)


def test_rows_are_refused_with_code_place_and_length(tmp_path: Path):
    # A template that takes white space away makes two answers one.
    rows = [pair_row(0, "ok", "no"), pair_row(1, "ok", "word " * 300), pair_row(2, "same", "same")]
    out, rejected, result = run_tokenise(tmp_path, "pair", rows)
    assert len(read_preference_shard(out)) == 1 and result["rejected"] == 2
    assert [(entry["index"], entry["code"]) for entry in rejected] == [(1, "too_long"), (2, "chosen_equals_rejected")]
    assert "`rejected`" in rejected[0]["message"] and "128" in rejected[0]["message"] and rejected[0]["tokens"] > 300
    _, rejected, _ = run_tokenise(tmp_path, "judged", [judged_row(0, "word " * 300, True), judged_row(1, "ok", True)])
    assert [(entry["index"], entry["code"]) for entry in rejected] == [(0, "too_long")]


def test_rows_of_another_kind_are_no_rows(tmp_path: Path):
    with pytest.raises(DataRejected, match="is not a row with `prompt` and `completion` and `label`"):
        run_tokenise(tmp_path, "judged", [pair_row(0, "a", "b")])
    with pytest.raises(DataRejected, match="is not a row with `prompt` and `chosen` and `rejected`"):
        run_tokenise(tmp_path, "pair", [judged_row(0, "a", True)])


def test_an_empty_split_is_an_empty_shard(tmp_path: Path):
    for kind, read in (("pair", read_preference_shard), ("judged", read_judged_shard)):
        out, _, result = run_tokenise(tmp_path, kind, [])
        assert len(read(out)) == 0 and result["splits"]["train"]["rows"] == 0


def make_job(folder: Path, method: str, rows: list[dict], variants: list[Variant], answers: int | None = None) -> EvaluateJob:
    write_rows(folder / "rows.jsonl", rows)
    return EvaluateJob(1, "evaluate", TINY, str(folder / "rows.jsonl"), variants, 4, 2, str(folder / "predictions.jsonl"), method, answers)


def predict(job: EvaluateJob) -> list[dict]:
    events = Events()
    evaluate(job, events)
    progress = events.of("progress")
    assert progress[-1]["done"] == progress[0]["of"]
    return [json.loads(line) for line in Path(job.predictions).read_text("utf-8").splitlines()]


def plain_loss(model, prompt: list[dict], answer: dict) -> tuple[float, int]:
    start, whole = len(own_ids(prompt, generate=True)), own_ids([*prompt, answer])[:-1]
    ids = torch.tensor([whole])
    labels = ids.masked_fill(torch.arange(len(whole)) < start, -100)
    with torch.inference_mode():
        return model(input_ids=ids, labels=labels).loss.item(), len(whole) - start


def golden_keys(name: str) -> set[str]:
    return set(json.loads((GOLDEN / "results.json").read_text("utf-8"))[name])


def test_both_answers_of_a_pair_are_scored_as_by_plain_forward_passes(tmp_path: Path):
    rows = [pair_row(i, "yes " * (1 + i % 4), "no, " * (1 + i % 3)) for i in range(9)]
    predictions = predict(make_job(tmp_path, "dpo", rows, [Variant("base", None, [], True)], answers=2))
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    assert [p["id"] for p in predictions] == [row["id"] for row in rows]
    assert set(predictions[0]) == golden_keys("pairPrediction")
    for row, prediction in zip(rows, predictions, strict=True):
        for told, answer in ((prediction, row["chosen"]), (prediction["rejected"], row["rejected"])):
            loss, tokens = plain_loss(model, row["prompt"], answer)
            assert told["loss"] == pytest.approx(loss, rel=1e-5) and told["tokens"] == tokens
    # Only the first rows are answered.
    assert [p["output"] is not None for p in predictions] == [True, True] + [False] * 7


def test_judged_answers_are_scored_as_by_plain_forward_passes(tmp_path: Path):
    rows = [judged_row(i, "yes " * (1 + i % 4), i % 2 == 0) for i in range(5)]
    predictions = predict(make_job(tmp_path, "kto", rows, [Variant("base", None, [], False)]))
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    assert set(predictions[0]) == golden_keys("prediction")
    for row, prediction in zip(rows, predictions, strict=True):
        assert (prediction["loss"], prediction["tokens"]) == pytest.approx(plain_loss(model, row["prompt"], row["completion"]), rel=1e-5)


def write_reward_model(folder: Path, tuning: str) -> torch.nn.Module:
    """As the trainer writes it: a whole model, or an adapter with the head that was trained beside it."""
    torch.manual_seed(5)
    model = load_base(TINY, torch.device("cpu"), scores=True)
    if tuning == "full":
        model.save_pretrained(folder)
        return model
    adapted = add_adapter(model, recipe(method="reward"))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    write_trained(folder, adapted, "tiny")
    return adapted.merge_and_unload()


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_reward_model_scores_each_answer_at_its_last_token_that_is_not_the_padding_s(tmp_path: Path, tuning: str):
    model = write_reward_model(tmp_path / "reward", tuning).eval()
    pad = tokenizer().pad_token_id
    rows = [pair_row(i, "yes " * (1 + i % 4), "no, " * (1 + i % 3)) for i in range(9)]
    predictions = predict(make_job(tmp_path, "reward", rows, [Variant("candidate", str(tmp_path / "reward"), [], False)]))
    assert set(predictions[0]) == golden_keys("rewardPrediction")
    for row, prediction in zip(rows, predictions, strict=True):
        rewards = {}
        for name in ("chosen", "rejected"):
            ids = torch.tensor([own_ids([*row["prompt"], row[name]])[:-1]])
            # The tiny model pads with its end-of-turn token, with which each answer ends.
            last = int((ids[0] != pad).nonzero()[-1])
            with torch.inference_mode():
                rewards[name] = model.score(model.model(input_ids=ids).last_hidden_state[0, last]).item()
        assert prediction["rewards"] == pytest.approx(rewards, abs=1e-5)
        margin = torch.tensor(rewards["chosen"] - rewards["rejected"])
        assert prediction["loss"] == pytest.approx(-functional.logsigmoid(margin).item(), abs=1e-5)
        assert prediction["tokens"] == 1
