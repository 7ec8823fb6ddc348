"""A cluster with limits: what Terraform makes of them, what changes in place, and what a cluster's own end leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from awskit import Project, tags_of

pytestmark = pytest.mark.real

LIMITS = "/daft/fading/limits"
ENDED = {"daft:status": "ended", "daft:detail": "max_lifetime of 480 min is over"}


@pytest.fixture(scope="module")
def fading(new_project: Callable[..., Project]) -> Project:
    project = new_project("fading", setup={"max_lifetime": "8h", "number_of_workers": 2})
    up = project.up()
    assert up.status == 0, up
    # What the head of this test is not: it has no watch yet.
    assert up.err.splitlines()[-2].startswith("warning: the head of fading does not obey max_lifetime: "), (
        up.err
    )
    project.aws.set_tags(project.head(), {"daft:ends": "max_lifetime 2099-01-01T00:00:00Z"})
    return project


def limits(project: Project) -> Any:
    """Return the limits as the head reads them, and the tags that find them; None when there are none."""
    ssm = project.aws.client("ssm")
    try:
        parameter = ssm.get_parameter(Name=LIMITS)["Parameter"]
    except ssm.exceptions.ParameterNotFound:
        return None
    tags = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=LIMITS)["TagList"]
    found = {tag["Key"]: tag["Value"] for tag in tags}
    assert (parameter["Type"], found["daft:cluster"], found["daft:managed-by"]) == (
        "String",
        "fading",
        "daft-launcher",
    )
    return json.loads(parameter["Value"])


def test_limits_come_change_and_go_and_the_head_stays(fading: Project) -> None:
    head = fading.head().id
    assert (limits(fading), LIMITS in fading.tagged()) == ({"max_lifetime": 28800}, True)
    for setup, expected, said in (
        ({"max_lifetime": None}, None, None),
        (
            {"max_lifetime": "2d", "idle_timeout": "1h30m"},
            {"max_lifetime": 172800, "idle_timeout": 5400},
            "fading ends by itself: 2d after its head was made or after 1h30m without a job and an SSH session\n",
        ),
        ({"idle_timeout": None}, {"max_lifetime": 172800}, None),
    ):
        fading.write(**setup)
        fading.aws.requests.clear()
        plan = json.loads(fading.daft("up", "--plan", "--json").out)
        assert (plan["head"], {change["resource_type"] for change in plan["changes"]}) == (
            "kept",
            {"aws_ssm_parameter"},
        )
        up = fading.daft("up")
        assert (up.status, limits(fading), fading.head().id) == (0, expected, head), up
        if said:
            assert said in up.err
        assert {call.split()[0] for call in fading.changes_asked()} == {"ssm"}


def test_tag_of_the_head_is_no_drift(fading: Project) -> None:
    assert tags_of(fading.head())["daft:ends"]
    again = fading.daft("up", "--plan", "--detailed-exitcode")
    assert (again.status, again.err) == (0, "")


def end_as_the_head_does(project: Project) -> str:
    head = project.head()
    project.aws.client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName="daft-fading-workers", MinSize=0, MaxSize=0, DesiredCapacity=0
    )
    project.aws.set_tags(head, ENDED)
    project.aws.client("ec2").terminate_instances(InstanceIds=[head.id])
    assert (project.find_head(), project.nodes("worker")) == (None, [])
    return str(head.id)


def test_list_says_why_a_cluster_ends(fading: Project) -> None:
    fading.aws.set_tags(fading.head(), ENDED)
    seen = fading.daft("list", "fading", "--region", "us-west-2", "--json")
    assert [(node["status"], node["detail"]) for node in json.loads(seen.out) if node["role"] == "head"] == [
        ("ended", ENDED["daft:detail"])
    ], seen


def test_up_makes_a_cluster_whole_that_has_ended(fading: Project) -> None:
    before = end_as_the_head_does(fading)
    up = fading.up()
    assert up.status == 0, up
    assert (fading.head().id != before, len(fading.nodes("worker"))) == (True, 2)


def test_up_replaces_a_head_that_could_only_stop(fading: Project) -> None:
    """It asks nobody: no job runs on it any more."""
    head = fading.head()
    fading.aws.set_tags(head, ENDED)
    fading.aws.client("ec2").stop_instances(InstanceIds=[head.id])
    up = fading.up()
    assert up.status == 0, up
    assert (fading.head().id != head.id, fading.head().state) == (True, "running")


def test_down_leaves_nothing_of_a_cluster_that_has_ended(fading: Project) -> None:
    end_as_the_head_does(fading)
    down = fading.daft("down", "--wait")
    assert (down.status, down.err.splitlines()[-1], fading.tagged()) == (0, "fading is gone", [])
    assert limits(fading) is None
