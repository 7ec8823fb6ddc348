"""`daft up` on AWS: what it makes, what it says, and what a change of the configuration changes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from awskit import NEXT, OPERATOR, NewCluster, Project, Seen, answer, created, done, tags_of

pytestmark = pytest.mark.real

TOKEN = "a-token-that-nobody-may-see"
OUT = "demo: head i-1 at 1.2.3.4, 2 workers asked for\n"
TAGS = {"daft:cluster": "demo", "daft:managed-by": "daft-launcher"}
MODULE = ["bootstrap.sh", "head.tf", "iam.tf", "image.tf", "network.tf", "nodes.tf", "outputs.tf"]
MODULE += ["security.tf", "variables.tf", "versions.tf", "workers.tf"]
REPLACED = (
    " replace 1 aws_instance\n replace 2 terraform_data\n  change 1 aws_autoscaling_group\n"
    "  change 1 aws_launch_template\n  change 1 aws_ssm_parameter\n"
)
REPLACING = (
    done("changed", ["aws_autoscaling_group.workers", "aws_launch_template.worker", "aws_ssm_parameter.ray"])
    + done("created", ["aws_instance.head", "terraform_data.head_generation", "terraform_data.placement"])
    + done("removed", ["aws_instance.head", "terraform_data.head_generation", "terraform_data.placement"])
    + "  the head is ready (N s)\n"
)
PLAN_OF_FIVE = """\
would write main.tf

Terraform used the selected providers to generate the following execution
plan. Resource actions are indicated with the following symbols:
  ~ update in-place

Terraform will perform the following actions:

  # module.cluster.aws_autoscaling_group.workers will be updated in-place
  ~ resource "aws_autoscaling_group" "workers" {
      ~ desired_capacity                 = 2 -> 5
        id                               = "daft-demo-workers"
      ~ max_size                         = 2 -> 5
        name                             = "daft-demo-workers"
        # (29 unchanged attributes hidden)

        # (8 unchanged blocks hidden)
    }

Plan: 0 to add, 1 to change, 0 to destroy.

Changes to Outputs:
  ~ cluster = {
        name                 = "demo"
      ~ number_of_workers    = 2 -> 5
        # (12 unchanged attributes hidden)
    }

Summary: 0 to add, 1 to change, 0 to replace, 0 to destroy; the head is kept.

Price, estimated in USD:
  now:   0.1388 an hour, 101.35 a month, for 3 m7g.medium on demand, 150 GB of gp3
  after: 0.2777 an hour, 202.70 a month, for 6 m7g.medium on demand, 300 GB of gp3
"""
RATES = """\
  m7g.medium on demand in us-west-2: 0.0408 an hour; AWS Price List, DAY
  gp3 in us-west-2: 0.08 a GB and month; AWS Price List, DAY
  A month has 730 hours; data transfer and public addresses are not counted.
"""
NOW_AND_AFTER = """
Price, estimated in USD:
  now and after: 0.1388 an hour, 101.35 a month, for 3 m7g.medium on demand, 150 GB of gp3
"""
DEMO = {"format_version": "1.0", "cluster": "demo", "provider": "aws"}
QUESTION = "This replaces the head node and ends every job that runs on it. Go on?"
KEPT = (
    "error: the head node would be replaced and its running jobs ended; nothing was changed\n"
    "hint: agree with `daft up --yes`, or look at it first with `daft up --plan`\n"
)


@dataclass(frozen=True, kw_only=True)
class UpAgain:
    """A second `daft up`, after the head has put its token in its place."""

    project: Project
    seen: Seen
    before: dict[str, str]
    after: dict[str, str]
    asked: list[str]


@pytest.fixture(scope="module")
def up_again(new_demo: NewCluster) -> UpAgain:
    project = new_demo.project
    ssm = project.aws.client("ssm")
    ssm.put_parameter(Name="/daft/demo/ray", Value=TOKEN, Type="SecureString", Overwrite=True)
    before = project.files()
    project.aws.requests.clear()
    seen = project.daft("up")
    return UpAgain(
        project=project, seen=seen, before=before, after=project.files(), asked=project.changes_asked()
    )


def test_up_shows_what_it_makes_the_steps_of_the_head_and_where_it_is(new_demo: NewCluster) -> None:
    steps = ("the head is booting", "the head is installing: ray 2.60.0")
    steps += ("the head runs the setup commands: pip list", "the head is ready")
    assert new_demo.seen == Seen(0, OUT, created(*steps) + NEXT)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("terraform_data.image", "aws_launch_template.worker"),
        ('aws_iam_role.node["head"]', 'aws_iam_instance_profile.node["head"]'),
        ("aws_security_group.nodes", "aws_vpc_security_group_ingress_rule.between_nodes"),
        ("aws_vpc_security_group_ingress_rule.between_nodes", "aws_instance.head"),
        ("aws_ssm_parameter.ray", "aws_autoscaling_group.workers"),
        ("aws_launch_template.worker", "aws_autoscaling_group.workers"),
    ],
)
def test_events_come_in_the_order_of_the_work(new_demo: NewCluster, first: str, then: str) -> None:
    assert new_demo.words.index(f"created {first} ") < new_demo.words.index(f"created {then} ")


def test_everything_carries_the_clusters_tags(new_demo: NewCluster) -> None:
    project = new_demo.project
    tags = tags_by_kind(project)
    # Of what makes another head; a longer or shorter one says nothing to a user.
    assert re.fullmatch("[0-9a-f]{16}", tags["head"].pop("daft:generation"))
    assert tags == {
        "autoscaling group": TAGS | {"Name": "demo-worker", "daft:role": "worker"},
        "head": TAGS | {"Name": "demo-head", "daft:role": "head", "daft:status": "ready", "daft:detail": ""},
        "instance profile head": TAGS | {"Name": "demo-us-west-2-head", "daft:role": "head"},
        "instance profile worker": TAGS | {"Name": "demo-us-west-2-worker", "daft:role": "worker"},
        "key pair": TAGS | {"Name": "demo"},
        "launch template": TAGS | {"Name": "demo-worker", "daft:role": "worker"},
        "role head": TAGS | {"Name": "demo-us-west-2-head", "daft:role": "head"},
        "role worker": TAGS | {"Name": "demo-us-west-2-worker", "daft:role": "worker"},
        "rule 0.0.0.0/0": TAGS | {"Name": "demo"},
        "rule ::/0": TAGS | {"Name": "demo"},
        f"rule {OPERATOR}/32": TAGS | {"Name": "demo"},
        "rule nodes": TAGS | {"Name": "demo"},
        "security group": TAGS | {"Name": "demo"},
        "secret": TAGS | {"Name": "demo"},
        "volume of the head": TAGS | {"Name": "demo-head", "daft:role": "head"},
        "volume of a worker": TAGS | {"Name": "demo-worker", "daft:role": "worker"},
        "interface of a worker": TAGS | {"Name": "demo-worker", "daft:role": "worker"},
        "worker 0": TAGS | {"Name": "demo-worker", "daft:role": "worker"},
        "worker 1": TAGS | {"Name": "demo-worker", "daft:role": "worker"},
    }


def test_nobody_else_gets_in(new_demo: NewCluster) -> None:
    project = new_demo.project
    ec2 = project.aws.client("ec2")
    (group,) = ec2.describe_security_groups(GroupNames=["daft-demo"])["SecurityGroups"]
    rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group["GroupId"]]}])
    assert sorted(
        (rule["IsEgress"], rule["IpProtocol"], rule["FromPort"], rule["ToPort"], peer(rule, group))
        for rule in rules["SecurityGroupRules"]
    ) == [
        (False, "-1", -1, -1, "nodes"),
        (False, "tcp", 22, 22, f"{OPERATOR}/32"),
        (True, "-1", -1, -1, "0.0.0.0/0"),
        (True, "-1", -1, -1, "::/0"),
    ]
    head = project.head()
    assert [g.id for g in head.security_groups] == [group["GroupId"]]


def test_nodes_have_imdsv2_alone_and_an_encrypted_volume(new_demo: NewCluster) -> None:
    project = new_demo.project
    ec2 = project.aws.client("ec2")
    imdsv2 = {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    (head,) = ec2.describe_instances(InstanceIds=[project.head().id])["Reservations"][0]["Instances"]
    assert {key: head["MetadataOptions"][key] for key in imdsv2} == imdsv2
    (volume,) = ec2.describe_volumes(VolumeIds=[head["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]])["Volumes"]
    assert (volume["Encrypted"], volume["VolumeType"], volume["Size"]) == (True, "gp3", 50)
    template = template_data(project)
    assert template["MetadataOptions"] == imdsv2
    assert template["BlockDeviceMappings"] == [
        {
            "DeviceName": "/dev/xvda",
            "Ebs": {"Encrypted": True, "VolumeType": "gp3", "VolumeSize": 50, "DeleteOnTermination": True},
        }
    ]


def test_head_and_workers_are_of_one_kind_with_a_role_each(new_demo: NewCluster) -> None:
    project = new_demo.project
    head, workers = project.head(), project.nodes("worker")
    assert {(node.instance_type, node.image_id, node.key_name) for node in [head, *workers]} == {
        ("m7g.medium", "ami-01c3c55948a949a52", "daft-demo")
    }
    assert {node.subnet_id for node in [head, *workers]} == {head.subnet_id}
    iam = project.aws.client("iam")
    policies = {
        role: [
            statement["Sid"]
            for statement in iam.get_role_policy(RoleName=f"demo-us-west-2-{role}", PolicyName="daft")[
                "PolicyDocument"
            ]["Statement"]
        ]
        for role in ("head", "worker")
    }
    assert policies == {
        "head": ["ReportStatus", "ReadSecret", "WriteSecret", "ReadLimits", "EndWorkers", "EndItself"],
        "worker": ["ReportStatus", "ReadSecret"],
    }
    assert head.iam_instance_profile["Arn"].endswith("/daft/demo-us-west-2-head")
    assert template_data(project)["IamInstanceProfile"] == {"Name": "demo-us-west-2-worker"}


def test_no_secret_leaves_its_place(up_again: UpAgain) -> None:
    project = up_again.project
    assert project.daft("up", "--plan").status == 0
    root = project.terraform_root
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in root.iterdir() if path.is_file()}
    private = ["daft.lock", "id_ed25519", "operator.auto.tfvars.json", "terraform.tfstate"]
    assert {name for name, mode in modes.items() if mode == "0o600"} - {"terraform.tfstate.backup"} == set(
        private
    )
    key = "".join((root / "id_ed25519").read_text().splitlines()[1:-1])[-60:]
    cache = Path(project.environ["XDG_CACHE_HOME"]) / "daft-launcher" / "plans"
    files = [path for folder in (project.root, cache) for path in folder.rglob("*") if path.is_file()]
    texts = {path: text_of(path) for path in files}
    assert [path for path, text in texts.items() if TOKEN in text] == []
    assert [path for path, text in texts.items() if key in text.replace("\n", "")] == [root / "id_ed25519"]
    assert [path for path in files if path.name.endswith(".tfplan")] == []
    # What Terraform notes of the backend in `.terraform` is no state.
    theirs = [path for path in files if path.parent.name != ".terraform"]
    not_for_others = [path for path in theirs if ".tfstate" in path.name or path.suffix == ".jsonl"]
    assert {oct(path.stat().st_mode & 0o777) for path in not_for_others} == {"0o600"}


def test_git_sees_the_hcl_and_nothing_else(new_demo: NewCluster, tmp_path: Path) -> None:
    copy = tmp_path / "repository"
    shutil.copytree(new_demo.project.root, copy, symlinks=True)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    status = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],
        cwd=copy,
        check=True,
        capture_output=True,
        text=True,
    )
    root = (".gitignore", ".terraform.lock.hcl", "backend.tf", "cluster.json", "main.tf")
    files = [*root, *(f"modules/aws/{name}" for name in MODULE)]
    assert status.stdout == "".join(
        f"?? {name}\n" for name in [".daft.toml", *(f".daft/demo/{name}" for name in files)]
    )
    assert OPERATOR not in (copy / ".daft/demo/main.tf").read_text()


def test_up_again_changes_nothing(up_again: UpAgain) -> None:
    assert up_again.seen == Seen(0, OUT, "  the head is ready (N s)\ndemo is as the configuration says\n")
    assert (up_again.after, up_again.asked) == (up_again.before, [])


def test_scaling_never_touches_the_head(demo: Project) -> None:
    head = demo.head()
    for workers in (5, 0, 2):
        demo.write(number_of_workers=workers)
        assert demo.daft("up") == Seen(
            0,
            f"demo: head i-1 at 1.2.3.4, {workers} workers asked for\n",
            "  change 1 aws_autoscaling_group\n"
            + done("changed", ["aws_autoscaling_group.workers"])
            + f"  the head is ready (N s)\n{NEXT}",
        )
        assert len(demo.nodes("worker")) == workers
        assert (demo.head().id, demo.head().state) == (head.id, "running")
    assert demo.changes_asked() == ["autoscaling UpdateAutoScalingGroup"] * 3


def test_a_plan_of_no_change(demo: Project) -> None:
    before = demo.files()
    text = "No changes. Your infrastructure matches the configuration.\n\n"
    summary = "Summary: 0 to add, 0 to change, 0 to replace, 0 to destroy; the head is kept.\n"
    assert demo.daft("up", "--plan") == Seen(0, text + summary + NOW_AND_AFTER + RATES)
    plan = demo.daft("up", "--plan", "--json", "--detailed-exitcode")
    assert (plan.status, plan.err, without_price(plan.out)) == (
        0,
        "",
        {
            **DEMO,
            "has_changes": False,
            "summary": {"add": 0, "change": 0, "replace": 0, "destroy": 0},
            "head": "kept",
            "files": [],
            "changes": [],
            "drift": [],
        },
    )
    assert (demo.files(), demo.changes_asked()) == (before, [])


def test_a_plan_of_a_change(demo: Project) -> None:
    demo.write(number_of_workers=5)
    before = demo.files()
    plan = demo.daft("up", "--plan", "--detailed-exitcode")
    assert plan == Seen(2, PLAN_OF_FIVE + RATES)
    assert (demo.files(), demo.changes_asked()) == (before, [])


def test_a_plan_that_replaces_the_head(demo: Project) -> None:
    demo.write(instance_type="m7g.large")
    plan = demo.daft("up", "--plan", "--json")
    changes = {change["address"]: change["action"] for change in json.loads(plan.out)["changes"]}
    assert (plan.status, plan.err, changes) == (
        0,
        "",
        {
            "module.cluster.aws_autoscaling_group.workers": "update",
            "module.cluster.aws_instance.head": "replace",
            "module.cluster.aws_launch_template.worker": "update",
            "module.cluster.aws_ssm_parameter.ray": "update",
            "module.cluster.terraform_data.head_generation": "replace",
            "module.cluster.terraform_data.placement": "replace",
        },
    )
    rest = {key: value for key, value in without_price(plan.out).items() if key != "changes"}
    assert rest == {
        **DEMO,
        "has_changes": True,
        "drift": [],
        "summary": {"add": 0, "change": 3, "replace": 3, "destroy": 0},
        "head": "replaced",
        "files": ["main.tf"],
    }


def test_nobody_to_ask_keeps_the_head(demo: Project) -> None:
    demo.write(instance_type="m7g.large")
    before, nodes = demo.files(), demo.tagged()
    assert demo.daft("up") == Seen(1, "", REPLACED + KEPT)
    assert (demo.files(), demo.tagged(), demo.changes_asked()) == (before, nodes, [])


def test_a_yes_replaces_the_head_beforehand_or_on_a_terminal(demo: Project) -> None:
    first = demo.head()
    demo.write(instance_type="m7g.large")
    with demo.head_says("ready"):
        shown = answer(demo, "up", question="Go on?", reply="y")
    assert shown == (0, f"{REPLACED}{QUESTION} [y/N] y\n{REPLACING}{OUT}{NEXT}")
    second = demo.head()
    assert (first.state, second.instance_type) == ("terminated", "m7g.large")
    demo.write(instance_type="m7g.medium")
    assert demo.up("--yes") == Seen(0, OUT, REPLACED + REPLACING + NEXT)
    assert (second.state, demo.head().instance_type) == ("terminated", "m7g.medium")
    assert {node.instance_type for node in demo.nodes("worker")} == {"m7g.medium"}


def test_a_cluster_cannot_move_to_another_region(demo: Project) -> None:
    before = demo.files()
    demo.write(region="eu-west-1")
    message = "cluster `demo` was made in us-west-2, and the configuration now says eu-west-1: a cluster cannot move"
    hint = "run `daft down` first (it goes by where the cluster is), or give the new one another name"
    refused = Seen(1, "", f"error: {message}\nhint: {hint}\n")
    assert [demo.daft("up"), demo.daft("up", "--plan"), demo.daft("up", "--yes")] == [refused] * 3
    demo.write(region="us-west-2")
    assert (demo.files(), list(demo.aws.requests)) == (before, [])


def without_price(plan: str) -> dict[str, object]:
    """Return a plan's JSON but for the price."""
    return {key: value for key, value in json.loads(plan).items() if key != "price"}


def tags_by_kind(project: Project) -> dict[str, dict[str, str]]:
    """Return the tags of all that the region holds and that was not there from the start."""
    ec2, iam = project.aws.client("ec2"), project.aws.client("iam")
    ssm, autoscaling = project.aws.client("ssm"), project.aws.client("autoscaling")
    found = {"head": tags_of(project.head())}
    found |= {f"worker {n}": ours(tags_of(worker)) for n, worker in enumerate(project.nodes("worker"))}
    (group,) = [g for g in ec2.describe_security_groups()["SecurityGroups"] if g["GroupName"] != "default"]
    found["security group"] = plain_tags(group["Tags"])
    rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group["GroupId"]]}])
    for rule in rules["SecurityGroupRules"]:
        found[f"rule {peer(rule, group)}"] = plain_tags(rule["Tags"])
    (key,) = ec2.describe_key_pairs()["KeyPairs"]
    (template,) = ec2.describe_launch_templates()["LaunchTemplates"]
    (workers,) = autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert all(tag["PropagateAtLaunch"] for tag in workers["Tags"])
    found |= {"key pair": plain_tags(key["Tags"]), "launch template": plain_tags(template["Tags"])}
    found["autoscaling group"] = plain_tags(workers["Tags"])
    for spec in template_data(project)["TagSpecifications"]:
        found[f"{spec['ResourceType'].removeprefix('network-')} of a worker"] = plain_tags(spec["Tags"])
    (volume,) = ec2.describe_volumes(Filters=[{"Name": "tag:daft:role", "Values": ["head"]}])["Volumes"]
    found["volume of the head"] = plain_tags(volume["Tags"])
    secret = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId="/daft/demo/ray")
    found["secret"] = plain_tags(secret["TagList"])
    for role in ("head", "worker"):
        name = f"demo-us-west-2-{role}"
        found[f"role {role}"] = plain_tags(iam.list_role_tags(RoleName=name)["Tags"])
        profile = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        found[f"instance profile {role}"] = plain_tags(profile["Tags"])
    return found


def template_data(project: Project) -> dict[str, object]:
    versions = project.aws.client("ec2").describe_launch_template_versions(
        LaunchTemplateName="daft-demo-worker"
    )
    return versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]


def peer(rule: dict[str, object], group: dict[str, object]) -> object:
    network = rule.get("CidrIpv4") or rule.get("CidrIpv6")
    return network or ("nodes" if rule["ReferencedGroupInfo"]["GroupId"] == group["GroupId"] else "strangers")


def plain_tags(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def ours(tags: dict[str, str]) -> dict[str, str]:
    """Leave out what AWS adds itself."""
    return {key: value for key, value in tags.items() if not key.startswith("aws:")}


def text_of(path: Path) -> str:
    # The provider itself is linked into `.terraform`, and has nothing of the user's in it.
    return "" if path.stat().st_size > 10_000_000 else path.read_text(errors="replace")
