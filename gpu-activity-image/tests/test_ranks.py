"""A gang: what it ends by when a rank dies, and that nobody is left."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from anneal_trainer import faults, interrupts, lifeline, protocol, ranks
from anneal_trainer.protocol import DataRejected, Emitter, Gang, Interrupted
from anneal_trainer.ranks import Death, find_root
from support import CHILD_TIMEOUT_S, Events
from torch import distributed

DONE, CRASHED, INTERRUPTED, REJECTED = 0, 1, 41, 46


@pytest.mark.parametrize(
    ("deaths", "root"),
    [
        ([Death(0, DONE), Death(1, DONE)], 0),
        ([Death(1, INTERRUPTED, step=3), Death(0, INTERRUPTED, step=3)], 0),
        ([Death(1, DONE), Death(0, INTERRUPTED, step=3)], 0),
        # One rank is done and another is not: it is the other that counts.
        ([Death(0, DONE), Death(1, CRASHED)], 1),
        ([Death(1, -9)], 1),
        # Rank 0 missed rank 1 and was seen first.
        ([Death(0, CRASHED, is_cascade=True), Death(1, -9)], 1),
        ([Death(0, CRASHED, is_cascade=True), Death(1, REJECTED)], 1),
        # Nobody knows a root: the first will do.
        ([Death(2, CRASHED, is_cascade=True), Death(0, CRASHED, is_cascade=True)], 2),
        ([Death(2, 40), Death(0, 40)], 2),
    ],
)
def test_root_of_a_failure(deaths: list[Death], root: int):
    assert find_root(deaths).rank == root


def lead(work: Callable[[int], None], folder: Path, processes: int = 2, hosts: int = 1, seat: Gang | None = None) -> tuple[Events, int]:
    """Leads a gang in a fork of this process; returns what it said and its exit code or, negative, its signal."""
    return start(work, folder, processes, hosts, seat)()


def start(work: Callable[[int], None], folder: Path, processes: int, hosts: int, seat: Gang | None) -> Callable[[], tuple[Events, int]]:
    """Leads it in the background; what is returned waits for its end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        output = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        lifeline.tie_to_parent()
        interrupts.listen()
        emit = Emitter(writer)
        faults.leave(faults.run_to_end(lambda: ranks.lead(processes, "gloo", folder, work, emit, hosts, seat), emit))
    os.close(writer)

    def wait() -> tuple[Events, int]:
        events = Events()
        with os.fdopen(reader) as lines:
            for line in lines:
                events(protocol.json.loads(line))
        return events, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return wait


def start_hosts(work: Callable[[int], None], folder: Path, keys: list[str], processes: int = 1) -> list[Callable[[], tuple[Events, int]]]:
    """Two hosts of a gang, each with its own folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    waits = []
    for host, key in enumerate(keys):
        home = folder / f"host-{host}"
        home.mkdir()
        waits.append(start(work, home, processes, 2, Gang(host, "127.0.0.1", port, "lo", key)))
    return waits


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_ranks_meet_and_get_done(tmp_path: Path):
    def work(rank: int) -> None:
        sizes = [None] * distributed.get_world_size()
        distributed.all_gather_object(sizes, (rank, int(os.environ["LOCAL_RANK"])))
        (tmp_path / f"met-{rank}").write_text(str(sizes))

    events, code = lead(work, tmp_path, processes=3)
    assert (list(events), code) == ([], DONE)
    assert {(tmp_path / f"met-{rank}").read_text() for rank in range(3)} == {"[(0, 0), (1, 1), (2, 2)]"}
    assert not list(tmp_path.glob("rank-*.json")) and not (tmp_path / ".gang").exists()


def test_leader_ends_as_the_rank_that_failed_and_not_as_the_one_that_missed_it(tmp_path: Path):
    def work(rank: int) -> None:
        (tmp_path / f"pid-{rank}").write_text(str(os.getpid()))
        distributed.barrier()
        if rank == 1:
            raise DataRejected("The shard is torn.")
        # Fails once rank 1 is gone.
        distributed.barrier()

    events, code = lead(work, tmp_path)
    assert code == REJECTED
    assert [(event["kind"], event["message"]) for event in events] == [("data_rejected", "Rank 1 of 2: The shard is torn.")]
    assert protocol.json.loads((tmp_path / "rank-1.json").read_text())["kind"] == "data_rejected"
    assert not any(is_alive(int(file.read_text())) for file in tmp_path.glob("pid-*"))


def test_rank_that_is_killed_takes_gang_and_leader_along(tmp_path: Path):
    def work(rank: int) -> None:
        (tmp_path / f"pid-{rank}").write_text(str(os.getpid()))
        distributed.barrier()
        if rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        # Would wait for ever.
        time.sleep(CHILD_TIMEOUT_S)

    started = time.monotonic()
    events, code = lead(work, tmp_path)
    assert code == -signal.SIGKILL
    assert [event["message"] for event in events] == ["Rank 0 of 2 was killed by SIGKILL."]
    assert time.monotonic() - started < CHILD_TIMEOUT_S / 2
    assert not any(is_alive(int(file.read_text())) for file in tmp_path.glob("pid-*"))


def test_cascade_that_is_seen_first_is_not_taken_for_the_root(tmp_path: Path):
    def work(rank: int) -> None:
        if rank == 0:
            raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1")
        while not (tmp_path / "rank-0.json").exists():
            time.sleep(0.01)
        raise MemoryError

    _, code = lead(work, tmp_path)
    assert code == protocol.EXIT_OUT_OF_MEMORY


def test_sigterm_to_the_leader_reaches_every_rank(tmp_path: Path):
    def work(rank: int) -> None:
        distributed.barrier()
        if rank == 0:
            os.kill(os.getppid(), signal.SIGTERM)
        deadline = time.monotonic() + CHILD_TIMEOUT_S
        while not interrupts.requested() and time.monotonic() < deadline:
            time.sleep(0.01)
        raise Interrupted(7)

    events, code = lead(work, tmp_path)
    assert code == INTERRUPTED
    assert list(events) == [{"ev": "interrupted", "step": 7}]


def test_ranks_of_two_hosts_meet_at_the_address_of_the_first_and_nowhere_else(tmp_path: Path):
    def work(rank: int) -> None:
        met = [None] * distributed.get_world_size()
        distributed.all_gather_object(met, (rank, int(os.environ["LOCAL_RANK"])))
        (tmp_path / f"met-{rank}").write_text(str(met))
        if rank == 0:
            (tmp_path / "listens").write_text(Path("/proc/net/tcp").read_text())
        distributed.barrier()

    waits = start_hosts(work, tmp_path, ["a", "a"], processes=2)
    assert [(list(events), code) for events, code in (wait() for wait in waits)] == [([], DONE), ([], DONE)]
    assert {(tmp_path / f"met-{rank}").read_text() for rank in range(4)} == {"[(0, 0), (1, 1), (2, 0), (3, 1)]"}
    listeners = [line.split()[1] for line in (tmp_path / "listens").read_text().splitlines()[1:] if line.split()[3] == "0A"]
    # 127.0.0.1, in the kernel's notation.
    assert any(address.startswith("0100007F:") for address in listeners)


def test_host_that_lost_another_says_that_it_only_missed_it(tmp_path: Path):
    def work(rank: int) -> None:
        distributed.barrier()
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        distributed.barrier()

    first, second = (wait() for wait in start_hosts(work, tmp_path, ["a", "a"]))
    assert second[1] == -signal.SIGKILL
    assert (first[1], [event["kind"] for event in first[0]]) == (CRASHED, ["cascade"])


def test_rank_with_another_key_does_not_join_and_ends_at_once_when_told(tmp_path: Path):
    def work(rank: int) -> None:
        (tmp_path / f"joined-{rank}").touch()

    began = time.monotonic()
    waits = start_hosts(work, tmp_path, ["new", "old"])
    leaders = children_of(os.getpid())
    time.sleep(1)
    for pid in leaders:
        os.kill(pid, signal.SIGTERM)
    assert [code for _, code in (wait() for wait in waits)] == [-signal.SIGTERM, -signal.SIGTERM]
    assert not list(tmp_path.glob("joined-*"))
    assert time.monotonic() - began < CHILD_TIMEOUT_S / 2


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
