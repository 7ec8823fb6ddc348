"""`daft up --plan` on AWS: what was changed by hand, and what it all costs."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from awskit import OPERATOR, Project, Seen

from tests.moto.server import Failure, MotoServer

pytestmark = pytest.mark.real

GROUP = "module.cluster.aws_autoscaling_group.workers"
HEAD = "module.cluster.aws_instance.head"
RULE = f'module.cluster.aws_vpc_security_group_ingress_rule.ssh["{OPERATOR}/32"]'
LOST = "warning: Terraform: AWS resource not found during refresh\n"
DRIFT = f"""
Changed outside of this configuration since the last apply:
  {GROUP}
    desired_capacity: 2 -> 7
    max_size: 2 -> 9
    tag: with {{"key": "team", "propagate_at_launch": true, "value": "red"}}
  {HEAD}
    tags.Name: "demo-head" -> "mine"
    tags.team: null -> "red"
  {RULE}: removed

Summary: 1 to add, 2 to change, 0 to replace, 0 to destroy; the head is updated.
"""


def changed_by_hand(project: Project) -> None:
    """Do in the AWS console what nobody should: more workers, other tags, nobody let in."""
    aws, name = project.aws, f"daft-{project.name}-workers"
    autoscaling, ec2 = aws.client("autoscaling"), aws.client("ec2")
    autoscaling.update_auto_scaling_group(AutoScalingGroupName=name, MaxSize=9, DesiredCapacity=7)
    tag = {"Key": "team", "Value": "red"}
    autoscaling.create_or_update_tags(
        Tags=[{**tag, "ResourceId": name, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": True}]
    )
    ec2.create_tags(Resources=[project.head().id], Tags=[{"Key": "Name", "Value": "mine"}, tag])
    by_tag = [{"Name": "tag:daft:cluster", "Values": [project.name]}]
    rules = ec2.describe_security_group_rules(Filters=by_tag)["SecurityGroupRules"]
    (rule,) = [rule for rule in rules if rule.get("CidrIpv4") == f"{OPERATOR}/32"]
    ec2.revoke_security_group_ingress(
        GroupId=rule["GroupId"], SecurityGroupRuleIds=[rule["SecurityGroupRuleId"]]
    )


def plan_of(project: Project, *options: str) -> tuple[int, Any]:
    """Return the status and the document of a plan."""
    seen = project.daft("up", "--plan", "--json", *options)
    return seen.status, json.loads(seen.out)


def test_what_was_changed_by_hand_is_shown_apart_and_undone(demo: Project) -> None:
    changed_by_hand(demo)
    text = demo.daft("up", "--plan", "--detailed-exitcode")
    assert (text.status, text.err, DRIFT in text.out) == (2, LOST, True)
    demo.write(number_of_workers=3)
    status, plan = plan_of(demo)
    wanted = {change["address"]: change["action"] for change in plan["changes"]}
    assert (status, plan["files"], wanted) == (
        0,
        ["main.tf"],
        {GROUP: "update", HEAD: "update", RULE: "create"},
    )
    of_group, of_head, of_rule = plan["drift"]
    assert [(one["address"], one["action"]) for one in plan["drift"]] == [
        (GROUP, "update"),
        (HEAD, "update"),
        (RULE, "delete"),
    ]
    assert of_group["attributes"][0] == {
        "path": "desired_capacity",
        "before": 2,
        "after": 7,
        "sensitive": False,
    }
    assert [part["path"] for part in of_group["attributes"]] == ["desired_capacity", "max_size", "tag"]
    assert [part["path"] for part in of_head["attributes"]] == ["tags.Name", "tags.team"]
    assert of_rule["attributes"] == []
    # What runs is what was found: eight nodes by hand, four by the configuration.
    assert [cost["items"][0]["quantity"] for cost in (plan["price"]["before"], plan["price"]["after"])] == [
        8,
        4,
    ]
    demo.write(number_of_workers=2)
    assert demo.up().status == 0
    assert plan_of(demo, "--detailed-exitcode")[1]["drift"] == []


def test_a_change_of_the_users_own_is_no_drift(demo: Project) -> None:
    demo.write(number_of_workers=4)
    status, plan = plan_of(demo, "--detailed-exitcode")
    assert (status, plan["has_changes"], plan["drift"]) == (2, True, [])


def test_a_head_that_somebody_has_terminated(demo: Project) -> None:
    demo.aws.client("ec2").terminate_instances(InstanceIds=[demo.head().id])
    status, plan = plan_of(demo, "--detailed-exitcode")
    assert (status, plan["head"], plan["files"]) == (2, "created", [])
    assert [(one["address"], one["action"]) for one in plan["drift"]] == [(HEAD, "delete")]
    assert plan["price"]["before"]["items"] == [
        {"kind": "on-demand", "type": "m7g.medium", "quantity": 2},
        {"kind": "volume", "type": "gp3", "quantity": 100},
    ]


def test_another_instance_type_is_priced_before_and_after(demo: Project) -> None:
    demo.write(instance_type="m7g.large")
    price = plan_of(demo)[1]["price"]
    assert [price[when]["hourly"] for when in ("before", "after")] == [0.138838, 0.261238]
    assert [(rate["type"], rate["usd"], rate["source"]) for rate in price["rates"]] == [
        ("m7g.large", 0.0816, "AWS Price List"),
        ("m7g.medium", 0.0408, "AWS Price List"),
        ("gp3", 0.08, "AWS Price List"),
    ]


@pytest.fixture
def unpriced(new_project: Callable[..., Project], aws: MotoServer) -> Project:
    """A project without a cluster, of a user who has not asked for a price yet."""
    aws.requests.clear()
    project = new_project("unpriced", region="eu-west-3", setup={"instance_type": "m7i.large"})
    project.environ = {**project.environ, "XDG_CACHE_HOME": str(project.root.parent / "cache")}
    return project


def prices_asked(aws: MotoServer) -> list[tuple[str, str]]:
    return [
        (request.action, request.region)
        for request in list(aws.requests)
        if request.service == "pricing" or request.action == "DescribeSpotPriceHistory"
    ]


def price_shown(seen: Seen) -> str:
    return seen.out.partition("\nPrice, estimated in USD:\n")[2]


END = "  A month has 730 hours; data transfer and public addresses are not counted.\n"


def test_prices_that_may_not_be_asked_for_are_unknown_then_asked_once(unpriced: Project) -> None:
    aws = unpriced.aws
    unpriced.access["spot"] = True
    unpriced.write()
    denied = "User: ann is not authorized to perform: pricing:GetProducts"
    spot_denied = "You are not authorized to perform: ec2:DescribeSpotPriceHistory"
    why = "these AWS credentials may not do `pricing:GetProducts` (AccessDeniedException)"
    spot_why = "these AWS credentials may not do `ec2:DescribeSpotPriceHistory` (UnauthorizedOperation)"
    counted = "1 m7i.large on demand, 2 m7i.large as spot, 150 GB of gp3"
    unknown = (
        "  now:   nothing runs\n"
        f"  after: unknown, for {counted}\n"
        f"  m7i.large on demand in eu-west-3: unknown, {why}\n"
        f"  m7i.large as spot in eu-west-3: unknown, {spot_why}\n"
        f"  gp3 in eu-west-3: unknown, {why}\n{END}"
    )
    with (
        aws.failing("GetProducts", Failure("AccessDeniedException", denied)),
        aws.failing("DescribeSpotPriceHistory", Failure("UnauthorizedOperation", spot_denied, 403)),
    ):
        seen = unpriced.daft("up", "--plan")
    assert (seen.status, seen.err, price_shown(seen)) == (0, "", unknown)
    aws.requests.clear()
    wanted = (
        "  now:   nothing runs\n"
        f"  after: 0.1498 an hour, 109.38 a month, for {counted}\n"
        "  m7i.large on demand in eu-west-3: 0.1008 an hour; AWS Price List, DAY\n"
        "  m7i.large as spot in eu-west-3: 0.0163 an hour; spot price in eu-west-3c, the dearest zone, DAY\n"
        f"  gp3 in eu-west-3: 0.08 a GB and month; AWS Price List, DAY\n{END}"
    )
    spot = ("DescribeSpotPriceHistory", "eu-west-3")
    listed = ("GetProducts", "eu-central-1")
    for asked in ([spot, listed, listed], [spot]):
        assert price_shown(unpriced.daft("up", "--plan")) == wanted
        assert sorted(prices_asked(aws)) == sorted(asked)
        aws.requests.clear()


def test_the_users_own_numbers_ask_nobody(unpriced: Project) -> None:
    unpriced.more = '[prices]\ngp3_gb_month = 0.07\ninstance_hour = { "m7i.large" = 0.08 }\n'
    unpriced.write()
    assert price_shown(unpriced.daft("up", "--plan")) == (
        "  now:   nothing runs\n"
        "  after: 0.2544 an hour, 185.70 a month, for 3 m7i.large on demand, 150 GB of gp3\n"
        "  m7i.large on demand in eu-west-3: 0.08 an hour; [prices] in the configuration\n"
        f"  gp3 in eu-west-3: 0.07 a GB and month; [prices] in the configuration\n{END}"
    )
    assert prices_asked(unpriced.aws) == []
    assert unpriced.daft("render").status == 0
    hcl = [path.read_text() for path in Path(unpriced.terraform_root).rglob("*") if path.is_file()]
    assert [text for text in hcl if "0.07" in text or "gp3_gb_month" in text] == []


def test_a_plan_fits_into_a_review_comment_however_much_user_data_there_is(unpriced: Project) -> None:
    """Tools that post plans into reviews cut them at 65,000 characters, and the summary and the price stand last."""
    unpriced.run = {"setup_commands": [random.Random(4).randbytes(2000).hex()]}
    unpriced.write()
    text = unpriced.daft("up", "--plan").out
    (head,) = re.findall(r'user_data_base64 += "H4sI\S+…" \((\d+) characters', text)
    assert (int(head) > 12_000, len(text) < 32_000) == (True, True)
