"""Results in the order of the tasks, and a worker's end that nobody has to wait for."""

import os
import signal
from itertools import count, islice

import pytest
from anneal_trainer.ordered_work import map_in_order


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def test_results_come_in_the_order_of_the_tasks_from_several_processes():
    results = list(map_in_order(square, range(50), 3))
    assert [result for result, _ in results] == [number * number for number in range(50)]
    assert len({process for _, process in results} - {os.getpid()}) == 3


def test_no_more_tasks_are_taken_than_are_worked_on():
    tasks = count()
    results = map_in_order(square, tasks, 2)
    assert len(list(islice(results, 10))) == 10
    assert next(tasks) <= 10 + 2 * 2
    results.close()


def test_an_error_or_a_death_in_a_process_ends_the_work():
    with pytest.raises(ZeroDivisionError):
        list(map_in_order(lambda number: 1 // number, [1, 0, 1], 2))
    with pytest.raises(ChildProcessError, match="exit code -9"):
        list(map_in_order(lambda _: os.kill(os.getpid(), signal.SIGKILL), [1, 2, 3], 2))
