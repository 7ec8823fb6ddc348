"""The aws provider: what it lists, what it finds left over, who it lets in, and the way to Ray."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import boto3
import pytest
import requests
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer
from scripted_aws import FakeClock, instance, reservations, script

from daft_launcher import ssh
from daft_launcher.errors import AWSError, MissingCredentialsError, ProviderError, TunnelError
from daft_launcher.instances import Instance, InstanceState
from daft_launcher.models import Cluster, Provider, RayApi
from daft_launcher.providers.aws import AWSProvider, RegionListing, list_instances_in
from daft_launcher.providers.aws_access import AWSAccess

OURS = [{"Name": "tag:daft:managed-by", "Values": ["daft-launcher"]}]
PAGE = {"MaxResults": 1000}
IMAGE = "ami-01c3c55948a949a52"


@pytest.fixture(autouse=True)
def credentials(monkeypatch, tmp_path) -> None:
    for name in (
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_SESSION_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def moto() -> Iterator[ThreadedMotoServer]:
    with pytest.MonkeyPatch.context() as patch:
        # Read when a region is first touched, and reading them takes a second in each.
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def aws(moto, monkeypatch) -> str:
    """An empty AWS on this machine."""
    host, port = moto.get_host_and_port()
    url = f"http://{host}:{port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    requests.post(f"{url}/moto-api/reset", timeout=10).raise_for_status()
    return url


def provider(**given) -> AWSProvider:
    defaults = {"region": "us-west-2", "profile": None, "ssh_allowed_cidrs": (), "ssh_key_name": None}
    return AWSProvider(**(defaults | {"clock": FakeClock()} | given))


def tags(cluster: str | None = "demo", **more: str) -> list[dict[str, str]]:
    named = {
        "daft:managed-by": "daft-launcher",
        "daft:cluster": cluster,
        **{f"daft:{k}": v for k, v in more.items()},
    }
    return [{"Key": key, "Value": value} for key, value in named.items() if value is not None]


def launch(count: int, region: str = "us-west-2", cluster: str | None = "demo", **more: str) -> list[str]:
    client = boto3.client("ec2", region_name=region)
    marks = [{"ResourceType": "instance", "Tags": tags(cluster, **more)}]
    made = client.run_instances(
        ImageId=IMAGE, MinCount=count, MaxCount=count, InstanceType="m7g.medium", TagSpecifications=marks
    )
    return [one["InstanceId"] for one in made["Instances"]]


class TestList:
    def test_each_state_in_the_order_of_the_contract_and_head_first(self):
        described = [
            instance("i-6", state="terminated", address=None, daft_cluster="a", daft_role="head"),
            instance("i-5", state="shutting-down", daft_cluster="a", daft_role="head"),
            instance("i-4", state="stopped", daft_cluster="a", daft_role="head"),
            instance("i-3", state="stopping", daft_cluster="a", daft_role="head"),
            instance("i-2", state="pending", daft_cluster="a", daft_role="head"),
            instance("i-0", daft_cluster="b", daft_role="worker"),
            instance("i-1", daft_cluster="b", daft_role="head"),
            instance("i-9", daft_cluster="a"),
        ]
        aws = provider()
        script(aws._access, "ec2", "us-west-2", lambda *_: reservations(*described))
        assert [
            (one.instance_id, one.cluster, one.role, one.state.value) for one in aws.list_instances()
        ] == [
            ("i-9", "a", "worker", "Running"),
            ("i-1", "b", "head", "Running"),
            ("i-0", "b", "worker", "Running"),
            ("i-2", "a", "head", "Pending"),
            ("i-3", "a", "head", "Stopping"),
            ("i-4", "a", "head", "Stopped"),
            ("i-5", "a", "head", "Shutting-down"),
            ("i-6", "a", "head", "Terminated"),
        ]

    def test_everything_that_ec2_says_of_an_instance(self):
        launched = datetime(2025, 6, 1, 12, tzinfo=timezone.utc)
        described = instance(
            daft_cluster="demo", daft_role="head", daft_status="setup", daft_detail="make x"
        ) | {
            "PrivateIpAddress": "10.0.0.4",
            "InstanceType": "m7g.medium",
            "Placement": {"AvailabilityZone": "us-west-2b"},
            "LaunchTime": launched,
        }
        aws = provider()
        script(aws._access, "ec2", "us-west-2", lambda *_: reservations(described))
        assert aws.list_instances() == [
            Instance(
                cluster="demo",
                role="head",
                instance_id="i-head",
                state=InstanceState.RUNNING,
                provider="aws",
                region="us-west-2",
                address="203.0.113.5",
                private_address="10.0.0.4",
                instance_type="m7g.medium",
                zone="us-west-2b",
                launched_at=launched,
                status="setup",
                detail="make x",
            )
        ]

    def test_an_instance_without_address_has_none(self):
        aws = provider()
        script(aws._access, "ec2", "us-west-2", lambda *_: reservations(instance(address=None)))
        assert [one.address for one in aws.list_instances()] == [None]

    @pytest.mark.parametrize(
        ("cluster", "filters"),
        [(None, OURS), ("demo", [*OURS, {"Name": "tag:daft:cluster", "Values": ["demo"]}])],
    )
    def test_the_server_filters_and_nothing_else_is_asked(self, cluster, filters):
        aws = provider()
        calls = script(aws._access, "ec2", "us-west-2", lambda *_: reservations())
        assert aws.list_instances(cluster) == []
        assert calls == [("DescribeInstances", {"Filters": filters} | PAGE)]
        assert list(aws._access._clients) == [("ec2", "us-west-2")]

    def test_all_pages_are_read(self, aws):
        made = [one for _ in range(4) for one in launch(3)]
        launch(2, cluster="other")
        listing = list_instances_in(
            ["us-west-2"], profile=None, cluster="demo", all_regions=False, page_size=5
        )
        assert sorted(one.instance_id for one in listing.instances) == sorted(made)

    def test_machines_of_others_are_not_ours(self, aws):
        client = boto3.client("ec2", region_name="us-west-2")
        client.run_instances(ImageId=IMAGE, MinCount=2, MaxCount=2)
        assert provider().list_instances() == []

    def test_the_default_region_is_the_users(self, aws, monkeypatch):
        (made,) = launch(1, "eu-west-1")
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        listing = list_instances_in(None, profile=None, cluster=None, all_regions=False)
        assert [(one.instance_id, one.region) for one in listing.instances] == [(made, "eu-west-1")]

    def test_all_regions_are_those_that_the_account_has_enabled(self, aws):
        made = {region: launch(1, region)[0] for region in ("ap-south-1", "us-east-1")}
        listing = list_instances_in(None, profile=None, cluster=None, all_regions=True)
        assert {one.region: one.instance_id for one in listing.instances} == made
        assert listing.failures == {}

    def test_regions_are_asked_at_the_same_time_and_one_may_fail(self, monkeypatch):
        regions = ["eu-west-1", "us-east-1", "us-west-2"]
        together = threading.Barrier(len(regions), timeout=10)

        def answer(region):
            def reply(*_):
                together.wait()
                if region == "us-east-1":
                    raise ClientError(
                        {"Error": {"Code": "OptInRequired", "Message": "no"}}, "DescribeInstances"
                    )
                return reservations(instance(f"i-{region}", daft_cluster="demo"))

            return reply

        access = AWSAccess()
        for region in regions:
            script(access, "ec2", region, answer(region))
        monkeypatch.setattr("daft_launcher.providers.aws.AWSAccess", lambda **_: access)
        listing = list_instances_in([*regions, "eu-west-1"], profile=None, cluster=None, all_regions=False)
        assert [one.instance_id for one in listing.instances] == ["i-eu-west-1", "i-us-west-2"]
        assert {region: error.message for region, error in listing.failures.items()} == {
            "us-east-1": "could not list the instances in us-east-1: this AWS account has not enabled ec2 there"
            " (OptInRequired)"
        }

    def test_a_region_is_never_lost_in_silence(self, monkeypatch):
        access = AWSAccess()
        for region, state in {"eu-west-1": "running", "us-west-2": "of a kind unheard of"}.items():
            answer = reservations(instance(state=state))
            script(access, "ec2", region, lambda *_, answer=answer: answer)
        monkeypatch.setattr("daft_launcher.providers.aws.AWSAccess", lambda **_: access)
        with pytest.raises(KeyError, match="of a kind unheard of"):
            list_instances_in(["eu-west-1", "us-west-2"], profile=None, cluster=None, all_regions=False)

    @pytest.mark.parametrize(
        ("regions", "what"),
        [
            (["us-west-2"], "list the instances in us-west-2"),
            (["eu-west-1", "us-west-2"], "list the instances in"),
            (None, "list the regions in us-west-2"),
        ],
    )
    def test_without_credentials_nobody_can_be_asked(self, monkeypatch, regions, what):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(MissingCredentialsError) as caught:
            list_instances_in(regions, profile=None, cluster=None, all_regions=regions is None)
        assert caught.value.message.startswith(f"could not {what}")
        assert caught.value.message.endswith(": this machine has no AWS credentials")

    def test_a_profile_that_is_not_there_ends_the_list(self):
        with pytest.raises(AWSError) as caught:
            list_instances_in(None, profile="nope", cluster=None, all_regions=False)
        assert (caught.value.message, caught.value.hint) == (
            "could not find clusters in the default region: there is no AWS profile `nope`",
            "profiles on this machine: none",
        )

    def test_an_empty_listing(self):
        assert RegionListing() == RegionListing(instances=(), failures={})


class TestAccess:
    def test_good_credentials_pass(self, aws):
        provider().check_access()

    def test_the_account_is_asked_for_once(self):
        aws = provider()
        calls = script(aws._access, "sts", "us-west-2", lambda *_: {"Account": "123456789012"})
        assert [aws.account(), aws.account()] == ["AWS account 123456789012"] * 2
        assert calls == [("GetCallerIdentity", {})]

    def test_it_is_a_provider(self):
        port: Provider = provider()
        assert (port.name, port.dead_resources(Path("/nowhere"))) == ("aws", [])

    @pytest.mark.parametrize(
        ("heads", "dead"),
        [
            ([], False),
            ([("running", "ready")], False),
            ([("running", "failed")], True),
            ([("stopped", "ready")], False),
            ([("stopping", "ended")], True),
            ([("stopped", "ended")], True),
            ([("shutting-down", "ready")], True),
            ([("terminated", "ready")], False),
            ([("shutting-down", "ready"), ("terminated", "ready")], True),
            ([("shutting-down", "ready"), ("pending", None)], False),
            ([("shutting-down", "ready"), ("stopped", "ready")], False),
        ],
    )
    def test_a_head_that_only_another_can_follow(self, tmp_path, heads, dead):
        reference = {"name": "demo", "provider": "aws", "region": "us-west-2"}
        (tmp_path / "cluster.json").write_text(json.dumps(reference))
        said = [{"daft_status": status} if status else {} for _, status in heads]
        nodes = [
            instance(f"i-{n}", state=head[0], daft_role="head", **said[n]) for n, head in enumerate(heads)
        ]
        workers = [instance("i-w", state="shutting-down", daft_role="worker", daft_status="failed")]
        aws = provider()
        script(aws._access, "ec2", "us-west-2", lambda *_: reservations(*nodes, *workers))
        assert aws.dead_resources(tmp_path) == ["module.cluster.aws_instance.head"] * dead

    def test_bad_credentials_do_not(self):
        aws = provider(profile="dev")

        def refuse(*_):
            raise ClientError(
                {"Error": {"Code": "InvalidClientTokenId", "Message": "x"}}, "GetCallerIdentity"
            )

        script(aws._access, "sts", "us-west-2", refuse)
        with pytest.raises(AWSError) as caught:
            aws.check_access()
        assert caught.value.message == (
            "could not use AWS in us-west-2: AWS does not accept these credentials (InvalidClientTokenId)"
        )


class TestOperatorVariables:
    def test_networks_and_key_of_the_config_leave_nothing_to_find(self, tmp_path):
        aws = provider(ssh_allowed_cidrs=["198.51.100.0/24"], ssh_key_name="team")
        assert aws.operator_variables(tmp_path) == {"operator_cidrs": [], "ssh_public_key": None}
        assert list(tmp_path.iterdir()) == []

    def test_a_key_is_made_once(self, tmp_path):
        aws = provider(ssh_allowed_cidrs=["198.51.100.0/24"])
        first = aws.operator_variables(tmp_path)
        assert first["ssh_public_key"] == ssh.public_key_of(tmp_path / "id_ed25519")
        assert aws.operator_variables(tmp_path) == first

    @pytest.mark.parametrize(
        ("registered", "applied", "state", "asked"),
        [
            ("ssh-ed25519 AAAA daft-demo", False, "running", ["DescribeInstances", "DescribeKeyPairs"]),
            ("ssh-ed25519 AAAA daft-demo", False, "terminated", ["DescribeInstances"]),
            (None, False, "stopped", ["DescribeInstances", "DescribeKeyPairs"]),
            ("ssh-ed25519 AAAA x", True, "running", []),
        ],
        ids=["another machine's", "a dead head's", "none", "this machine's"],
    )
    def test_the_key_that_a_cluster_was_made_with_is_kept(
        self, tmp_path: Path, registered: str | None, applied: bool, state: str, asked: list[str]
    ) -> None:
        aws = provider(ssh_allowed_cidrs=["10.0.0.0/8"])
        aws._account = "123456789012"
        (tmp_path / "cluster.json").write_text('{"name": "demo", "provider": "aws", "region": "us-west-2"}')
        if applied:
            ssh.make_key_pair(tmp_path / "id_ed25519")
            (tmp_path / "logs").mkdir()
            (tmp_path / "logs" / "apply.jsonl").write_text("")
        keys = [{"KeyName": "daft-demo", "PublicKey": registered}] if registered else []
        head = {"Reservations": [{"Instances": [instance(state=state, daft_role="head")]}]}
        calls = script(aws._access, "ec2", "us-west-2", lambda *_: {"KeyPairs": keys, **head})
        key = aws.operator_variables(tmp_path, shared=True)["ssh_public_key"]
        filters = [*OURS, {"Name": "tag:daft:cluster", "Values": ["demo"]}]
        assert [operation for operation, _ in calls] == asked
        for operation, call in calls:
            assert sorted(call["Filters"], key=str) == sorted(filters, key=str)
            assert call.get("IncludePublicKey") is (True if operation == "DescribeKeyPairs" else None)
        made = tmp_path / "id_ed25519"
        assert key == (ssh.public_key_of(made) if made.exists() else "ssh-ed25519 AAAA")
        assert made.exists() is (asked != ["DescribeInstances", "DescribeKeyPairs"] or registered is None)

    def test_the_public_half_of_the_users_key(self, tmp_path):
        public = ssh.make_key_pair(tmp_path / "mine")
        (tmp_path / "state").mkdir()
        aws = provider(ssh_allowed_cidrs=["198.51.100.0/24"], identity_file=tmp_path / "mine")
        assert aws.operator_variables(tmp_path / "state")["ssh_public_key"] == public
        assert list((tmp_path / "state").iterdir()) == []

    def test_what_terraform_is_given_by_the_environment_is_left_to_it(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TF_VAR_operator_cidrs", '["203.0.113.0/24"]')
        monkeypatch.setenv("TF_VAR_ssh_public_key", "ssh-ed25519 AAAA me")
        assert provider().operator_variables(tmp_path) == {}
        assert list(tmp_path.iterdir()) == []
        public = ssh.make_key_pair(tmp_path / "mine")
        named = provider(identity_file=tmp_path / "mine")
        assert named.operator_variables(tmp_path) == {"ssh_public_key": public}

    def test_this_machine_alone_is_let_in(self, tmp_path, monkeypatch):
        monkeypatch.setattr("daft_launcher.public_address.find_public_address", lambda: "203.0.113.9")
        assert provider(ssh_key_name="team").operator_variables(tmp_path) == {
            "operator_cidrs": ["203.0.113.9/32"],
            "ssh_public_key": None,
        }


def make_cluster(cluster: str, region: str = "us-west-2") -> list[str]:
    """Make one of everything and return how it is to be named."""
    ec2 = boto3.client("ec2", region_name=region)

    def marks(kind):
        return [{"ResourceType": kind, "Tags": tags(cluster)}]

    kept, gone = launch(2, region, cluster, role="head")
    ec2.terminate_instances(InstanceIds=[gone])
    template = ec2.create_launch_template(
        LaunchTemplateName=f"{cluster}-worker",
        LaunchTemplateData={"ImageId": IMAGE, "InstanceType": "m7g.medium"},
        TagSpecifications=marks("launch-template"),
    )["LaunchTemplate"]["LaunchTemplateId"]
    group = ec2.create_security_group(
        GroupName=cluster, Description="x", TagSpecifications=marks("security-group")
    )["GroupId"]
    key = ec2.create_key_pair(KeyName=cluster, TagSpecifications=marks("key-pair"))["KeyPairId"]
    volume = ec2.create_volume(Size=8, AvailabilityZone=f"{region}a", TagSpecifications=marks("volume"))[
        "VolumeId"
    ]
    boto3.client("autoscaling", region_name=region).create_auto_scaling_group(
        AutoScalingGroupName=f"{cluster}-worker",
        MinSize=0,
        MaxSize=0,
        AvailabilityZones=[f"{region}a"],
        LaunchTemplate={"LaunchTemplateId": template},
        Tags=[one | {"PropagateAtLaunch": True} for one in tags(cluster)],
    )
    boto3.client("ssm", region_name=region).put_parameter(
        Name=f"/daft/{cluster}", Value="x", Type="SecureString", Tags=tags(cluster)
    )
    iam, name = boto3.client("iam", region_name=region), f"{cluster}-{region}-head"
    of_head = tags(cluster, role="head")
    iam.create_role(RoleName=name, Path="/daft/", AssumeRolePolicyDocument="{}", Tags=of_head)
    iam.create_instance_profile(InstanceProfileName=name, Path="/daft/", Tags=of_head)
    return [
        f"instance {kept} (running)",
        f"launch template {template} ({cluster}-worker)",
        f"security group {group} ({cluster})",
        f"key pair {key} ({cluster})",
        f"volume {volume} (8 GiB)",
        f"Auto Scaling group {cluster}-worker",
        f"SSM parameter /daft/{cluster}",
        f"IAM role {name}",
        f"IAM instance profile {name}",
    ]


class TestLeftovers:
    def test_everything_of_the_cluster_and_nothing_of_another(self, aws):
        expected = make_cluster("demo")
        make_cluster("demo2")
        make_cluster("demo", "eu-west-1")
        assert provider().leftovers("demo") == expected

    def test_nothing_left(self, aws):
        assert provider().leftovers("demo") == []

    def test_a_role_of_the_same_name_that_is_not_ours(self, aws):
        iam = boto3.client("iam", region_name="us-west-2")
        iam.create_role(RoleName="demo-us-west-2-head", Path="/daft/", AssumeRolePolicyDocument="{}")
        assert provider().leftovers("demo") == []

    def test_each_has_its_place_in_terraform(self, aws):
        expected = make_cluster("demo")
        make_cluster("demo2")
        tagged = provider().tagged("demo")
        places = [
            (found.name, found.type, (found.address or "").removeprefix("module.cluster."))
            for found in tagged
        ]
        kinds = [
            ("aws_instance", "aws_instance.head"),
            ("aws_launch_template", "aws_launch_template.worker"),
            ("aws_security_group", "aws_security_group.nodes"),
            ("aws_key_pair", "aws_key_pair.cluster[0]"),
            ("aws_ebs_volume", ""),
            ("aws_autoscaling_group", "aws_autoscaling_group.workers"),
            ("aws_ssm_parameter", ""),
            ("aws_iam_role", 'aws_iam_role.node["head"]'),
            ("aws_iam_instance_profile", 'aws_iam_instance_profile.node["head"]'),
        ]
        rule = places.pop()
        assert places == [(name, *kind) for name, kind in zip(expected, kinds, strict=True)]
        # EC2 made it with the group, as it does, and gave it no tags.
        assert (rule[0].endswith(" (0.0.0.0/0)"), *rule[1:]) == (
            True,
            "aws_vpc_security_group_egress_rule",
            "",
        )

    def test_of_the_rules_of_its_group_those_without_its_tags_are_somebody_elses(self, aws):
        make_cluster("demo")
        ec2 = boto3.client("ec2", region_name="us-west-2")
        (group,) = ec2.describe_security_groups(GroupNames=["demo"])["SecurityGroups"]
        one = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[one])
        ec2.authorize_security_group_egress(GroupId=group["GroupId"], IpPermissions=[one])
        marks = [{"ResourceType": "security-group-rule", "Tags": tags("demo")}]
        ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}
        ec2.authorize_security_group_ingress(
            GroupId=group["GroupId"], IpPermissions=[ssh], TagSpecifications=marks
        )
        found = [one for one in provider().tagged("demo") if (one.type or "").endswith("_rule")]
        assert {one.address for one in found} == {
            None,
            'module.cluster.aws_vpc_security_group_ingress_rule.ssh["192.0.2.0/24"]',
        }
        provider().remove_strays(found)
        of_group = [{"Name": "group-id", "Values": [group["GroupId"]]}]
        left = ec2.describe_security_group_rules(Filters=of_group)["SecurityGroupRules"]
        assert sorted((rule["IsEgress"], rule["FromPort"]) for rule in left) == [(False, 80), (True, 80)]

    def test_strays_are_removed_and_may_be_gone_already(self, aws):
        make_cluster("demo")
        ours = provider()
        strays = [found for found in ours.tagged("demo") if found.type == "aws_ssm_parameter"]
        ours.remove_strays(strays)
        ours.remove_strays(strays)
        assert [found for found in ours.tagged("demo") if found.type == "aws_ssm_parameter"] == []

    def test_of_two_heads_the_one_that_is_ready_is_the_clusters(self):
        ours = provider()
        heads = [
            instance("i-1", daft_role="head", daft_status="ready"),
            instance("i-2", daft_role="head", daft_status="failed"),
            instance("i-3", state="shutting-down", daft_role="head", daft_status="ready"),
            instance("i-4", daft_role="worker", aws_autoscaling__groupName="gone"),
        ]
        answers = {
            "DescribeInstances": {"Reservations": [{"Instances": heads}]},
            "DescribeLaunchTemplates": {"LaunchTemplates": []},
            "DescribeSecurityGroups": {"SecurityGroups": []},
            "DescribeKeyPairs": {"KeyPairs": []},
            "DescribeVolumes": {"Volumes": []},
            "DescribeSecurityGroupRules": {"SecurityGroupRules": []},
        }
        script(ours._access, "ec2", "us-west-2", lambda operation, _: answers[operation])
        script(ours._access, "autoscaling", "us-west-2", lambda *_: {"AutoScalingGroups": []})
        script(ours._access, "ssm", "us-west-2", lambda *_: {"Parameters": []})
        script(ours._access, "iam", "us-west-2", lambda *_: {"Roles": [], "InstanceProfiles": []})
        found = [(one.id, one.type, one.address) for one in ours.tagged("demo")]
        assert found == [
            ("i-1", "aws_instance", "module.cluster.aws_instance.head"),
            ("i-2", "aws_instance", None),
            ("i-3", None, None),
            ("i-4", "aws_instance", None),
        ]

    def test_what_cannot_be_asked_is_not_taken_for_gone(self):
        aws = provider()

        def refuse(operation, _):
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)

        script(aws._access, "autoscaling", "us-west-2", lambda *_: {"AutoScalingGroups": []})
        script(aws._access, "ec2", "us-west-2", refuse)
        with pytest.raises(AWSError) as caught:
            aws.leftovers("demo")
        assert caught.value.message == (
            "could not look for what is left of `demo` in us-west-2:"
            " these AWS credentials may not do `ec2:DescribeInstances` (AccessDenied)"
        )


class TestShuttingDown:
    @pytest.mark.parametrize(
        ("groups", "states", "expected"),
        [
            ([], [], True),
            ([], ["shutting-down", "terminated"], True),
            ([], ["shutting-down", "running"], False),
            ([], ["pending"], False),
            ([], ["stopping"], False),
            ([], ["stopped"], False),
            ([{"MaxSize": 2}], ["terminated"], False),
            ([{"MaxSize": 0}], ["terminated"], True),
            ([{"MaxSize": 2, "Status": "Delete in progress"}], ["terminated"], True),
            ([{"MaxSize": 2, "Status": "Delete in progress"}], ["running"], False),
        ],
    )
    def test_it_is_so_when_all_end_and_none_can_follow(self, groups, states, expected):
        aws, asked = provider(), []

        def describe_groups(_, params):
            asked.append("groups")
            assert params["Filters"] == [*OURS, {"Name": "tag:daft:cluster", "Values": ["demo"]}]
            return {"AutoScalingGroups": groups}

        def describe_instances(*_):
            asked.append("instances")
            return reservations(*(instance(state=state) for state in states))

        script(aws._access, "autoscaling", "us-west-2", describe_groups)
        script(aws._access, "ec2", "us-west-2", describe_instances)
        assert aws.all_shutting_down("demo") is expected
        assert asked in (["groups"], ["groups", "instances"])


class TestRayApi:
    CLUSTER = Cluster(
        name="demo",
        provider="aws",
        region="us-west-2",
        directory=Path("/nowhere"),
        head_id="i-head",
        head_address="192.0.2.1",
        number_of_workers=2,
    )

    def opened(self, monkeypatch, described, **options):
        asked = []
        aws = provider()
        script(aws._access, "ec2", "us-west-2", lambda *_: reservations(*described))

        class Tunnel:
            def __enter__(self):
                asked.append("open")
                return 40123

            def __exit__(self, *_):
                asked.append("closed")

        def read_file(**how):
            asked.append(how)
            return b"token\n"

        def open_tunnel(**how):
            asked.append(how)
            return Tunnel()

        monkeypatch.setattr(ssh, "read_file", read_file)
        monkeypatch.setattr(ssh, "open_tunnel", open_tunnel)
        with aws.open_ray_api(self.CLUSTER, **options) as api:
            asked.append(api)
        return asked

    def test_the_tunnel_goes_where_the_head_is_now_and_trusts_only_its_key(self, monkeypatch):
        described = instance(daft_ssh__host__key="ssh-ed25519 AAAA")
        login = {
            "host": "203.0.113.5",
            "port": 22,
            "user": "ec2-user",
            "identity": Path("/keys/mine"),
            "host_key": "ssh-ed25519 AAAA",
            "timeout": 20,
        }
        assert self.opened(monkeypatch, [described], identity_file=Path("/keys/mine"), local_port=8265) == [
            login | {"path": "/etc/daft/ray-token"},
            login | {"remote_port": 8265, "local_port": 8265},
            "open",
            RayApi(url="http://127.0.0.1:40123", token="token"),
            "closed",
        ]

    @pytest.mark.parametrize(
        ("described", "message", "hint"),
        [
            ([], "is gone", "`daft up` brings the cluster up"),
            ([instance(state="stopped")], "is stopped", "`daft up` brings the cluster up"),
            ([instance()], "has not said its SSH host key yet", "wait until `daft up` says that it is ready"),
            (
                [instance(address=None, daft_ssh__host__key="x")],
                "has no address",
                "wait a moment and try again",
            ),
        ],
    )
    def test_a_head_that_cannot_be_reached_or_trusted(self, monkeypatch, described, message, hint):
        with pytest.raises(ProviderError) as caught:
            self.opened(monkeypatch, described)
        assert (caught.value.message, caught.value.hint) == (
            f"the head node of `demo` (i-head) {message}",
            hint,
        )

    def test_a_tunnel_that_fails_is_the_tunnels_own_error(self, monkeypatch):
        described = instance(daft_ssh__host__key="not a key")
        aws = provider()
        script(aws._access, "ec2", "us-west-2", lambda *_: reservations(described))
        with pytest.raises(TunnelError), aws.open_ray_api(self.CLUSTER):
            pass
