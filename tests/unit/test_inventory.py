"""`daft list`: the order of the nodes, and its text form as the contract shows it."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone

import pytest
from fakes import instance

from daft_launcher.instances import End, Instance, InstanceState
from daft_launcher.inventory import describe_instances, sort_instances

EARLY = datetime(2026, 1, 1, tzinfo=timezone.utc)
LATE = datetime(2026, 1, 2, tzinfo=timezone.utc)
NOW = datetime(2026, 1, 3, tzinfo=timezone.utc)

CONTRACT = """\
Running:
  - daft-demo, head, i-053f9d4856d92ea3d, 35.94.91.91
  - daft-demo, worker, i-00c340dc39d54772d, 44.234.112.173
Shutting-down:
  - new-cluster, head, i-0be0db9803bd06652, 35.86.200.101
"""


def test_the_text_is_the_contracts() -> None:
    instances = [
        instance(
            "head",
            "i-0be0db9803bd06652",
            InstanceState.SHUTTING_DOWN,
            cluster="new-cluster",
            address="35.86.200.101",
        ),
        instance("worker", "i-00c340dc39d54772d", cluster="daft-demo", address="44.234.112.173"),
        instance("head", "i-053f9d4856d92ea3d", cluster="daft-demo", address="35.94.91.91"),
    ]
    assert describe_instances(sort_instances(instances), NOW) == CONTRACT


def test_every_state_has_its_heading_in_the_order_of_the_contract() -> None:
    instances = [instance(instance_id=f"i-{state.name}", state=state) for state in reversed(InstanceState)]
    assert describe_instances(sort_instances(instances), NOW) == "".join(
        f"{state}:\n  - demo, head, i-{name}, -\n"
        for state, name in [
            ("Running", "RUNNING"),
            ("Pending", "PENDING"),
            ("Stopping", "STOPPING"),
            ("Stopped", "STOPPED"),
            ("Shutting-down", "SHUTTING_DOWN"),
            ("Terminated", "TERMINATED"),
        ]
    )


def test_nothing_is_no_text() -> None:
    assert describe_instances([], NOW) == ""


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (timedelta(hours=2, minutes=5, seconds=59), ", ends in 2 h 5 min"),
        (timedelta(minutes=1), ", ends in 1 min"),
        (timedelta(seconds=59), ", ends in less than a minute"),
        (timedelta(seconds=-70), ", ends in less than a minute"),
        (timedelta(days=3), ", ends in 3 d"),
    ],
)
def test_head_says_what_is_left_to_its_cluster(left: timedelta, said: str) -> None:
    ends = (End(at=NOW + left, limit="idle_timeout"), End(at=NOW + timedelta(days=9), limit="max_lifetime"))
    assert describe_instances([instance(ends=ends)], NOW) == f"Running:\n  - demo, head, i-head, -{said}\n"


@pytest.mark.parametrize("ends", [None, ()])
def test_head_without_limits_says_nothing_of_them(ends: tuple[End, ...] | None) -> None:
    assert describe_instances([instance(ends=ends)], NOW) == "Running:\n  - demo, head, i-head, -\n"


def test_cluster_that_has_ended_has_nothing_left() -> None:
    ends = (End(at=NOW, limit="max_lifetime"),)
    gone = instance(state=InstanceState.TERMINATED, ends=ends)
    assert describe_instances([gone], NOW) == "Terminated:\n  - demo, head, i-head, -\n"


SORTED: list[Instance] = [
    instance("head", "i-9", cluster="a", launched_at=LATE),
    instance("worker", "i-8", cluster="a"),
    instance("worker", "i-5", cluster="a", launched_at=EARLY),
    instance("worker", "i-6", cluster="a", launched_at=EARLY),
    instance("worker", "i-4", cluster="a", launched_at=LATE),
    instance("worker", "i-1", cluster="a", region="us-west-3"),
    instance("head", "b-head", cluster="a", provider="local", region="local"),
    instance("head", "i-0", cluster="b"),
    instance("worker", "i-0", InstanceState.PENDING, cluster="a"),
]


def test_clusters_by_name_head_first_then_the_oldest() -> None:
    assert sort_instances(reversed(SORTED)) == SORTED
    for mixed in itertools.islice(itertools.permutations(SORTED), 0, 300_000, 7001):
        assert sort_instances(mixed) == SORTED
