"""Entry point: reads a job, fixes the environment, watches for the parent's death, dispatches, and turns every end into an exit code."""

import os
import signal
import stat
import sys
import threading
import traceback
from pathlib import Path

from anneal_trainer import faults, interrupts, protocol
from anneal_trainer.protocol import BadRequest, Emitter, Interrupted, Job


def main() -> int:
    emit = Emitter.open()
    try:
        job = _read_job(sys.argv[1:])
        _fix_environment(job)
        _die_with_parent(watch_stdin=job.command != "serve")
        if isinstance(job, protocol.TrainJob):
            interrupts.listen()
        _run(job, emit)
        return protocol.EXIT_DONE
    except Interrupted as interruption:
        emit({"ev": "interrupted", "step": interruption.step})
        return protocol.EXIT_INTERRUPTED
    except Exception as error:
        kind, exit_code = faults.classify(error)
        if exit_code == protocol.EXIT_CRASHED:
            traceback.print_exc()
        emit({"ev": "failed", "kind": kind, "message": faults.describe(error)})
        return exit_code


def _read_job(arguments: list[str]) -> Job:
    if len(arguments) != 1:
        raise BadRequest(f"One job file is wanted, got {len(arguments)} arguments; start as `python -m anneal_trainer job.json`.")
    try:
        text = Path(arguments[0]).read_text("utf-8")
    except OSError as error:
        raise BadRequest(f"The job file {arguments[0]} cannot be read: {error.strerror}.") from error
    return protocol.parse_job(text)


def _fix_environment(job: Job) -> None:
    """Before numpy, torch and tokenizers are imported, because they read these once."""
    os.environ["OMP_NUM_THREADS"] = str(_threads(job))
    # Idle threads sleep instead of spinning; on a shared machine spinning starves the neighbours.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TQDM_DISABLE"] = "1"
    # cuBLAS is deterministic only with a fixed workspace; without a GPU it has no effect.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    os.environ["TRANSFORMERS_VERBOSITY"] = os.environ.get("TRANSFORMERS_VERBOSITY", "error")


def _threads(job: Job) -> int:
    if isinstance(job, protocol.TrainJob):
        return job.recipe.threads
    return getattr(job, "threads", os.cpu_count() or 1)


def _die_with_parent(watch_stdin: bool) -> None:
    """Two independent ties to the parent's life: the kernel's death signal and, for a piped stdin, its end.

    Not protected: a parent that hangs but lives.
    """
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    mode = os.fstat(0).st_mode
    # A terminal, /dev/null or a file at stdin is a person's start, not a channel.
    if watch_stdin and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        threading.Thread(target=_exit_at_end_of_stdin, name="dead-mans-channel", daemon=True).start()


def _exit_at_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(protocol.EXIT_ORPHANED)


def _run(job: Job, emit: Emitter) -> None:
    # Imported late: each command pays only for the libraries that it uses.
    match job:
        case protocol.TokeniseJob():
            from anneal_trainer.tokenise import tokenise as command
        case protocol.TrainJob():
            from anneal_trainer.train import train as command
        case protocol.EvaluateJob():
            from anneal_trainer.evaluate import evaluate as command
        case protocol.PrepareModelJob():
            from anneal_trainer.models import prepare_model as command
        case protocol.ServeJob():
            from anneal_trainer.engine import serve as command
    command(job, emit)


def _leave(exit_code: int) -> None:
    """Ends without destructors: libraries' threads must not turn a finished job into a crash."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    _leave(main())
