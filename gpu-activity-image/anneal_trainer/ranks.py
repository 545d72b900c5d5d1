"""A gang on one host: a leader forks one process per rank, waits, and reports the root of a failure, not what followed from it.

Running: the leader does no work of its own, so that it outlives whatever kills a rank. First death: a rank that fails because
another one is gone may be seen before that other one, so the leader gives the root a moment to show itself; then the rest is
killed. Ended: the leader ends as the root did, by exception or by signal. Done and interrupted are decided by all ranks alike.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from torch import distributed

from anneal_trainer import faults, interrupts, protocol
from anneal_trainer.files import replacing_file
from anneal_trainer.protocol import Emit, Interrupted, TrainerError

# How long the root may take to die after a rank that only missed it: as long as it takes to write its error.
_ROOT_GRACE_S = 5.0
# How often the leader looks for deaths; a tenth of what a restart from warm state takes.
_LOOK_EVERY_S = 0.02

# What is left of a rank in the words of those that waited for it.
_CASCADE_WORDS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
_CASCADE_TYPES = ("DistError", "DistBackendError", "DistNetworkError", "DistStoreError")


class RankFailed(TrainerError):
    """The gang ended as this rank did."""

    def __init__(self, message: str, kind: str, exit_code: int):
        super().__init__(message)
        self.kind, self.exit_code = kind, exit_code


@dataclass(frozen=True)
class Death:
    """How a rank ended: its exit code, or the negative number of the signal; with the error file that it wrote, if it did."""

    rank: int
    code: int
    kind: str = "trainer_crashed"
    message: str = ""
    # It failed because another rank was gone.
    is_cascade: bool = False
    step: int = 0

    @property
    def is_clean(self) -> bool:
        return self.code in (protocol.EXIT_DONE, protocol.EXIT_INTERRUPTED)


def lead(processes: int, backend: str, folder: Path, work: Callable[[int], None], emit: Emit) -> None:
    """Runs `work(rank)` in forked ranks, in a process group of torch. Each that does not get done leaves `rank-<n>.json` in the folder.

    Raises Interrupted when all ranks were, RankFailed for the root of a failure. A root that was killed by a signal takes the leader along.
    """
    for rank in range(processes):
        _error_file(folder, rank).unlink(missing_ok=True)
    gang = _Gang(processes, backend, folder)
    gang.meeting.unlink(missing_ok=True)
    interrupts.hold()
    pids = {_fork(rank, gang, work): rank for rank in range(processes)}
    _forward_sigterm(pids)
    interrupts.release()
    root = find_root(_await_deaths(pids, folder))
    gang.meeting.unlink(missing_ok=True)
    if root.code == protocol.EXIT_DONE:
        return
    if root.code == protocol.EXIT_INTERRUPTED:
        raise Interrupted(root.step)
    if root.code > 0:
        raise RankFailed(
            f"Rank {root.rank} of {processes}: {root.message or f'it ended with exit code {root.code}.'}", root.kind, root.code
        )
    name = signal.Signals(-root.code).name
    emit({"ev": "failed", "kind": root.kind, "message": f"Rank {root.rank} of {processes} was killed by {name}."})
    _die_by(-root.code)


def find_root(deaths: list[Death]) -> Death:
    """The death that the others followed from; deaths come in the order in which they were seen, at least one."""
    failed = [death for death in deaths if not death.is_clean]
    roots = [death for death in failed if not death.is_cascade]
    # Where nobody failed, an interrupted rank speaks for all.
    return (roots or failed or sorted(deaths, key=lambda death: (-death.code, death.rank)))[0]


@dataclass(frozen=True)
class _Gang:
    processes: int
    backend: str
    folder: Path

    @property
    def meeting(self) -> Path:
        """Where the ranks of this try find each other: a file, because torch's meeting place with a port listens to the whole network."""
        return self.folder / ".gang"

    def join(self, rank: int) -> None:
        size = str(self.processes)
        # What accelerate and transformers go by.
        os.environ.update(WORLD_SIZE=size, LOCAL_WORLD_SIZE=size, RANK=str(rank), LOCAL_RANK=str(rank))
        # Ranks of one host need no network; gloo would ask a resolver for the host's address.
        os.environ["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
        store = distributed.FileStore(str(self.meeting), self.processes)
        distributed.init_process_group(self.backend, store=store, rank=rank, world_size=self.processes)


def _fork(rank: int, gang: _Gang, work: Callable[[int], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    interrupts.release()
    faults.leave(_be_rank(rank, gang, work))


def _be_rank(rank: int, gang: _Gang, work: Callable[[int], None]) -> int:
    try:
        gang.join(rank)
        work(rank)
        return protocol.EXIT_DONE
    except Interrupted as interruption:
        death = Death(rank, protocol.EXIT_INTERRUPTED, "interrupted", str(interruption), step=interruption.step)
    except BaseException as error:
        traceback.print_exc()
        kind, code = faults.classify(error)
        is_cascade = code == protocol.EXIT_CRASHED and _is_cascade(error)
        death = Death(rank, code, kind, faults.describe(error), is_cascade)
    with replacing_file(_error_file(gang.folder, rank)) as temporary:
        temporary.write_text(json.dumps(death.__dict__), "utf-8")
    return death.code


def _is_cascade(error: BaseException) -> bool:
    return type(error).__name__ in _CASCADE_TYPES or any(word in str(error) for word in _CASCADE_WORDS)


def _error_file(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.json"


def _forward_sigterm(pids: dict[int, int]) -> None:
    """A supervisor signals the whole group, a person perhaps only the leader."""

    def forward(_signal, _frame):
        for pid in pids:
            _kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, forward)


def _await_deaths(pids: dict[int, int], folder: Path) -> list[Death]:
    """Waits for all ranks to get done or be interrupted, or for the root of a failure, and kills the rest then."""
    deaths: list[Death] = []
    deadline = float("inf")
    while pids and time.monotonic() < deadline:
        fresh = _reap(pids, folder)
        deaths += fresh
        failed = [death for death in deaths if not death.is_clean]
        if any(not death.is_cascade for death in failed):
            break
        if failed:
            deadline = min(deadline, time.monotonic() + _ROOT_GRACE_S)
        if not fresh:
            time.sleep(_LOOK_EVERY_S)
    for pid in pids:
        _kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return deaths


def _reap(pids: dict[int, int], folder: Path) -> list[Death]:
    deaths = []
    for pid in list(pids):
        reaped, status = os.waitpid(pid, os.WNOHANG)
        if reaped:
            deaths.append(_describe(pids.pop(pid), os.waitstatus_to_exitcode(status), folder))
    return deaths


def _describe(rank: int, code: int, folder: Path) -> Death:
    try:
        written = json.loads(_error_file(folder, rank).read_text("utf-8"))
    except (OSError, ValueError):
        return Death(rank, code)
    return Death(**{**written, "code": code})


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _die_by(number: int) -> NoReturn:
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # A signal that is ignored or blocked.
    os._exit(protocol.EXIT_CRASHED)
