"""What the tests share: example rows, an event collector that checks every event against the golden ones, and the real child."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from anneal_trainer.protocol import Recipe, parse_job

PROJECT = Path(__file__).parents[2]
GOLDEN = PROJECT / "test" / "golden"
MODELS = Path(os.environ.get("ANNEAL_MODELS", PROJECT / ".anneal" / "models"))
TINY = str(MODELS / "tiny")

# A recipe with something of everything that the default method can do; threads are 1, so that this process can be forked.
RECIPE = {
    "method": "sft",
    "tuning": "lora",
    "lora": {"rank": 4, "alpha": 8, "dropout": 0.1, "targets": "auto", "firstLayer": 0},
    "epochs": 2,
    "maxSteps": None,
    "microBatch": 4,
    "accumulation": 2,
    "learningRate": 0.005,
    "schedule": "cosine",
    "warmupRatio": 0.1,
    "weightDecay": 0.01,
    "maxGradNorm": 1,
    "seed": 3,
    "saveSteps": 3,
    "evalSteps": 4,
    "keep": 100,
    "earlyStopping": None,
    "threads": 1,
    "packing": False,
    "streaming": False,
    "dataloaderWorkers": 0,
    "tokenDropout": 0,
    "processes": 1,
    "dpoBeta": 0.1,
    "device": "auto",
}


def train_job(shards: Path, output: Path, **recipe: Any) -> dict[str, Any]:
    """A `train` job of the tiny model on a folder's two shards."""
    return {
        "v": 1,
        "command": "train",
        "baseModel": TINY,
        "baseName": "tiny",
        "train": str(shards / "train.safetensors"),
        "validation": str(shards / "validation.safetensors"),
        "output": str(output),
        "resume": None,
        "warm": None,
        "hole": None,
        "recipe": RECIPE | recipe,
    }


def recipe(**changes: Any) -> Recipe:
    """The golden job's recipe with an adapter that fits every model."""
    golden = parse_job((GOLDEN / "jobs" / "train.json").read_text("utf-8")).recipe
    return replace(golden, **{"method": "sft", "tuning": "lora", "lora": replace(golden.lora, targets="auto", first_layer=0), **changes})


# Seconds for a child to be killed after when it hangs; its imports take 5 to 20 s on a loaded machine.
CHILD_TIMEOUT_S = 120

GOLDEN_EVENTS = {event["ev"]: event for event in map(json.loads, (GOLDEN / "events.ndjson").read_text("utf-8").splitlines())}


OPTIONAL = {"detail", "evalAccuracy", "rewardMargin", "rewardAccuracy"}


def check_event(event: dict[str, Any]) -> None:
    """Same keys and types as the golden event, which the TypeScript side parses; some may be absent."""
    golden = GOLDEN_EVENTS[event["ev"]]
    assert set(golden) - OPTIONAL <= set(event) <= set(golden)
    for key, value in event.items():
        if key not in ("result", "best") and event["ev"] != "exited":
            assert isinstance(value, (int, float) if isinstance(golden[key], float) else type(golden[key])), (key, value)
    json.dumps(event, allow_nan=False)


class Events(list):
    """An `emit` that collects."""

    def __call__(self, event: dict[str, Any]) -> None:
        check_event(event)
        self.append(event)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self if event["ev"] == kind]

    def result(self) -> dict[str, Any]:
        return self.of("done")[0]["result"]


def make_row(index: int, messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": f"{index:032x}", "messages": messages, "group": "0" * 16, "src": {"source": 0, "line": index + 1}}


def example_rows(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)

    def words(low: int, high: int) -> str:
        return " ".join(rng.choice(["light", "fan", "blind", "lamp", "on", "off"]) for _ in range(rng.randint(low, high)))

    return [
        make_row(
            i,
            [
                {"role": "system", "content": "Answer with JSON."},
                {"role": "user", "content": words(3, 30)},
                {"role": "assistant", "content": json.dumps({"intent": words(1, 4)})},
            ],
        )
        for i in range(count)
    ]


def curve(events: Events) -> dict[int, dict[str, Any]]:
    """Step events by step, without what a clock decides."""
    return {event["step"]: {k: v for k, v in event.items() if k != "seconds"} for event in events.of("step")}


def newest(output: Path) -> Path | None:
    """The newest checkpoint of a run's folder."""
    found = {int(folder.name.split("-")[1]): folder for folder in output.glob("checkpoint-*")}
    return found[max(found)] if found else None


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


class Child:
    """`python -m anneal_trainer job.json` with events on descriptor 3 and a pipe as standard input.

    `hold`: the step in which every rank waits until `release` or SIGTERM, so that what is done to it finds it there however slow this process is.
    """

    def __init__(self, job: dict[str, Any], folder: Path, hold: int | None = None):
        file = folder / "job.json"
        file.write_text(json.dumps(job), "utf-8")
        program = ["-m", "anneal_trainer", str(file)]
        self._held = folder / f"hold-{hold}"
        if hold is not None:
            self._held.touch()
            program = [str(Path(__file__).with_name("mortal.py")), str(folder), str(file)]
        reader, writer = os.pipe()
        # The child wants its events on 3, whatever number the pipe has here.
        start = f"import os, sys; os.dup2({writer}, 3); os.execv(sys.executable, [sys.executable, *{program!r}])"
        package = Path(__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.PIPE,
            pass_fds=[writer],
            cwd=package,
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(package)},
        )
        os.close(writer)
        self._events = os.fdopen(reader, encoding="utf-8")
        self.seen = Events()

    def release(self) -> None:
        self._held.unlink(missing_ok=True)

    def events(self) -> Iterator[dict[str, Any]]:
        """Events as they come, until the child closes the channel."""
        for line in self._events:
            if line.endswith("\n"):
                event = json.loads(line)
                self.seen(event)
                yield event

    def wait_for(self, kind: str, count: int = 1) -> None:
        """Returns at the `count`-th event of a kind."""
        for event in self.events():
            count -= event["ev"] == kind
            if count <= 0:
                return
        raise AssertionError(f"The child ended without the awaited `{kind}`: {self.seen}")

    def exit_code(self) -> int:
        """Reads what is left and waits for the end."""
        for _ in self.events():
            pass
        return self.process.wait(CHILD_TIMEOUT_S)


@contextmanager
def child(job: dict[str, Any], folder: Path, hold: int | None = None) -> Iterator[Child]:
    folder.mkdir(parents=True, exist_ok=True)
    started = Child(job, folder, hold)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        started.process.stdin.close()
        started._events.close()
