"""What AWS asks for an instance and for a GB of volume: its price list, and the history of spot prices.

Needs `pricing:GetProducts`, and for spot `ec2:DescribeSpotPriceHistory`; without them a price is unknown, and no error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from daft_launcher.errors import AWSError
from daft_launcher.models import Offer, Rate
from daft_launcher.providers.aws_access import AWSAccess

if TYPE_CHECKING:
    from mypy_boto3_ec2.client import EC2Client
    from mypy_boto3_ec2.type_defs import SpotPriceTypeDef
    from mypy_boto3_pricing.client import PricingClient

PRICE_LIST = "AWS Price List"
# Where the price list is served; each place has the prices of all regions
# (docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html).
_ENDPOINTS = {"eu": "eu-central-1", "ap": "ap-south-1"}
_DEFAULT_ENDPOINT = "us-east-1"
# Partitions of AWS with other credentials; the price list of the first has nothing for them.
_OTHER_PARTITIONS = ("cn-", "us-gov-", "us-iso", "eu-isoe-", "eusc-")
_WHAT = "look up the price"
# The filters leave one product or two; an answer may still come in several pages.
_MOST_PRODUCTS = 100
_LINUX = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")


def find_rate(access: AWSAccess, offer: Offer, *, zone: str | None = None) -> Rate:
    """Return what AWS asks for an offer; a rate without a price, and with the reason, when that cannot be had.

    The spot price is the newest of `zone`, and without one the highest among the newest of the region's zones.
    """
    try:
        if offer.kind == "spot":
            return _spot_rate(access, offer, zone)
        return _listed_rate(access, offer)
    except AWSError as error:
        return Rate(reason=_cause(error))


def _listed_rate(access: AWSAccess, offer: Offer) -> Rate:
    if offer.region.startswith(_OTHER_PARTITIONS):
        return Rate(reason=f"AWS's price list does not have {offer.region}")
    if offer.kind == "volume" and offer.type != "gp3":
        return Rate(reason=f"only gp3 volumes are reckoned, not {offer.type}")
    endpoint = _ENDPOINTS.get(offer.region.partition("-")[0], _DEFAULT_ENDPOINT)
    with access.asking("pricing", endpoint, _WHAT) as pricing:
        products = list(_products(pricing, offer))
    try:
        prices = {price for product in products for price in _prices_of(product, offer)}
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError):
        return Rate(reason="the answer of AWS's price list cannot be read")
    if len(prices) != 1:
        found = "no price" if not prices else f"{len(prices)} prices"
        return Rate(reason=f"AWS's price list has {found} for it")
    return Rate(usd=prices.pop(), source=PRICE_LIST, day=_now().date())


def _products(pricing: PricingClient, offer: Offer) -> Iterator[str]:
    pages = pricing.get_paginator("get_products").paginate(
        ServiceCode="AmazonEC2",
        FormatVersion="aws_v1",
        Filters=[
            {"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in _filters(offer).items()
        ],
        PaginationConfig={"MaxItems": _MOST_PRODUCTS, "PageSize": _MOST_PRODUCTS},
    )
    for page in pages:
        yield from page.get("PriceList", [])


def _filters(offer: Offer) -> dict[str, str]:
    if offer.kind == "volume":
        return {"regionCode": offer.region, "productFamily": "Storage", "volumeApiName": offer.type}
    return {
        "regionCode": offer.region,
        "instanceType": offer.type,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        # Not capacity that was reserved and lies idle.
        "capacitystatus": "Used",
    }


def _prices_of(product: str, offer: Offer) -> Iterator[Decimal]:
    """Yield the prices on demand of one product of the price list, which is JSON in a string."""
    document = json.loads(product)
    # Blocks of capacity are listed as instances too, at nothing an hour.
    if document["product"]["attributes"].get("marketoption", "OnDemand") != "OnDemand":
        return
    unit = "GB-Mo" if offer.unit == "GB-month" else "Hrs"
    for term in document["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            usd = dimension["pricePerUnit"].get("USD")
            if dimension["unit"] == unit and usd is not None and Decimal(usd) > 0:
                yield Decimal(usd).normalize()


def _spot_rate(access: AWSAccess, offer: Offer, zone: str | None) -> Rate:
    with access.asking("ec2", offer.region, _WHAT) as ec2:
        newest = _newest_by_zone(_spot_history(ec2, offer))
    if not newest:
        return Rate(reason="AWS has no spot price for it")
    chosen = (
        zone if zone in newest else max(newest, key=lambda name: (Decimal(newest[name]["SpotPrice"]), name))
    )
    price = newest[chosen]
    return Rate(
        usd=Decimal(price["SpotPrice"]).normalize(),
        source=f"spot price in {chosen}" + ("" if chosen == zone else ", the dearest zone"),
        day=price["Timestamp"].date(),
    )


def _spot_history(ec2: EC2Client, offer: Offer) -> Iterator[SpotPriceTypeDef]:
    pages = ec2.get_paginator("describe_spot_price_history").paginate(
        InstanceTypes=[offer.type],  # type: ignore[list-item] # the stubs list the types there were
        ProductDescriptions=list(_LINUX),
        # Starting now, EC2 answers with the price that holds in each zone.
        StartTime=_now(),
    )
    for page in pages:
        yield from page.get("SpotPriceHistory", [])


def _newest_by_zone(history: Iterable[SpotPriceTypeDef]) -> dict[str, Any]:
    newest: dict[str, Any] = {}
    for price in history:
        zone = price["AvailabilityZone"]
        if zone not in newest or price["Timestamp"] > newest[zone]["Timestamp"]:
            newest[zone] = price
    return newest


def _cause(error: AWSError) -> str:
    """Return an error's cause without what was being done, which stands beside it."""
    doing, colon, cause = error.message.partition(": ")
    return cause if colon and doing.startswith(f"could not {_WHAT}") else error.message


def _now() -> datetime:
    return datetime.now(timezone.utc)
