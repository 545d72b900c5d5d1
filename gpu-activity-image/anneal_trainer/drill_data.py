"""The `drill-data` command: shards of random tokens for a drill, which must run without anybody's data; the same for the same seed."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from anneal_trainer.protocol import BadRequest, DrillDataJob, Emit
from anneal_trainer.shards import write_judged_shard, write_preference_shard, write_shard

# Short enough for a step in milliseconds, and mostly much shorter than the longest, so that packing has something to do, tokens.
_PROMPT_TOKENS = (4, 32)
_ANSWER_TOKENS = (2, 16)


def make_drill_data(job: DrillDataJob, emit: Emit) -> None:
    if job.rows < 1:
        raise BadRequest(f"`rows` must be at least 1, got {job.rows}.")
    tokenizer = AutoTokenizer.from_pretrained(job.base_model, local_files_only=True)
    ordinary = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
    output, counts = Path(job.output), {"train": job.rows, "validation": max(1, job.rows // 5)}
    for split, rows in counts.items():
        rng = random.Random(f"{job.seed}/{split}")

        def draw(span: tuple[int, int], rng: random.Random = rng) -> np.ndarray:
            low, high = span
            return np.array([rng.choice(ordinary) for _ in range(int(rng.triangular(low, high, low)))], np.int32)

        _write(job.kind, output / f"{split}.safetensors", rows, draw)
    emit({"ev": "done", "result": counts})


def _write(kind: str, file: Path, rows: int, draw: Callable[[tuple[int, int]], Any]) -> None:
    if kind == "preference":
        write_preference_shard(file, [(draw(_PROMPT_TOKENS), draw(_ANSWER_TOKENS), draw(_ANSWER_TOKENS)) for _ in range(rows)])
    elif kind == "judged":
        # One good answer to two that are not, so that there are micro-batches of one kind only.
        write_judged_shard(file, [(draw(_PROMPT_TOKENS), draw(_ANSWER_TOKENS), row % 3 == 0) for row in range(rows)])
    else:
        write_shard(file, [_chat_row(draw(_PROMPT_TOKENS), draw(_ANSWER_TOKENS)) for _ in range(rows)])


def _chat_row(prompt: np.ndarray, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    trainable = np.concatenate([np.zeros(len(prompt), np.uint8), np.ones(len(answer), np.uint8)])
    return np.concatenate([prompt, answer]), trainable
