"""A harness for exactness: trains in forks of this process, which has everything imported, and kills them at a step and phase.

A cell is one configuration; `compare` says whether a killed and resumed run ended as one that was left alone.
"""

import gc
import json
import os
import random
import select
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anneal_trainer import checkpoints, faults, interrupts, lifeline
from anneal_trainer.durable import DurableTrainer
from anneal_trainer.methods import METHODS
from anneal_trainer.protocol import parse_job
from anneal_trainer.train import train
from support import CHILD_TIMEOUT_S, Events, curve, newest
from transformers import TrainerCallback

PHASES = ("begin", "before optimizer", "after optimizer", "end", "save")

# More attempts than a cell has kills means that it makes no progress.
ATTEMPTS_MAX = 8


@dataclass(frozen=True)
class Kill:
    """`step`: counted from 1; `phase`: one of PHASES, `substep` (inside accumulation) or `saved`."""

    step: int
    phase: str
    rank: int = 0
    signal: int = signal.SIGKILL


@dataclass(frozen=True)
class Outcome:
    """What came of a run, over all its attempts."""

    steps: dict[int, dict[str, Any]]
    metrics: dict[int, float]
    result: dict[str, Any]
    codes: list[int]
    # Steps that a later attempt did again and otherwise.
    contradictions: list[int]

    def differences(self, other: "Outcome") -> list[str]:
        odd = [f"step {n}" for n in sorted(self.steps.keys() | other.steps.keys()) if self.steps.get(n) != other.steps.get(n)]
        odd += [f"metrics {n}" for n in self.metrics.keys() | other.metrics.keys() if self.metrics.get(n) != other.metrics.get(n)]
        return odd + [key for key in self.result if self.result[key] != other.result[key]]


def run_cell(document: dict[str, Any], kills: list[Kill], from_warm: frozenset[int] = frozenset()) -> Outcome:
    """Trains to the end, with one kill an attempt as long as there are any; the attempts `from_warm` resume from warm state, if there is any."""
    output = Path(document["output"])
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    steps, metrics, codes, contradictions = {}, {}, [], []
    left = list(kills)
    for attempt in range(ATTEMPTS_MAX):
        resume = (_newest_warm(document) if attempt in from_warm else _newest_checkpoint(output)) or document["resume"]
        kill = left.pop(0) if left else None
        events, code = begin({**document, "resume": resume}, kill, output / f"log-{attempt}")()
        codes.append(code)
        seen = curve(events)
        contradictions += [step for step in seen.keys() & steps.keys() if seen[step] != steps[step]]
        steps |= seen
        metrics |= {event["step"]: event["evalLoss"] for event in events.of("metrics")}
        if code == 0:
            result = {key: value for key, value in events.result().items() if key != "adapter"}
            return Outcome(steps, metrics, result, codes, contradictions)
        if code not in (-signal.SIGKILL, 41):
            break
    raise AssertionError(f"No end in sight: {codes} {events} {(output / f'log-{attempt}').read_text()[-3000:]}")


def _newest_checkpoint(output: Path) -> dict[str, Any] | None:
    checkpoint = newest(output)
    return {"from": "checkpoint", "path": str(checkpoint)} if checkpoint else None


def _newest_warm(document: dict[str, Any]) -> dict[str, Any] | None:
    folder = document["warm"]["folder"]
    return {"from": "warm", "folder": folder} if any(Path(folder).glob("rank-*")) else None


def begin(document: dict[str, Any], kill: Kill | None, log: Path) -> Callable[[], tuple[Events, int]]:
    """Trains in the background; what is returned waits for the end and gives the events and the exit code or, negative, the signal."""
    reader, writer = os.pipe()
    # Or the child's garbage collector would copy this process's whole heap.
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        faults.leave(_be_trainer(document, kill, writer, log))
    os.close(writer)

    def wait() -> tuple[Events, int]:
        text = _read_all(reader, pid)
        os.close(reader)
        events = Events()
        for line in text.splitlines(keepends=True):
            if line.endswith("\n"):
                events(json.loads(line))
        return events, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return wait


def _read_all(reader: int, pid: int) -> str:
    received, deadline = b"", time.monotonic() + CHILD_TIMEOUT_S
    while True:
        ready, _, _ = select.select([reader], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"Nothing more for {CHILD_TIMEOUT_S} s after {received.decode()[-1000:]}")
        block = os.read(reader, 1 << 16)
        if not block:
            return received.decode()
        received += block


def _be_trainer(document: dict[str, Any], kill: Kill | None, writer: int, log: Path) -> int:
    from anneal_trainer.protocol import Emitter

    output = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    lifeline.tie_to_parent()
    interrupts.listen()
    emit, job = Emitter(writer), parse_job(json.dumps(document))
    base = METHODS[job.recipe.method].trainer
    return faults.run_to_end(lambda: train(job, emit, _killing(base, kill) if kill else base), emit)


def _killing(base: type[DurableTrainer], kill: Kill) -> type[DurableTrainer]:
    class Killing(base):
        def __init__(self, **options: Any):
            super().__init__(**options)
            self.add_callback(_Killer(kill))

    seal = checkpoints.seal

    def seal_or_die(temporary: Path, output: Path, step: int, *rest: Any) -> Any:
        if kill.phase == "save" and kill.step == step:
            os.kill(os.getpid(), kill.signal)
        return seal(temporary, output, step, *rest)

    checkpoints.seal = seal_or_die
    return Killing


class _Killer(TrainerCallback):
    def __init__(self, kill: Kill):
        self._kill = kill

    def _meet(self, phase: str, step: int, rank: int) -> None:
        if (phase, step, rank) == (self._kill.phase, self._kill.step, self._kill.rank):
            os.kill(os.getpid(), self._kill.signal)

    def on_step_begin(self, args, state, control, **_):
        self._meet("begin", state.global_step + 1, args.process_index)

    def on_substep_end(self, args, state, control, **_):
        self._meet("substep", state.global_step + 1, args.process_index)

    def on_pre_optimizer_step(self, args, state, control, **_):
        self._meet("before optimizer", state.global_step + 1, args.process_index)

    def on_optimizer_step(self, args, state, control, **_):
        self._meet("after optimizer", state.global_step + 1, args.process_index)

    def on_step_end(self, args, state, control, **_):
        self._meet("end", state.global_step, args.process_index)

    def on_save(self, args, state, control, **_):
        self._meet("saved", state.global_step, args.process_index)


def draw_kills(rng: random.Random, save_steps: int, steps: int, processes: int) -> list[Kill]:
    """One kill after the first checkpoint and one later, at any phase; a save happens only at its own steps, on the first rank.

    A gang, which is slow to start, gets only one of the two.
    """
    kills = []
    for low, high in ((save_steps + 1, steps // 2 + 2), (steps // 2 + 3, steps)):
        phase = rng.choice(PHASES)
        saves = [step for step in range(low, high + 1) if step % save_steps == 0]
        if phase == "save" and saves:
            kills.append(Kill(rng.choice(saves), phase))
        else:
            kills.append(Kill(rng.randint(low, high), "end" if phase == "save" else phase, rng.randrange(processes)))
    return kills if processes == 1 else [rng.choice(kills)]
