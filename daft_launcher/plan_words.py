"""A plan as people read it: files, Terraform's own text, what was changed by hand, the summary, the price."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from daft_launcher.drift import Drift, DriftedAttribute
from daft_launcher.models import Offer
from daft_launcher.prices import HOURS_PER_MONTH, Fleet, PriceReport

if TYPE_CHECKING:
    from daft_launcher.review import PlanReport

PLAN_WORDS = {"create": "add", "update": "change", "replace": "replace", "delete": "destroy"}
_KINDS = {"on-demand": " on demand", "spot": " as spot", "volume": ""}
_LONGEST_VALUE = 200
# User data: nobody can read it, and with four of them a review comment, cut at 65,000 characters, would be full.
_BLOB = re.compile(r'"([A-Za-z0-9+/]{1000,}={0,2})"')


def plan_text(report: PlanReport) -> str:
    """Return a plan for people, in the order in which they need it."""
    text = report.text if report.text.endswith("\n") else f"{report.text}\n"
    files = "".join(f"would write {name}\n" for name in report.files)
    counts = ", ".join(f"{report.plan.count(action)} to {word}" for action, word in PLAN_WORDS.items())
    if report.plan.imports:
        counts += f", {len(report.plan.imports)} to import"
    parts = [
        files + _BLOB.sub(_shortened, text),
        "".join(_drift_lines(report.drift)),
        f"Summary: {counts}; the head is {report.head}.\n",
        "".join(_price_lines(report.price)) if report.price else "",
    ]
    return "\n".join(part for part in parts if part)


def _shortened(found: re.Match[str]) -> str:
    blob = found[1]
    digest = hashlib.sha256(blob.encode()).hexdigest()[:12]
    return f'"{blob[:20]}…" ({len(blob)} characters, SHA-256 {digest}…)'


def _drift_lines(drift: tuple[Drift, ...]) -> Iterator[str]:
    if drift:
        yield "Changed outside of this configuration since the last apply:\n"
    for one in drift:
        yield f"  {one.address}" + ("" if one.attributes else ": removed") + "\n"
        for part in one.attributes:
            yield f"    {part.path}: {_change(part)}\n"


def _change(part: DriftedAttribute) -> str:
    if part.sensitive:
        return "changed, and sensitive"
    before, after = part.before, part.after
    if isinstance(before, list) and isinstance(after, list):
        gone = [f"without {_value(item)}" for item in before if item not in after]
        new = [f"with {_value(item)}" for item in after if item not in before]
        return ", ".join(gone + new) or "in another order"
    return f"{_value(before)} -> {_value(after)}"


def _value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _price_lines(price: PriceReport) -> Iterator[str]:
    yield "Price, estimated in USD:\n"
    if price.before == price.after:
        yield f"  now and after: {_cost(price, price.after)}\n"
    else:
        yield f"  now:   {_cost(price, price.before)}\n"
        yield f"  after: {_cost(price, price.after)}\n"
    for offer in sorted(price.rates):
        yield f"  {_rate(price, offer)}\n"
    yield f"  A month has {HOURS_PER_MONTH} hours; data transfer and public addresses are not counted.\n"


def _cost(price: PriceReport, fleet: Fleet) -> str:
    if not fleet:
        return "nothing runs"
    hourly = price.hourly(fleet)
    amount = (
        "unknown" if hourly is None else f"{hourly:,.4f} an hour, {hourly * HOURS_PER_MONTH:,.2f} a month"
    )
    return f"{amount}, for {', '.join(_counted(offer, fleet[offer]) for offer in sorted(fleet))}"


def _counted(offer: Offer, quantity: int) -> str:
    return f"{quantity} GB of {offer.type}" if offer.kind == "volume" else f"{quantity} {_named(offer)}"


def _named(offer: Offer) -> str:
    return f"{offer.type}{_KINDS[offer.kind]}"


def _rate(price: PriceReport, offer: Offer) -> str:
    rate = price.rate(offer)
    what = f"{_named(offer)} in {offer.region}"
    if rate.usd is None:
        return f"{what}: unknown, {rate.reason}"
    unit = "a GB and month" if offer.unit == "GB-month" else "an hour"
    day = f", {rate.day.isoformat()}" if rate.day else ""
    return f"{what}: {_plain(rate.usd)} {unit}; {rate.source}{day}"


def _plain(usd: Decimal) -> str:
    """Return an amount with all the digits that it has, two after the point at least."""
    digits = max(2, -int(usd.normalize().as_tuple().exponent))
    return f"{usd:,.{digits}f}"
