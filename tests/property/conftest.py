"""The tally of inputs, which outlives the processes that pytest-xdist spreads tests over."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.property import examples

_KEY = "inputs"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note beside each test how many inputs it has tried."""
    before = examples.generated
    try:
        return (yield)
    finally:
        item.user_properties.append((_KEY, examples.generated - before))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many inputs there were."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    done = [report for report in reports if getattr(report, "when", None) == "call"]
    total = sum(number for report in done for key, number in report.user_properties if key == _KEY)
    terminalreporter.write_line(f"{total:,} inputs generated" + " (torture)" * examples.TORTURE)
