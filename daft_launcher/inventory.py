"""The use case behind `list`: every cluster there is, in the order in which it is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from daft_launcher.console_words import describe_ends, one_line
from daft_launcher.errors import MissingCredentialsError, ProviderError, UsageError
from daft_launcher.instances import Instance, InstanceState, ProviderName, sort_instances
from daft_launcher.state_dir import StateDir


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The nodes that were found of `cluster`, or of all, sorted, and the regions that did not answer.

    `unasked` says why AWS was left out, where that is no failure.
    """

    instances: tuple[Instance, ...]
    cluster: str | None = None
    failures: Mapping[str, ProviderError] = field(default_factory=dict)
    unasked: str | None = None


def list_clusters(
    state_dir: StateDir,
    *,
    cluster: str | None,
    regions: Sequence[str],
    all_regions: bool,
    profile: str | None,
    provider: ProviderName | None,
) -> Listing:
    """Return the nodes on AWS and, beside them, those of the local clusters that the state directory knows.

    Raises AWSError when AWS cannot be asked at all, unless there are no credentials and a local cluster is known,
    and UsageError for what cannot be a region.
    """
    _check_regions(regions)
    local = Listing(instances=()) if provider == "aws" else _list_local(state_dir, cluster)
    if provider == "local":
        return replace(local, cluster=cluster)
    from daft_launcher.providers.aws import list_instances_in

    try:
        found = list_instances_in(regions, profile=profile, cluster=cluster, all_regions=all_regions)
    except MissingCredentialsError:
        if not local.instances and not local.failures:
            raise
        return replace(local, cluster=cluster, unasked="this machine has no AWS credentials")
    return Listing(
        instances=tuple(sort_instances([*found.instances, *local.instances])),
        cluster=cluster,
        failures={**found.failures, **local.failures},
    )


def _check_regions(regions: Sequence[str]) -> None:
    for region in regions:
        # The name becomes a part of a host name.
        if not re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}", region):
            raise UsageError(f"`--region {region}` is not the name of a region, like us-west-2")


def _list_local(state_dir: StateDir, cluster: str | None) -> Listing:
    # Most folders know no local cluster, and the provider takes a while to import.
    if not any(state_dir.path.glob("*.local")):
        return Listing(instances=())
    from daft_launcher.providers.local import LocalProvider

    try:
        return Listing(instances=tuple(sort_instances(LocalProvider(state_dir.path).list_instances(cluster))))
    except ProviderError as error:
        return Listing(instances=(), failures={"local": error})


def describe_instances(instances: Sequence[Instance], now: datetime) -> str:
    """Return sorted instances as the text form of `daft list`, empty when there are none."""
    lines = []
    state: InstanceState | None = None
    for node in instances:
        if node.state is not state:
            state = node.state
            lines.append(f"{state.value}:\n")
        ends = describe_ends(node, now)
        words = [
            node.cluster,
            node.role,
            node.instance_id,
            node.address or "-",
            *([f"ends {ends}"] if ends else []),
        ]
        lines.append(f"  - {one_line(', '.join(words))}\n")
    return "".join(lines)
