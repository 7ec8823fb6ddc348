"""EC2's instances as ours: what marks them, how they are asked for, and how they read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from daft_launcher.models import Instance, InstanceState, Role

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

PAGE_SIZE = 1000
STATES = {state.value.lower(): state for state in InstanceState}
ORDER_OF_STATES = {state: position for position, state in enumerate(InstanceState)}


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


def sort_instances(instances: Iterable[Instance]) -> list[Instance]:
    """Return instances in the order of `daft list`: by state, then by cluster, head first."""
    return sorted(instances, key=_place)


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
    )


def _place(instance: Instance) -> tuple[int, str, str, bool, str]:
    state = ORDER_OF_STATES[instance.state]
    return state, instance.cluster, instance.region, instance.role != "head", instance.instance_id
