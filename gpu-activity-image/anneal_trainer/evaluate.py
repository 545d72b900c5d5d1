"""The `evaluate` command: every variant scores and, if asked, answers the same rows; one prediction a variant and row."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from anneal_trainer.adapters import CONFIG, MODEL_WEIGHTS, WEIGHTS
from anneal_trainer.answers import Answer, Answerer, Question, all_finite
from anneal_trainer.chat import Chat, Message, TemplateError
from anneal_trainer.forked import map_forked
from anneal_trainer.models import load_base, pick_device
from anneal_trainer.protocol import BadRequest, DataRejected, Emit, EvaluateJob, NonFinite, Variant
from anneal_trainer.rows import Row, read_rows, write_json_lines

# Where the job names no limit: the longest reference and two tokens more, so that an answer that runs on is seen to do so.
_NEW_TOKENS_SLACK = 2
_NEW_TOKENS_MAX = 512
# Each process holds its own keys, values and logits, about 1 GB; more threads than that go into the processes.
_PROCESSES_MAX = 8


def evaluate(job: EvaluateJob, emit: Emit) -> None:
    emit({"ev": "phase", "phase": "load", "detail": "rows"})
    chat, rows = Chat(job.base_model), list(read_rows(job.rows))
    if not rows:
        raise DataRejected(f"The rows file {job.rows} is empty; hold out more with `data.split.test`.")
    processes = _processes(job, len(rows))
    # A thread pool does not survive a fork; each process starts its own.
    torch.set_num_threads(1)
    predictions: list[dict[str, Any]] = []
    of = len(rows) * len(job.variants)
    for variant in job.variants:
        questions = [_ask(chat, index, row, variant.shots) for index, row in enumerate(rows)]
        emit({"ev": "phase", "phase": "load", "detail": variant.name})
        answerer = Answerer(_load_variant(job.base_model, variant), chat.end_token_ids(), _new_tokens_max(job, questions))
        emit({"ev": "phase", "phase": "evaluate", "detail": variant.name})
        answers: dict[int, Answer] = {}
        shares = [questions[i::processes] for i in range(processes)]
        for batch in map_forked(partial(_answer, answerer, job.threads // processes, variant.generate), shares):
            if not all_finite(batch):
                raise NonFinite(f"Variant {variant.name} has a loss that is not finite; its adapter or base model is damaged.")
            answers.update((answer.index, answer) for answer in batch)
            emit({"ev": "progress", "done": len(predictions) + len(answers), "of": of, "detail": variant.name})
        predictions += _predictions(chat, variant, rows, questions, answers)
    emit({"ev": "phase", "phase": "save"})
    write_json_lines(job.predictions, predictions)
    emit({"ev": "done", "result": {"predictions": len(predictions)}})


def _processes(job: EvaluateJob, rows: int) -> int:
    return min(job.threads, rows, _PROCESSES_MAX) if pick_device().type == "cpu" else 1


def _answer(answerer: Answerer, threads: int, generate: bool, questions: list[Question]) -> Iterator[list[Answer]]:
    torch.set_num_threads(threads)
    return answerer.answer(questions, generate)


def _ask(chat: Chat, index: int, row: Row, shots: list[Row]) -> Question:
    """The last message is the reference, those before it the prompt, with the shots between system message and first turn."""
    *before, last = row["messages"]
    if last["role"] != "assistant":
        raise DataRejected(f"Row {row.get('id', index)} does not end with an assistant message; it cannot be evaluated.")
    instructions = [message for message in before if _is_instruction(message)]
    turns = [message for message in before if not _is_instruction(message)]
    shown = [message for shot in shots for message in shot["messages"] if not _is_instruction(message)]
    prompt, tools = [*instructions, *shown, *turns], row.get("tools")
    try:
        text = chat.render(prompt, tools, generate=True)
        whole, spans = chat.render_with_spans([*prompt, {**last, "weight": 1}], tools)
    except TemplateError as error:
        raise DataRejected(f"Row {row.get('id', index)} cannot be rendered with {len(shots)} shots: {error}") from error
    start, end = spans[-1]
    opening = json.dumps([instructions, tools])
    return Question(index, opening, chat.encode(text), chat.encode(whole.cut(start, end)))


def _is_instruction(message: Message) -> bool:
    return message["role"] in ("system", "developer")


def _load_variant(base_folder: str, variant: Variant) -> PreTrainedModel:
    """The base model, the variant's own whole model, or the base with the adapter merged in, which decodes faster than beside it."""
    if variant.adapter and (Path(variant.adapter) / MODEL_WEIGHTS).is_file():
        return load_base(variant.adapter, pick_device())
    base = load_base(base_folder, pick_device())
    if variant.adapter is None:
        return base
    for name in (WEIGHTS, CONFIG):
        if not (Path(variant.adapter) / name).is_file():
            raise BadRequest(f"The adapter folder {variant.adapter} of variant {variant.name} has no {name}.")
    try:
        return PeftModel.from_pretrained(base, variant.adapter).merge_and_unload()
    except (RuntimeError, ValueError) as error:
        raise BadRequest(f"The adapter of variant {variant.name} does not fit the base model in {base_folder}: {error}") from error


def _new_tokens_max(job: EvaluateJob, questions: list[Question]) -> int:
    longest = max(len(question.reference) for question in questions)
    return job.max_new_tokens or min(longest + _NEW_TOKENS_SLACK, _NEW_TOKENS_MAX)


def _predictions(
    chat: Chat, variant: Variant, rows: list[Row], questions: list[Question], answers: dict[int, Answer]
) -> Iterator[dict[str, Any]]:
    for question in questions:
        answer = answers[question.index]
        yield {
            "variant": variant.name,
            "id": rows[question.index]["id"],
            "output": None if answer.tokens is None else chat.decode(answer.tokens),
            "loss": answer.loss,
            "tokens": len(question.reference),
        }
