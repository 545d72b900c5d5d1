"""Processes that stay warm and fork others on command: the warm parent (everything imported) and the job parent (trainer built).

Starting: imports, or model, data and trainer. Waiting: commands come as lines on standard input, ends of children as SIGCHLD;
the end of standard input ends the parent, and the kernel ends its children with it. A parent has one thread and never touches
CUDA, because a fork of anything else may hang; it refuses to fork then. Its supervisor can always start cold instead.
"""

import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from anneal_trainer import commands, faults, interrupts, lifeline, protocol
from anneal_trainer.protocol import AttemptCommand, BadRequest, Emit, Emitter, EndCommand, PrepareTrainJob, RunCommand, TrainerError

# What jobs import, our own modules first; transformers loads the classes of a model only when asked for one.
_MODULES = ("train", "evaluate", "tokenise", "models")

# A command is a few paths; more without a line's end is not one, bytes.
_COMMAND_BYTES_MAX = 1 << 20

# What a thread gets that is about to end; one that stays makes the parent useless, s.
_THREAD_END_S = 5.0

# What a forked child does with its command: raises, or is done.
Work = Callable[[Any, Emit], None]


class Unforkable(TrainerError):
    """This process cannot be forked safely."""


def serve(emit: Emit) -> None:
    """The warm parent: imports everything, then forks a child for each `run`, until `end`."""
    started = time.monotonic()
    if sys.platform != "linux":
        raise BadRequest(f"The warm parent needs Linux, this is {sys.platform}; start cold.")
    commands.fix_environment(threads=1)
    for name in _MODULES:
        importlib.import_module(f"anneal_trainer.{name}")
    _freeze({"ev": "warm"}, started, emit)
    _Parent(emit, protocol.WARM_PARENT_COMMANDS, lambda command, emit: commands.run_file(command.job, emit)).serve()


def serve_job(job: PrepareTrainJob, emit: Emit) -> None:
    """A job parent: prepares the training, then forks a trainer for each `attempt`, until `end`."""
    import tqdm

    from anneal_trainer.train import attempt, prepare

    started = time.monotonic()
    # It starts a thread that watches progress bars.
    tqdm.tqdm.monitor_interval = 0
    prepared = prepare(job.train, emit)

    def work(command: AttemptCommand, emit: Emit) -> None:
        lifeline.watch_channel()
        interrupts.listen()
        attempt(prepared, command.resume, emit)

    _freeze({"ev": "prepared"}, started, emit)
    _Parent(emit, protocol.JOB_PARENT_COMMANDS, work).serve()


def _freeze(event: dict[str, Any], started: float, emit: Emit) -> None:
    """Takes all that is there out of the garbage collector's sight: its scans in a child would copy the parent's whole heap."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            # transformers leaves the threads that loaded the model to end by themselves.
            thread.join(_THREAD_END_S)
    gc.collect()
    gc.freeze()
    emit({**event, "seconds": round(time.monotonic() - started, 4)})


class _Parent:
    """Forks children and reaps them."""

    def __init__(self, emit: Emit, kinds: dict[str, type], work: Work):
        self._emit = emit
        self._kinds = kinds
        self._work = work
        self._ids: dict[int, str] = {}
        self._unread = b""

    def serve(self) -> None:
        # A service manager that stops a whole group asks the trainers to save; the parents must outlive that.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ends = _wake_at_sigchld()
        while True:
            ready, _, _ = select.select([0, ends], [], [])
            if ends in ready:
                os.read(ends, 4096)
                self._reap()
            if 0 in ready:
                for line in self._read_lines():
                    command = protocol.parse_command(self._kinds, line)
                    if isinstance(command, EndCommand):
                        return self._end()
                    self._fork(command)

    def _read_lines(self) -> Iterator[str]:
        *lines, self._unread = (self._unread + lifeline.read_or_exit(1 << 16)).split(b"\n")
        if len(self._unread) > _COMMAND_BYTES_MAX:
            raise BadRequest(f"A command has more than {_COMMAND_BYTES_MAX} bytes without a line's end; write one JSON object a line.")
        return iter([line.decode() for line in lines])

    def _fork(self, command: RunCommand | AttemptCommand) -> None:
        _require_forkable()
        interrupts.hold()
        pid = os.fork()
        if pid == 0:
            self._be_child(command)
        _lead_group(pid)
        interrupts.release()
        self._ids[pid] = command.id
        self._emit({"ev": "forked", "id": command.id, "pid": pid})

    def _be_child(self, command: RunCommand | AttemptCommand) -> NoReturn:
        code = protocol.EXIT_CRASHED
        try:
            _lead_group(os.getpid())
            interrupts.forget()
            code = self._run_connected(command)
        except BaseException:
            traceback.print_exc()
        finally:
            # Whatever happens, a child never comes back into its parent's loop.
            faults.leave(code)

    def _run_connected(self, command: RunCommand | AttemptCommand) -> int:
        try:
            _connect(command.channel, command.log)
        except OSError:
            # Nobody listens: the supervisor is gone.
            traceback.print_exc()
            return protocol.EXIT_ORPHANED
        emit = Emitter.open()
        return faults.run_to_end(lambda: self._work(command, emit), emit)

    def _reap(self) -> None:
        for pid in list(self._ids):
            # Looked at first and reaped after its group is gone: until then nobody else can get its number.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill_group(pid)
            _, status = os.waitpid(pid, 0)
            by_signal = os.WIFSIGNALED(status)
            self._emit(
                {
                    "ev": "exited",
                    "id": self._ids.pop(pid),
                    "pid": pid,
                    "code": None if by_signal else os.WEXITSTATUS(status),
                    "signal": signal.Signals(os.WTERMSIG(status)).name if by_signal else None,
                }
            )

    def _end(self) -> None:
        for pid in self._ids:
            _kill_group(pid)


def _wake_at_sigchld() -> int:
    """A descriptor that becomes readable when a child ends."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    return reader


def _require_forkable() -> None:
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise Unforkable(f"This parent has {threads} threads, and a fork of it may hang; start the trainer cold.")
    if sys.modules["torch"].cuda.is_initialized():
        raise Unforkable("This parent has touched CUDA, which a fork of it could not use; start the trainer cold.")


def _lead_group(pid: int) -> None:
    """Done by parent and child, as shells do: the group exists for both before either goes on."""
    try:
        os.setpgid(pid, pid)
    except ProcessLookupError:
        # It has been reaped or never lived; its end is reported by the parent.
        return


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _connect(channel: str, log: str) -> None:
    """Puts the socket in the place of descriptors 0 and 3 and the log in that of 1 and 2, as a cold start finds them."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(channel)
        os.dup2(connection.fileno(), 0)
        os.dup2(connection.fileno(), protocol.EVENT_FD)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(Path(log).parent)
