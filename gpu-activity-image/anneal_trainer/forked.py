"""Shares work among forked processes: on a CPU two processes of one thread decode half as much again as one of two threads."""

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import TypeVar

Share = TypeVar("Share")
Result = TypeVar("Result")

_FORK = multiprocessing.get_context("fork")


def map_forked(work: Callable[[Share], Iterator[Result]], shares: list[Share]) -> Iterator[Result]:
    """Yields what `work` yields for each share, in the order in which it comes. One share is worked on here, without a fork.

    The caller must not have started a thread pool: torch's does not survive a fork.
    Raises what `work` raises, and `ChildProcessError` when a process dies.
    """
    if len(shares) == 1:
        yield from work(shares[0])
        return
    processes = dict(_start(work, share) for share in shares)
    try:
        while processes:
            for reader in wait(list(processes)):
                yield from _receive(reader, processes)
    finally:
        for process in processes.values():
            process.kill()
            process.join()


def _start(work: Callable[[Share], Iterator[Result]], share: Share) -> tuple[Connection, multiprocessing.Process]:
    reader, writer = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_send_all, args=(work, share, writer), daemon=True)
    process.start()
    writer.close()
    return reader, process


def _send_all(work: Callable[[Share], Iterator[Result]], share: Share, writer: Connection) -> None:
    try:
        for result in work(share):
            writer.send(result)
    except Exception as error:
        writer.send(error)


def _receive(reader: Connection, processes: dict[Connection, multiprocessing.Process]) -> Iterator[Result]:
    try:
        received = reader.recv()
    except EOFError:
        process = processes.pop(reader)
        process.join()
        if process.exitcode:
            raise ChildProcessError(f"A process of {len(processes) + 1} ended with exit code {process.exitcode}.") from None
        return
    if isinstance(received, Exception):
        raise received
    yield received
