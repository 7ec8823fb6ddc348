"""Which drift matters: what the plan undoes or follows from, and not what a provider fills in or nobody minds."""

from __future__ import annotations

from typing import Any

import pytest

from daft_launcher.drift import Drift, DriftedAttribute, find_drift

GROUP = "module.cluster.aws_autoscaling_group.workers"


def drifted(
    before: Any, after: Any, *, address: str = GROUP, action: str = "update", **marks: Any
) -> dict[str, Any]:
    change = {"actions": [action], "before": before, "after": after, **marks}
    return {"address": address, "type": address.split(".")[2], "change": change}


def planned(
    before: Any, after: Any, *, address: str = GROUP, actions: tuple[str, ...] = ("update",), **unknown: Any
) -> dict[str, Any]:
    change = {"actions": list(actions), "before": before, "after": after, "after_unknown": unknown}
    return {"address": address, "change": change}


def found(
    drift: list[dict[str, Any]],
    changes: list[dict[str, Any]],
    relevant: dict[str, list[str | int]] | None = None,
) -> list[Drift]:
    attributes = [{"resource": key, "attribute": path} for key, path in (relevant or {}).items()]
    return list(
        find_drift({"resource_drift": drift, "resource_changes": changes, "relevant_attributes": attributes})
    )


def of_group(*attributes: DriftedAttribute) -> list[Drift]:
    return [
        Drift(address=GROUP, resource_type="aws_autoscaling_group", action="update", attributes=attributes)
    ]


@pytest.mark.parametrize(
    ("was", "found_", "wanted"),
    [
        (2, 10, 2),  # put back
        (2, 10, 5),  # and the user changes it too
    ],
)
def test_what_the_plan_sets_again(was: int, found_: int, wanted: int) -> None:
    assert found(
        [drifted({"desired_capacity": was}, {"desired_capacity": found_})],
        [planned({"desired_capacity": found_}, {"desired_capacity": wanted})],
    ) == of_group(DriftedAttribute(path="desired_capacity", before=was, after=found_))


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [planned({"desired_capacity": 10}, {"desired_capacity": 10}, actions=("no-op",))],
        # The user wants by now what was done by hand, and something else.
        [planned({"desired_capacity": 10, "max_size": 2}, {"desired_capacity": 10, "max_size": 10})],
        [planned({"desired_capacity": 10, "x": 1}, {"x": 1}, desired_capacity=True)],
        [planned({"desired_capacity": 10}, None, actions=("delete",))],
        [planned({"desired_capacity": 10}, {"desired_capacity": 2}, address="another")],
    ],
)
def test_what_the_plan_leaves_alone(changes: list[dict[str, Any]]) -> None:
    assert found([drifted({"desired_capacity": 2}, {"desired_capacity": 10})], changes) == []


def test_what_a_provider_fills_in_is_nothing_that_somebody_changed() -> None:
    """After the first apply of the real module: provider 5.100 reads back what it had not written."""
    before = {
        "desired_capacity": 2,
        "enabled_metrics": None,
        "suspended_processes": None,
        "instance_refresh": [{"preferences": [{"checkpoint_percentages": None}]}],
        "description": "",
        "inline_policy": [],
    }
    after = {
        "desired_capacity": 2,
        "enabled_metrics": [],
        "suspended_processes": [],
        "instance_refresh": [{"preferences": [{"checkpoint_percentages": []}]}],
        "description": None,
        "inline_policy": [{"name": "daft", "policy": "{}"}],
    }
    assert found([drifted(before, after)], [planned(after, {**after, "desired_capacity": 5})]) == []


def test_an_object_that_is_gone_and_is_made_again() -> None:
    rule = 'module.cluster.aws_vpc_security_group_ingress_rule.ssh["203.0.113.7/32"]'
    drift = [drifted({"id": "sgr-1"}, None, address=rule, action="delete")]
    gone = Drift(address=rule, resource_type="aws_vpc_security_group_ingress_rule", action="delete")
    assert found(drift, [planned(None, {}, address=rule, actions=("create",))]) == [gone]
    assert found(drift, []) == []


@pytest.mark.parametrize(
    ("relevant", "seen"),
    [
        ({GROUP: ["public_ip"]}, True),
        ({GROUP: []}, True),
        ({GROUP: ["public_dns"]}, False),
        ({"module.cluster.aws_instance.other": ["public_ip"]}, False),
        (None, False),
    ],
)
def test_what_terraform_says_led_to_another_change(relevant: Any, seen: bool) -> None:
    drift = of_group(DriftedAttribute(path="public_ip", before="192.0.2.1", after="192.0.2.2"))
    assert found([drifted({"public_ip": "192.0.2.1"}, {"public_ip": "192.0.2.2"})], [], relevant) == (
        drift if seen else []
    )


def test_tags_and_blocks_are_told_one_by_one_and_the_copy_of_the_tags_is_not() -> None:
    before = {
        "root_block_device": [{"iops": 3000, "volume_size": 50}],
        "tag": [{"key": "a"}, {"key": "b"}],
        "tags": {"Name": "demo", "team": "x"},
        "tags_all": {"Name": "demo", "team": "x"},
    }
    after = {
        "root_block_device": [{"iops": 3000, "volume_size": 80}],
        "tag": [{"key": "a"}, {"key": "c"}],
        "tags": {"Name": "mine", "extra": "", "more": "y", "team": "x"},
        "tags_all": {"Name": "mine", "extra": "", "more": "y", "team": "x"},
    }
    assert found([drifted(before, after)], [planned(after, before)]) == of_group(
        DriftedAttribute(path="root_block_device[0].volume_size", before=50, after=80),
        DriftedAttribute(path="tag", before=before["tag"], after=after["tag"]),
        DriftedAttribute(path="tags.Name", before="demo", after="mine"),
        DriftedAttribute(path="tags.more", before=None, after="y"),
    )


@pytest.mark.parametrize(
    "marks",
    [{"before_sensitive": {"value": True}}, {"after_sensitive": True}, {"after_sensitive": {"value": True}}],
)
def test_a_secret_is_kept_back(marks: dict[str, Any]) -> None:
    assert found(
        [drifted({"value": "old"}, {"value": "new"}, **marks)], [planned({"value": "new"}, {"value": "old"})]
    ) == of_group(DriftedAttribute(path="value", sensitive=True))


def test_drift_is_sorted_by_address() -> None:
    drift = [drifted({"x": 1}, {"x": 2}, address=f"module.cluster.aws_x.{name}") for name in "bca"]
    changes = [planned({"x": 2}, {"x": 1}, address=f"module.cluster.aws_x.{name}") for name in "abc"]
    assert [one.address[-1] for one in found(drift, changes)] == ["a", "b", "c"]


@pytest.mark.parametrize("plan", [{}, {"resource_drift": None, "resource_changes": None}])
def test_a_plan_without_drift(plan: dict[str, Any]) -> None:
    assert find_drift(plan) == ()
