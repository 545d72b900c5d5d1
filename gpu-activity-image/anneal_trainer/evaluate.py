"""The `evaluate` command: every variant scores and, if asked, answers the same rows; one prediction a variant and row.

A model that writes scores the references of chats and the answers of pairs and judged rows by their likelihood; a reward model gives
each answer of a pair its reward.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional
from transformers import PreTrainedModel

from anneal_trainer.adapters import CONFIG, MODEL_WEIGHTS, WEIGHTS
from anneal_trainer.answers import Answer, Answerer, Question, all_finite
from anneal_trainer.chat import Chat, Message, TemplateError
from anneal_trainer.forked import map_forked
from anneal_trainer.image_answers import ImageAnswerer
from anneal_trainer.images import media_beside
from anneal_trainer.models import load_base, load_tokenizer, pick_device, reads_images
from anneal_trainer.protocol import BadRequest, DataRejected, Emit, EvaluateJob, NonFinite, Variant
from anneal_trainer.rewards import give_rewards
from anneal_trainer.rows import ROW_KINDS, Row, read_rows, write_json_lines

# Where the job names no limit: the longest reference and two tokens more, so that an answer that runs on is seen to do so.
_NEW_TOKENS_SLACK = 2
_NEW_TOKENS_MAX = 512
# Each process holds its own keys, values and logits, about 1 GB; more threads than that go into the processes.
_PROCESSES_MAX = 8


@dataclass(frozen=True)
class _Asked:
    """A row and a question for each of its answers; a second one is a pair's rejected answer."""

    id: str
    questions: list[Question]


@dataclass(frozen=True)
class _Measurement:
    """One variant on all rows."""

    job: EvaluateJob
    chat: Chat
    variant: Variant
    model: PreTrainedModel
    rows: list[_Asked]
    # Takes the share of the work that is done.
    report: Callable[[float], None]


def evaluate(job: EvaluateJob, emit: Emit) -> None:
    emit({"ev": "phase", "phase": "load", "detail": "rows"})
    chat = Chat(job.base_model, for_chats=False, media=media_beside(job.rows))
    rows = list(read_rows(job.rows, ROW_KINDS[job.method]))
    if not rows:
        raise DataRejected(f"The rows file {job.rows} is empty; hold out more with `data.split.test`.")
    # A thread pool does not survive a fork; each process starts its own.
    torch.set_num_threads(1)
    predictions: list[dict[str, Any]] = []
    for variant in job.variants:
        asked = [_ask(chat, job.method, index, row, variant.shots) for index, row in enumerate(rows)]
        emit({"ev": "phase", "phase": "load", "detail": variant.name})
        model = _load_variant(job, variant)
        emit({"ev": "phase", "phase": "evaluate", "detail": variant.name})
        report = partial(_report, emit, variant.name, len(predictions), len(rows), len(rows) * len(job.variants))
        measure = _give_rewards if job.method == "reward" else _answer_all
        predictions += measure(_Measurement(job, chat, variant, model, asked, report))
    emit({"ev": "phase", "phase": "save"})
    write_json_lines(job.predictions, predictions)
    emit({"ev": "done", "result": {"predictions": len(predictions)}})


def _report(emit: Emit, variant: str, before: int, rows: int, of: int, share: float) -> None:
    emit({"ev": "progress", "done": before + round(share * rows), "of": of, "detail": variant})


def _answer_all(measurement: _Measurement) -> Iterator[dict[str, Any]]:
    job, variant, rows = measurement.job, measurement.variant, measurement.rows
    answerer = _make_answerer(measurement)
    generating = {row.questions[0].index for row in rows[: job.answers]} if variant.generate else set()
    questions = [question for row in rows for question in row.questions]
    processes = _processes(job, len(questions))
    shares = [questions[i::processes] for i in range(processes)]
    answers: dict[int, Answer] = {}
    for batch in map_forked(partial(_answer, answerer, job.threads // processes, generating), shares):
        if not all_finite(batch):
            raise NonFinite(f"Variant {variant.name} has a loss that is not finite; its adapter or base model is damaged.")
        answers.update((answer.index, answer) for answer in batch)
        measurement.report(len(answers) / len(questions))
    for row in rows:
        yield _prediction(measurement, row, [answers[question.index] for question in row.questions])


def _make_answerer(measurement: _Measurement) -> Answerer | ImageAnswerer:
    model, chat = measurement.model, measurement.chat
    stops, new_tokens_max = chat.end_token_ids(), _new_tokens_max(measurement.job, measurement.rows)
    if reads_images(model.config):
        return ImageAnswerer(model, chat.images, stops, new_tokens_max)
    return Answerer(model, stops, new_tokens_max)


def _processes(job: EvaluateJob, questions: int) -> int:
    return min(job.threads, questions, _PROCESSES_MAX) if pick_device().type == "cpu" else 1


def _answer(answerer: Answerer | ImageAnswerer, threads: int, generating: set[int], questions: list[Question]) -> Iterator[list[Answer]]:
    torch.set_num_threads(threads)
    for generate in (True, False):
        yield from answerer.answer([question for question in questions if (question.index in generating) == generate], generate)


def _prediction(measurement: _Measurement, row: _Asked, answers: list[Answer]) -> dict[str, Any]:
    first, *others = [
        {"loss": answer.loss, "tokens": len(question.reference)} for question, answer in zip(row.questions, answers, strict=True)
    ]
    output = None if answers[0].tokens is None else measurement.chat.decode(answers[0].tokens)
    prediction = {"variant": measurement.variant.name, "id": row.id, "output": output, **first}
    return {**prediction, "rejected": others[0]} if others else prediction


def _give_rewards(measurement: _Measurement) -> Iterator[dict[str, Any]]:
    job, variant, model = measurement.job, measurement.variant, measurement.model
    torch.set_num_threads(job.threads)
    # The head reads the last token that is not padding; training pads by the same one.
    model.config.pad_token_id = load_tokenizer(job.base_model).pad_token_id
    texts = [question.prompt + question.reference for row in measurement.rows for question in row.questions]
    rewards, done = torch.empty(len(texts), dtype=torch.float64), 0
    for indices, values in give_rewards(model, texts):
        rewards[indices] = values
        done += len(indices)
        measurement.report(done / len(texts))
    if not rewards.isfinite().all():
        raise NonFinite(f"Variant {variant.name} gives a reward that is not finite; its adapter or base model is damaged.")
    pairs = rewards.view(-1, 2)
    # −ln σ(chosen − rejected), without overflow.
    losses = functional.softplus(pairs[:, 1] - pairs[:, 0]).tolist()
    for row, (chosen, rejected), loss in zip(measurement.rows, pairs.tolist(), losses, strict=True):
        given = {"chosen": chosen, "rejected": rejected}
        yield {"variant": variant.name, "id": row.id, "output": None, "loss": loss, "tokens": 1, "rewards": given}


def _ask(chat: Chat, method: str, index: int, row: Row, shots: list[Row]) -> _Asked:
    """The shots stand between system message and first turn, and show no images. A text without turns is asked for by its first token."""
    if "text" in row:
        first, *rest = chat.encode_document(row["text"]).ids
        return _Asked(row["id"], [Question(index, "", [first], rest)])
    before, answers = _prompt_and_answers(ROW_KINDS[method], index, row)
    instructions = [message for message in before if _is_instruction(message)]
    turns = [message for message in before if not _is_instruction(message)]
    shown = [message for shot in shots for message in shot["messages"] if not _is_instruction(message)]
    prompt, tools = [*instructions, *shown, *turns], row.get("tools")
    images = tuple(image["digest"] for image in row.get("media") or [])
    try:
        rendered = [chat.render_answer(prompt, answer, tools, shows_images=bool(images)) for answer in answers]
        if images:
            rendered = [(chat.images.expand(text, [], images).text, answer) for text, answer in rendered]
    except TemplateError as error:
        raise DataRejected(f"Row {row.get('id', index)} cannot be rendered with {len(shots)} shots: {error}") from error
    opening, first = json.dumps([instructions, tools]), index * len(answers)
    questions = [Question(first + i, opening, chat.encode(text), chat.encode(answer), images) for i, (text, answer) in enumerate(rendered)]
    return _Asked(row["id"], questions)


def _prompt_and_answers(kind: str, index: int, row: Row) -> tuple[list[Message], list[Message]]:
    """Of a chat the last message is the answer, those before it the prompt."""
    if kind == "pair":
        return row["prompt"], [row["chosen"], row["rejected"]]
    if kind == "judged":
        return row["prompt"], [row["completion"]]
    *before, last = row["messages"]
    if last["role"] != "assistant":
        raise DataRejected(f"Row {row.get('id', index)} does not end with an assistant message; it cannot be evaluated.")
    return before, [last]


def _is_instruction(message: Message) -> bool:
    return message["role"] in ("system", "developer")


def _load_variant(job: EvaluateJob, variant: Variant) -> PreTrainedModel:
    """The base model, the variant's own whole model, or the base with the adapter merged in, which decodes faster than beside it."""
    scores = job.method == "reward"
    if variant.adapter and (Path(variant.adapter) / MODEL_WEIGHTS).is_file():
        return load_base(variant.adapter, pick_device(), scores=scores)
    base = load_base(job.base_model, pick_device(), scores=scores)
    if variant.adapter is None:
        return base
    for name in (WEIGHTS, CONFIG):
        if not (Path(variant.adapter) / name).is_file():
            raise BadRequest(f"The adapter folder {variant.adapter} of variant {variant.name} has no {name}.")
    try:
        return PeftModel.from_pretrained(base, variant.adapter).merge_and_unload()
    except (RuntimeError, ValueError) as error:
        raise BadRequest(f"The adapter of variant {variant.name} does not fit the base model in {job.base_model}: {error}") from error


def _new_tokens_max(job: EvaluateJob, rows: list[_Asked]) -> int:
    longest = max(len(question.reference) for row in rows for question in row.questions)
    return job.max_new_tokens or min(longest + _NEW_TOKENS_SLACK, _NEW_TOKENS_MAX)
