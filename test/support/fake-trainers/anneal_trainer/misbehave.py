"""One small program per misbehaviour. A fault strikes at a point of the training, at most so many times in the run's life."""

import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

from anneal_trainer import saved
from anneal_trainer.channel import EXITS, End, emit, write


class Fault:
    """`FAULTS` in the environment: a list of {do, at, step?, times?, ...}; `FAULT_MEMORY` is a folder in which each is counted."""

    def __init__(self):
        self._plans = list(enumerate(json.loads(os.environ.get("FAULTS", "[]"))))
        self._memory = Path(os.environ.get("FAULT_MEMORY", "/nonexistent"))

    def at(self, point: str, training) -> None:
        for number, plan in self._plans:
            if (
                plan["at"] == point
                and self._is_due(plan, training)
                and self._count(number, plan)
            ):
                self._do(plan, training)

    def says(self, path: str) -> str:
        """Where it says that a checkpoint lies."""
        return "/etc/checkpoint-1" if self._has("foreign_path") else path

    def gives(self, result: dict) -> dict:
        return {"weights": "none"} if self._has("bad_result") else result

    def _has(self, what: str) -> bool:
        return any(plan["do"] == what for _, plan in self._plans)

    def _is_due(self, plan: dict, training) -> bool:
        if training is None:
            return True
        next_step = training.step + (1 if plan["at"] in ("step", "loss") else 0)
        if "step" in plan and next_step != plan["step"]:
            return False
        if "every" in plan and next_step % plan["every"]:
            return False
        if "from" in plan and training.resumed < plan["from"]:
            return False
        return (
            "batchAbove" not in plan
            or training.recipe["microBatch"] > plan["batchAbove"]
        )

    def _count(self, number: int, plan: dict) -> bool:
        file = self._memory / f"count-{number}"
        done = len(file.read_bytes()) if file.exists() else 0
        if done >= plan.get("times", 1_000_000):
            return False
        with file.open("ab") as counter:
            counter.write(b"x")
        return True

    def _do(self, plan: dict, training) -> None:
        match what := plan["do"]:
            case "exit":
                os._exit(plan["code"])
            case "signal":
                # Not a matter of core files here.
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                if plan["name"] not in ("SIGKILL", "SIGSTOP"):
                    signal.signal(getattr(signal, plan["name"]), signal.SIG_DFL)
                os.kill(os.getpid(), getattr(signal, plan["name"]))
                time.sleep(60)
            case "obey_sigterm":
                os.kill(os.getpid(), signal.SIGTERM)
            case "raise":
                raise RuntimeError(
                    plan["message"].replace(
                        "{random}", random.choice(_WORDS) + random.choice(_WORDS)
                    )
                )
            case "raise_numbered":
                raise RuntimeError(
                    f"bad row {random.randrange(10**6)} at 0x{random.randrange(10**9):x} in /tmp/{random.randrange(10**6)}"
                )
            case "die_untold":
                sys.stderr.write(
                    "Traceback (most recent call last):\nModuleNotFoundError: No module named 'torch'\n"
                )
                sys.stderr.flush()
                os._exit(1)
            case "end":
                if plan["kind"] == "done":
                    os._exit(EXITS["done"])
                raise End(
                    plan["kind"],
                    plan.get("message", f"This fake ends with {plan['kind']}."),
                )
            case "sleep":
                time.sleep(plan["seconds"])
            case "await_file":
                while not Path(plan["file"]).exists():
                    time.sleep(0.01)
            case "await_sigterm":
                while not training.is_told:
                    time.sleep(0.01)
            case "hang":
                _hang_here()
            case "hang_deaf":
                signal.signal(signal.SIGUSR1, signal.SIG_IGN)
                _hang_here()
            case "ignore_sigterm":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                _hang_here()
            case "repeat_step":
                _repeat(
                    {
                        "ev": "step",
                        "step": max(1, training.step),
                        "of": 9,
                        "epoch": 0.1,
                        "loss": training.loss,
                        **_STEP,
                    }
                )
            case "repeat_phases":
                _repeat(
                    {"ev": "phase", "phase": "train"},
                    {"ev": "phase", "phase": "evaluate"},
                )
            case "repeat_finding":
                _repeat({"ev": "finding", "code": "warm_state_off", "message": "again"})
            case "host_oom":
                _count_oom_kill()
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)
            case "differ":
                training.loss += 1e-9
            case "garbage":
                for i in range(plan["lines"]):
                    write(f"this is no event {i}\n".encode())
            case "garbage_bytes":
                write(os.urandom(plan["bytes"]).replace(b"\n", b" ") + b"\n")
            case "garbage_json":
                write(
                    b'{"ev":"step","step":"five"}\n[1,2]\nnull\n{"ev":"unheard_of"}\n'
                )
            case "half_event":
                write(b'{"ev":"step","st')
                os.kill(os.getpid(), signal.SIGKILL)
            case "foreign_path" | "bad_result":
                pass
            case "tear_checkpoint":
                _damage(
                    training.output,
                    lambda file: file.write_bytes(file.read_bytes()[:5]),
                )
                os.kill(os.getpid(), signal.SIGKILL)
            case "flip_bit":
                _damage(training.output, _flip_bit)
                os.kill(os.getpid(), signal.SIGKILL)
            case "damage_warm":
                for slot in Path(training.job["warm"]["folder"]).glob("*"):
                    _flip_bit(slot)
                os.kill(os.getpid(), signal.SIGKILL)
            case "half_warm":
                saved.keep_warm(training.job["warm"], training.state, half=True)
                os.kill(os.getpid(), signal.SIGKILL)
            case "foreign_warm":
                # Newer than anything, of another run.
                saved.keep_warm(
                    {**training.job["warm"], "run": "another"},
                    {**training.state, "step": 1000},
                )
                saved.keep_warm(
                    {**training.job["warm"], "run": "another"},
                    {**training.state, "step": 1001},
                )
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                raise ValueError(f"Unknown misbehaviour {what}.")


_STEP = {"gradNorm": 0.1, "learningRate": 0.1, "tokens": 1, "seconds": 0.001}
_WORDS = (
    "amber",
    "birch",
    "cedar",
    "dune",
    "ember",
    "fjord",
    "grove",
    "heath",
    "inlet",
    "jetty",
    "knoll",
    "lagoon",
    "mesa",
    "notch",
)


def _hang_here() -> None:
    while True:
        time.sleep(1)


def _repeat(*events: dict) -> None:
    while True:
        for event in events:
            emit(event)
        time.sleep(0.02)


def _count_oom_kill() -> None:
    file = Path(os.environ["FAULT_OOM_COUNTER"])
    count = int(file.read_text().split()[-1]) + 1
    file.write_text(file.read_text().rsplit(" ", 1)[0] + f" {count}\n")


def _damage(output: Path, how) -> None:
    newest = max(
        output.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1])
    )
    how(newest / "state.json")


def _flip_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
