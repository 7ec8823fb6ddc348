"""`daft up` that AWS or the configuration does not let through: before anything exists, and in the midst of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from awskit import ADDRESSES, GO_ON, NEXT, PLANNED, Project, Running, Seen, done, failed

from tests.moto.server import Failure

pytestmark = pytest.mark.real

CAPACITY = "We currently do not have sufficient m7g.medium capacity in the Availability Zone you requested."
WORKERS = {"aws_launch_template.worker", "aws_autoscaling_group.workers"}
DENIED = (
    "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/ann is not authorized "
    "to perform: ec2:CreateLaunchTemplate on resource: arn:aws:ec2:ap-south-1:123456789012:launch-template/*"
)


NO_IMAGE = (
    "Your query returned no results. Please change your search criteria and try again. "
    "(module.cluster.data.aws_ami.found, modules/aws/image.tf:N)"
)
NO_IMAGE_HINT = "there is no such image in this region: choose another `image_id`, or leave it out"


@dataclass(frozen=True)
class Short:
    """An `up` for which AWS has no instance; the provider tries for a while."""

    project: Project
    up: Running


@pytest.fixture(scope="module", autouse=True)
def short(new_project: Callable[..., Project]) -> Iterator[Short]:
    project = new_project("short", region="ap-northeast-1", setup={"number_of_workers": 0})
    full = Failure("InsufficientInstanceCapacity", CAPACITY, 500)
    with project.aws.failing("RunInstances", full, region=project.region):
        yield Short(project, project.start("up"))


@pytest.mark.parametrize(
    ("region", "setup", "why", "hint"),
    [
        (
            "us-west-2",
            {"image_id": "ami-12c6146b"},
            (
                "Resource precondition failed (modules/aws/image.tf:N)\n"
                "  ami-12c6146b is an image for x86_64, but m7g.medium is arm64: choose an image_id for arm64 "
                "or leave it out, or choose an instance_type that is x86_64."
            ),
            None,
        ),
        ("us-west-2", {"image_id": "ami-00000000000000000"}, NO_IMAGE, NO_IMAGE_HINT),
        (
            "us-west-2",
            {"instance_type": "m99.colossal"},
            (
                "reading EC2 Instance Type: operation error EC2: DescribeInstanceTypes, https response error "
                "StatusCode: 400, RequestID: R, api error InvalidInstanceType: The following supplied instance types "
                "do not exist: [m99.colossal] "
                "(module.cluster.data.aws_ec2_instance_type.node, modules/aws/image.tf:N)\n"
                "  Resource precondition failed (modules/aws/network.tf:N)\n"
                "  No Availability Zone of us-west-2 offers m99.colossal: choose another instance_type or another "
                "region."
            ),
            None,
        ),
        (
            "ap-northeast-3",
            {"instance_type": "c3.large"},
            (
                "Resource precondition failed (modules/aws/network.tf:N)\n"
                "  No Availability Zone of ap-northeast-3 offers c3.large: choose another instance_type or another "
                "region."
            ),
            None,
        ),
    ],
    ids=["architecture", "image", "type", "offer"],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    new_project: Callable[..., Project], region: str, setup: dict[str, object], why: str, hint: str | None
) -> None:
    project = new_project("refused", setup=setup, region=region)
    project.aws.requests.clear()
    seen, expected = project.daft("up"), failed(f"Terraform could not plan:\n  {why}", hint)
    # Of two reasons Terraform gives now the one first and now the other.
    assert (seen.status, seen.out, sorted(seen.err.splitlines())) == (
        1,
        "",
        sorted(expected.err.splitlines()),
    )
    assert (list(project.files()), project.changes_asked(), project.tagged()) == ([".daft.toml"], [], [])


def test_a_plan_without_a_cluster_touches_nothing(new_project: Callable[..., Project]) -> None:
    project = new_project("planned", region="eu-north-1")
    seen = project.daft("up", "--plan", "--json", "--detailed-exitcode")
    first = json.loads(seen.out)
    assert (seen.status, seen.err, first["head"]) == (2, "", "created")
    assert first["summary"] == {"add": len(ADDRESSES), "change": 0, "replace": 0, "destroy": 0}
    assert {change["action"] for change in first["changes"]} == {"create"}
    assert (first["files"][:4], first["drift"]) == (
        [".gitignore", "backend.tf", "cluster.json", "main.tf"],
        [],
    )
    project.write(number_of_workers=200)
    more = json.loads(project.daft("up", "--plan", "--json").out)
    assert {**more, "price": first["price"]} == first
    assert [cost["monthly"] for cost in (first["price"]["before"], first["price"]["after"])] == [0, 101.35]
    assert more["price"]["after"]["monthly"] == 6790.58
    assert (list(project.files()), project.changes_asked(), project.tagged()) == ([".daft.toml"], [], [])


def test_a_plan_that_cannot_be_made_ends_with_1(new_project: Callable[..., Project]) -> None:
    project = new_project("unplanned", setup={"image_id": "ami-00000000000000000"})
    seen = project.daft("up", "--plan", "--detailed-exitcode")
    assert seen == failed(f"Terraform could not plan:\n  {NO_IMAGE}", NO_IMAGE_HINT)
    assert list(project.files()) == [".daft.toml"]


def test_what_aws_denies_is_named_with_what_exists_and_goes(new_project: Callable[..., Project]) -> None:
    project = new_project("denied", region="ap-south-1")
    denied = Failure("UnauthorizedOperation", DENIED, 403)
    with project.aws.failing("CreateLaunchTemplate", denied, region=project.region):
        seen = project.daft("up")
    assert seen == failed(
        "Terraform could not apply the plan:\n  creating EC2 Launch Template (daft-denied-worker): operation error "
        "EC2: CreateLaunchTemplate, https response error StatusCode: 403, RequestID: R, api error "
        f"UnauthorizedOperation: {DENIED} (module.cluster.aws_launch_template.worker, modules/aws/workers.tf:N)\n"
        "these exist: head i-1",
        f"ask for the permission that the message names; then {GO_ON}",
        before=broken_off("aws_launch_template.worker", without=WORKERS),
    )
    gone = done("removed", set(ADDRESSES) - WORKERS)
    assert project.daft("down", "--wait") == Seen(0, "", f"{gone}denied is gone\n")
    assert project.tagged() == []


def test_tags_that_terraform_goes_on_without_are_asked_for_again(new_project: Callable[..., Project]) -> None:
    project = new_project("untagged", region="ap-southeast-1", setup={"number_of_workers": 0})
    denied = Failure("UnauthorizedOperation", "You may not tag volumes.", 403)
    with project.aws.failing("CreateTags", denied, region=project.region):
        seen = project.daft("up")
    assert seen == failed(
        "Terraform could not apply the plan:\n  updating tags for volume (vol-1): tagging resource (vol-1): operation "
        "error EC2: CreateTags, https response error StatusCode: 403, RequestID: R, api error UnauthorizedOperation: "
        "You may not tag volumes. (module.cluster.aws_instance.head, modules/aws/head.tf:N)\nthese exist: head i-1",
        f"ask for the permission that the message names; then {GO_ON}",
        before=PLANNED
        + done("created", ADDRESSES)
        + "EC2 has made the head, but not tagged its volume (ec2:CreateTags); another apply does; planning again\n"
        "  change 1 aws_instance\n  aws_instance.head failed after N s\n",
    )
    changed = f"  change 1 aws_instance\n  changed aws_instance.head (N s)\n  the head is ready (N s)\n{NEXT}"
    assert project.up() == Seen(0, "untagged: head i-1 at 1.2.3.4, 0 workers asked for\n", changed)


def test_no_capacity_is_said_within_minutes_and_what_exists_goes(short: Short) -> None:
    project = short.project
    assert short.up.end() == failed(
        "Terraform could not apply the plan:\n  creating EC2 Instance: operation error EC2: RunInstances, exceeded "
        "maximum number of attempts, 5, https response error StatusCode: 500, RequestID: R, api error "
        f"InsufficientInstanceCapacity: {CAPACITY} (module.cluster.aws_instance.head, modules/aws/head.tf:N)\n"
        "no instance of `short` exists; other resources of it may",
        f"choose another `instance_type` or `region`, or ask AWS for a higher quota; then {GO_ON}",
        before=broken_off("aws_instance.head", without={"aws_instance.head"}),
    )
    gone = done("removed", set(ADDRESSES) - {"aws_instance.head"})
    assert project.daft("down", "--wait") == Seen(0, "", f"{gone}short is gone\n")
    assert project.tagged() == []


def broken_off(address: str, *, without: set[str]) -> str:
    """What `up` says before it ends because one resource failed and others were not begun."""
    return PLANNED + f"  {address} failed after N s\n" + done("created", set(ADDRESSES) - without)
