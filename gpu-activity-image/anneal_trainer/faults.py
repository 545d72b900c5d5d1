"""Turns every end of a job into an event and an exit code: which kind of failure an exception is, and its one-sentence message."""

import errno
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from anneal_trainer import protocol
from anneal_trainer.protocol import Emit, Interrupted, TrainerError

# What torch and safetensors say instead of raising MemoryError or OSError.
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "Cannot allocate memory", "not enough memory", "DefaultCPUAllocator")
_DISK_WORDS = ("No space left on device", "os error 28")


def run_to_end(work: Callable[[], None], emit: Emit) -> int:
    """Does the work and returns the process's exit code; how it failed is emitted."""
    try:
        work()
        return protocol.EXIT_DONE
    except Interrupted as interruption:
        emit({"ev": "interrupted", "step": interruption.step})
        return protocol.EXIT_INTERRUPTED
    except Exception as error:
        kind, exit_code = classify(error)
        if exit_code == protocol.EXIT_CRASHED:
            traceback.print_exc()
        emit({"ev": "failed", "kind": kind, "message": describe(error)})
        return exit_code


def leave(exit_code: int) -> NoReturn:
    """Ends without destructors: libraries' threads must not turn a finished job into a crash."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def classify(error: BaseException) -> tuple[str, int]:
    """The failure kind and the exit code of the first typed cause in the exception's chain."""
    for cause in _chain(error):
        if isinstance(cause, TrainerError):
            return cause.kind, cause.exit_code
        if _is_out_of_memory(cause):
            return "out_of_memory", protocol.EXIT_OUT_OF_MEMORY
        if _is_disk_full(cause):
            return "disk_full", protocol.EXIT_DISK_FULL
    return "trainer_crashed", protocol.EXIT_CRASHED


def describe(error: BaseException) -> str:
    """The sentence for the `failed` event; a typed error has its own."""
    if isinstance(error, TrainerError):
        return str(error)
    kind, _ = classify(error)
    # 500 characters: the first lines name the cause, the rest is on stderr.
    detail = f"{type(error).__name__}: {error}"[:500]
    if kind == "out_of_memory":
        return f"Memory ran out ({detail}). Lower `train.microBatch` and raise `train.accumulation` by the same factor."
    if kind == "disk_full":
        return f"The disk is full ({detail}). Free space in the working folder, or, while training, lower `train.keep`."
    return f"The trainer failed with {detail}."


def _chain(error: BaseException | None):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_out_of_memory(error: BaseException) -> bool:
    named = isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "AcceleratorError")
    return (named or isinstance(error, RuntimeError)) and (
        isinstance(error, MemoryError) or any(word in str(error) for word in _MEMORY_WORDS)
    )


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(word in str(error) for word in _DISK_WORDS)
