"""What the tests of the parents share: a warm parent with its commands and events, and the forked processes behind their sockets."""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import CHILD_TIMEOUT_S, Events

PACKAGE = Path(__file__).parents[1]


class Stream:
    """Events of one process as they come."""

    def __init__(self, connection: socket.socket):
        connection.settimeout(CHILD_TIMEOUT_S)
        self._connection = connection
        self._lines = connection.makefile("r", encoding="utf-8")
        self.seen = Events()

    def next(self) -> dict[str, Any] | None:
        line = self._lines.readline()
        if not line.endswith("\n"):
            return None
        event = json.loads(line)
        self.seen(event)
        return event

    def wait_for(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next event of a kind with these fields."""
        while event := self.next():
            if event["ev"] == kind and fields.items() <= event.items():
                return event
        raise AssertionError(f"The process ended without the awaited `{kind}` {fields}: {self.seen}")

    def read_to_end(self) -> Events:
        while self.next():
            pass
        return self.seen

    def send(self, command: dict[str, Any]) -> None:
        self._connection.sendall(json.dumps(command).encode() + b"\n")

    def close(self) -> None:
        self._lines.close()
        self._connection.close()


class Forked(Stream):
    """A child of a parent: its events, and its end as its parent reports it."""

    def __init__(self, parent: "Parent", pid: int, identity: str, connection: socket.socket):
        super().__init__(connection)
        self.parent, self.pid, self.id = parent, pid, identity

    def end(self) -> int | str:
        """Its exit code or the name of the signal that ended it."""
        self.read_to_end()
        end = self.parent.stream.wait_for("exited", id=self.id, pid=self.pid)
        assert (end["code"] is None) != (end["signal"] is None)
        return end["signal"] or end["code"]


class Parent:
    """Sends commands to a parent and takes the connections of what it forks."""

    def __init__(self, stream: Stream, folder: Path):
        self.stream = stream
        self._folder = folder
        self._count = 0

    def command(self, op: str, **fields: Any) -> tuple[str, socket.socket]:
        """Sends it; returns its id and the listening socket."""
        self._count += 1
        identity = f"{op}-{self._count}"
        self._folder.mkdir(parents=True, exist_ok=True)
        channel = self._folder / f"{self._count}.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.settimeout(CHILD_TIMEOUT_S)
        listener.bind(str(channel))
        listener.listen(1)
        log = str(self._folder / "log.txt")
        self.stream.send({"op": op, "id": identity, "channel": str(channel), "log": log, **fields})
        return identity, listener

    def fork(self, op: str, **fields: Any) -> Forked:
        identity, listener = self.command(op, **fields)
        with listener:
            pid = self.stream.wait_for("forked", id=identity)["pid"]
            connection, _ = listener.accept()
        return Forked(self, pid, identity, connection)

    def run(self, job: dict[str, Any]) -> Forked:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"job-{self._count}.json"
        file.write_text(json.dumps(job), "utf-8")
        return self.fork("run", job=str(file))

    def prepare(self, job: dict[str, Any]) -> "JobParent":
        forked = self.run({"v": 1, "command": "prepare-train", "train": job})
        return JobParent(forked, self._folder / f"job-{self._count}")


class JobParent(Parent):
    def __init__(self, forked: Forked, folder: Path):
        super().__init__(forked, folder)
        self.forked = forked
        forked.wait_for("prepared")


@contextmanager
def warm_parent(folder: Path, program: tuple[str, ...] = ("-m", "anneal_trainer", "warm-parent")) -> Iterator[Parent]:
    """A Python program with one socket as its descriptors 0 and 3."""
    ours, theirs = socket.socketpair()
    start = f"import os, sys; os.dup2({theirs.fileno()}, 3); os.execv(sys.executable, [sys.executable, *{program!r}])"
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(PACKAGE)}
    command = [sys.executable, "-c", start]
    process = subprocess.Popen(command, stdin=theirs, pass_fds=[theirs.fileno()], cwd=PACKAGE, env=environment)
    theirs.close()
    stream = Stream(ours)
    try:
        stream.wait_for("warm")
        yield Parent(stream, folder)
    finally:
        stream.close()
        # Its standard input has ended.
        assert process.wait(CHILD_TIMEOUT_S) == 45


class Life:
    """Whether a process that need not be ours is alive."""

    def __init__(self, pid: int):
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def is_over(self, timeout_s: float = CHILD_TIMEOUT_S) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], timeout_s)
        return bool(ready)
