"""Clusters that end by themselves: what `up` says of that, and whom `submit` warns."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fakes import World, config, instance

from daft_launcher.instances import End, InstanceState
from daft_launcher.lifetimes import tell_limits, warn_of_end
from daft_launcher.models import Cluster


def in_minutes(minutes: float) -> datetime:
    """Return a time from now on, and not from when the tests were collected."""
    return datetime.now(timezone.utc) + timedelta(minutes=minutes)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_lifetime": "8h"}, "8h after its head was made"),
        ({"idle_timeout": "30m"}, "after 30m without a job and an SSH session"),
        (
            {"idle_timeout": "30m", "max_lifetime": "1d12h"},
            "1d12h after its head was made or after 30m without a job and an SSH session",
        ),
    ],
)
def test_up_says_what_ends_the_cluster(world: World, limits: dict[str, str], said: str) -> None:
    world.instances = [instance(ends=()), instance("worker", "i-1")]
    tell_limits(config(**limits), world.tools())
    assert world.calls == [("list_instances", "demo"), ("note", f"demo ends by itself: {said}")]


def test_up_says_nothing_where_nothing_ends_it(world: World) -> None:
    tell_limits(config(), world.tools())
    tell_limits(config("local", max_lifetime="8h"), world.tools())
    assert world.calls == []


def test_up_warns_of_a_head_that_does_not_watch(world: World) -> None:
    dying = instance(instance_id="i-old", state=InstanceState.SHUTTING_DOWN, ends=())
    world.instances = [instance(ends=None), dying]
    tell_limits(config(max_lifetime="8h", idle_timeout="1h"), world.tools())
    assert world.calls[1:] == [
        (
            "warn",
            (
                "the head of demo does not obey max_lifetime and idle_timeout: an earlier version made it, or its "
                "iam_instance_profile lacks rights (docs/iam.md); the cluster goes on until you run `daft down`"
            ),
        )
    ]


def cluster(*ends: End) -> Cluster:
    return Cluster(
        name="demo",
        provider="aws",
        region="us-west-2",
        directory=Path(),
        head_id="i-head",
        head_address=None,
        number_of_workers=0,
        ends=ends,
    )


def test_submit_warns_when_little_is_left(world: World) -> None:
    at = in_minutes(20.8)
    idle = End(at=in_minutes(5), limit="idle_timeout")
    warn_of_end(cluster(idle, End(at=at, limit="max_lifetime")), world.tools())
    assert world.calls == [
        (
            "warn",
            (
                f"demo ends in 20 min, at {at:%H:%M} UTC, and its jobs with it, because of max_lifetime; raise that in "
                "the configuration and run `daft up` to let it live on"
            ),
        )
    ]


@pytest.mark.parametrize(
    "ends",
    [
        {},
        {"max_lifetime": 31},
        # The job itself keeps that away.
        {"idle_timeout": 5},
    ],
    ids=["no limit", "much is left", "idle"],
)
def test_submit_is_silent_otherwise(world: World, ends: dict[Any, float]) -> None:
    found = [End(at=in_minutes(minutes), limit=limit) for limit, minutes in ends.items()]
    warn_of_end(cluster(*found), world.tools())
    assert world.calls == []
