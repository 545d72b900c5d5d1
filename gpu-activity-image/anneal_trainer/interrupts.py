"""Signals as requests that the training loop reads at each step edge: SIGTERM to save and end, SIGUSR2 to save and go on."""

import signal
import threading

_requested = threading.Event()
_save_requested = threading.Event()


def listen() -> None:
    """From now on neither signal kills; called before the slow imports, so that no request is lost."""
    signal.signal(signal.SIGTERM, lambda _signal, _frame: _requested.set())
    signal.signal(signal.SIGUSR2, lambda _signal, _frame: _save_requested.set())
    release()


def requested() -> bool:
    return _requested.is_set()


def take_save_request() -> bool:
    """Whether a checkpoint was asked for since the last call."""
    was_requested = _save_requested.is_set()
    _save_requested.clear()
    return was_requested


def hold() -> None:
    """Keeps SIGTERM waiting, across a fork too, until `listen` or `release`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def release() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def forget() -> None:
    """In a forked child: undoes what its parent did with signals, except that SIGTERM may still be held."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
