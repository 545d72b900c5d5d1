"""Losses and greedy answers against transformers' own forward pass and `generate`, and the `evaluate` command as a whole."""

import json
from pathlib import Path

import pytest
import torch
from anneal_trainer.adapters import add_adapter, write_trained
from anneal_trainer.answers import Answerer, Question
from anneal_trainer.chat import Chat
from anneal_trainer.evaluate import evaluate
from anneal_trainer.protocol import BadRequest, DataRejected, EvaluateJob, Variant
from anneal_trainer.special_text import Rendered
from support import GOLDEN, TINY, Events, child, example_rows, make_row, recipe, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

NEW_TOKENS = 16


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model with sharper weights: its answers depend on every token before, so that a fault in a cache shows."""
    folder = tmp_path_factory.mktemp("lively")
    model = load(TINY)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "proj" in name:
                weight.mul_(8)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    return str(folder)


def load(folder: str):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def ask(chat: Chat, row: dict, index: int, opening: str, before: list[dict]) -> Question:
    *prompt, last = row["messages"]
    text = chat.render([prompt[0], *before, *prompt[1:]], generate=True)
    return Question(index, opening, chat.encode(text), chat.encode(Rendered(last["content"] + "<|im_end|>")))


@pytest.fixture(scope="module")
def questions(lively: str) -> list[Question]:
    """Two openings, one of them with shots, and prompts of many lengths."""
    chat, rows = Chat(lively), example_rows(14, 5)
    shots = [message for row in example_rows(3, 6) for message in row["messages"][1:]]
    return [ask(chat, row, i, "shots" if i % 2 else "none", shots if i % 2 else []) for i, row in enumerate(rows)]


def plain_loss(model, question: Question) -> float:
    ids = torch.tensor([question.prompt + question.reference])
    labels = torch.tensor([[-100] * len(question.prompt) + question.reference])
    with torch.inference_mode():
        return model(input_ids=ids, labels=labels).loss.item()


def plain_answer(model, question: Question, stop: int) -> list[int]:
    prompt = torch.tensor([question.prompt])
    output = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=0,
    )
    tokens = output[0, len(question.prompt) :].tolist()
    return tokens[: tokens.index(stop)] if stop in tokens else tokens


@pytest.mark.parametrize("share_prefix", [True, False])
def test_answers_and_losses_are_those_of_single_plain_runs(lively: str, questions: list[Question], share_prefix: bool):
    model = load(lively)
    # A stop token that comes up early in some answers, so that rows leave their batch at different times.
    unstopped = [plain_answer(model, question, stop=-1) for question in questions]
    seen = {token for answer in unstopped for token in answer} - set(unstopped[0])
    stop = max(seen, key=lambda token: sum(token in answer for answer in unstopped))
    expected = {q.index: (plain_loss(model, q), plain_answer(model, q, stop)) for q in questions}
    lengths = {len(tokens) for _, tokens in expected.values()}
    assert len(lengths) > 2 and NEW_TOKENS in lengths
    answerer = Answerer(load(lively), {stop}, NEW_TOKENS, share_prefix)
    answers = {answer.index: answer for batch in answerer.answer(questions, generate=True) for answer in batch}
    assert {index: answer.tokens for index, answer in answers.items()} == {index: tokens for index, (_, tokens) in expected.items()}
    for index, (loss, _) in expected.items():
        assert answers[index].loss == pytest.approx(loss, rel=1e-5)


def test_scoring_without_generation_gives_the_same_losses(lively: str, questions: list[Question]):
    both = [Answerer(load(lively), set(), 2).answer(questions, generate) for generate in (True, False)]
    first, second = ({answer.index: answer.loss for batch in batches for answer in batch} for batches in both)
    assert first == pytest.approx(second, rel=1e-6)


def make_job(folder: Path, model: str, variants: list[Variant], rows: list[dict] | None = None) -> EvaluateJob:
    folder.mkdir(exist_ok=True)
    write_rows(folder / "rows.jsonl", rows if rows is not None else example_rows(9, 7))
    return EvaluateJob(1, "evaluate", model, str(folder / "rows.jsonl"), variants, 8, 1, str(folder / "predictions.jsonl"))


def read_predictions(job: EvaluateJob) -> list[dict]:
    return [json.loads(line) for line in Path(job.predictions).read_text("utf-8").splitlines()]


def test_predictions_lie_in_the_order_of_variants_and_rows(lively: str, tmp_path: Path):
    model = add_adapter(load(lively), recipe())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
    write_trained(tmp_path / "adapter", model, "tiny")
    variants = [
        Variant("base", None, [], True),
        Variant("control", None, example_rows(2, 8), True),
        Variant("tuned", str(tmp_path / "adapter"), [], False),
        Variant("again", None, [], True),
    ]
    job, events = make_job(tmp_path / "job", lively, variants), Events()
    evaluate(job, events)
    predictions, rows = read_predictions(job), example_rows(9, 7)
    assert [(p["variant"], p["id"]) for p in predictions] == [(v.name, row["id"]) for v in variants for row in rows]
    assert set(predictions[0]) == set(json.loads((GOLDEN / "results.json").read_text("utf-8"))["prediction"])
    base, control, tuned, again = ([p for p in predictions if p["variant"] == v.name] for v in variants)
    # The adapter of one variant leaves no trace in the next.
    assert [p["loss"] for p in base] == [p["loss"] for p in again] and base[0]["output"] is not None
    assert all(abs(a["loss"] - b["loss"]) > 1e-4 for a, b in zip(base, tuned, strict=True))
    assert all(a["loss"] != b["loss"] and a["tokens"] == b["tokens"] for a, b in zip(base, control, strict=True))
    assert tuned[0]["output"] is None
    assert [event["done"] for event in events.of("progress")][-1] == events.of("progress")[0]["of"] == 36


def test_texts_without_turns_are_scored_by_all_tokens_but_the_first(lively: str, tmp_path: Path):
    texts = ["Turn the lights on.", "A longer text. " * 60, "x"]
    rows = [{"id": f"{i:032x}", "text": text} for i, text in enumerate(texts)]
    job = make_job(tmp_path, lively, [Variant("base", None, [], False)], [*rows, *example_rows(1, 2)])
    evaluate(job, Events())
    chat, model = Chat(lively), load(lively)
    for prediction, row in zip(read_predictions(job), rows, strict=False):
        first, *rest = chat.encode_document(row["text"]).ids
        assert prediction["id"] == row["id"] and prediction["tokens"] == len(rest) and prediction["output"] is None
        assert prediction["loss"] == pytest.approx(plain_loss(model, Question(0, "", [first], rest)), rel=1e-4)


def test_evaluation_refuses_what_it_cannot_use(tmp_path: Path):
    with pytest.raises(DataRejected, match="does not end with an assistant message"):
        evaluate(
            make_job(tmp_path / "a", TINY, [Variant("base", None, [], True)], [make_row(0, [{"role": "user", "content": "x"}])]), Events()
        )
    with pytest.raises(BadRequest, match=r"has no adapter_model\.safetensors"):
        evaluate(make_job(tmp_path / "b", TINY, [Variant("tuned", str(tmp_path), [], True)]), Events())
    with pytest.raises(DataRejected, match="is empty"):
        evaluate(make_job(tmp_path / "c", TINY, [Variant("base", None, [], True)], []), Events())


def test_bad_job_is_refused_before_anything_is_loaded(tmp_path: Path):
    with child({"v": 1, "command": "evaluate"}, tmp_path) as trainer:
        assert trainer.exit_code() == 42
    assert trainer.seen.of("failed")[0]["kind"] == "bad_request"
