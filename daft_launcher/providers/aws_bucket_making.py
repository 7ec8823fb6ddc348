"""The making of a state bucket: every call of it may be made again, and only what is not so yet is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from daft_launcher.errors import AWSError
from daft_launcher.providers.aws_buckets import (
    MANAGED_BY,
    closed,
    encryption_rule,
    is_closed,
    read,
    tls_only,
    with_statement,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Step = tuple[str, Callable[[], object]]


class BucketMaker:
    """One bucket of one account."""

    def __init__(self, s3: S3Client, bucket: str, region: str, *, partition: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._region = region
        self._partition = partition

    def make(self, *, kms_key_id: str | None, new: bool, agree: Callable[[str], bool]) -> list[str]:
        """Make the bucket what it should be and return what was done, in words."""
        done = []
        tags = {} if new else self._tags()
        if new:
            self._create()
            done.append(f"made the bucket {self._bucket} in {self._region}")
        steps = list(self._steps(kms_key_id, tags))
        if steps and not new and not tags.items() >= MANAGED_BY.items():
            self._ask(agree, [what for what, _ in steps])
        for what, do in steps:
            do()
            done.append(what)
        return done

    def _create(self) -> None:
        # us-east-1 is the one region that cannot be named here.
        place: Any = {"CreateBucketConfiguration": {"LocationConstraint": self._region}}
        try:
            self._s3.create_bucket(Bucket=self._bucket, **({} if self._region == "us-east-1" else place))
        except ClientError as error:
            if error.response["Error"]["Code"] == "BucketAlreadyOwnedByYou":
                return
            if error.response["Error"]["Code"] != "BucketAlreadyExists":
                raise
            raise AWSError(
                f"a bucket `{self._bucket}` exists already, in another account: names are shared by all of AWS",
                hint="choose another `bucket` in [backend], for example with your company's name in it",
            ) from None
        waiter = self._s3.get_waiter("bucket_exists")
        waiter.wait(Bucket=self._bucket, WaiterConfig={"Delay": 1, "MaxAttempts": 30})

    def _ask(self, agree: Callable[[str], bool], changes: list[str]) -> None:
        listed = ", ".join(changes)
        known = f"the bucket `{self._bucket}` exists and was not made by daft"
        if not agree(f"T{known[1:]}. It would be changed: {listed}. Do it?"):
            raise AWSError(
                f"{known}; nothing was changed. What would be: {listed}",
                hint="agree with `daft backend create --yes`, or use it as it is",
            )

    def _steps(self, kms_key_id: str | None, tags: dict[str, str]) -> Iterator[Step]:
        s3, bucket = self._s3, self._bucket
        block = read(lambda: s3.get_public_access_block(Bucket=bucket))
        if block is not None and not is_closed(block):
            yield (
                "public access blocked",
                lambda: s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=closed()),
            )
        versioning = read(lambda: s3.get_bucket_versioning(Bucket=bucket))
        if versioning is not None and versioning.get("Status") != "Enabled":
            yield (
                "older versions kept",
                lambda: s3.put_bucket_versioning(
                    Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
                ),
            )
        yield from self._encryption_step(kms_key_id)
        yield from self._policy_step()
        if not tags.items() >= MANAGED_BY.items():
            yield "tagged `daft:managed-by`", lambda: self._tag({**tags, **MANAGED_BY})

    def _encryption_step(self, kms_key_id: str | None) -> Iterator[Step]:
        answer = read(lambda: self._s3.get_bucket_encryption(Bucket=self._bucket))
        if answer is None:
            return
        rule: Any = encryption_rule(answer)
        now = rule["ApplyServerSideEncryptionByDefault"] if rule else {}
        if now and (kms_key_id is None or now.get("KMSMasterKeyID") == kms_key_id):
            return
        wanted: Any = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        if kms_key_id:
            by_key = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": kms_key_id}
            wanted = {"ApplyServerSideEncryptionByDefault": by_key, "BucketKeyEnabled": True}
        yield (
            f"encrypted with {kms_key_id or 'keys of S3'}",
            lambda: self._s3.put_bucket_encryption(
                Bucket=self._bucket, ServerSideEncryptionConfiguration={"Rules": [wanted]}
            ),
        )

    def _policy_step(self) -> Iterator[Step]:
        answer = read(lambda: self._s3.get_bucket_policy(Bucket=self._bucket))
        if answer is None:
            return
        changed = with_statement(answer.get("Policy"), tls_only(self._bucket, self._partition))
        if changed is not None:
            yield (
                "connections without TLS refused",
                lambda: self._s3.put_bucket_policy(Bucket=self._bucket, Policy=changed),
            )

    def _tags(self) -> dict[str, str]:
        answer = read(lambda: self._s3.get_bucket_tagging(Bucket=self._bucket)) or {}
        return {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", [])}

    def _tag(self, tags: dict[str, str]) -> None:
        pairs: Any = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
        self._s3.put_bucket_tagging(Bucket=self._bucket, Tagging={"TagSet": pairs})
