"""`daft up --plan --json`: every field, and the schema by which a program may rely on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from fakes import HEAD_REPLACED, WORKERS_UPDATED

from daft_launcher.assets import plan_schema_text
from daft_launcher.drift import Drift, DriftedAttribute
from daft_launcher.models import Offer, Plan, Rate
from daft_launcher.plan_document import plan_schema, to_document
from daft_launcher.prices import PriceReport
from daft_launcher.review import PlanReport

MEDIUM = Offer(kind="on-demand", type="m7g.medium", region="us-west-2")
GP3 = Offer(kind="volume", type="gp3", region="us-west-2")
EMPTY: dict[str, Any] = {
    "cluster": "demo",
    "provider": "local",
    "plan": Plan(),
    "text": "No changes.\n",
    "files": (),
    "head": "kept",
}
FULL: dict[str, Any] = {
    "cluster": "demo",
    "provider": "aws",
    "plan": Plan(changes=(HEAD_REPLACED, WORKERS_UPDATED)),
    "text": "Terraform's\n",
    "files": ("main.tf",),
    "head": "replaced",
    "drift": (
        Drift(
            address="a.b",
            resource_type="a",
            action="update",
            attributes=(
                DriftedAttribute(path="x", before=2, after=[{"y": None}]),
                DriftedAttribute(path="z", sensitive=True),
            ),
        ),
        Drift(address="c.d", resource_type="c", action="delete"),
    ),
    "price": PriceReport(
        before={},
        after={MEDIUM: 3, GP3: 150},
        rates={
            MEDIUM: Rate(usd=Decimal("0.0408"), source="AWS Price List", day=date(2026, 1, 2)),
            GP3: Rate(usd=Decimal("0.073"), source="[prices] in the configuration"),
        },
    ),
}


def document(values: dict[str, Any]) -> dict[str, Any]:
    return to_document(PlanReport(**values))


def is_valid(value: object) -> bool:
    return bool(jsonschema.Draft202012Validator(json.loads(plan_schema_text())).is_valid(value))


def test_a_plan_of_nothing() -> None:
    assert document(EMPTY) == {
        "format_version": "1.0",
        "cluster": "demo",
        "provider": "local",
        "has_changes": False,
        "summary": {"add": 0, "change": 0, "replace": 0, "destroy": 0},
        "head": "kept",
        "files": [],
        "changes": [],
        "drift": [],
        "price": None,
    }


def test_a_plan_of_everything() -> None:
    assert document(FULL) == {
        "format_version": "1.0",
        "cluster": "demo",
        "provider": "aws",
        "has_changes": True,
        "summary": {"add": 0, "change": 1, "replace": 1, "destroy": 0},
        "head": "replaced",
        "files": ["main.tf"],
        "changes": [
            {
                "address": "module.cluster.aws_autoscaling_group.workers",
                "resource_type": "aws_autoscaling_group",
                "action": "update",
            },
            {
                "address": "module.cluster.aws_instance.head",
                "resource_type": "aws_instance",
                "action": "replace",
            },
        ],
        "drift": [
            {
                "address": "a.b",
                "resource_type": "a",
                "action": "update",
                "attributes": [
                    {"path": "x", "before": 2, "after": [{"y": None}], "sensitive": False},
                    {"path": "z", "before": None, "after": None, "sensitive": True},
                ],
            },
            {"address": "c.d", "resource_type": "c", "action": "delete", "attributes": []},
        ],
        "price": {
            "currency": "USD",
            "hours_per_month": 730,
            "before": {"hourly": 0, "monthly": 0, "items": []},
            "after": {
                "hourly": 0.1374,
                "monthly": 100.3,
                "items": [
                    {"kind": "on-demand", "type": "m7g.medium", "quantity": 3},
                    {"kind": "volume", "type": "gp3", "quantity": 150},
                ],
            },
            "rates": [
                {
                    "kind": "on-demand",
                    "type": "m7g.medium",
                    "region": "us-west-2",
                    "usd": 0.0408,
                    "unit": "hour",
                    "source": "AWS Price List",
                    "date": "2026-01-02",
                    "reason": None,
                },
                {
                    "kind": "volume",
                    "type": "gp3",
                    "region": "us-west-2",
                    "usd": 0.073,
                    "unit": "GB-month",
                    "source": "[prices] in the configuration",
                    "date": None,
                    "reason": None,
                },
            ],
        },
    }


def test_an_output_alone_is_a_change() -> None:
    changed = document({**EMPTY, "plan": Plan(outputs_change=True)})
    assert (changed["has_changes"], changed["changes"]) == (True, [])


def test_what_is_unknown_is_null_and_has_a_reason() -> None:
    price = PriceReport(before={}, after={MEDIUM: 1}, rates={MEDIUM: Rate(reason="denied")})
    shown = document({**FULL, "price": price})
    assert is_valid(shown)
    assert shown["price"]["after"] == {
        "hourly": None,
        "monthly": None,
        "items": [{"kind": "on-demand", "type": "m7g.medium", "quantity": 1}],
    }
    assert shown["price"]["rates"] == [
        {
            "kind": "on-demand",
            "type": "m7g.medium",
            "region": "us-west-2",
            "usd": None,
            "unit": "hour",
            "source": None,
            "date": None,
            "reason": "denied",
        }
    ]


@pytest.mark.parametrize("values", [EMPTY, FULL], ids=["nothing", "everything"])
def test_the_schema_takes_it_and_nothing_less_or_more(values: dict[str, Any]) -> None:
    good = document(values)
    assert is_valid(good)
    assert not is_valid({**good, "more": 1})
    for key in good:
        assert not is_valid({name: value for name, value in good.items() if name != key}), key


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("format_version", "2.0"),
        ("provider", "gcp"),
        ("has_changes", None),
        ("summary", {"add": 0, "change": 0, "replace": 0}),
        ("summary", {"add": -1, "change": 0, "replace": 0, "destroy": 0}),
        ("head", "gone"),
        ("files", [1]),
        ("changes", [{"address": "a", "resource_type": "a", "action": "read"}]),
        ("drift", [{"address": "a", "resource_type": "a", "action": "update"}]),
        ("price", {}),
    ],
)
def test_the_schema_refuses_another_form(key: str, wrong: object) -> None:
    assert not is_valid({**document(FULL), key: wrong})


def test_every_object_is_closed_and_every_field_is_explained_and_there() -> None:
    jsonschema.Draft202012Validator.check_schema(plan_schema())
    for name, part in parts():
        assert part["additionalProperties"] is False, name
        assert part["description"], name
        assert sorted(part["required"]) == sorted(part["properties"]), name
        silent = [key for key, about in part["properties"].items() if not about.get("description")]
        assert silent == [], name


def parts() -> Iterator[tuple[str, dict[str, Any]]]:
    schema = plan_schema()
    yield "the document", schema
    yield from schema["$defs"].items()
