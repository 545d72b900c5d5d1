"""SIGTERM as a request: it sets a flag that the training loop reads at each step edge."""

import signal
import threading

_requested = threading.Event()


def listen() -> None:
    """From now on SIGTERM no longer kills; called before the slow imports, so that no request is lost."""
    signal.signal(signal.SIGTERM, lambda _signal, _frame: _requested.set())


def requested() -> bool:
    return _requested.is_set()
