"""What of a cluster costs money, as its configuration asks for it and as Terraform finds it, and what that comes to."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from fakes import config

from daft_launcher.config import ClusterConfig
from daft_launcher.models import Offer, Rate
from daft_launcher.prices import PriceReport, planned_fleet, running_fleet

REGION = "us-west-2"
MEDIUM = Offer(kind="on-demand", type="m7g.medium", region=REGION)
SPOT = Offer(kind="spot", type="m7g.medium", region=REGION)
GP3 = Offer(kind="volume", type="gp3", region=REGION)


def plan_with(*resources: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Return Terraform's JSON of a plan before which these resources are there."""
    listed = [{"address": f"module.cluster.{name}", "values": values} for name, values in resources]
    return {"prior_state": {"values": {"root_module": {"child_modules": [{"resources": listed}]}}}}


def head(state: str = "running", **volume: Any) -> tuple[str, dict[str, Any]]:
    disk = {"volume_type": "gp3", "volume_size": 50, "iops": 3000, "throughput": 125, **volume}
    return "aws_instance.head", {
        "instance_state": state,
        "instance_type": "m7g.medium",
        "root_block_device": [disk],
    }


def template(**volume: Any) -> tuple[str, dict[str, Any]]:
    disk = {"volume_type": "gp3", "volume_size": 50, "iops": 0, "throughput": 0, **volume}
    values = {"instance_type": "m7g.medium", "block_device_mappings": [{"ebs": [disk]}]}
    return "aws_launch_template.worker", values


def group(desired: int | None, *, base: int = 0, percentage: int = 100) -> tuple[str, dict[str, Any]]:
    distribution = {
        "on_demand_base_capacity": base,
        "on_demand_percentage_above_base_capacity": percentage,
    }
    policy = [{"instances_distribution": [distribution], "launch_template": []}]
    return "aws_autoscaling_group.workers", {"desired_capacity": desired, "mixed_instances_policy": policy}


@pytest.mark.parametrize(
    ("setup", "spot", "fleet"),
    [
        ({}, False, {MEDIUM: 3, GP3: 150}),
        ({"number_of_workers": 0, "disk_size_gb": 8}, True, {MEDIUM: 1, GP3: 8}),
        ({"number_of_workers": 200}, True, {MEDIUM: 1, SPOT: 200, GP3: 10050}),
        (
            {"instance_type": "c7i.large", "region": "eu-west-1", "number_of_workers": 1},
            False,
            {
                Offer(kind="on-demand", type="c7i.large", region="eu-west-1"): 2,
                Offer(kind="volume", type="gp3", region="eu-west-1"): 100,
            },
        ),
        ({"provider": "local"}, False, {}),
    ],
)
def test_what_a_configuration_asks_for(setup: dict[str, Any], spot: bool, fleet: dict[Offer, int]) -> None:
    provider = setup.pop("provider", "aws")
    document = {"setup": config(provider, **setup).setup.model_dump(), "aws": {"spot": spot}}
    assert planned_fleet(ClusterConfig.model_validate(document)) == fleet


@pytest.mark.parametrize(
    ("resources", "fleet"),
    [
        ([], {}),
        ([head(), template(), group(2)], {MEDIUM: 3, GP3: 150}),
        ([head("pending")], {MEDIUM: 1, GP3: 50}),
        ([head("stopped")], {GP3: 50}),
        ([template(), group(0)], {}),
        ([template(), group(None)], {}),
        ([template()], {}),
        ([group(2)], {}),
        ([template(volume_size=100), group(10, percentage=0)], {SPOT: 10, GP3: 1000}),
        ([template(), group(10, base=3, percentage=50)], {MEDIUM: 7, SPOT: 3, GP3: 500}),
        ([template(), group(2, base=3, percentage=0)], {MEDIUM: 2, GP3: 100}),
        ([template(), group(4, percentage=1)], {MEDIUM: 1, SPOT: 3, GP3: 200}),
        ([head(volume_type="io2")], {MEDIUM: 1, Offer(kind="volume", type="io2", region=REGION): 50}),
        # What is not known must not be taken for nothing.
        (
            [("aws_instance.head", {"instance_state": "running", "root_block_device": [{}]})],
            {
                Offer(kind="on-demand", type="an unknown type", region=REGION): 1,
                Offer(kind="volume", type="an unknown type", region=REGION): 1,
            },
        ),
        *(
            (
                [head(**more)],
                {MEDIUM: 1, Offer(kind="volume", type="gp3 with more than it includes", region=REGION): 50},
            )
            for more in ({"iops": 3001}, {"throughput": 126})
        ),
    ],
)
def test_what_runs(resources: list[tuple[str, dict[str, Any]]], fleet: dict[Offer, int]) -> None:
    assert running_fleet(plan_with(*resources), REGION) == fleet


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"prior_state": None},
        {"prior_state": {"values": {}}},
        {"prior_state": {"values": {"root_module": {}}}},
    ],
)
def test_nothing_runs_before_the_first_plan(plan: dict[str, Any]) -> None:
    assert running_fleet(plan, REGION) == {}


def test_an_hour_is_instances_and_a_part_of_the_month_of_volumes() -> None:
    rates = {
        MEDIUM: Rate(usd=Decimal("0.0408")),
        GP3: Rate(usd=Decimal("0.073")),
        SPOT: Rate(reason="denied"),
    }
    report = PriceReport(before={}, after={}, rates=rates)
    assert report.hourly({}) == 0
    assert report.hourly({MEDIUM: 3}) == Decimal("0.1224")
    assert report.hourly({MEDIUM: 3, GP3: 1000}) == Decimal("0.2224")
    assert report.hourly({MEDIUM: 1, SPOT: 1}) is None
    never = Offer(kind="on-demand", type="x.large", region=REGION)
    assert (report.hourly({never: 1}), report.rate(never)) == (None, Rate(reason="it was not looked up"))
