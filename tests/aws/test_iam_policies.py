"""docs/iam: each command's policy allows what the command really asks of AWS, nothing missing and nothing unused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from awskit import Project

from tests.moto.server import MotoServer, Request

pytestmark = pytest.mark.real

POLICIES = Path(__file__).parents[2] / "docs" / "iam"
REGION = "eu-central-1"
NAMES = ["backend-create", "down", "jobs", "list", "state", "state-read", "up", "up-plan"]
BUCKET = "example-terraform-state"
PROVIDER = "https://github.com/hashicorp/terraform-provider-aws/blob/v5.100.0/internal/service"


class Entry(NamedTuple):
    """An action in which the log of requests and the policies differ."""

    action: str
    reason: str
    source: str


#: S3's actions that IAM knows by another name
#: (https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html).
S3_ACTIONS = {"HeadBucket": "ListBucket"}
#: Asked, and not allowed by any policy.
NEEDLESS = [
    Entry(
        "sts:GetCallerIdentity",
        "AWS lets everybody do it, and no policy can forbid it",
        "https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html",
    ),
    Entry(
        "ec2:GetInstanceUefiData",
        "the provider asks it about an image, which is no instance, and goes on when it is refused",
        f"{PROVIDER}/ec2/ec2_ami_data_source.go",
    ),
]
#: Allowed, though no request names it, or none that moto can be made to provoke.
IMPLIED = {
    "up": [
        Entry(
            "iam:PassRole",
            "AWS checks it when an instance profile goes to an instance, a launch template or a group",
            "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html",
        ),
        Entry(
            "iam:CreateServiceLinkedRole",
            "AWS makes its own roles in the account's name for the first group and the first Spot Instance",
            "https://docs.aws.amazon.com/autoscaling/ec2/userguide/autoscaling-service-linked-role.html",
        ),
        Entry(
            "autoscaling:CancelInstanceRefresh",
            "the provider ends a refresh that still runs before it starts another; moto's are done at once",
            f"{PROVIDER}/autoscaling/group.go",
        ),
        Entry(
            "autoscaling:DescribeInstanceRefreshes",
            "the provider waits for the end of the refresh that it cancelled",
            f"{PROVIDER}/autoscaling/group.go",
        ),
    ],
}


class Asked:
    """What each command asks of AWS, collected over all that it is run for."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.actions: dict[str, set[str]] = {name: set() for name in NAMES}

    def run(self, name: str, *words: str, status: int = 0) -> None:
        requests = self.project.aws.requests
        requests.clear()
        with self.project.head_says("ready"):
            seen = self.project.daft(*words)
        assert seen.status == status, seen
        self.actions[name] |= {_action(request) for request in requests}


def _action(request: Request) -> str:
    action = S3_ACTIONS.get(request.action, request.action) if request.service == "s3" else request.action
    return f"{request.service}:{action}"


@pytest.fixture(scope="module")
def asked(asked_here: Mapping[str, set[str]], asked_of_s3: Mapping[str, set[str]]) -> Mapping[str, set[str]]:
    """Everything that is asked, by the policy that allows it."""
    return {name: asked_here[name] | asked_of_s3[name] for name in NAMES}


@pytest.fixture(scope="module")
def asked_of_s3(new_project: Callable[..., Project]) -> Mapping[str, set[str]]:
    """What a state in a bucket adds to each command."""
    backend = {"type": "s3", "bucket": BUCKET, "use_path_style": True}
    project = new_project("shared", region=REGION, backend=backend)
    asked = Asked(project)
    asked.run("backend-create", "backend", "create")
    # As one that was made before AWS closed and encrypted all new ones.
    s3 = project.aws.client("s3", REGION)
    s3.delete_bucket_encryption(Bucket=BUCKET)
    s3.delete_public_access_block(Bucket=BUCKET)
    asked.run("backend-create", "backend", "create", "--yes")
    asked.run("state-read", "up", "--plan")
    asked.run("state", "up")
    asked.run("state-read", "up", "--plan")
    asked.run("down", "down", "--wait")
    asked.actions["state"] |= asked.actions["down"]
    for name in ("state", "state-read"):
        asked.actions[name] = {action for action in asked.actions[name] if action.startswith("s3:")}
    # Of a cluster whose state is known: the other one is removed by its tags.
    asked.actions["down"] -= asked.actions["state"]
    return asked.actions


@pytest.fixture(scope="module")
def asked_here(aws: MotoServer, new_project: Callable[..., Project]) -> Mapping[str, set[str]]:
    """Everything that a cluster goes through: made, changed in each way, given things of the user's, removed."""
    project = new_project("ours", region=REGION)
    (project.root / "job").mkdir()
    (project.root / "job" / "main.py").touch()
    asked = Asked(project)
    theirs = {"ssh_allowed_cidrs": ["203.0.113.7/32"]}
    ours = {**theirs, "iam_policy_arns": ["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]}
    configure(project, ours, {"team": "a", "old": "x"})
    asked.run("up-plan", "up", "--plan")
    asked.run("up", "up")
    asked.run("list", "list", "--region", REGION)
    asked.run("list", "list", "--all-regions")
    # Burstable types have credits, which the provider asks for.
    configure(
        project, {"ssh_allowed_cidrs": ["203.0.113.8/32"], "spot": True}, {"team": "b", "new": "x"}, T4G
    )
    asked.run("up", "up", "--yes")
    asked.run("up-plan", "up", "--plan")
    for words in JOB_COMMANDS:
        # No head of moto's answers SSH, so it does not say a host key; all that AWS is asked comes before.
        asked.run("jobs", *words, status=1)
    configure(project, {**theirs, **things_of_the_users(aws)}, {"team": "b"}, {"number_of_workers": 1})
    asked.run("up", "up", "--yes")
    configure(project, ours, {"team": "b"}, {"number_of_workers": 1})
    # As an `up` leaves them that was broken off while it made them.
    taint_everything(project)
    asked.run("up", "up", "--yes")
    # Taken in by the tags: some of it as it is changed, and all of it to be removed.
    state_dir = project.root / ".daft"
    for name, words in (("up-plan", ["up", "--plan"]), ("up", ["up", "--yes"]), ("down", ["down", "--wait"])):
        shutil.rmtree(state_dir, ignore_errors=True)
        asked.run(name, *words)
    assert project.tagged() == []
    return asked.actions


JOB_COMMANDS = (
    *(
        ["jobs"],
        ["logs", "x"],
        ["logs", "--bootstrap"],
        ["ssh"],
        ["stop-job", "x"],
        ["dashboard", "--no-open"],
    ),
    ["submit", "-w", "job", "--", "true"],
)
T4G = {"instance_type": "t4g.medium", "number_of_workers": 3}


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_allows_what_the_command_asks_and_no_more(asked: Mapping[str, set[str]], name: str) -> None:
    implied = {entry.action for entry in IMPLIED.get(name, [])}
    assert implied & asked[name] == set(), "seen in the log: it need not be implied"
    needed = (asked[name] - {entry.action for entry in NEEDLESS}) | implied
    allowed = set(actions_of(name))
    assert {"missing": needed - allowed, "unused": allowed - needed} == {"missing": set(), "unused": set()}


def test_there_is_a_policy_for_each_command() -> None:
    assert sorted(path.stem for path in POLICIES.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_only_what_aws_cannot_narrow_is_open_to_all(name: str) -> None:
    """Lists and prices know no resources; all else is held to ARNs, and most of it to tags."""
    policy = json.loads((POLICIES / f"{name}.json").read_text())
    wide = [action for s in policy["Statement"] if s["Resource"] == "*" for action in s["Action"]]
    assert [action for action in wide if not re.match(r"\w+:(Describe|List)|pricing:", action)] == []
    for statement in policy["Statement"]:
        assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        assert (statement["Effect"], statement["Action"]) == ("Allow", sorted(set(statement["Action"])))
        arns = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        assert all(arn == "*" or arn.startswith("arn:aws:") for arn in arns)
    assert len({statement["Sid"] for statement in policy["Statement"]}) == len(policy["Statement"])
    # AWS's limit for a policy of its own, white space not counted
    # (docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html).
    assert len(json.dumps(policy, separators=(",", ":"))) <= 6144


def test_the_guide_names_each_policy_and_each_implied_action() -> None:
    guide = (POLICIES.parent / "iam.md").read_text()
    assert [name for name in NAMES if f"(iam/{name}.json)" not in guide] == []
    implied = {entry.action for entries in IMPLIED.values() for entry in entries}
    assert [action for action in sorted(implied) if f"`{action}`" not in guide] == []


def actions_of(name: str) -> Iterable[str]:
    policy = json.loads((POLICIES / f"{name}.json").read_text())
    return [action for statement in policy["Statement"] for action in statement["Action"]]


def configure(
    project: Project,
    access: dict[str, object],
    tags: Mapping[str, str],
    setup: Mapping[str, object] = {},
) -> None:
    project.access = access
    project.write(**setup)
    lines = "".join(f'{key} = "{value}"\n' for key, value in tags.items())
    config = project.root / ".daft.toml"
    config.write_text(f"{config.read_text()}[setup.tags]\n{lines}")


def things_of_the_users(aws: MotoServer) -> dict[str, object]:
    """Make a key pair, an instance profile and a subnet in a VPC of its own."""
    ec2: Any = aws.client("ec2", REGION)
    ec2.create_key_pair(KeyName="mine")
    aws.client("iam").create_instance_profile(InstanceProfileName="mine")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/24", AvailabilityZone=f"{REGION}a")["Subnet"]
    return {"ssh_key_name": "mine", "iam_instance_profile": "mine", "subnet_id": subnet["SubnetId"]}


def taint_everything(project: Project) -> None:
    """Mark as broken what Terraform would make anew; only its own `terraform_data` stays."""
    state = project.state()
    for resource in state["resources"]:
        if resource["mode"] == "managed" and resource["type"] != "terraform_data":
            for instance in resource["instances"]:
                instance["status"] = "tainted"
    (project.terraform_root / "terraform.tfstate").write_text(json.dumps(state))
