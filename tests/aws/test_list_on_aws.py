"""`daft list`: clusters of two regions, in every state, in every form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from awskit import Project, Seen
from moto.ec2.models.instances import Instance

from tests.moto.server import Failure, MotoServer

pytestmark = pytest.mark.real

CODES = {"running": 16, "pending": 0, "stopping": 64, "stopped": 80, "shutting-down": 32, "terminated": 48}
EAST, SOUTH, EMPTY, STATES = "us-east-1", "ap-southeast-2", "sa-east-1", "ca-central-1"
NODES_OF_TWIN = "  - twin, head, i-1, 1.2.3.4\n  - twin, worker, i-1, 1.2.3.4\n"


@dataclass(frozen=True)
class Twins:
    """Two clusters of one name in two regions, made side by side from two folders."""

    east: Project
    south: Project


@pytest.fixture(scope="module")
def twins(new_project: Callable[..., Project]) -> Twins:
    east, south = (
        new_project("twin", region=region, setup={"number_of_workers": 1}) for region in (EAST, SOUTH)
    )
    with east.head_says("ready"), south.head_says("ready"):
        runs = [project.start("up") for project in (east, south)]
        ready = Seen(0, "twin: head i-1 at 1.2.3.4, 1 workers asked for\n")
        assert [(run.end().status, run.end().out) for run in runs] == [(0, ready.out)] * 2
    return Twins(east, south)


@pytest.fixture(scope="module")
def menagerie(aws: MotoServer) -> list[tuple[str, str, str]]:
    """A node of two clusters in each state there is, as (state, cluster, id)."""
    ec2 = aws.client("ec2", STATES)
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    nodes = []
    for state in CODES:
        for cluster, role in (("zoo", "worker"), ("zoo", "head"), ("ark", "head")):
            tags = {"daft:cluster": cluster, "daft:role": role, "daft:managed-by": "daft-launcher"}
            spec = [{"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}]
            made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=spec)
            nodes.append((state, cluster, made["Instances"][0]["InstanceId"]))
    by_id = {node.id: node for node in aws.instances(STATES)}
    for state, _, instance_id in nodes:
        by_id[instance_id]._state = type(by_id[instance_id]._state)(state, CODES[state])
    # Somebody else's, which is none of our business.
    ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)
    return nodes


def test_every_state_in_its_order_and_heads_first(
    twins: Twins, menagerie: list[tuple[str, str, str]]
) -> None:
    nodes = {"ark": ["head"], "zoo": ["head", "worker"]}
    headings = ("Running", "Pending", "Stopping", "Stopped", "Shutting-down", "Terminated")

    def text(*clusters: str) -> str:
        lines = [f"  - {name}, {role}, i-1, 1.2.3.4\n" for name in clusters for role in nodes[name]]
        return "".join(f"{heading}:\n{''.join(lines)}" for heading in headings)

    project = twins.east
    assert project.daft("list", "--region", STATES) == Seen(0, text("ark", "zoo"))
    assert project.daft("list", "zoo", "--region", STATES, "--format", "text") == Seen(0, text("zoo"))


def test_namesakes_in_two_regions_are_told_apart(twins: Twins) -> None:
    both = Seen(0, "Running:\n" + NODES_OF_TWIN * 2)
    assert twins.east.daft("list", "--region", EAST) == Seen(0, "Running:\n" + NODES_OF_TWIN)
    assert twins.east.daft("list", "twin", "--all-regions") == both
    assert twins.east.daft("list", "--region", EAST, "--region", SOUTH) == both


def test_json_has_an_object_a_node(twins: Twins) -> None:
    seen = twins.east.daft("list", "twin", "--region", SOUTH, "--json")
    nodes = json.loads(seen.out)
    head, (worker,) = twins.south.head(), twins.south.nodes("worker")
    assert (seen.status, seen.err) == (0, "")
    for node in nodes:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", node.pop("launched_at"))
    assert nodes == [
        {
            "cluster": "twin",
            "role": role,
            "instance_id": "i-1",
            "state": "Running",
            "provider": "aws",
            "region": SOUTH,
            "address": "1.2.3.4",
            "private_address": "1.2.3.4",
            "instance_type": "m7g.medium",
            "zone": zone_of(node),
            "status": status,
            "detail": detail,
            "ends_at": None,
        }
        for role, node, status, detail in (("head", head, "ready", ""), ("worker", worker, None, None))
    ]


def test_a_table_has_a_row_a_node(twins: Twins) -> None:
    seen = twins.east.daft("list", "twin", "--region", EAST, "--format", "table")
    zone = zone_of(twins.east.head())
    rows = [re.split(r"\s{2,}", line.strip()) for line in re.sub(r"\d+ min", "N min", seen.out).splitlines()]
    assert (seen.status, seen.err) == (0, "")
    assert rows == [
        ["CLUSTER", "ROLE", "STATE", "STATUS", "INSTANCE", "ADDRESS", "TYPE", "ZONE", "AGE"],
        ["twin", "head", "Running", "ready", "i-1", "1.2.3.4", "m7g.medium", zone, "N min"],
        ["twin", "worker", "Running", "-", "i-1", "1.2.3.4", "m7g.medium", zone, "N min"],
    ]


def test_nothing_in_a_region_is_one_sentence(twins: Twins) -> None:
    assert twins.east.daft("list", "--region", EMPTY) == Seen(0, "", "no cluster is running\n")
    assert twins.east.daft("list", "nobody", "--region", EAST) == Seen(0, "", "there is no cluster nobody\n")
    assert twins.east.daft("list", "--region", EMPTY, "--json") == Seen(0, "[]\n", "no cluster is running\n")


def test_a_region_that_fails_is_a_warning_beside_the_others(twins: Twins) -> None:
    aws = twins.east.aws
    denied = Failure("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
    with aws.failing("DescribeInstances", denied, region=EMPTY):
        seen = twins.east.daft("list", "twin", "--region", EAST, "--region", EMPTY)
    warning = (
        "warning: could not list the instances in sa-east-1: these AWS credentials may not do "
        "`ec2:DescribeInstances` (UnauthorizedOperation)\n"
        "hint: ask for the IAM permission `ec2:DescribeInstances`; who you are: aws sts get-caller-identity\n"
    )
    assert seen == Seen(1, "Running:\n" + NODES_OF_TWIN, warning)


def test_what_one_twin_does_leaves_the_other_alone(twins: Twins) -> None:
    before = twins.south.tagged()
    assert twins.east.daft("down", "--wait").status == 0
    assert (twins.east.tagged(), twins.south.tagged()) == ([], before)


def zone_of(node: Instance) -> str:
    return str(node.get_cfn_attribute("AvailabilityZone"))
