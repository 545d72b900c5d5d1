"""The warm parent and the job parent, as small as the seam allows, and their own misbehaviours (`PARENT_FAULT`)."""

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable

from anneal_trainer.channel import EXITS, emit

FAULT = os.environ.get("PARENT_FAULT", "")


def serve(ready: str, work: Callable[[dict], int]) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    if FAULT == f"{ready}_hangs":
        time.sleep(3600)
    if FAULT == f"{ready}_dies":
        os._exit(1)
    emit({"ev": ready, "seconds": 0.01})
    ids: dict[int, str] = {}
    unread = b""
    while True:
        ready_fds, _, _ = select.select([0, reader], [], [])
        if reader in ready_fds:
            os.read(reader, 4096)
            _reap(ids)
        if 0 in ready_fds:
            received = os.read(0, 65536)
            if not received:
                os._exit(EXITS["orphaned"])
            *lines, unread = (unread + received).split(b"\n")
            for line in lines:
                command = json.loads(line)
                if command["op"] == "end":
                    for pid in ids:
                        os.killpg(pid, signal.SIGKILL)
                    return
                if FAULT == f"{ready}_is_deaf":
                    continue
                pid = _fork(command, work)
                ids[pid] = command["id"]
                emit({"ev": "forked", "id": command["id"], "pid": pid})


def _fork(command: dict, work: Callable[[dict], int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = 1
    try:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(command["channel"])
        os.dup2(connection.fileno(), 0)
        os.dup2(connection.fileno(), 3)
        output = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if FAULT == "fork_hangs" and command["op"] == "attempt":
            time.sleep(3600)
        code = work(command)
    finally:
        os._exit(code)


def _reap(ids: dict[int, str]) -> None:
    for pid in list(ids):
        reaped, status = os.waitpid(pid, os.WNOHANG)
        if reaped == 0:
            continue
        by_signal = os.WIFSIGNALED(status)
        event = {
            "ev": "exited",
            "id": ids.pop(pid),
            "pid": pid,
            "code": None if by_signal else os.WEXITSTATUS(status),
        }
        emit(
            {
                **event,
                "signal": signal.Signals(os.WTERMSIG(status)).name
                if by_signal
                else None,
            }
        )
