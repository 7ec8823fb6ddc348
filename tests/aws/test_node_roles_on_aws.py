"""What a node may do: the policies that Terraform gave its role, asked as IAM asks them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from awskit import NewCluster, Project

from tests.moto.iam import Call, allows, policies_of
from tests.moto.server import ACCOUNT

pytestmark = pytest.mark.real

ROLES = ("head", "worker")
LIMITS = f"arn:aws:ssm:us-west-2:{ACCOUNT}:parameter/daft/demo/limits"
SECRET = f"arn:aws:ssm:us-west-2:{ACCOUNT}:parameter/daft/demo/ray"
OTHER = "i-0fedcba9876543210"
STATUS = ("daft:status", "daft:detail", "daft:ends", "daft:ssh-host-key")


def instance_arn(instance_id: str, *, region: str = "us-west-2", account: str = ACCOUNT) -> str:
    return f"arn:aws:ec2:{region}:{account}:instance/{instance_id}"


def tagging(node: str, *keys: str, on: str | None = None, arn: str | None = None) -> Call:
    """A CreateTags call of a node: on itself, or on another instance, or on another thing by its ARN."""
    # Who asks is told by the session, which EC2 names after the instance; which instance is asked of, by the request.
    context = {"aws:userid": (f"AROAEXAMPLE:{node}",), "ec2:SourceInstanceARN": (instance_arn(node),)}
    if arn is None:
        context["ec2:InstanceID"] = (on or node,)
    if keys:
        context["aws:TagKeys"] = keys
    return Call("ec2:CreateTags", arn or instance_arn(on or node), context)


def on_secret(action: str, node: str, arn: str = SECRET) -> Call:
    return Call(action, arn, {"aws:userid": (f"AROAEXAMPLE:{node}",)})


def group_arn(cluster: str = "demo", *, region: str = "us-west-2", account: str = ACCOUNT) -> str:
    group = "6d4a1e9c-3f7e-4d4c-9a57-d9ad8a3ac1b4:autoScalingGroupName/daft-" + cluster + "-workers"
    return f"arn:aws:autoscaling:{region}:{account}:autoScalingGroup:{group}"


def scaling(node: str, arn: str, **sizes: str) -> Call:
    """An UpdateAutoScalingGroup call of a node, with the sizes that IAM sees of it."""
    context = {f"autoscaling:{name}": (size,) for name, size in sizes.items()}
    return Call(
        "autoscaling:UpdateAutoScalingGroup", arn, {"aws:userid": (f"AROAEXAMPLE:{node}",), **context}
    )


def terminating(node: str, *, on: str, arn: str | None = None) -> Call:
    context = {"aws:userid": (f"AROAEXAMPLE:{node}",), "ec2:InstanceID": (on,)}
    return Call("ec2:TerminateInstances", arn or instance_arn(on), context)


def may(project: Project, role: str, call: Call) -> bool:
    return allows(policies_of(project.aws, f"demo-us-west-2-{role}"), call)


def node(project: Project, role: str) -> str:
    return str(project.nodes(role)[0].id)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("keys", [STATUS, *[(key,) for key in STATUS], STATUS[:2]])
def test_node_tags_itself_with_its_status(new_demo: NewCluster, role: str, keys: tuple[str, ...]) -> None:
    project = new_demo.project
    assert may(project, role, tagging(node(project, role), *keys))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "keys",
    [
        (),
        ("Name",),
        ("daft:cluster",),
        ("daft:role",),
        ("daft:managed-by",),
        ("daft:status2",),
        ("Daft:Status",),
        ("daft:*",),
        (*STATUS, "daft:role"),
    ],
)
def test_node_tags_itself_with_nothing_else(new_demo: NewCluster, role: str, keys: tuple[str, ...]) -> None:
    project = new_demo.project
    assert not may(project, role, tagging(node(project, role), *keys))


@pytest.mark.parametrize("role", ROLES)
def test_node_tags_no_other_thing(new_demo: NewCluster, role: str) -> None:
    project = new_demo.project
    own, fellow = node(project, role), node(project, "worker" if role == "head" else "head")
    denied = {
        "a node of the same cluster": tagging(own, *STATUS, on=fellow),
        "another instance": tagging(own, *STATUS, on=OTHER),
        "one whose id starts like its own": tagging(own, *STATUS, on=own + "0"),
        "one whose id ends like its own": tagging(own, *STATUS, on=own[2:]),
        "itself, but for a request that does not say which instance": Call(
            "ec2:CreateTags",
            instance_arn(own),
            {"aws:userid": (f"AROAEXAMPLE:{own}",), "aws:TagKeys": STATUS},
        ),
        "one of another region": tagging(own, *STATUS, arn=instance_arn(own, region="eu-west-1")),
        "one of another account": tagging(own, *STATUS, arn=instance_arn(own, account="210987654321")),
        "a volume": tagging(
            own, *STATUS, arn=f"arn:aws:ec2:us-west-2:{ACCOUNT}:volume/vol-0123456789abcdef0"
        ),
        "its security group": tagging(
            own, *STATUS, arn=f"arn:aws:ec2:us-west-2:{ACCOUNT}:security-group/sg-1"
        ),
    }
    assert [what for what, call in denied.items() if may(project, role, call)] == []


@pytest.mark.parametrize(
    ("operator", "let_in"),
    [
        ("StringLike", lambda own: tagging(own, *STATUS, on=OTHER)),
        ("ForAllValues:StringEquals", lambda own: tagging(own, "daft:role")),
        # A set operator is content with a request that has no such key.
        ("Null", tagging),
    ],
)
def test_each_condition_keeps_something_out(
    new_demo: NewCluster, operator: str, let_in: Callable[[str], Call]
) -> None:
    project = new_demo.project
    (policy,) = policies_of(project.aws, "demo-us-west-2-worker")
    call = let_in(node(project, "worker"))
    looser = copy.deepcopy(policy)
    (tag,) = (statement for statement in looser["Statement"] if statement["Sid"] == "ReportStatus")
    del tag["Condition"][operator]
    assert (allows([policy], call), allows([looser], call)) == (False, True)


@pytest.mark.parametrize("role", ROLES)
def test_nobody_but_ec2_becomes_a_node(new_demo: NewCluster, role: str) -> None:
    """Who else could, would name the session, and so choose the instance that aws:userid stands for."""
    project = new_demo.project
    trust = project.aws.client("iam").get_role(RoleName=f"demo-us-west-2-{role}")["Role"]
    assert trust["AssumeRolePolicyDocument"]["Statement"] == [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}
    ]


def test_both_read_the_secret_and_only_the_head_writes_it(new_demo: NewCluster) -> None:
    project = new_demo.project
    found = {
        (role, action): may(project, role, on_secret(action, node(project, role)))
        for role in ROLES
        for action in ("ssm:GetParameter", "ssm:PutParameter")
    }
    assert found == {
        ("head", "ssm:GetParameter"): True,
        ("head", "ssm:PutParameter"): True,
        ("worker", "ssm:GetParameter"): True,
        ("worker", "ssm:PutParameter"): False,
    }


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", ["ssm:GetParameter", "ssm:PutParameter"])
def test_node_reaches_no_other_secret(new_demo: NewCluster, role: str, action: str) -> None:
    project = new_demo.project
    others = [
        f"arn:aws:ssm:us-west-2:{ACCOUNT}:parameter/daft/demo2/ray",
        f"arn:aws:ssm:us-west-2:{ACCOUNT}:parameter/daft/demo/ray2",
        f"arn:aws:ssm:us-west-2:{ACCOUNT}:parameter/daft/demo",
        f"arn:aws:ssm:us-west-2:{ACCOUNT}:parameter/daft/demo/ray/more",
        f"arn:aws:ssm:us-west-2:{ACCOUNT}:parameter/*",
        f"arn:aws:ssm:eu-west-1:{ACCOUNT}:parameter/daft/demo/ray",
        "arn:aws:ssm:us-west-2:210987654321:parameter/daft/demo/ray",
    ]
    asked = {arn: on_secret(action, node(project, role), arn) for arn in others}
    assert [arn for arn, call in asked.items() if may(project, role, call)] == []


def test_only_the_head_reads_the_limits_and_nobody_writes_them(new_demo: NewCluster) -> None:
    project = new_demo.project
    found = [
        (role, action)
        for role in ROLES
        for action in ("ssm:GetParameter", "ssm:PutParameter", "ssm:DeleteParameter")
        if may(project, role, on_secret(action, node(project, role), LIMITS))
    ]
    assert found == [("head", "ssm:GetParameter")]


def test_head_ends_its_own_workers_and_itself(new_demo: NewCluster) -> None:
    project = new_demo.project
    own, none = node(project, "head"), {"MinSize": "0", "MaxSize": "0"}
    asked = [scaling(own, group_arn(), **none), terminating(own, on=own)]
    assert [may(project, "head", call) for call in asked] == [True, True]
    worker = node(project, "worker")
    asked = [scaling(worker, group_arn(), **none), terminating(worker, on=worker)]
    assert [may(project, "worker", call) for call in asked] == [False, False]


def test_head_ends_nothing_else(new_demo: NewCluster) -> None:
    project = new_demo.project
    own, none = node(project, "head"), {"MinSize": "0", "MaxSize": "0"}
    denied = {
        "another cluster's group": scaling(own, group_arn("demo2"), **none),
        "one whose name ends like its own": scaling(own, group_arn("other-demo"), **none),
        "one of another region": scaling(own, group_arn(region="eu-west-1"), **none),
        "one of another account": scaling(own, group_arn(account="210987654321"), **none),
        "more workers": scaling(own, group_arn(), MinSize="0", MaxSize="5000"),
        "its group, to no size that it names": scaling(own, group_arn()),
        "a node of the same cluster": terminating(own, on=node(project, "worker")),
        "another instance": terminating(own, on=OTHER),
        "one whose id starts like its own": terminating(own, on=own + "0"),
        "one whose id ends like its own": terminating(own, on=own[2:]),
        "one of another account's": terminating(own, on=own, arn=instance_arn(own, account="210987654321")),
        "one of another region's": terminating(own, on=own, arn=instance_arn(own, region="eu-west-1")),
        "itself, but for a request that does not say which": Call(
            "ec2:TerminateInstances", instance_arn(own), {"aws:userid": (f"AROAEXAMPLE:{own}",)}
        ),
    }
    assert [what for what, call in denied.items() if may(project, "head", call)] == []


@pytest.mark.parametrize("role", ROLES)
def test_node_does_nothing_else(new_demo: NewCluster, role: str) -> None:
    project = new_demo.project
    own = node(project, role)
    context = tagging(own, *STATUS).context
    on_itself = ("DeleteTags", "DescribeInstances", "DescribeTags", "ModifyInstanceAttribute", "RunInstances")
    on_itself += ("StopInstances", "StartInstances", "CreateVolume", "GetConsoleOutput")
    on_its_secret = ("GetParameters", "GetParametersByPath", "GetParameterHistory", "DeleteParameter")
    on_its_secret += ("DescribeParameters", "AddTagsToResource", "LabelParameterVersion", "SendCommand")
    asked = [Call(f"ec2:{action}", instance_arn(own), context) for action in on_itself]
    asked += [Call(f"ssm:{action}", SECRET, context) for action in on_its_secret]
    asked += [
        Call("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/daft/demo-us-west-2-{role}", context),
        Call("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/daft/demo-us-west-2-head", context),
        Call("autoscaling:SetDesiredCapacity", group_arn(), context),
        Call("autoscaling:DeleteAutoScalingGroup", group_arn(), context),
        Call("autoscaling:TerminateInstanceInAutoScalingGroup", group_arn(), context),
        Call("s3:GetObject", "arn:aws:s3:::bucket/key", context),
        Call("kms:Decrypt", f"arn:aws:kms:us-west-2:{ACCOUNT}:key/1", context),
    ]
    assert [call.action for call in asked if may(project, role, call)] == []
