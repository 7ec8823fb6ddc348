"""A few cases of `make torture`, by the same code: AWS fails in the midst of it, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.moto.server import MotoServer
from tests.torture import report
from tests.torture.cases import enumerate_cases, sample
from tests.torture.sweep import Sweep
from tests.torture.world import World

pytestmark = pytest.mark.real

CASES = 8


def test_whatever_call_fails_nothing_is_lost(
    aws: MotoServer, plugin_dir: Path | None, tmp_path: Path
) -> None:
    with World(aws, tmp_path, plugin_dir=plugin_dir) as world:
        sweep = Sweep(world, jobs=3)
        cases = sample(enumerate_cases(sweep.record()), CASES)
        outcomes = sweep.run(cases)
    assert report.failures(outcomes) == []
    assert ([one.case for one in outcomes], sweep.orphans) == (cases, [])
