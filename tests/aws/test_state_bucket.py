"""The bucket of a team's state: `daft backend create`, and what is checked of a bucket before it is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from awskit import Project, Seen, failed

pytestmark = pytest.mark.real

KEY = "arn:aws:kms:us-west-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PLAN = "`daft up --plan`, then `daft up`"
SET = "older versions kept; connections without TLS refused; tagged `daft:managed-by`"
OTHER_ACCOUNT = "arn:aws:iam::222222222222:role/them"


@pytest.fixture
def new_team(new_project: Callable[..., Project]) -> Callable[..., Project]:
    def new(bucket: str, *, region: str = "us-west-2", **backend: object) -> Project:
        kept = {"type": "s3", "bucket": bucket, **backend}
        return new_project("team", region=region, backend=kept)

    return new


def next_step(bucket: str) -> str:
    return f"the state will lie at s3://{bucket}/daft/team/terraform.tfstate. Next: {PLAN}\n"


def of_bucket(project: Project, bucket: str) -> dict[str, Any]:
    """Return what S3 says of a bucket, by what it is called there."""
    s3 = project.aws.client("s3", project.region)
    rule = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    return {
        "place": s3.get_bucket_location(Bucket=bucket)["LocationConstraint"],
        "versioning": s3.get_bucket_versioning(Bucket=bucket).get("Status"),
        "closed": set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()),
        "encryption": rule["ApplyServerSideEncryptionByDefault"],
        "tags": {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]},
        "policy": json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"],
    }


def tls_only(bucket: str) -> dict[str, Any]:
    return {
        "Sid": "DaftTlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def changes(project: Project) -> list[str]:
    return [r.action for r in project.aws.requests if r.service == "s3" and r.action.startswith("Put")]


@pytest.mark.parametrize(("region", "place"), [("us-west-2", "us-west-2"), ("us-east-1", None)])
def test_a_bucket_is_made_once(new_team: Callable[..., Project], region: str, place: str | None) -> None:
    bucket = f"made-in-{region}"
    project = new_team(bucket, region=region)
    made = f"made the bucket {bucket} in {region}; {SET}\n"
    assert project.daft("backend", "create") == Seen(0, "", made + next_step(bucket))
    assert of_bucket(project, bucket) == {
        "place": place,
        "versioning": "Enabled",
        "closed": {True},
        "encryption": {"SSEAlgorithm": "AES256"},
        "tags": {"daft:managed-by": "daft-launcher"},
        "policy": [tls_only(bucket)],
    }
    project.aws.requests.clear()
    again = f"the bucket {bucket} is as it should be\n"
    assert project.daft("backend", "create") == Seen(0, "", again + next_step(bucket))
    assert changes(project) == []


def test_a_bucket_of_ours_is_brought_into_order(new_team: Callable[..., Project]) -> None:
    project = new_team("in-order", kms_key_id=KEY)
    made = f"made the bucket in-order in us-west-2; older versions kept; encrypted with {KEY}; "
    rest = "connections without TLS refused; tagged `daft:managed-by`\n"
    assert project.daft("backend", "create") == Seen(0, "", made + rest + next_step("in-order"))
    before = of_bucket(project, "in-order")
    assert before["encryption"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    s3 = project.aws.client("s3")
    s3.delete_public_access_block(Bucket="in-order")
    s3.put_bucket_versioning(Bucket="in-order", VersioningConfiguration={"Status": "Suspended"})
    s3.delete_bucket_encryption(Bucket="in-order")
    theirs = {
        "Sid": "Ours",
        "Effect": "Allow",
        "Principal": {"AWS": OTHER_ACCOUNT},
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::in-order/*",
    }
    s3.put_bucket_policy(Bucket="in-order", Policy=json.dumps({"Version": "2012-10-17", "Statement": theirs}))
    done = "public access blocked; older versions kept; "
    done += f"encrypted with {KEY}; connections without TLS refused\n"
    assert project.daft("backend", "create") == Seen(0, "", done + next_step("in-order"))
    assert of_bucket(project, "in-order") == {**before, "policy": [theirs, tls_only("in-order")]}


def test_a_bucket_that_was_not_made_here_is_changed_only_after_a_yes(
    new_team: Callable[..., Project],
) -> None:
    project = new_team("someones")
    s3 = project.aws.client("s3")
    s3.create_bucket(Bucket="someones", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    s3.put_bucket_tagging(Bucket="someones", Tagging={"TagSet": [{"Key": "team", "Value": "data"}]})
    project.aws.requests.clear()
    assert project.daft("backend", "create") == failed(
        "the bucket `someones` exists and was not made by daft; nothing was changed. "
        "What would be: older versions kept, connections without TLS refused, tagged `daft:managed-by`",
        "agree with `daft backend create --yes`, or use it as it is",
    )
    assert changes(project) == []
    assert project.daft("backend", "create", "--yes") == Seen(0, "", f"{SET}\n{next_step('someones')}")
    assert of_bucket(project, "someones")["tags"] == {"daft:managed-by": "daft-launcher", "team": "data"}


def test_a_bucket_of_another_account(new_team: Callable[..., Project]) -> None:
    project = new_team("theirs")
    project.aws.client_of(OTHER_ACCOUNT, "s3").create_bucket(
        Bucket="theirs", CreateBucketConfiguration={"LocationConstraint": "us-west-2"}
    )
    refused = failed(
        "the bucket `theirs` of [backend] is closed to these AWS credentials: it belongs to another account, or "
        "they lack `s3:ListBucket` on it",
        "choose another `bucket` or `profile` in [backend], or ask its owner; who you are: "
        "aws sts get-caller-identity",
    )
    assert [project.daft("backend", "create"), project.daft("up"), project.daft("up", "--plan")] == [
        refused
    ] * 3
    assert not (project.root / ".daft").exists()
    project.keep_state(type="s3", bucket="theirs", assume_role={"role_arn": OTHER_ACCOUNT})
    # In their role it is theirs to make.
    assert project.daft("backend", "create", "--yes") == Seen(0, "", f"{SET}\n{next_step('theirs')}")


def test_a_bucket_that_is_not_there_or_elsewhere(new_team: Callable[..., Project]) -> None:
    project = new_team("nowhere")
    missing = failed(
        "there is no bucket `nowhere`, which [backend] names",
        "`daft backend create` makes it, versioned, encrypted and closed to the public",
    )
    assert [project.daft("up"), project.daft("up", "--plan")] == [missing, missing]
    assert project.daft("down") == Seen(0, "", "there is no cluster team\n")
    s3 = project.aws.client("s3", "eu-west-1")
    s3.create_bucket(Bucket="nowhere", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    elsewhere = failed(
        "the bucket `nowhere` lies in eu-west-1, and [backend] looks for it in us-west-2",
        'write `region = "eu-west-1"` in [backend]',
    )
    commands = [("backend", "create"), ("up",), ("up", "--plan"), ("down",)]
    assert [project.daft(*command) for command in commands] == [elsewhere] * 4
    assert list(project.files()) == [".daft.toml"]


def test_what_is_unwise_is_said_and_no_more(new_team: Callable[..., Project]) -> None:
    project = new_team("unwise", encrypt=False, use_lockfile=False)
    s3 = project.aws.client("s3")
    s3.create_bucket(Bucket="unwise", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    s3.delete_public_access_block(Bucket="unwise")
    s3.delete_bucket_encryption(Bucket="unwise")
    right = "`daft backend create` sets it right"
    warnings = [
        f"the bucket `unwise` keeps no older versions: a state that is lost or damaged stays so; {right}",
        f"the bucket `unwise` does not block public access, and a state can hold secrets; {right}",
        f"the bucket `unwise` does not encrypt by itself; {right}",
        "`encrypt = false` in [backend]: the state is not encrypted where it lies",
        "`use_lockfile = false` in [backend]: two who run `daft up` at once damage each other's work",
    ]
    seen = project.daft("up", "--plan")
    assert (seen.status, seen.err) == (0, "".join(f"warning: {warning}\n" for warning in warnings))


def test_a_file_that_keeps_its_state_here_has_no_bucket(new_project: Callable[..., Project]) -> None:
    project = new_project("team")
    assert project.daft("backend", "create") == failed(
        '.daft.toml keeps the state on this machine: it has no [backend] with `type = "s3"`',
        'add one: [backend], `type = "s3"`, `bucket = "NAME"`',
        status=2,
    )
