"""Who is asked for a price, in which order, and what is said when nobody knows it."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fakes import World, config

from daft_launcher.config import ClusterConfig
from daft_launcher.models import Offer, Rate
from daft_launcher.price_inquiry import PriceInquiry
from daft_launcher.prices import PriceReport

TODAY = datetime.now(timezone.utc).date()
MEDIUM = Offer(kind="on-demand", type="m7g.medium", region="us-west-2")
LARGE = Offer(kind="on-demand", type="m7g.large", region="us-west-2")
SPOT = Offer(kind="spot", type="m7g.medium", region="us-west-2")
GP3 = Offer(kind="volume", type="gp3", region="us-west-2")
LISTED = Rate(usd=Decimal("0.0408"), source="a list", day=TODAY)
LISTED_GP3 = Rate(usd=Decimal("0.08"), source="a list", day=TODAY)
OWN = "[prices] in the configuration"
HEAD_ALONE = {
    "prior_state": {
        "values": {
            "root_module": {
                "child_modules": [
                    {
                        "resources": [
                            {
                                "address": "module.cluster.aws_instance.head",
                                "values": {"instance_state": "running", "instance_type": "m7g.large"},
                            }
                        ]
                    }
                ]
            }
        }
    }
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, rates={"m7g.medium": LISTED, "gp3": LISTED_GP3})


def with_tables(**tables: Any) -> ClusterConfig:
    return ClusterConfig.model_validate({"setup": {"name": "demo", "provider": "aws"}, **tables})


def prices(
    world: World, wanted: ClusterConfig, plan: dict[str, Any] | None = None, **options: Any
) -> PriceReport | None:
    inquiry = PriceInquiry(wanted, world.tools(), **options)
    inquiry.start()
    return inquiry.report(plan)


def test_aws_is_asked_once_a_month(world: World) -> None:
    fleet = {MEDIUM: 3, GP3: 150}
    report = PriceReport(before=fleet, after=fleet, rates={MEDIUM: LISTED, GP3: LISTED_GP3})
    assert prices(world, config()) == report
    assert sorted(world.asked_for) == [
        ("on-demand", "m7g.medium", "us-west-2", "demo"),
        ("volume", "gp3", "us-west-2", "demo"),
    ]
    world.asked_for.clear()
    assert (prices(world, config()), world.asked_for) == (report, [])


def test_own_numbers_go_before_the_cache_and_aws(world: World) -> None:
    prices(world, config())
    world.asked_for.clear()
    wanted = with_tables(
        prices={"instance_hour": {"m7g.medium": 0.03}, "spot_hour": {"m7g.medium": 0}, "gp3_gb_month": 0.07},
        aws={"spot": True},
    )
    assert prices(world, wanted, {}) == PriceReport(
        before={},
        after={MEDIUM: 1, SPOT: 2, GP3: 150},
        rates={
            MEDIUM: Rate(usd=Decimal("0.03"), source=OWN),
            SPOT: Rate(usd=Decimal("0.0"), source=OWN),
            GP3: Rate(usd=Decimal("0.07"), source=OWN),
        },
    )
    assert (world.asked_for, len(list((world.root / "cache/prices").iterdir()))) == ([], 2)


def test_only_what_has_no_own_number_is_asked_for(world: World) -> None:
    prices(world, with_tables(prices={"instance_hour": {"m7g.large": 1}, "gp3_gb_month": 0.07}))
    assert world.asked_for == [("on-demand", "m7g.medium", "us-west-2", "demo")]


def test_a_spot_price_is_asked_for_each_time(world: World) -> None:
    wanted = with_tables(
        prices={"instance_hour": {"m7g.medium": 0.03}, "gp3_gb_month": 0.07}, aws={"spot": True}
    )
    for _ in range(2):
        report = prices(world, wanted)
        assert report is not None
        assert report.rate(SPOT) == LISTED
    assert world.asked_for == [("spot", "m7g.medium", "us-west-2", "demo")] * 2


def test_what_runs_and_is_no_longer_asked_for_has_a_price_too(world: World) -> None:
    world.rates["m7g.large"] = Rate(usd=Decimal("0.0816"), source="a list", day=TODAY)
    assert prices(world, config(), HEAD_ALONE) == PriceReport(
        before={LARGE: 1},
        after={MEDIUM: 3, GP3: 150},
        rates={MEDIUM: LISTED, LARGE: world.rates["m7g.large"], GP3: LISTED_GP3},
    )


@pytest.mark.parametrize(
    ("rate", "reason"),
    [(Rate(reason="denied"), "denied"), (RuntimeError("a fault"), "RuntimeError: a fault")],
)
def test_a_price_that_cannot_be_had_is_unknown_and_asked_for_again(
    world: World, rate: Rate | Exception, reason: str
) -> None:
    world.rates["m7g.medium"] = rate
    for _ in range(2):
        report = prices(world, config())
        assert report is not None
        assert report.rates == {MEDIUM: Rate(reason=reason), GP3: LISTED_GP3}
    assert [asked[1] for asked in world.asked_for] == ["m7g.medium", "gp3", "m7g.medium"]


def test_nobody_waits_for_an_answer_that_does_not_come(world: World) -> None:
    world.rates_are_late = True
    try:
        report = prices(world, config(), HEAD_ALONE, patience=0.2)
        late = Rate(reason="no answer within 0 seconds")
        assert report is not None
        assert report.rates == {MEDIUM: late, LARGE: late, GP3: late}
    finally:
        world.stopped.set()


def test_who_is_late_is_not_asked_again(world: World) -> None:
    world.rates_are_late = True
    try:
        prices(world, config(), patience=0.2)
        assert len(world.asked_for) == 1
    finally:
        world.stopped.set()


def test_this_machine_costs_nothing(world: World) -> None:
    assert (prices(world, config("local")), world.asked_for) == (None, [])
