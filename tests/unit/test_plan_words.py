"""A plan as people read it, whole and in its order."""

from __future__ import annotations

import hashlib
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from fakes import HEAD_REPLACED, WORKERS_UPDATED

from daft_launcher.drift import Drift, DriftedAttribute
from daft_launcher.models import Offer, Plan, Rate
from daft_launcher.plan_words import plan_text
from daft_launcher.prices import PriceReport
from daft_launcher.review import PlanReport

MEDIUM = Offer(kind="on-demand", type="m7g.medium", region="us-west-2")
LARGE = Offer(kind="on-demand", type="m7g.large", region="us-west-2")
SPOT = Offer(kind="spot", type="m7g.medium", region="us-west-2")
GP3 = Offer(kind="volume", type="gp3", region="us-west-2")
RATES = {
    MEDIUM: Rate(usd=Decimal("0.0408"), source="AWS Price List", day=date(2026, 1, 2)),
    SPOT: Rate(usd=Decimal("0.01"), source="spot price in us-west-2c", day=date(2026, 1, 3)),
    GP3: Rate(usd=Decimal("0.073"), source="[prices] in the configuration"),
}
SUMMARY = "Summary: 0 to add, 1 to change, 1 to replace, 0 to destroy; the head is replaced.\n"


def report(**more: Any) -> PlanReport:
    values = {
        "cluster": "demo",
        "provider": "aws",
        "plan": Plan(changes=(HEAD_REPLACED, WORKERS_UPDATED)),
        "text": "\nTerraform's\n",
        "files": ("a", "main.tf"),
        "head": "replaced",
    }
    return PlanReport(**{**values, **more})


def price_of(**more: Any) -> str:
    """Return what is said of a price, without what stands before it."""
    text = plan_text(report(price=PriceReport(**{"before": {}, "after": {}, "rates": {}, **more})))
    return text.partition(f"{SUMMARY}\n")[2]


@pytest.mark.parametrize("text", ["\nTerraform's", "\nTerraform's\n"])
def test_files_terraforms_text_and_summary(text: str) -> None:
    assert plan_text(report(text=text)) == (f"would write a\nwould write main.tf\n\nTerraform's\n\n{SUMMARY}")


def test_what_is_taken_in_is_counted() -> None:
    adopting = report(plan=Plan(changes=(WORKERS_UPDATED,), imports=("i-1", "sg-1")), head="kept")
    counted = "Summary: 0 to add, 1 to change, 0 to replace, 0 to destroy, 2 to import; the head is kept.\n"
    assert plan_text(adopting).endswith(f"\n{counted}")


def test_drift_stands_apart_before_the_summary_and_the_price_is_last() -> None:
    attributes = [
        DriftedAttribute(path="desired_capacity", before=2, after=10),
        DriftedAttribute(path="tags.team", before=None, after="a\x1b[31m"),
        DriftedAttribute(path="password", sensitive=True),
        DriftedAttribute(path="tag", before=[{"key": "a"}, {"key": "b"}], after=[{"key": "b"}, {"key": "c"}]),
        DriftedAttribute(path="zones", before=["a", "b"], after=["b", "a"]),
        DriftedAttribute(path="user_data", before="x" * 300, after=""),
    ]
    drift = (
        Drift(address="module.cluster.a.b", resource_type="a", action="update", attributes=tuple(attributes)),
        Drift(address='module.cluster.c.d["e"]', resource_type="c", action="delete"),
    )
    fleet = {MEDIUM: 3, GP3: 150}
    assert plan_text(report(drift=drift, price=PriceReport(before=fleet, after=fleet, rates=RATES))) == (
        "would write a\nwould write main.tf\n\nTerraform's\n\n"
        "Changed outside of this configuration since the last apply:\n"
        "  module.cluster.a.b\n"
        "    desired_capacity: 2 -> 10\n"
        '    tags.team: null -> "a\\u001b[31m"\n'
        "    password: changed, and sensitive\n"
        '    tag: without {"key": "a"}, with {"key": "c"}\n'
        "    zones: in another order\n"
        f'    user_data: "{"x" * 199}… -> ""\n'
        '  module.cluster.c.d["e"]: removed\n'
        f"\n{SUMMARY}\n"
        "Price, estimated in USD:\n"
        "  now and after: 0.1374 an hour, 100.30 a month, for 3 m7g.medium on demand, 150 GB of gp3\n"
        "  m7g.medium on demand in us-west-2: 0.0408 an hour; AWS Price List, 2026-01-02\n"
        "  m7g.medium as spot in us-west-2: 0.01 an hour; spot price in us-west-2c, 2026-01-03\n"
        "  gp3 in us-west-2: 0.073 a GB and month; [prices] in the configuration\n"
        "  A month has 730 hours; data transfer and public addresses are not counted.\n"
    )


def test_a_first_cluster_costs_nothing_now() -> None:
    assert price_of(after={MEDIUM: 1, SPOT: 5000}, rates={key: RATES[key] for key in (MEDIUM, SPOT)}) == (
        "Price, estimated in USD:\n"
        "  now:   nothing runs\n"
        "  after: 50.0408 an hour, 36,529.78 a month, for 1 m7g.medium on demand, 5000 m7g.medium as spot\n"
        "  m7g.medium on demand in us-west-2: 0.0408 an hour; AWS Price List, 2026-01-02\n"
        "  m7g.medium as spot in us-west-2: 0.01 an hour; spot price in us-west-2c, 2026-01-03\n"
        "  A month has 730 hours; data transfer and public addresses are not counted.\n"
    )


def test_what_is_unknown_is_said_with_its_reason() -> None:
    rates = {LARGE: Rate(reason="no answer within 5 seconds"), MEDIUM: RATES[MEDIUM]}
    assert price_of(before={MEDIUM: 1}, after={LARGE: 1}, rates=rates) == (
        "Price, estimated in USD:\n"
        "  now:   0.0408 an hour, 29.78 a month, for 1 m7g.medium on demand\n"
        "  after: unknown, for 1 m7g.large on demand\n"
        "  m7g.large on demand in us-west-2: unknown, no answer within 5 seconds\n"
        "  m7g.medium on demand in us-west-2: 0.0408 an hour; AWS Price List, 2026-01-02\n"
        "  A month has 730 hours; data transfer and public addresses are not counted.\n"
    )


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        ("0.0408000000", "0.0408"),
        ("46.0", "46.00"),
        ("0", "0.00"),
        ("1234.5", "1,234.50"),
        ("1E+3", "1,000.00"),
    ],
)
def test_a_rate_keeps_its_digits(usd: str, shown: str) -> None:
    rates = {MEDIUM: Rate(usd=Decimal(usd), source="x")}
    assert f"  m7g.medium on demand in us-west-2: {shown} an hour; x\n" in price_of(
        after={MEDIUM: 1}, rates=rates
    )


def test_user_data_is_shown_by_its_beginning_and_its_hash() -> None:
    old, new, short = "H4sIAAAA/+" + "a" * 1990, "H4sIAAAA/+" + "b" * 996 + "==", "c" * 999
    shown = plan_text(report(text=f'~ user_data = "{old}" -> "{new}"\n  key = "{short}"\n')).splitlines()
    assert shown[2:4] == [
        (
            f'~ user_data = "H4sIAAAA/+aaaaaaaaaa…" (2000 characters, SHA-256 {digest(old)}…) -> '
            f'"H4sIAAAA/+bbbbbbbbbb…" (1008 characters, SHA-256 {digest(new)}…)'
        ),
        f'  key = "{short}"',
    ]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
