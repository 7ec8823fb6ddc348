"""AWS's price list and spot prices through real botocore clients: what is asked, and what is taken of the answer."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from scripted_aws import FakeClock, instance, reservations, script

from daft_launcher.models import Offer, Rate
from daft_launcher.providers.aws import AWSProvider
from daft_launcher.providers.aws_access import AWSAccess
from daft_launcher.providers.aws_prices import find_rate

TODAY = datetime.now(timezone.utc).date()
MEDIUM = Offer(kind="on-demand", type="m7g.medium", region="us-west-2")
SPOT = Offer(kind="spot", type="m7g.medium", region="us-west-2")
GP3 = Offer(kind="volume", type="gp3", region="us-west-2")


def product(usd: str = "0.0408000000", *, unit: str = "Hrs", currency: str = "USD", **attributes: str) -> str:
    """Return one product as the price list has it, a string of JSON."""
    dimension = {"unit": unit, "pricePerUnit": {currency: usd}, "beginRange": "0", "endRange": "Inf"}
    term = {"priceDimensions": {"S.JRTCKXETXF.6YS6EN2CT7": dimension}, "offerTermCode": "JRTCKXETXF"}
    return json.dumps(
        {
            "product": {
                "productFamily": "Compute Instance",
                "attributes": {"instanceType": "m7g.medium", "marketoption": "OnDemand", **attributes},
                "sku": "S",
            },
            "serviceCode": "AmazonEC2",
            "terms": {"OnDemand": {"S.JRTCKXETXF": term}},
            "publicationDate": "2026-01-02T03:04:05Z",
        }
    )


def asked(filters: dict[str, str]) -> dict[str, Any]:
    return {
        "ServiceCode": "AmazonEC2",
        "FormatVersion": "aws_v1",
        "Filters": [{"Type": "TERM_MATCH", "Field": key, "Value": value} for key, value in filters.items()],
        "MaxResults": 100,
    }


def listed(offer: Offer, *products: str, endpoint: str = "us-east-1") -> tuple[Rate, list[Any]]:
    """Return the rate that is read from an answer, and the calls that it took."""
    access = AWSAccess()
    calls = script(access, "pricing", endpoint, lambda *_: {"PriceList": list(products)})
    return find_rate(access, offer), calls


def test_an_instance_is_looked_up_as_linux_on_shared_hardware() -> None:
    rate, calls = listed(MEDIUM, product())
    assert rate == Rate(usd=Decimal("0.0408"), source="AWS Price List", day=TODAY)
    filters = {
        "regionCode": "us-west-2",
        "instanceType": "m7g.medium",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    assert calls == [("GetProducts", asked(filters))]


def test_a_volume_is_looked_up_by_the_gb() -> None:
    rate, calls = listed(GP3, product("0.0800000000", unit="GB-Mo"))
    assert rate == Rate(usd=Decimal("0.08"), source="AWS Price List", day=TODAY)
    filters = {"regionCode": "us-west-2", "productFamily": "Storage", "volumeApiName": "gp3"}
    assert calls == [("GetProducts", asked(filters))]


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("us-west-2", "us-east-1"),
        ("ca-central-1", "us-east-1"),
        ("sa-east-1", "us-east-1"),
        ("eu-north-1", "eu-central-1"),
        ("ap-southeast-10", "ap-south-1"),
    ],
)
def test_the_nearest_endpoint_has_the_prices_of_all_regions(region: str, endpoint: str) -> None:
    offer = Offer(kind="on-demand", type="m7g.medium", region=region)
    assert listed(offer, product(), endpoint=endpoint)[0].usd == Decimal("0.0408")


@pytest.mark.parametrize(
    "products",
    [
        # Twice the same price is one price.
        [product(), product(operation="RunInstances:0010")],
        [product(), product("0.0000000000", marketoption="CapacityBlock")],
        [product(), product("9.9", marketoption="CapacityBlock")],
        [product(), product("0.0000000000")],
        [product(), product("9.9", unit="Quantity")],
    ],
)
def test_what_is_no_price_on_demand_does_not_count(products: list[str]) -> None:
    assert listed(MEDIUM, *products)[0] == Rate(usd=Decimal("0.0408"), source="AWS Price List", day=TODAY)


@pytest.mark.parametrize(
    ("products", "reason"),
    [
        ([], "AWS's price list has no price for it"),
        ([product(currency="CNY")], "AWS's price list has no price for it"),
        ([product(), product("0.05")], "AWS's price list has 2 prices for it"),
        *(
            ([answer], "the answer of AWS's price list cannot be read")
            for answer in (
                "",
                "{}",
                "[]",
                "null",
                product("much"),
                '{"product": {"attributes": {}}, "terms": 3}',
            )
        ),
    ],
)
def test_no_price_is_better_than_a_guess(products: list[str], reason: str) -> None:
    assert listed(MEDIUM, *products)[0] == Rate(reason=reason)


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1", "eusc-de-east-1"])
def test_other_partitions_are_not_asked_about(region: str) -> None:
    rate, calls = listed(Offer(kind="on-demand", type="m7g.medium", region=region), product())
    assert (rate, calls) == (Rate(reason=f"AWS's price list does not have {region}"), [])


@pytest.mark.parametrize("kind", ["io2", "gp3 with more than it includes"])
def test_other_volumes_are_not_asked_about(kind: str) -> None:
    rate, calls = listed(Offer(kind="volume", type=kind, region="us-west-2"), product())
    assert (rate, calls) == (Rate(reason=f"only gp3 volumes are reckoned, not {kind}"), [])


def test_the_price_list_comes_in_pages() -> None:
    access = AWSAccess()

    def answer(_: str, parameters: dict[str, Any]) -> dict[str, Any]:
        return (
            {"PriceList": [product()]} if "NextToken" in parameters else {"PriceList": [], "NextToken": "2"}
        )

    calls = script(access, "pricing", "us-east-1", answer)
    assert (find_rate(access, MEDIUM).usd, len(calls)) == (Decimal("0.0408"), 2)


# Spot


def price(zone: str, usd: str, day: int) -> dict[str, Any]:
    return {
        "AvailabilityZone": f"us-west-2{zone}",
        "InstanceType": "m7g.medium",
        "ProductDescription": "Linux/UNIX",
        "SpotPrice": usd,
        "Timestamp": datetime(2026, 1, day, 23, 59, tzinfo=timezone.utc),
    }


HISTORY = [
    price("a", "0.011000", 3),
    price("a", "0.099000", 1),
    price("b", "0.020000", 2),
    price("c", "0.012000", 4),
]


@pytest.mark.parametrize(
    ("zone", "rate"),
    [
        ("us-west-2a", ("0.011", "spot price in us-west-2a", 3)),
        (None, ("0.02", "spot price in us-west-2b, the dearest zone", 2)),
        ("us-west-2z", ("0.02", "spot price in us-west-2b, the dearest zone", 2)),
    ],
)
def test_the_newest_spot_price_of_the_zone_or_the_dearest(
    zone: str | None, rate: tuple[str, str, int]
) -> None:
    access = AWSAccess()
    calls = script(access, "ec2", "us-west-2", lambda *_: {"SpotPriceHistory": HISTORY})
    usd, source, day = rate
    expected = Rate(usd=Decimal(usd), source=source, day=datetime(2026, 1, day, tzinfo=timezone.utc).date())
    assert find_rate(access, SPOT, zone=zone) == expected
    ((action, parameters),) = calls
    assert action == "DescribeSpotPriceHistory"
    assert abs(datetime.now(timezone.utc) - parameters.pop("StartTime")).total_seconds() < 60
    assert parameters == {
        "InstanceTypes": ["m7g.medium"],
        "ProductDescriptions": ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"],
    }


def test_an_instance_type_without_spot() -> None:
    access = AWSAccess()
    script(access, "ec2", "us-west-2", lambda *_: {"SpotPriceHistory": []})
    assert find_rate(access, SPOT) == Rate(reason="AWS has no spot price for it")


@pytest.mark.parametrize(
    ("placements", "zone"),
    [
        ([], "b, the dearest zone"),
        ([{}], "b, the dearest zone"),
        ([{}, {"AvailabilityZone": "us-west-2c"}], "c"),
    ],
)
def test_spot_costs_what_it_costs_in_the_clusters_zone(placements: list[dict[str, str]], zone: str) -> None:
    provider = AWSProvider(
        region="us-west-2", profile=None, ssh_allowed_cidrs=(), ssh_key_name=None, clock=FakeClock()
    )
    found = [
        {**instance(daft_cluster="demo", daft_role="head"), "Placement": placement}
        for placement in placements
    ]

    def answer(operation: str, _: dict[str, Any]) -> dict[str, Any]:
        return reservations(*found) if operation == "DescribeInstances" else {"SpotPriceHistory": HISTORY}

    script(provider._access, "ec2", "us-west-2", answer)
    assert provider.find_rate(SPOT, cluster="demo").source == f"spot price in us-west-2{zone}"


# What AWS does not give


@pytest.mark.parametrize(
    ("offer", "service", "region", "action"),
    [
        (MEDIUM, "pricing", "us-east-1", "pricing:GetProducts"),
        (SPOT, "ec2", "us-west-2", "ec2:DescribeSpotPriceHistory"),
    ],
)
def test_a_permission_that_is_missing_is_a_reason_and_no_error(
    offer: Offer, service: str, region: str, action: str
) -> None:
    access = AWSAccess()
    error = {"Code": "AccessDeniedException", "Message": f"User: ann is not authorized to perform: {action}"}

    def answer(operation: str, _: object) -> dict[str, Any]:
        raise ClientError({"Error": error}, operation)

    script(access, service, region, answer)
    assert find_rate(access, offer) == Rate(
        reason=f"these AWS credentials may not do `{action}` (AccessDeniedException)"
    )


def test_no_answer_is_a_reason_and_no_error() -> None:
    access = AWSAccess()

    def answer(*_: object) -> dict[str, Any]:
        raise ConnectTimeoutError(endpoint_url="https://api.pricing.us-east-1.amazonaws.com/?x=1")

    script(access, "pricing", "us-east-1", answer)
    assert find_rate(access, MEDIUM) == Rate(
        reason="no answer from https://api.pricing.us-east-1.amazonaws.com"
    )
