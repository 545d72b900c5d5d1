"""`python -m anneal_trainer <job.json>` and `... warm-parent`, without torch, with the faults of `misbehave.py` and `parents.py`."""

import ctypes
import faulthandler
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from anneal_trainer import parents
from anneal_trainer.channel import EXITS, End, emit, watch_supervisor
from anneal_trainer.misbehave import Fault
from anneal_trainer.training import Training


def main() -> int:
    faulthandler.register(signal.SIGUSR1)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if sys.argv[1] == "warm-parent":
        parents.serve("warm", lambda command: run_job(command["job"]))
        return 0
    return run_job(sys.argv[1])


def run_job(file: str) -> int:
    return to_end(lambda: _run(json.loads(Path(file).read_text())))


def to_end(work) -> int:
    try:
        work()
        return EXITS["done"]
    except End as end:
        if end.kind != "interrupted":
            emit({"ev": "failed", "kind": end.kind, "message": str(end)})
        return EXITS.get(end.kind, 1)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a typed end
        traceback.print_exc()
        emit(
            {
                "ev": "failed",
                "kind": "trainer_crashed",
                "message": f"The trainer failed with {type(error).__name__}: {error}.",
            }
        )
        return 1


def _run(job: dict) -> None:
    fault = Fault()
    fault.at("start", None)
    if job["command"] == "prepare-train":
        prepared = Training(job["train"], fault)
        prepared.prepare()

        def attempt(command: dict) -> int:
            watch_supervisor()
            prepared.listen()
            return to_end(lambda: prepared.run(command["resume"]))

        parents.serve("prepared", attempt)
        return
    watch_supervisor()
    training = Training(job, fault)
    training.listen()
    training.prepare()
    training.run(job["resume"])


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
