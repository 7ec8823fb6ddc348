"""The nodes of clusters, as every provider tells of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Literal

ProviderName = Literal["aws", "local"]
Role = Literal["head", "worker"]


class InstanceState(Enum):
    """EC2's instance states, in the order in which `daft list` shows them."""

    RUNNING = "Running"
    PENDING = "Pending"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    SHUTTING_DOWN = "Shutting-down"
    TERMINATED = "Terminated"


@dataclass(frozen=True, kw_only=True)
class End:
    """When a cluster ends by itself, as things stand, and which key of [setup] says so."""

    at: datetime
    limit: str


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One node of a cluster: an EC2 instance, or a Ray node that runs as processes of this machine.

    `ends` is what a head has said of its cluster's end, the soonest first; None where it does not watch for it.
    """

    cluster: str
    role: Role
    instance_id: str
    state: InstanceState
    provider: ProviderName
    region: str
    address: str | None = None
    private_address: str | None = None
    instance_type: str | None = None
    zone: str | None = None
    launched_at: datetime | None = None
    status: str | None = None
    detail: str | None = None
    ends: tuple[End, ...] | None = None

    @property
    def ends_at(self) -> datetime | None:
        """When the cluster ends, as things stand; None when nothing ends it, or it has ended."""
        alive = self.state in (InstanceState.RUNNING, InstanceState.PENDING)
        return self.ends[0].at if self.ends and alive else None


_ORDER = {state: position for position, state in enumerate(InstanceState)}


def sort_instances(instances: Iterable[Instance]) -> list[Instance]:
    """Return instances in the order of `daft list`: by state, and within a state by cluster with the head first."""
    return sorted(
        instances,
        key=lambda node: (
            _ORDER[node.state],
            node.cluster,
            node.provider,
            node.region,
            node.role != "head",
            node.launched_at.timestamp() if node.launched_at else 0.0,
            node.instance_id,
        ),
    )
