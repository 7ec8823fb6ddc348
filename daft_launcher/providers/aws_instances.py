"""EC2's instances as ours: what marks them, how they are asked for, and how they read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from daft_launcher.instances import End, Instance, InstanceState, Role, sort_instances

if TYPE_CHECKING:
    from mypy_boto3_ec2.client import EC2Client
    from mypy_boto3_ec2.type_defs import FilterTypeDef, InstanceTypeDef, TagTypeDef
    from mypy_boto3_iam.type_defs import TagTypeDef as IAMTagTypeDef

CLUSTER_TAG = "daft:cluster"
ROLE_TAG = "daft:role"
MANAGED_BY_TAG = "daft:managed-by"
MANAGED_BY = "daft-launcher"
STATUS_TAG = "daft:status"
DETAIL_TAG = "daft:detail"
HOST_KEY_TAG = "daft:ssh-host-key"
# Set by terraform/aws/head.tf: by it, a head whose state is lost shows whether it was set up as is wanted now.
GENERATION_TAG = "daft:generation"
ENDS_TAG = "daft:ends"

PAGE_SIZE = 1000
STATES = {state.value.lower(): state for state in InstanceState}


def cluster_tags(cluster: str | None) -> dict[str, str]:
    """Return the tags by which everything that we made for one cluster, or for all, is known."""
    return {MANAGED_BY_TAG: MANAGED_BY} | ({} if cluster is None else {CLUSTER_TAG: cluster})


def cluster_filters(cluster: str | None) -> list[FilterTypeDef]:
    """Return these tags as EC2's filters."""
    return [{"Name": f"tag:{key}", "Values": [value]} for key, value in cluster_tags(cluster).items()]


def describe_instances(
    ec2: EC2Client, filters: Sequence[FilterTypeDef], *, page_size: int = PAGE_SIZE
) -> list[InstanceTypeDef]:
    """Return EC2's own words for each instance that the filters leave."""
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=filters, PaginationConfig={"PageSize": page_size}
    )
    return [
        instance
        for page in pages
        for reservation in page.get("Reservations", [])
        for instance in reservation.get("Instances", [])
    ]


def find_instance(ec2: EC2Client, instance_id: str) -> InstanceTypeDef | None:
    """Return one instance; None while EC2 does not know it, which for a new one may take seconds."""
    found = describe_instances(ec2, [{"Name": "instance-id", "Values": [instance_id]}])
    return found[0] if found else None


def read_instances(described: Iterable[InstanceTypeDef], region: str) -> list[Instance]:
    """Return instances in our words, in the order of `daft list`."""
    return sort_instances(_read_instance(instance, region) for instance in described)


def read_tags(tags: Iterable[TagTypeDef | IAMTagTypeDef] | None) -> dict[str, str]:
    """Return tags as a mapping."""
    return {tag.get("Key", ""): tag.get("Value", "") for tag in tags or ()}


def _read_instance(described: InstanceTypeDef, region: str) -> Instance:
    tags = read_tags(described.get("Tags"))
    role: Role = "head" if tags.get(ROLE_TAG) == "head" else "worker"
    return Instance(
        cluster=tags.get(CLUSTER_TAG, "?"),
        role=role,
        instance_id=described["InstanceId"],
        state=STATES[described["State"]["Name"]],
        provider="aws",
        region=region,
        address=described.get("PublicIpAddress") or None,
        private_address=described.get("PrivateIpAddress") or None,
        instance_type=described.get("InstanceType"),
        zone=described.get("Placement", {}).get("AvailabilityZone"),
        launched_at=described.get("LaunchTime"),
        status=tags.get(STATUS_TAG),
        detail=tags.get(DETAIL_TAG),
        ends=None if ENDS_TAG not in tags else _read_ends(tags[ENDS_TAG]),
    )


def _read_ends(text: str) -> tuple[End, ...]:
    """Return what terraform/aws/bootstrap.sh writes: `LIMIT TIME` for each, the soonest first."""
    words = text.split()
    ends = []
    for limit, time in zip(words[::2], words[1::2], strict=False):
        with contextlib.suppress(ValueError):
            at = datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
            ends.append(End(at=at, limit=limit))
    return tuple(ends)
