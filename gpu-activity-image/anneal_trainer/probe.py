"""The `probe` command: what memory a training needs, measured by trainings of two steps, before the whole one begins.

Each measurement is a process of its own, so that its peak is its own; it trains on copies of the data's longest row, by the same
code as the training itself. Memory grows with the rows that go through the model at once: two points say how much a row takes.
Where ranks hold a part each, that process leads a gang of real ranks, and the largest of them counts.
"""

import dataclasses
import json
import math
import multiprocessing
import shutil
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from anneal_trainer import faults, lifeline
from anneal_trainer.durable import DurableTrainer
from anneal_trainer.images import media_beside
from anneal_trainer.methods import METHODS
from anneal_trainer.models import pick_training_device
from anneal_trainer.protocol import Emit, ProbeJob, Recipe, TrainerError, TrainJob
from anneal_trainer.shards import write_longest_row
from anneal_trainer.train import read_inputs, train

_FORK = multiprocessing.get_context("fork")

# The optimizer makes its moments at the first step, so that only the second has everything.
_STEPS = 2

# Which of the system's processes is ended first when memory runs out: a probe before its supervisor.
_FIRST_TO_GO = "1000"


class ProbeFailed(TrainerError):
    """A measurement ended as a training would have, and not for want of memory."""

    def __init__(self, message: str, kind: str, exit_code: int):
        super().__init__(message)
        self.kind, self.exit_code = kind, exit_code


def probe(job: ProbeJob, emit: Emit) -> None:
    """Emits `done` with the points, by ascending rows; one whose bytes are null did not fit, and nothing larger was tried."""
    folder = Path(job.train.output)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = job.train.recipe
    wanted, points = rows_to_try(recipe.micro_batch, METHODS[recipe.method].micro_batch_min), []
    try:
        for rows in wanted:
            emit({"ev": "phase", "phase": "train", "detail": f"{rows} rows"})
            points.append(_measure_apart(job.train, folder, rows))
            emit({"ev": "progress", "done": len(points), "of": len(wanted)})
            if points[-1]["bytes"] is None:
                break
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    emit({"ev": "done", "result": {"points": points}})


def rows_to_try(micro_batch: int, least: int = 1) -> list[int]:
    """Half of the micro-batch and the whole: with fewer rows, what loading has left free hides a part of what they take."""
    return sorted({max(least, math.ceil(micro_batch / 2)), micro_batch})


def _measure_apart(job: TrainJob, folder: Path, rows: int) -> dict[str, Any]:
    reader, writer = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_measure, args=(job, folder, rows, writer))
    process.start()
    writer.close()
    try:
        answer = reader.recv()
    except EOFError:
        # Killed, as a rule by the kernel for want of memory.
        answer = _too_large(rows)
    process.join()
    if isinstance(answer, tuple):
        raise ProbeFailed(*answer)
    return answer


def _too_large(rows: int) -> dict[str, Any]:
    return {"rows": rows, "bytes": None, "saveBytes": None, "tokens": 0, "seconds": 0}


def _measure(job: TrainJob, folder: Path, rows: int, writer: Connection) -> None:
    lifeline.tie_to_parent()
    if sys.platform == "linux":
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    try:
        writer.send(_train_briefly(job, folder / f"rows-{rows}", rows))
    except Exception as error:
        kind, exit_code = faults.classify(error)
        writer.send(_too_large(rows) if kind == "out_of_memory" else (faults.describe(error), kind, exit_code))


def _train_briefly(job: TrainJob, folder: Path, rows: int) -> dict[str, Any]:
    folder.mkdir(parents=True)
    recipe = _brief_recipe(job.recipe, rows)
    shard = folder / "train.safetensors"
    media_beside(str(shard)).symlink_to(media_beside(job.train).absolute())
    # By what the brief training is for: without a validation set there are no best weights to keep.
    whole = read_inputs(dataclasses.replace(job, recipe=recipe)).shard
    tokens = write_longest_row(shard, whole, rows * recipe.accumulation * recipe.processes * _STEPS)
    brief = dataclasses.replace(
        job, train=str(shard), validation=None, output=str(folder), resume=None, warm=None, gang=None, pause_at=None, recipe=recipe
    )
    meter = _Meter(folder, recipe)
    train(brief, meter.watch, _metered(METHODS[recipe.method].trainer, meter))
    peaks = [json.loads(file.read_text("utf-8")) for file in folder.glob("peak-*.json")]
    most = {name: max(peak[name] for peak in peaks) for name in ("bytes", "saveBytes", "seconds")}
    return {"rows": rows, "tokens": tokens * rows * recipe.accumulation, **most}


class _Meter:
    """What a rank has taken so far, in a file: each is a process of its own. Ranks forked from this one have their own `_seen`."""

    def __init__(self, folder: Path, recipe: Recipe):
        self._folder, self._recipe = folder, recipe
        self._rank = 0
        self._seen: dict[str, float] = {}

    def stepped(self, rank: int, seconds: float) -> None:
        self._rank = rank
        self._note(bytes=peak_bytes(self._recipe), seconds=seconds)

    def saved(self) -> None:
        """The rest of the peak is the writing of a checkpoint and of the weights, whatever the number of rows."""
        self._note(saveBytes=peak_bytes(self._recipe))

    def watch(self, event: dict[str, Any]) -> None:
        if event["ev"] == "done":
            self.saved()

    def _note(self, **numbers: float) -> None:
        self._seen |= numbers
        (self._folder / f"peak-{self._rank}.json").write_text(json.dumps(self._seen), "utf-8")


def _metered(base: type[DurableTrainer], meter: _Meter) -> type[DurableTrainer]:
    class Metered(base):
        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            super().log(logs, start_time)
            if "loss" in logs:
                meter.stepped(self.args.process_index, time.monotonic() - self.step_started)

        def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
            super()._maybe_log_save_evaluate(*args, **kwargs)
            meter.saved()

    return Metered


def _brief_recipe(recipe: Recipe, rows: int) -> Recipe:
    """With accumulation the gradients live while the next micro-batch goes through; two of them show that. A rank of DDP has everything,
    as a process alone has; and those of other hosts are not here."""
    is_shared = recipe.strategy != "ddp" and recipe.processes > 1
    alone = {"processes": 1, "strategy": "ddp", "deepspeed": "zero2", "offload": "none"}
    return dataclasses.replace(
        recipe,
        **({} if is_shared else alone),
        micro_batch=rows,
        order_batch=None,
        accumulation=min(2, recipe.accumulation),
        epochs=1,
        max_steps=_STEPS,
        eval_steps=None,
        early_stopping=None,
        hosts=1,
        # There is no validation by which one would be the best.
        outputs=[name for name in recipe.outputs or [] if name.endswith("final")],
        dataloader_workers=0,
        streaming=False,
    )


def peak_bytes(recipe: Recipe) -> int:
    """The most that this process has held so far, of the GPU's memory where it trains there."""
    if pick_training_device(recipe).type == "cuda":
        return torch.cuda.max_memory_reserved()
    status = Path("/proc/self/status").read_text("utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
