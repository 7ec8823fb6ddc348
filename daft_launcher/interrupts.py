"""Ctrl-C while something runs that must hear of it: counted, and not raised in the midst of whatever is done then."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupts:
    """How often Ctrl-C came."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: object) -> None:
        """Count one, as the handler of SIGINT."""
        self.count += 1


@contextlib.contextmanager
def count_interrupts() -> Iterator[Interrupts]:
    """Count each Ctrl-C for the length of a `with` block, and raise no KeyboardInterrupt; inner blocks count along.

    The count stays 0 in other threads than the main one, which are never interrupted, and where somebody else
    handles SIGINT, as whoever started this program with Ctrl-C turned off.
    """
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    if isinstance(handler, Interrupts):
        yield handler
        return
    interrupts = Interrupts()
    if handler is not signal.default_int_handler:
        yield interrupts
        return
    signal.signal(signal.SIGINT, interrupts)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, handler)


def ignore_interrupts() -> None:
    """Let Ctrl-C do nothing from now on: all is done, and the program says so and ends within the moment."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
