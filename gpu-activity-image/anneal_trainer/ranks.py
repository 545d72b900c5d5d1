"""A gang: on each of its hosts a leader forks one process per rank, waits, and reports the root of a failure, not what followed from it.

Running: the leader does no work of its own, so that it outlives whatever kills a rank. First death: a rank that fails because
another one is gone may be seen before that other one, so the leader gives the root a moment to show itself; then the rest is
killed. Ended: the leader ends as the root did, by exception or by signal. Done and interrupted are decided by all ranks alike.

Ranks of one host meet in a file, those of several at an address of the first host, under a key that a rank of an older gang does not
know. A host whose ranks only missed another host's ends with the kind `cascade`. Not protected: whoever reaches the address may join.

Ranks that torchrun has started are processes already, and torchrun is their leader: they only join.
"""

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from torch import distributed

from anneal_trainer import faults, interrupts, protocol
from anneal_trainer.files import replacing_file
from anneal_trainer.protocol import BadRequest, Emit, Interrupted, TrainerError

# How long the root may take to die after a rank that only missed it: as long as it takes to write its error.
_ROOT_GRACE_S = 5.0
# How often the leader looks for deaths; a tenth of what a restart from warm state takes.
_LOOK_EVERY_S = 0.02

# How long the ranks of several hosts wait for each other: the slowest may read a large model from a cold disk.
_JOIN_TIMEOUT = timedelta(minutes=15)

_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"

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


def lead(
    processes: int,
    backend: str,
    folder: Path,
    work: Callable[[int], None],
    emit: Emit,
    hosts: int = 1,
    seat: protocol.Gang | None = None,
) -> None:
    """Runs `work(rank)` in forked ranks, in a process group of torch. Each that does not get done leaves `rank-<n>.json` in the folder.

    Raises Interrupted when all ranks were, RankFailed for the root of a failure. A root that was killed by a signal takes the leader along.
    """
    if hosts > 1 and seat is None:
        raise BadRequest(f"`recipe.hosts` is {hosts}, but `gang` is null; say where the hosts meet.")
    gang = _Gang(processes, backend, folder, hosts, seat)
    for rank in gang.ranks:
        _error_file(folder, rank).unlink(missing_ok=True)
    gang.meeting.unlink(missing_ok=True)
    interrupts.hold()
    pids = {_fork(rank, gang, work): rank for rank in gang.ranks}
    _forward_sigterm(pids)
    interrupts.release()
    root = find_root(_await_deaths(pids, folder))
    gang.meeting.unlink(missing_ok=True)
    if root.code == protocol.EXIT_DONE:
        return
    if root.code == protocol.EXIT_INTERRUPTED:
        raise Interrupted(root.step)
    if root.code > 0:
        kind = "cascade" if seat and root.is_cascade else root.kind
        raise RankFailed(f"Rank {root.rank} of {gang.world}: {root.message or f'it ended with exit code {root.code}.'}", kind, root.code)
    name = signal.Signals(-root.code).name
    emit({"ev": "failed", "kind": root.kind, "message": f"Rank {root.rank} of {gang.world} was killed by {name}."})
    _die_by(-root.code)


def ranks_of(host: int, processes: int) -> range:
    """Of a host with so many."""
    return range(host * processes, (host + 1) * processes)


def launched_rank(processes: int, hosts: int) -> int | None:
    """This process's rank where torchrun started it, else None. Raises BadRequest where that are other ranks than the job's."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    started, local = (int(os.environ[name]) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if (started, local) != (processes * hosts, processes):
        raise BadRequest(
            f"torchrun started {started} ranks, {local} on this host, but the recipe has {processes} on each of {hosts} hosts; "
            f"start it with `--nnodes {hosts} --nproc-per-node {processes}`."
        )
    return int(os.environ["RANK"])


def join_launched(backend: str) -> None:
    """Meets the other ranks where torchrun says."""
    if os.environ["WORLD_SIZE"] == os.environ["LOCAL_WORLD_SIZE"]:
        os.environ["GLOO_SOCKET_IFNAME"] = _LOOPBACK
    distributed.init_process_group(backend)


def find_root(deaths: list[Death]) -> Death:
    """The death that the others followed from; deaths come in the order in which they were seen, at least one."""
    failed = [death for death in deaths if not death.is_clean]
    roots = [death for death in failed if not death.is_cascade]
    # Where nobody failed, an interrupted rank speaks for all.
    return (roots or failed or sorted(deaths, key=lambda death: (-death.code, death.rank)))[0]


@dataclass(frozen=True)
class _Gang:
    # On each host.
    processes: int
    backend: str
    folder: Path
    hosts: int
    seat: protocol.Gang | None

    @property
    def world(self) -> int:
        return self.processes * self.hosts

    @property
    def ranks(self) -> range:
        """Of this host."""
        return ranks_of(self.seat.host if self.seat else 0, self.processes)

    @property
    def meeting(self) -> Path:
        """Where the ranks of one host find each other; needs no port."""
        return self.folder / ".gang"

    def join(self, rank: int) -> None:
        # What accelerate and transformers go by.
        sizes = {"WORLD_SIZE": self.world, "LOCAL_WORLD_SIZE": self.processes, "RANK": rank, "LOCAL_RANK": rank - self.ranks.start}
        os.environ.update({name: str(value) for name, value in sizes.items()})
        if self.seat is None:
            # Ranks of one host need no network; gloo would ask a resolver for the host's address.
            os.environ["GLOO_SOCKET_IFNAME"] = _LOOPBACK
            store = distributed.FileStore(str(self.meeting), self.processes)
        else:
            os.environ.update(GLOO_SOCKET_IFNAME=self.seat.interface, NCCL_SOCKET_IFNAME=self.seat.interface)
            # accelerate asks for them, although the ranks have met already.
            os.environ.update(MASTER_ADDR=self.seat.address, MASTER_PORT=str(self.seat.port))
            # Until all are there nothing needs to be saved, and torch waits for them without looking at signals.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            store = _meet_hosts(self.seat, is_first=rank == 0)
        distributed.init_process_group(self.backend, store=store, rank=rank, world_size=self.world)
        if self.seat is not None:
            interrupts.listen()


def _meet_hosts(seat: protocol.Gang, is_first: bool) -> distributed.Store:
    """Listens at the one address only; left to itself, torch listens to the whole network."""
    options = {}
    if is_first:
        family = socket.AF_INET6 if ":" in seat.address else socket.AF_INET
        listener = socket.create_server((seat.address, seat.port), family=family, backlog=4096)
        options["master_listen_fd"] = listener.detach()
    store = distributed.TCPStore(seat.address, seat.port, is_master=is_first, timeout=_JOIN_TIMEOUT, wait_for_workers=False, **options)
    return distributed.PrefixStore(seat.key, store)


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
