"""How many inputs a test tries, how long one may take, and how many there were."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

#: DAFT_TEST_TORTURE=25 has 25 times as many tried, and others each time.
FACTOR = int(os.environ.get("DAFT_TEST_TORTURE") or 1)
TORTURE = FACTOR > 1
#: No single input may keep a command busy for longer; one that takes this long on a busy machine has no end.
LONGEST_SECONDS = 30

generated = 0


def count(number: int = 1) -> None:
    """Note that so many inputs were tried."""
    global generated
    generated += number


def inputs(number: int, **strategies: SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """Run a test on `number` inputs: the same ones each time, or under torture others and many more."""

    def decorate(test: Callable[..., None]) -> Any:
        @functools.wraps(test)
        def counted(*args: Any, **kwargs: Any) -> None:
            count()
            with bounded():
                test(*args, **kwargs)

        return profile(number)(given(**strategies)(counted))

    return decorate


def profile(number: int) -> settings:
    """Return how hypothesis looks for inputs."""
    return settings(
        max_examples=number * FACTOR,
        derandomize=not TORTURE,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def bounded(seconds: float = LONGEST_SECONDS) -> Iterator[None]:
    """Break off what takes too long, even where it waits in the kernel."""

    def give_up(*_: object) -> None:
        pytest.fail(f"not done after {seconds} s")  # which no `except Exception` catches

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
