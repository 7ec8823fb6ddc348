"""What a cluster costs: what of it has a price, and what that comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from daft_launcher.models import Offer, OfferKind, Rate

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig

# How AWS's own calculator counts a month.
HOURS_PER_MONTH = 730
# What a GB of gp3 includes; more is charged apart (aws.amazon.com/ebs/pricing).
_INCLUDED_IOPS = 3000
_INCLUDED_THROUGHPUT = 125
_RUNNING = ("pending", "running")
_UNKNOWN = "an unknown type"


Fleet = Mapping[Offer, int]
"""How much of each offer is in use: instances, or GB."""


@dataclass(frozen=True, kw_only=True)
class PriceReport:
    """What a cluster costs before a change and after it, and the rates that this was reckoned with."""

    before: Fleet
    after: Fleet
    rates: Mapping[Offer, Rate] = field(default_factory=dict)

    def rate(self, offer: Offer) -> Rate:
        """Return the rate of an offer, one without a price when it was never found."""
        return self.rates.get(offer, Rate(reason="it was not looked up"))

    def hourly(self, fleet: Fleet) -> Decimal | None:
        """Return what a fleet costs an hour, None when any rate of it is unknown."""
        total = Decimal(0)
        for offer, quantity in fleet.items():
            usd = self.rate(offer).usd
            if usd is None:
                return None
            total += quantity * usd / (HOURS_PER_MONTH if offer.unit == "GB-month" else 1)
        return total


def planned_fleet(config: ClusterConfig) -> Fleet:
    """Return what a configuration asks for; nothing on a provider that costs nothing."""
    setup = config.setup
    if setup.provider != "aws":
        return {}
    fleet: Counter[Offer] = Counter()
    fleet[Offer(kind="on-demand", type=setup.instance_type, region=setup.region)] += 1
    workers: OfferKind = "spot" if config.aws.spot else "on-demand"
    fleet[Offer(kind=workers, type=setup.instance_type, region=setup.region)] += setup.number_of_workers
    nodes = 1 + setup.number_of_workers
    fleet[Offer(kind="volume", type="gp3", region=setup.region)] += nodes * setup.disk_size_gb
    return +fleet


def running_fleet(plan: Mapping[str, Any], region: str) -> Fleet:
    """Return what runs before a plan, from `prior_state` of Terraform's JSON form of it.

    That is the state as the refresh found it, changes made by hand included. The format:
    https://developer.hashicorp.com/terraform/internals/json-format
    """
    values = (plan.get("prior_state") or {}).get("values") or {}
    modules = (values.get("root_module") or {}).get("child_modules") or []
    resources = {
        resource["address"].removeprefix("module.cluster."): resource.get("values") or {}
        for module in modules
        for resource in module.get("resources") or []
    }
    fleet: Counter[Offer] = Counter()
    if head := resources.get("aws_instance.head"):
        _add_head(fleet, head, region)
    template, group = (
        resources.get("aws_launch_template.worker"),
        resources.get("aws_autoscaling_group.workers"),
    )
    if template and group:
        _add_workers(fleet, template, group, region)
    return +fleet


def _add_head(fleet: Counter[Offer], head: Mapping[str, Any], region: str) -> None:
    if head.get("instance_state") in _RUNNING:
        fleet[Offer(kind="on-demand", type=_type(head), region=region)] += 1
    for volume in head.get("root_block_device") or []:
        _add_volumes(fleet, volume, region, count=1)


def _add_workers(
    fleet: Counter[Offer], template: Mapping[str, Any], group: Mapping[str, Any], region: str
) -> None:
    workers = int(group.get("desired_capacity") or 0)
    on_demand = min(workers, _on_demand_share(group, workers))
    fleet[Offer(kind="on-demand", type=_type(template), region=region)] += on_demand
    fleet[Offer(kind="spot", type=_type(template), region=region)] += workers - on_demand
    for mapping in template.get("block_device_mappings") or []:
        for volume in mapping.get("ebs") or []:
            _add_volumes(fleet, volume, region, count=workers)


def _on_demand_share(group: Mapping[str, Any], workers: int) -> int:
    """Return how many workers run on demand: a base, and a percentage of the rest, rounded up."""
    distribution = _first(_first(group.get("mixed_instances_policy")).get("instances_distribution"))
    base = int(distribution.get("on_demand_base_capacity") or 0)
    percentage = int(distribution.get("on_demand_percentage_above_base_capacity", 100))
    return base - (-max(0, workers - base) * percentage // 100)


def _add_volumes(fleet: Counter[Offer], volume: Mapping[str, Any], region: str, *, count: int) -> None:
    kind = str(volume.get("volume_type") or _UNKNOWN)
    size = int(volume.get("volume_size") or 0)
    if kind == "gp3" and (
        int(volume.get("iops") or 0) > _INCLUDED_IOPS
        or int(volume.get("throughput") or 0) > _INCLUDED_THROUGHPUT
    ):
        kind = "gp3 with more than it includes"
    # A volume whose size is not known must not be taken for one that costs nothing.
    fleet[Offer(kind="volume", type=kind if size else _UNKNOWN, region=region)] += count * max(1, size)


def _type(values: Mapping[str, Any]) -> str:
    return str(values.get("instance_type") or _UNKNOWN)


def _first(blocks: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a block of Terraform's JSON, which is a list
    return blocks[0] if blocks else {}
