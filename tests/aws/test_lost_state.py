"""A cluster whose Terraform state is lost: found by its tags, kept by `up`, removed by `down`, and told from others."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from awskit import ADDRESSES, NEXT, OPERATOR, Project, Seen, done

from daft_launcher.state_dir import write_private

pytestmark = pytest.mark.real

OUT = "adrift: head i-1 at 1.2.3.4, 2 workers asked for\n"
AS_IT_IS = "  the head is ready (N s)\nadrift is as the configuration says\n"
MADE = ("CreateAutoScalingGroup", "CreateLaunchTemplate", "CreateSecurityGroup", "RunInstances")
# IAM lists in no order, and what it lists is compared as a set.
FOUND = {
    "  instance i-1 (running)",
    "  launch template lt-1 (daft-adrift-worker)",
    "  security group sg-1 (daft-adrift)",
    "  key pair key-1 (daft-adrift)",
    "  Auto Scaling group daft-adrift-workers",
    *(
        f"  IAM {kind} adrift-eu-west-1-{role}"
        for kind in ("role", "instance profile")
        for role in ("head", "worker")
    ),
}
RULES = {
    f"  security group rule sgr-1 ({source})"
    for source in ("::/0", "0.0.0.0/0", "the group itself", f"{OPERATOR}/32")
}
POLICIES = {f"  policy daft of IAM role adrift-eu-west-1-{role}" for role in ("head", "worker")}
TAKING_IN = "taking in what exists of `adrift` and is not in its state:"


@dataclass(frozen=True)
class Fleet:
    """A cluster, its namesake in another region, and one whose name begins like its own."""

    adrift: Project
    elsewhere: Project
    longer: Project

    @property
    def others(self) -> list[list[str]]:
        return [project.tagged() for project in (self.elsewhere, self.longer)]


@pytest.fixture(scope="module")
def fleet(new_project: Callable[..., Project]) -> Fleet:
    alone = {"setup": {"number_of_workers": 0}}
    fleet = Fleet(
        new_project("adrift", region="eu-west-1"),
        new_project("adrift", region="eu-west-2", **alone),
        new_project("adrift-2", region="eu-west-1", **alone),
    )
    projects = (fleet.adrift, fleet.elsewhere, fleet.longer)
    with contextlib.ExitStack() as heads:
        for project in projects:
            heads.enter_context(project.head_says("ready"))
        runs = [project.start("up") for project in projects]
        assert [run.end().status for run in runs] == [0, 0, 0]
    return fleet


def nodes(project: Project) -> set[str]:
    return {node.id for role in ("head", "worker") for node in project.nodes(role)}


def lines(text: str) -> set[str]:
    return set(text.splitlines())


def made(project: Project) -> list[str]:
    return [call for call in project.changes_asked() if call.split()[1] in MADE]


def test_up_keeps_a_cluster_whose_state_directory_is_gone(fleet: Fleet) -> None:
    project, others, before = fleet.adrift, fleet.others, nodes(fleet.adrift)
    key = (project.terraform_root / "id_ed25519").read_text()
    shutil.rmtree(project.root / ".daft")
    project.aws.requests.clear()
    listed = project.daft("list", "adrift", "--region", project.region)
    assert (listed.status, listed.out.count("  - adrift, ")) == (0, 3)
    plan = project.daft("up", "--plan", "--json")
    report = json.loads(plan.out)
    assert (plan.status, report["head"], report["summary"]) == (
        0,
        "updated",
        {"add": 7, "change": 3, "replace": 1, "destroy": 0},
    )
    assert (list(project.files()), project.changes_asked()) == ([".daft.toml"], [])
    seen = project.up()
    elsewhere = "the key of `adrift` was made elsewhere: log in with `-i KEY`, its private half"
    created = [
        'aws_iam_role_policy.node["head"]',
        'aws_iam_role_policy.node["worker"]',
        "aws_key_pair.cluster[0]",
    ]
    created += [
        "aws_ssm_parameter.ray",
        *(address for address in ADDRESSES if address.startswith("terraform_data.")),
    ]
    changed = ["aws_autoscaling_group.workers", "aws_instance.head", "aws_launch_template.worker"]
    said = {TAKING_IN, elsewhere, *FOUND, *RULES, "  the head is ready (N s)", NEXT.rstrip()}
    said |= {"  create 2 aws_iam_role_policy", "  create 1 aws_ssm_parameter", "  create 4 terraform_data"}
    said |= {" replace 1 aws_key_pair", *(f"  change 1 {address.split('.')[0]}" for address in changed)}
    said |= lines(
        done("created", created) + done("changed", changed) + done("removed", ["aws_key_pair.cluster[0]"])
    )
    assert (seen.status, seen.out, lines(seen.err)) == (0, OUT, said)
    assert (nodes(project), made(project), fleet.others) == (before, [], others)
    assert "imports.tf" not in project.files()
    assert project.up() == Seen(0, OUT, AS_IT_IS)
    write_private(project.terraform_root / "id_ed25519", key)


@pytest.mark.parametrize("damage", ["nothing", "truncated", "half"])
def test_up_keeps_a_cluster_whose_state_file_is_no_more(fleet: Fleet, damage: str) -> None:
    project, before = fleet.adrift, nodes(fleet.adrift)
    state = project.terraform_root / "terraform.tfstate"
    whole = state.read_bytes()
    if damage == "nothing":
        state.unlink()
    else:
        state.write_bytes(whole[: len(whole) // 2] if damage == "half" else b"")
    project.aws.requests.clear()
    seen = project.up()
    assert (seen.status, seen.out, TAKING_IN in seen.err) == (0, OUT, True)
    warned = "warning: the state .daft/adrift/terraform.tfstate is damaged, and lies in"
    assert (warned in seen.err) is (damage == "half")
    aside = [path.read_bytes() for path in project.terraform_root.glob("*.damaged")]
    assert aside == ([whole[: len(whole) // 2]] if damage == "half" else [])
    assert (nodes(project), made(project)) == (before, [])


def test_up_goes_on_from_an_older_state(fleet: Fleet) -> None:
    project = fleet.adrift
    state = project.terraform_root / "terraform.tfstate"
    older = state.read_bytes()
    project.write(instance_type="m7g.large")
    assert project.up("--yes").status == 0
    before = nodes(project)
    state.write_bytes(older)
    project.aws.requests.clear()
    seen = project.up()
    assert (seen.status, seen.out, TAKING_IN in seen.err) == (0, OUT, True)
    assert (nodes(project), made(project)) == (before, [])
    assert project.up() == Seen(0, OUT, AS_IT_IS)


def test_what_was_changed_while_the_state_was_lost_is_not_forgotten(fleet: Fleet) -> None:
    project, before = fleet.adrift, nodes(fleet.adrift)
    shutil.rmtree(project.root / ".daft")
    project.write(dependencies=["pandas"])
    seen = project.daft("up")
    refusal = "the head node would be replaced and its running jobs ended; nothing was changed"
    assert (seen.status, f"error: {refusal}" in seen.err) == (1, True)
    assert (nodes(project), list(project.files())) == (before, [".daft.toml"])
    project.write(dependencies=None)


def test_a_port_that_a_former_machine_left_open_is_closed(fleet: Fleet) -> None:
    project = fleet.adrift
    shutil.rmtree(project.root / ".daft", ignore_errors=True)
    project.access = {"ssh_allowed_cidrs": ["198.51.100.0/24"]}
    project.write()
    assert project.up().status == 0
    ec2: Any = project.aws.client("ec2", project.region)
    by_tag = [{"Name": "tag:daft:cluster", "Values": ["adrift"]}]
    rules = ec2.describe_security_group_rules(Filters=by_tag)["SecurityGroupRules"]
    assert [rule["CidrIpv4"] for rule in rules if rule.get("FromPort") == 22] == ["198.51.100.0/24"]


def test_another_machine_removes_it_with_nothing_but_the_file(fleet: Fleet, tmp_path: Path) -> None:
    project, others = fleet.adrift, fleet.others
    other = Project(tmp_path / "other", project.aws, project.environ, name="adrift", region="eu-west-1")
    seen = other.daft("down", "--wait")
    first, second, *rest = seen.err.splitlines()
    assert (seen.status, seen.out, first, second) == (
        0,
        "",
        "this machine has no Terraform root of `adrift`; it is found by its tags",
        TAKING_IN,
    )
    assert {line for line in rest if not line.startswith("  removed ")} == {
        *FOUND,
        *POLICIES,
        "adrift is gone",
    }
    assert len([line for line in rest if line.startswith("  removed ")]) == len(FOUND | POLICIES)
    assert (other.tagged(), fleet.others) == ([], others)
    assert other.daft("down", "--wait") == Seen(0, "", "there is no cluster adrift\n")


def test_what_has_the_name_and_not_the_tags_is_nobodys_to_take(new_project: Callable[..., Project]) -> None:
    project = new_project("claimed", region="ca-central-1", setup={"number_of_workers": 0})
    ec2: Any = project.aws.client("ec2", project.region)
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="daft-claimed", Description="theirs", VpcId=vpc)["GroupId"]
    image = ec2.describe_images(Filters=[{"Name": "architecture", "Values": ["arm64"]}])["Images"][0][
        "ImageId"
    ]
    name = {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "claimed-head"}]}
    theirs = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=[name])["Instances"][
        0
    ]["InstanceId"]
    seen = project.daft("up")
    assert (seen.status, "InvalidGroup.Duplicate" in seen.err) == (1, True)
    hint = "run it again, which takes in what has this cluster's tags; for what has only its name, choose another"
    assert f"hint: {hint}; then go on with" in seen.err
    assert project.daft("down", "--wait").status == 0
    assert project.tagged() == []
    assert [
        found["GroupId"] for found in ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    ] == [group]
    (reservation,) = ec2.describe_instances(InstanceIds=[theirs])["Reservations"]
    assert reservation["Instances"][0]["State"]["Name"] == "running"


def test_a_group_is_taken_in_and_the_rule_that_ec2_made_with_it_goes(
    new_project: Callable[..., Project],
) -> None:
    # A provider that was killed as it had made the group: it removes that rule next.
    project = new_project("begun", region="ca-central-1", setup={"number_of_workers": 0})
    ec2: Any = project.aws.client("ec2", project.region)
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    tags = {"daft:cluster": "begun", "daft:managed-by": "daft-launcher"}
    marks = {"ResourceType": "security-group", "Tags": [{"Key": key, "Value": tags[key]} for key in tags]}
    group = ec2.create_security_group(
        GroupName="daft-begun",
        Description="Nodes of the Ray cluster begun",
        VpcId=vpc,
        TagSpecifications=[marks],
    )["GroupId"]
    seen = project.up()
    assert (
        seen.status,
        f"{TAKING_IN.replace('adrift', 'begun')}\n  security group sg-1 (daft-begun)\n" in seen.err,
    ) == (0, True)
    of_group = [{"Name": "group-id", "Values": [group]}]
    rules = ec2.describe_security_group_rules(Filters=of_group)["SecurityGroupRules"]
    assert sorted(rule.get("CidrIpv4", "") for rule in rules if rule["IsEgress"]) == ["", "0.0.0.0/0"]
    assert all({"Key": "daft:cluster", "Value": "begun"} in rule["Tags"] for rule in rules)
    assert project.daft("down", "--wait").status == 0
    assert project.tagged() == []


def test_a_namesake_elsewhere_and_a_longer_name_go_by_themselves(fleet: Fleet) -> None:
    for project in (fleet.elsewhere, fleet.longer):
        shutil.rmtree(project.root / ".daft")
        assert project.daft("down", "--wait").status == 0
        assert project.tagged() == []
