"""Waiting for the head node: what it says of itself in its tags, and what EC2 says of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from daft_launcher.errors import AWSError, HeadFailedError, ProviderError
from daft_launcher.models import Clock, Cluster, HeadStatus
from daft_launcher.providers.aws_access import AWSAccess
from daft_launcher.providers.aws_errors import TransientAWSError
from daft_launcher.providers.aws_instances import (
    DETAIL_TAG,
    HOST_KEY_TAG,
    STATUS_TAG,
    find_instance,
    read_tags,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mypy_boto3_ec2.client import EC2Client
    from mypy_boto3_ec2.type_defs import InstanceStatusTypeDef, InstanceTypeDef

POLL_SECONDS = 2.0
HEALTH_POLL_SECONDS = 15.0
# EC2 may deny for seconds that a new instance exists; after this long it is telling the truth.
UNKNOWN_SECONDS = 60.0
# As long as AWS cannot be asked, the head may be fine.
UNASKED_SECONDS = 120.0
SILENT = HeadStatus(step="silent")
GONE = {"shutting-down", "terminated", "stopping", "stopped"}


def get_head_login(access: AWSAccess, cluster: Cluster) -> tuple[str, str]:
    """Return the head's address of this moment, and the SSH host key that it has said is its own.

    Terraform's output may be older than a stop and a start, which change the address.
    """
    with access.asking("ec2", cluster.region, f"find the head node of `{cluster.name}`") as ec2:
        head = find_instance(ec2, cluster.head_id)
    name = f"the head node of `{cluster.name}` ({cluster.head_id})"
    state = head["State"]["Name"] if head else "gone"
    if head is None or state != "running":
        raise ProviderError(f"{name} is {state}", hint="`daft up` brings the cluster up")
    host_key = read_tags(head.get("Tags")).get(HOST_KEY_TAG)
    if not host_key:
        hint = "wait until `daft up` says that it is ready"
        raise ProviderError(f"{name} has not said its SSH host key yet", hint=hint)
    address = head.get("PublicIpAddress") or head.get("PrivateIpAddress")
    if not address:
        raise ProviderError(f"{name} has no address", hint="wait a moment and try again")
    return address, host_key


class HeadWatch:
    """One wait for one head node."""

    def __init__(self, access: AWSAccess, cluster: Cluster, *, clock: Clock, step_timeout: float) -> None:
        self._access = access
        self._cluster = cluster
        self._clock = clock
        self._step_timeout = step_timeout
        self._seen_at = self._changed_at = clock.now()
        self._examined_at = -math.inf

    def statuses(self) -> Iterator[HeadStatus]:
        """Yield each new status up to `ready`; raise ProviderError when that can no longer come."""
        last: HeadStatus | None = None
        while True:
            status = self._look() or last or SILENT
            if status != last:
                last, self._changed_at = status, self._clock.now()
                yield status
            if status.step == "ready":
                return
            self._refuse_late(status)
            self._clock.sleep(POLL_SECONDS)

    def _look(self) -> HeadStatus | None:
        """Return what the head says now; None when that cannot be known and there is still hope."""
        try:
            with self._asking("watch") as ec2:
                head = find_instance(ec2, self._cluster.head_id)
        except TransientAWSError:
            if self._unseen_for() > UNASKED_SECONDS:
                raise
            return None
        if head is None:
            if self._unseen_for() > UNKNOWN_SECONDS:
                raise ProviderError(f"{self._head()} does not exist", hint="`daft up` makes a new one")
            return None
        self._seen_at = self._clock.now()
        self._refuse_gone(head)
        tags = read_tags(head.get("Tags"))
        status = HeadStatus(step=tags.get(STATUS_TAG) or SILENT.step, detail=tags.get(DETAIL_TAG, ""))
        if status.step == "failed":
            raise HeadFailedError(
                f"{self._head()} failed: {status.detail or 'no reason given'}", hint=self._log()
            )
        self._refuse_impaired()
        return status

    def _refuse_gone(self, head: InstanceTypeDef) -> None:
        state = head["State"]["Name"]
        if state in GONE:
            reason = head.get("StateReason", {}).get("Message") or "AWS gives no reason"
            start = f"start it with `{self._command('start-instances', '--instance-ids')}`, then `daft up`"
            hint = start if state.startswith("stop") else "`daft up` makes a new one"
            raise ProviderError(f"{self._head()} is {state}: {reason}", hint=hint)

    def _refuse_impaired(self) -> None:
        if self._clock.now() - self._examined_at < HEALTH_POLL_SECONDS:
            return
        self._examined_at = self._clock.now()
        try:
            with self._asking("check the health of") as ec2:
                failed = find_failed_checks(ec2, self._cluster.head_id)
        except AWSError:
            # A second opinion only: the next look at the head's tags says what is wrong with AWS.
            return
        if failed:
            raise ProviderError(f"{self._head()} fails EC2's checks: {', '.join(failed)}", hint=self._log())

    def _refuse_late(self, status: HeadStatus) -> None:
        spent = self._clock.now() - self._changed_at
        if spent <= self._step_timeout:
            return
        if status.step == SILENT.step:
            hint = f"does its subnet reach the internet, and its image run user data? {self._log()}"
            raise ProviderError(f"{self._head()} has said nothing for {_minutes(spent)}", hint=hint)
        step = f"`{status.step}` ({status.detail})" if status.detail else f"`{status.step}`"
        raise ProviderError(f"{self._head()} has been at {step} for {_minutes(spent)}", hint=self._log())

    def _asking(self, verb: str) -> AbstractContextManager[EC2Client]:
        return self._access.asking(
            "ec2", self._cluster.region, f"{verb} the head node of `{self._cluster.name}`"
        )

    def _unseen_for(self) -> float:
        return self._clock.now() - self._seen_at

    def _head(self) -> str:
        return f"the head node of `{self._cluster.name}` ({self._cluster.head_id})"

    def _log(self) -> str:
        console = self._command("get-console-output --latest --output text", "--instance-id")
        return f"its log: `{console}`"

    def _command(self, words: str, option: str) -> str:
        profile = f" --profile {self._access.profile}" if self._access.profile else ""
        return f"aws ec2 {words} {option} {self._cluster.head_id} --region {self._cluster.region}{profile}"


def find_failed_checks(ec2: EC2Client, instance_id: str) -> list[str]:
    """Return the names of the status checks that a running instance fails."""
    statuses = ec2.describe_instance_status(InstanceIds=[instance_id])["InstanceStatuses"]
    return [name for status in statuses for name in _failed(status)]


def _failed(status: InstanceStatusTypeDef) -> list[str]:
    checks = {"instance": status.get("InstanceStatus"), "system": status.get("SystemStatus")}
    return [
        f"{kind} {detail.get('Name', 'status')}"
        for kind, check in checks.items()
        if check and check.get("Status") == "impaired"
        for detail in check.get("Details") or [{}]
        if detail.get("Status", "failed") == "failed"
    ]


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
