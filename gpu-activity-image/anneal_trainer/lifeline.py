"""Ties a process to its parent's life, so that nothing survives a supervisor that was killed.

Two independent ties: the kernel's death signal and the end of the channel at descriptor 0. Not protected: a parent that hangs but lives.
"""

import ctypes
import os
import signal
import stat
import sys
import threading

from anneal_trainer.protocol import EXIT_ORPHANED

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_forker = 0


def tie_to_parent() -> None:
    """The kernel kills this process when its parent dies, and everything that is forked from it (dataloader workers too) likewise."""
    _ask_for_death_signal()
    os.register_at_fork(before=_remember_forker, after_in_child=_tie_forked)


def watch_channel() -> None:
    """Ends this process at the end of its standard input. A terminal, /dev/null or a file there is a person's start, not a channel."""
    mode = os.fstat(0).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        threading.Thread(target=_exit_at_end_of_stdin, name="dead-mans-channel", daemon=True).start()


def read_or_exit(bytes_max: int) -> bytes:
    """What the supervisor sent; ends this process if it is gone. A channel that was reset, with something unread in it, is at its end too."""
    try:
        received = os.read(0, bytes_max)
    except ConnectionError:
        received = b""
    if not received:
        os._exit(EXIT_ORPHANED)
    return received


def _exit_at_end_of_stdin() -> None:
    while True:
        read_or_exit(4096)


def _ask_for_death_signal() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _remember_forker() -> None:
    global _forker
    _forker = os.getpid()


def _tie_forked() -> None:
    _ask_for_death_signal()
    # The parent may have died before the signal was asked for.
    if os.getppid() != _forker:
        os._exit(EXIT_ORPHANED)
