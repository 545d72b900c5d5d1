"""Work shared among forked processes: results, errors and deaths reach the caller, and nothing stays behind."""

import os
import signal

import pytest
from anneal_trainer.forked import map_forked
from anneal_trainer.protocol import DataRejected


def squares(share: list[int]):
    for number in share:
        yield number * number, os.getpid()


def test_every_share_is_worked_on_by_a_process_of_its_own():
    results = list(map_forked(squares, [[1, 2], [3], [4]]))
    assert sorted(square for square, _ in results) == [1, 4, 9, 16]
    assert len({pid for _, pid in results}) == 3 and os.getpid() not in {pid for _, pid in results}


def test_one_share_stays_here():
    assert list(map_forked(squares, [[5]])) == [(25, os.getpid())]


def test_a_typed_error_comes_through_as_it_is():
    def refuse(share: list[int]):
        yield 0
        raise DataRejected(f"row {share[0]}")

    with pytest.raises(DataRejected, match="row 7"):
        list(map_forked(refuse, [[7], [7]]))


def test_a_death_is_an_error_and_ends_the_others():
    pids: list[int] = []

    def die(share: list[int]):
        yield os.getpid()
        if share[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()

    with pytest.raises(ChildProcessError, match="-9"):
        for pid in map_forked(die, [[0], [1]]):
            pids.append(pid)
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
