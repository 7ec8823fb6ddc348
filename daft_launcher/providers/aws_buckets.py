"""The bucket that holds Terraform's state: looked at before it is used, made, and brought into order."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from daft_launcher.backend import Backend
from daft_launcher.errors import AWSError, NoBucketError
from daft_launcher.providers.aws_access import AWSAccess, Way

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import ServerSideEncryptionRuleTypeDef

MANAGED_BY = {"daft:managed-by": "daft-launcher"}
TLS_ONLY = "DaftTlsOnly"
_CLOSED: Any = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
# What AWS says where a bucket has none of what is asked for.
_NONE_OF_IT = {
    "NoSuchBucketPolicy",
    "NoSuchPublicAccessBlockConfiguration",
    "NoSuchTagSet",
    "ServerSideEncryptionConfigurationNotFoundError",
}
# How stores that only speak like S3 refuse what they do not have.
_NOT_THERE = {"MethodNotAllowed", "NotImplemented", "XNotImplemented"}
_REFUSED = {"AccessDenied", "403"}


class StateBucket:
    """The bucket of a backend, as the backend's own settings reach it."""

    def __init__(self, backend: Backend, *, access: AWSAccess | None = None) -> None:
        settings = backend.settings
        self.name: str = settings["bucket"]
        self.region: str = settings["region"]
        self._settings = settings
        self._access = access or AWSAccess(profile=settings.get("profile"), way=_way(settings))

    def check(self) -> list[str]:
        """Return what is unwise about the bucket, each as a sentence.

        Raises AWSError when it does not exist, is closed to these credentials or lies in another region. What
        these credentials may not look at is passed over.
        """
        with self._asking() as s3:
            found: dict[str, object] = {}
            _side_by_side(
                {
                    "here": lambda: self._find(s3),
                    "versioned": lambda: _is_versioned(s3, self.name),
                    "closed": lambda: _is_closed(s3, self.name),
                    "encrypted": lambda: _encryption(s3, self.name) is not None,
                },
                found,
            )
        if not found["here"]:
            raise NoBucketError(
                f"there is no bucket `{self.name}`, which [backend] names",
                hint="`daft backend create` makes it, versioned, encrypted and closed to the public",
            )
        return [*self._unwise(found), *self._unwise_settings()]

    def create(self, agree: Callable[[str], bool]) -> list[str]:
        """Make the bucket, or bring the one that is there into order, and return what was done.

        `agree` is asked before a bucket that was not made here is changed. Raises AWSError when it belongs to
        somebody else, or when the answer is no.
        """
        from daft_launcher.providers.aws_bucket_making import BucketMaker

        partition, owner = self._account()
        with self._asking() as s3:
            new = not self._find(s3, owner=owner)
            maker = BucketMaker(s3, self.name, self.region, partition=partition)
            return maker.make(kms_key_id=self._settings.get("kms_key_id"), new=new, agree=agree)

    def _account(self) -> tuple[str, str | None]:
        """Return the partition and the number of the account that these credentials are for."""
        if self._settings.get("skip_requesting_account_id"):
            return "aws", None
        with self._access.asking("sts", self.region, "see whose account this is") as sts:
            parts = sts.get_caller_identity()["Arn"].split(":")
        return parts[1], parts[4]

    def _find(self, s3: S3Client, *, owner: str | None = None) -> bool:
        """Return whether the bucket exists. Raises AWSError when it is not for us, or elsewhere."""
        expected: Any = {"ExpectedBucketOwner": owner} if owner else {}
        try:
            answer: Any = s3.head_bucket(Bucket=self.name, **expected)
        except ClientError as error:
            told = self._reason(s3, error, expected)
            if _code(told) in ("404", "NoSuchBucket"):
                return False
            if _code(told) in _REFUSED:
                raise self._closed_to_us() from None
            raise told from None
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        region = answer.get("BucketRegion") or headers.get("x-amz-bucket-region") or self.region
        if region != self.region:
            raise AWSError(
                f"the bucket `{self.name}` lies in {region}, and [backend] looks for it in {self.region}",
                hint=f'write `region = "{region}"` in [backend]',
            )
        return True

    def _reason(self, s3: S3Client, error: ClientError, expected: Any) -> ClientError:  # noqa: ANN401 - options
        """Return an error that says more: the answer to HEAD has no body, and expired credentials look refused."""
        if _code(error) not in ("400", "403"):
            return error
        try:
            s3.list_objects_v2(Bucket=self.name, MaxKeys=1, **expected)
        except ClientError as telling:
            return telling
        return error

    def _closed_to_us(self) -> AWSError:
        profile = f" --profile {self._access.profile}" if self._access.profile else ""
        return AWSError(
            f"the bucket `{self.name}` of [backend] is closed to these AWS credentials: it belongs to another "
            "account, or they lack `s3:ListBucket` on it",
            hint="choose another `bucket` or `profile` in [backend], or ask its owner; "
            f"who you are: aws sts get-caller-identity{profile}",
        )

    def _unwise(self, found: Mapping[str, object]) -> Iterator[str]:
        create = "`daft backend create` sets it right"
        bucket = f"the bucket `{self.name}`"
        if found["versioned"] is False:
            yield f"{bucket} keeps no older versions: a state that is lost or damaged stays so; {create}"
        if found["closed"] is False:
            yield f"{bucket} does not block public access, and a state can hold secrets; {create}"
        if found["encrypted"] is False:
            yield f"{bucket} does not encrypt by itself; {create}"

    def _unwise_settings(self) -> Iterator[str]:
        if not self._settings.get("encrypt"):
            yield "`encrypt = false` in [backend]: the state is not encrypted where it lies"
        if not self._settings.get("use_lockfile"):
            yield "`use_lockfile = false` in [backend]: two who run `daft up` at once damage each other's work"

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        with self._access.asking("s3", self.region, f"use the bucket `{self.name}` of [backend]") as s3:
            yield s3


def _way(settings: Mapping[str, Any]) -> Way:
    role = settings.get("assume_role") or {}
    parameters = {"RoleArn": role.get("role_arn"), "ExternalId": role.get("external_id")}
    if role:
        parameters["RoleSessionName"] = role.get("session_name") or "daft-launcher"
    return Way(
        endpoints=settings.get("endpoints") or {},
        path_style=bool(settings.get("use_path_style")),
        role={name: value for name, value in parameters.items() if value},
        region=settings["region"],
    )


def _is_versioned(s3: S3Client, bucket: str) -> bool | None:
    answer = _look(lambda: s3.get_bucket_versioning(Bucket=bucket))
    return None if answer is None else answer.get("Status") == "Enabled"


def _is_closed(s3: S3Client, bucket: str) -> bool | None:
    answer = _look(lambda: s3.get_public_access_block(Bucket=bucket))
    return None if answer is None else is_closed(answer)


def _encryption(s3: S3Client, bucket: str) -> object:
    answer = _look(lambda: s3.get_bucket_encryption(Bucket=bucket))
    return True if answer is None else encryption_rule(answer)


def is_closed(answer: Mapping[str, Any]) -> bool:
    """Return whether an answer of GetPublicAccessBlock blocks all there is to block."""
    return bool(answer.get("PublicAccessBlockConfiguration", {}) == _CLOSED)


def closed() -> Any:  # noqa: ANN401 - botocore's own type
    """Return the configuration that blocks all public access."""
    return dict(_CLOSED)


def encryption_rule(answer: Mapping[str, Any]) -> ServerSideEncryptionRuleTypeDef | None:
    """Return how a bucket encrypts by an answer of GetBucketEncryption, None when it does not."""
    rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
    return next((rule for rule in rules if rule.get("ApplyServerSideEncryptionByDefault")), None)


def read(call: Callable[[], Any]) -> Any:  # noqa: ANN401 - the answer of whatever is called
    """Return the answer; an empty one where there is nothing of it, None where the store has no such thing."""
    try:
        return call()
    except ClientError as error:
        code = _code(error)
        if code in _NONE_OF_IT:
            return {}
        if code in _NOT_THERE:
            return None
        raise


def _look(call: Callable[[], Any]) -> Any:  # noqa: ANN401 - as above
    """Return the same, and None as well where it is not for us to know."""
    try:
        return read(call)
    except ClientError as error:
        if _code(error) in _REFUSED | {"404", "NoSuchBucket", "PermanentRedirect", "301"}:
            return None
        raise


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _side_by_side(calls: Mapping[str, Callable[[], object]], found: dict[str, object]) -> None:
    """Make all calls at once, so that they take as long as the slowest; the first one's failure comes first."""
    failures: dict[str, Exception] = {}

    def run(name: str) -> None:
        try:
            found[name] = calls[name]()
        except Exception as error:
            failures[name] = error

    # Daemons, so that Ctrl-C does not wait for a bucket that hangs.
    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in calls:
        if name in failures:
            raise failures[name]


def tls_only(bucket: str, partition: str) -> dict[str, object]:
    """Return the statement of a bucket policy that refuses whoever does not use TLS."""
    arn = f"arn:{partition}:s3:::{bucket}"
    return {
        "Sid": TLS_ONLY,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def with_statement(policy: str | None, statement: Mapping[str, object]) -> str | None:
    """Return a policy with one statement more, None when it has it already."""
    empty: dict[str, Any] = {"Version": "2012-10-17", "Statement": []}
    document: dict[str, Any] = json.loads(policy) if policy else empty
    others = document["Statement"]
    others = [others] if isinstance(others, dict) else others
    if statement in others:
        return None
    kept = [other for other in others if other.get("Sid") != statement["Sid"]]
    return json.dumps({**document, "Statement": [*kept, statement]})
