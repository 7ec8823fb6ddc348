"""Eventual consistency: what AWS says of a thing that it has just made, to whom it is not yet known everywhere."""

from __future__ import annotations

from typing import NamedTuple

from tests.torture.calls import Wire
from tests.torture.replies import Reply, refusal

#: How long a new thing stays unknown to whoever asks, from the first question on.
SECONDS = 3.0


class Unseen(NamedTuple):
    """What makes the thing, and the error of a call that names it; without a code the answer is an empty list."""

    made_by: str
    code: str | None = None
    status: int = 400
    message: str = "The specified thing does not exist"


def _no_entity(made_by: str) -> Unseen:
    return Unseen(made_by, "NoSuchEntity", 404)


UNSEEN = {
    ("autoscaling", "DescribeAutoScalingGroups"): Unseen("CreateAutoScalingGroup"),
    ("ec2", "AuthorizeSecurityGroupEgress"): Unseen("CreateSecurityGroup", "InvalidGroup.NotFound"),
    ("ec2", "AuthorizeSecurityGroupIngress"): Unseen("CreateSecurityGroup", "InvalidGroup.NotFound"),
    ("ec2", "DescribeInstances"): Unseen("RunInstances", "InvalidInstanceID.NotFound"),
    ("ec2", "DescribeInstanceAttribute"): Unseen("RunInstances", "InvalidInstanceID.NotFound"),
    ("ec2", "DescribeKeyPairs"): Unseen("ImportKeyPair", "InvalidKeyPair.NotFound"),
    ("ec2", "DescribeLaunchTemplates"): Unseen("CreateLaunchTemplate", "InvalidLaunchTemplateId.NotFound"),
    ("ec2", "DescribeLaunchTemplateVersions"): Unseen(
        "CreateLaunchTemplate", "InvalidLaunchTemplateId.NotFound"
    ),
    ("ec2", "DescribeSecurityGroupRules"): Unseen(
        "AuthorizeSecurityGroup", "InvalidSecurityGroupRuleId.NotFound"
    ),
    ("ec2", "DescribeSecurityGroups"): Unseen("CreateSecurityGroup", "InvalidGroup.NotFound"),
    ("ec2", "DescribeTags"): Unseen("RunInstances"),
    ("ec2", "DescribeVolumes"): Unseen("RunInstances", "InvalidVolume.NotFound"),
    ("ec2", "RunInstances"): Unseen(
        "CreateInstanceProfile",
        "InvalidParameterValue",
        message="Value (profile) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
    ),
    ("iam", "AddRoleToInstanceProfile"): _no_entity("CreateRole"),
    ("iam", "GetInstanceProfile"): _no_entity("CreateInstanceProfile"),
    ("iam", "GetRole"): _no_entity("CreateRole"),
    ("iam", "GetRolePolicy"): _no_entity("PutRolePolicy"),
    ("iam", "ListAttachedRolePolicies"): _no_entity("CreateRole"),
    ("iam", "ListRolePolicies"): _no_entity("CreateRole"),
    ("iam", "PutRolePolicy"): _no_entity("CreateRole"),
    ("ssm", "DescribeParameters"): Unseen("PutParameter"),
    ("ssm", "GetParameter"): Unseen("PutParameter", "ParameterNotFound"),
    ("ssm", "ListTagsForResource"): Unseen("PutParameter", "InvalidResourceId"),
}


def unseen(wire: Wire) -> Reply:
    """Answer as though the thing were not there."""
    thing = UNSEEN[wire.service, wire.call.action]
    by_filter = any(name.startswith("Filter.") for name in wire.parameters())
    if thing.code and not by_filter:
        return refusal(wire, thing.code, thing.message, thing.status)
    if wire.is_json:
        return Reply(200, b"{}", {"Content-Type": "application/x-amz-json-1.1"})
    action = wire.call.action
    body = f"<{action}Response><{action}Result/></{action}Response>"
    return Reply(200, body.encode(), {"Content-Type": "text/xml"})
