"""`daft up --plan --json`: the document, and the JSON Schema by which it may be relied on."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from daft_launcher.instances import ProviderName
from daft_launcher.models import Offer, OfferKind
from daft_launcher.plan_words import PLAN_WORDS
from daft_launcher.prices import HOURS_PER_MONTH, Fleet, PriceReport

if TYPE_CHECKING:
    from daft_launcher.review import PlanReport

FORMAT_VERSION = "1.0"

Count = Annotated[int, Field(ge=0)]
Money = Annotated[float, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Summary(_Part):
    """How many resources would see each action."""

    add: Count = Field(description="Resources that would be created.")
    change: Count = Field(description="Resources that would be changed in place.")
    replace: Count = Field(description="Resources that would be destroyed and created anew.")
    destroy: Count = Field(description="Resources that would be destroyed.")


class Change(_Part):
    """What would happen to one resource."""

    address: str = Field(description="The resource's address in Terraform.")
    resource_type: str = Field(description="Its type in Terraform, such as aws_instance.")
    action: Literal["create", "update", "replace", "delete"] = Field(description="What would happen to it.")


class DriftedAttribute(_Part):
    """An attribute that was changed outside of this configuration."""

    path: str = Field(
        description="Where it lies in the resource, such as tags.team or root_block_device[0].iops."
    )
    before: Any = Field(description="Its value after the last apply; null where it had none or it is secret.")
    after: Any = Field(description="Its value as it is now; null where it has none or it is secret.")
    sensitive: bool = Field(description="Whether both values are kept back because they are secret.")


class Drift(_Part):
    """A resource that was changed outside of this configuration since the last apply, in a way that matters."""

    address: str = Field(description="The resource's address in Terraform.")
    resource_type: str = Field(description="Its type in Terraform, such as aws_instance.")
    action: Literal["update", "delete"] = Field(description="What was done to it.")
    attributes: list[DriftedAttribute] = Field(description="What of it was changed; empty when it is gone.")


class Item(_Part):
    """How much of one thing is paid for."""

    kind: OfferKind = Field(description="An instance on demand or as spot, or a volume.")
    type: str = Field(description="The instance type, or the volume type.")
    quantity: Count = Field(description="How many instances, or how many GB.")


class Cost(_Part):
    """What a cluster costs."""

    hourly: Money | None = Field(description="US dollars an hour; null when a rate is unknown.")
    monthly: Money | None = Field(description="US dollars a month; null when a rate is unknown.")
    items: list[Item] = Field(description="What that counts; empty when nothing runs.")


class Rate(_Part):
    """The price of one thing."""

    kind: OfferKind = Field(description="An instance on demand or as spot, or a volume.")
    type: str = Field(description="The instance type, or the volume type.")
    region: str = Field(description="The region that it holds for.")
    usd: Money | None = Field(description="US dollars for one unit; null when it is unknown.")
    unit: Literal["hour", "GB-month"] = Field(description="What the price is for.")
    source: str | None = Field(description="Who says so; null when it is unknown.")
    date: str | None = Field(
        description="The day as of which it holds, as YYYY-MM-DD; null for the user's own numbers.",
        json_schema_extra={"format": "date"},
    )
    reason: str | None = Field(description="Why it is unknown; null when it is known.")


class Price(_Part):
    """What the cluster costs before and after, estimated from its instances and volumes."""

    currency: Literal["USD"] = Field(description="The currency of all amounts.")
    hours_per_month: Literal[730] = Field(description="How many hours a month is reckoned with.")
    before: Cost = Field(description="What runs now.")
    after: Cost = Field(description="What would run.")
    rates: list[Rate] = Field(description="The rates that both were reckoned with.")


class PlanDocument(_Part):
    """What `daft up` would do, as `daft up --plan --json` prints it."""

    format_version: Literal["1.0"] = Field(
        description="The version of this format. A field that is added raises the second number; one that is "
        "removed, or that means something else, raises the first."
    )
    cluster: str = Field(description="The name of the cluster.")
    provider: ProviderName = Field(description="Where the cluster runs.")
    has_changes: bool = Field(description="Whether an apply would change anything, be it only an output.")
    summary: Summary = Field(description="The changes, counted by action.")
    head: Literal["created", "kept", "updated", "replaced", "removed"] = Field(
        description="What becomes of the head node, and so of the jobs that run on it."
    )
    files: list[str] = Field(description="The rendered files that would be written or removed, sorted.")
    changes: list[Change] = Field(
        description="What would happen to each resource that is not left alone, sorted by address."
    )
    drift: list[Drift] = Field(
        description="What was changed outside of this configuration and leads to a change now: an attribute that the "
        "plan sets again, or by which Terraform explains another change, and an object that the plan makes again. "
        "Sorted by address."
    )
    price: Price | None = Field(description="What the cluster costs; null where nothing costs anything.")


def to_document(report: PlanReport) -> dict[str, Any]:
    """Return a plan as `daft up --plan --json` shows it."""
    plan = report.plan
    counts = {word: plan.count(action) for action, word in PLAN_WORDS.items()}
    document = PlanDocument.model_validate(
        {
            "format_version": FORMAT_VERSION,
            "cluster": report.cluster,
            "provider": report.provider,
            "has_changes": not plan.empty,
            "summary": counts,
            "head": report.head,
            "files": report.files,
            "changes": [vars(change) for change in sorted(plan.changes, key=attrgetter("address"))],
            "drift": [
                {**vars(drift), "attributes": [vars(part) for part in drift.attributes]}
                for drift in report.drift
            ],
            "price": report.price and _price(report.price),
        }
    )
    return document.model_dump(mode="json")


def plan_schema() -> dict[str, Any]:
    """Return the JSON Schema of the document."""
    schema = PlanDocument.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "daft up --plan --json",
    }


def _price(price: PriceReport) -> dict[str, Any]:
    return {
        "currency": "USD",
        "hours_per_month": HOURS_PER_MONTH,
        "before": _cost(price, price.before),
        "after": _cost(price, price.after),
        "rates": [_rate(price, offer) for offer in sorted(price.rates)],
    }


def _cost(price: PriceReport, fleet: Fleet) -> dict[str, Any]:
    hourly = price.hourly(fleet)
    return {
        "hourly": None if hourly is None else round(float(hourly), 6),
        "monthly": None if hourly is None else round(float(hourly * HOURS_PER_MONTH), 2),
        "items": [
            {"kind": offer.kind, "type": offer.type, "quantity": quantity}
            for offer, quantity in sorted(fleet.items())
        ],
    }


def _rate(price: PriceReport, offer: Offer) -> dict[str, Any]:
    rate = price.rate(offer)
    return {
        "kind": offer.kind,
        "type": offer.type,
        "region": offer.region,
        "usd": None if rate.usd is None else float(rate.usd),
        "unit": offer.unit,
        "source": rate.source or None,
        "date": rate.day.isoformat() if rate.day else None,
        "reason": rate.reason or None,
    }
