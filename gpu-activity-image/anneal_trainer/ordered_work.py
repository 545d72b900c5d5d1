"""Shares a stream of tasks among forked processes and gives their results in the order of the tasks, holding no more than a few."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from multiprocessing.connection import Connection
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_FORK = multiprocessing.get_context("fork")
# Tasks given to a process before the first one's result is taken: one to do, and the next so that it never waits.
_AHEAD = 2


def map_in_order(work: Callable[[Task], Result], tasks: Iterable[Task], processes: int) -> Iterator[Result]:
    """Tasks should be small and results may be large. With one process the work is done here, without a fork.

    The caller must not have started a thread pool. Raises what `work` raises, and `ChildProcessError` when a process dies.
    """
    if processes == 1:
        yield from map(work, tasks)
        return
    workers = [_Worker(work) for _ in range(processes)]
    given: deque[_Worker] = deque()
    try:
        for worker, task in zip(cycle(workers), tasks, strict=False):
            if len(given) == _AHEAD * processes:
                yield given.popleft().take()
            worker.give(task)
            given.append(worker)
        while given:
            yield given.popleft().take()
    finally:
        for worker in workers:
            worker.kill()


class _Worker:
    def __init__(self, work: Callable[[Task], Result]):
        self._channel, far = _FORK.Pipe()
        self._process = _FORK.Process(target=_serve, args=(work, far), daemon=True)
        self._process.start()
        far.close()

    def give(self, task: Task) -> None:
        with self._naming_a_death():
            self._channel.send(task)

    def take(self) -> Result:
        with self._naming_a_death():
            result = self._channel.recv()
        if isinstance(result, Exception):
            raise result
        return result

    @contextmanager
    def _naming_a_death(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError):
            self._process.join()
            raise ChildProcessError(f"A process that shared the work ended with exit code {self._process.exitcode}.") from None

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(work: Callable[[Task], Result], channel: Connection) -> None:
    while True:
        task = channel.recv()
        try:
            channel.send(work(task))
        except Exception as error:
            channel.send(error)
