"""The bucket of a state as its backend's settings reach it, and what S3's answers mean."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from daft_launcher.backend import Backend
from daft_launcher.errors import AWSError, NoBucketError
from daft_launcher.providers.aws_access import AWSAccess
from daft_launcher.providers.aws_buckets import StateBucket, tls_only, with_statement
from daft_launcher.providers.aws_errors import TransientAWSError

SETTINGS = {"bucket": "states", "key": "k", "region": "us-west-2", "encrypt": True, "use_lockfile": True}
OPEN = {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True, "RestrictPublicBuckets": False}}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def bucket(**more: Any) -> StateBucket:
    return StateBucket(Backend(type="s3", settings={**SETTINGS, **more}))


def answering(answers: dict[str, Any], *, written: list[str] | None = None, **more: Any) -> StateBucket:
    """Return a bucket of which S3 says this; an answer that is a string is the code of an error.

    `written` gets the names of the calls that change something.
    """
    access = AWSAccess()
    client = boto3.client("s3", region_name="us-west-2")

    def reply(model: Any, **_: Any) -> tuple[Any, Any]:
        answer = answers.get(model.name, {})
        if written is not None and not model.name.startswith(("Get", "Head")):
            written.append(model.name)
        if isinstance(answer, str):
            raise ClientError({"Error": {"Code": answer, "Message": "no"}}, model.name)
        return type("Http", (), {"status_code": 200})(), {"ResponseMetadata": {"HTTPHeaders": {}}, **answer}

    client.meta.events.register("before-call.s3", reply)
    access._clients["s3", "us-west-2"] = client
    return StateBucket(Backend(type="s3", settings={**SETTINGS, **more}), access=access)


def test_the_settings_reach_the_client() -> None:
    settings = {"endpoints": {"s3": "http://127.0.0.1:9000"}, "use_path_style": True, "profile": None}
    client = bucket(**settings)._access._client("s3", "us-west-2")
    assert (client.meta.endpoint_url, client.meta.config.s3["addressing_style"]) == (
        "http://127.0.0.1:9000",
        "path",
    )
    plain = bucket()._access._client("s3", "eu-west-1")
    assert (plain.meta.region_name, plain.meta.config.s3) == ("eu-west-1", None)


def test_what_may_not_be_looked_at_is_passed_over() -> None:
    denied = dict.fromkeys(
        ("GetBucketVersioning", "GetPublicAccessBlock", "GetBucketEncryption"), "AccessDenied"
    )
    assert answering(denied).check() == []


def test_what_a_store_that_only_speaks_like_s3_does_not_have_is_passed_over() -> None:
    missing = dict.fromkeys(
        ("GetBucketVersioning", "GetPublicAccessBlock", "GetBucketEncryption"), "NotImplemented"
    )
    assert answering(missing).check() == []


def test_what_is_unwise_is_told_from_what_is_missing() -> None:
    answers = {
        "GetBucketVersioning": {"Status": "Suspended"},
        "GetPublicAccessBlock": OPEN,
        "GetBucketEncryption": "ServerSideEncryptionConfigurationNotFoundError",
    }
    assert [warning.partition(";")[0] for warning in answering(answers).check()] == [
        "the bucket `states` keeps no older versions: a state that is lost or damaged stays so",
        "the bucket `states` does not block public access, and a state can hold secrets",
        "the bucket `states` does not encrypt by itself",
    ]


NOT_USED = "could not use the bucket `states` of [backend] in us-west-2"


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("404", NoBucketError, "there is no bucket `states`, which [backend] names"),
        ("403", AWSError, "the bucket `states` of [backend] is closed to these AWS credentials: "),
        ("OperationAborted", AWSError, f"{NOT_USED}: OperationAborted: no"),
        ("SlowDown", TransientAWSError, f"{NOT_USED}: AWS asks for fewer calls (SlowDown)"),
        ("ExpiredToken", AWSError, f"{NOT_USED}: the AWS cred"),
    ],
)
def test_a_bucket_that_is_not_to_be_used(code: str, kind: type[AWSError], said: str) -> None:
    answers = {
        "HeadBucket": code,
        "GetBucketVersioning": "NoSuchBucket",
        "GetPublicAccessBlock": "NoSuchBucket",
    }
    with pytest.raises(kind) as caught:
        answering({**answers, "GetBucketEncryption": "NoSuchBucket"}).check()
    assert caught.value.message.startswith(said)


@pytest.mark.parametrize(
    ("head", "listing", "said"),
    [
        (
            "400",
            "ExpiredToken",
            "could not use the bucket `states` of [backend] in us-west-2: the AWS credentials have e",
        ),
        (
            "403",
            "InvalidAccessKeyId",
            "could not use the bucket `states` of [backend] in us-west-2: AWS does not accept",
        ),
        ("403", "AccessDenied", "the bucket `states` of [backend] is closed to these AWS credentials: "),
        ("403", {}, "the bucket `states` of [backend] is closed to these AWS credentials: "),
    ],
)
def test_what_head_does_not_say_is_asked_for(head: str, listing: Any, said: str) -> None:
    with pytest.raises(AWSError) as caught:
        answering({"HeadBucket": head, "ListObjectsV2": listing}).check()
    assert caught.value.message.startswith(said)


def test_a_bucket_in_another_region() -> None:
    with pytest.raises(AWSError) as caught:
        answering({"HeadBucket": {"BucketRegion": "eu-west-1"}}).check()
    assert caught.value.hint == 'write `region = "eu-west-1"` in [backend]'


def test_a_store_without_accounts_is_not_asked_for_one() -> None:
    answers = {"HeadBucket": "404", "CreateBucket": "AccessDenied"}
    store = answering(answers, skip_requesting_account_id=True)
    with pytest.raises(AWSError) as caught:
        store.create(lambda question: False)
    assert caught.value.message == (
        "could not use the bucket `states` of [backend] in us-west-2: these AWS credentials may not do "
        "`s3:CreateBucket` (AccessDenied)"
    )


@pytest.mark.parametrize("call", ["GetBucketPolicy", "GetBucketTagging"])
def test_what_may_not_be_read_is_never_written_over(call: str) -> None:
    written: list[str] = []
    store = answering({call: "AccessDenied"}, written=written, skip_requesting_account_id=True)
    with pytest.raises(AWSError) as caught:
        store.create(lambda question: True)
    assert caught.value.message == (
        f"could not use the bucket `states` of [backend] in us-west-2: these AWS credentials may not do `s3:{call}` "
        "(AccessDenied)"
    )
    assert written == []


def test_a_store_that_has_less_than_s3_gets_what_it_has() -> None:
    has_not = ("GetPublicAccessBlock", "GetBucketEncryption", "GetBucketPolicy")
    written: list[str] = []
    store = answering(
        dict.fromkeys(has_not, "NotImplemented"), written=written, skip_requesting_account_id=True
    )
    assert store.create(lambda question: True) == ["older versions kept", "tagged `daft:managed-by`"]
    assert written == ["PutBucketVersioning", "PutBucketTagging"]


def test_a_name_that_somebody_else_has() -> None:
    answers = {"HeadBucket": "404", "CreateBucket": "BucketAlreadyExists"}
    store = answering(answers, skip_requesting_account_id=True)
    with pytest.raises(AWSError) as caught:
        store.create(lambda question: False)
    assert (caught.value.message, caught.value.hint) == (
        "a bucket `states` exists already, in another account: names are shared by all of AWS",
        "choose another `bucket` in [backend], for example with your company's name in it",
    )


def test_a_statement_is_added_to_a_policy_once() -> None:
    ours, theirs = tls_only("states", "aws-cn"), {"Sid": "Theirs", "Effect": "Allow"}
    assert ours["Resource"] == ["arn:aws-cn:s3:::states", "arn:aws-cn:s3:::states/*"]
    first = with_statement(None, ours)
    assert first is not None
    assert json.loads(first) == {"Version": "2012-10-17", "Statement": [ours]}
    assert with_statement(first, ours) is None
    old = {**ours, "Action": "s3:GetObject"}
    changed = with_statement(
        json.dumps({"Version": "2012-10-17", "Id": "x", "Statement": [theirs, old]}), ours
    )
    assert changed is not None
    assert json.loads(changed) == {"Version": "2012-10-17", "Id": "x", "Statement": [theirs, ours]}
