"""Ctrl-C, counted instead of raised."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from daft_launcher.interrupts import count_interrupts, ignore_interrupts


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def handle() -> Iterator[Callable[..., object]]:
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


def test_each_is_counted_and_none_raised_until_the_block_ends(handle: Callable[..., object]) -> None:
    handle(signal.default_int_handler)
    with count_interrupts() as outer:
        ctrl_c()
        with count_interrupts() as inner:
            ctrl_c()
        ctrl_c()
    assert (outer.count, inner is outer) == (3, True)
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None], ids=["turned off", "another's"])
def test_who_else_handles_them_goes_on_to(handle: Callable[..., object], handler: object) -> None:
    handle(handler)
    with count_interrupts() as interrupts:
        ctrl_c()
        assert signal.getsignal(signal.SIGINT) is handler
    assert interrupts.count == 0


def test_another_thread_is_not_interrupted(handle: Callable[..., object]) -> None:
    handle(signal.default_int_handler)

    def work() -> int:
        with count_interrupts() as interrupts:
            return interrupts.count

    with count_interrupts() as counted, ThreadPoolExecutor(1) as pool:
        ctrl_c()
        assert (counted.count, pool.submit(work).result()) == (1, 0)


def test_none_is_raised_once_all_is_done(handle: Callable[..., object]) -> None:
    handle(signal.default_int_handler)
    ignore_interrupts()
    ctrl_c()
