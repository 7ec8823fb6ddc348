"""AWS's price list, and the history of spot prices, which moto lacks: answers in the shape that AWS gives them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: US dollars an hour in every region; a type that is not here is not on the list.
ON_DEMAND = {"m7g.medium": "0.0408", "m7g.large": "0.0816", "m7i.large": "0.1008"}
#: US dollars an hour by the last letter of the zone.
SPOT = {"a": "0.0151", "b": "0.0149", "c": "0.0163", "d": "0.0150"}
GP3_GB_MONTH = "0.08"
PUBLISHED = "2026-11-20T19:10:27Z"
SPOT_DAY = datetime(2026, 11, 26, 21, 4, 5, tzinfo=timezone.utc)


def answering_price_list(
    get_application: Callable[..., Wsgi], record: Callable[[str, str, str], Any]
) -> Callable[..., Wsgi]:
    """Let moto's server answer for the price list too; `record` takes each call and may return a failure."""

    def application(dispatcher: Any, environ: dict[str, Any]) -> Wsgi:
        scope = environ.get("HTTP_AUTHORIZATION", "").partition(",")[0].split("/")
        if len(scope) < 4 or scope[3] != "pricing":
            return get_application(dispatcher, environ)
        action = environ["HTTP_X_AMZ_TARGET"].partition(".")[2]
        failure = record("pricing", action, scope[2])
        return _Answer(failure) if failure else _price_list

    return application


def spot_price_history(response: Any) -> dict[str, Any]:
    """Answer DescribeSpotPriceHistory: the newest price of each zone and one before it, in no order."""
    region = response.region
    wanted = response._get_param("InstanceTypes", [])
    assert set(response._get_param("ProductDescriptions", [])) >= {"Linux/UNIX"}
    history = [
        {
            "AvailabilityZone": f"{region}{zone}",
            "InstanceType": kind,
            "ProductDescription": "Linux/UNIX",
            "SpotPrice": f"{price}00",
            "Timestamp": moment,
        }
        for kind in wanted
        if kind in ON_DEMAND
        for zone, newest in SPOT.items()
        for price, moment in (("0.9999", SPOT_DAY - timedelta(days=3)), (newest, SPOT_DAY))
    ]
    return {"SpotPriceHistory": history}


class _Answer:
    """A refusal, in the words of AWS's JSON protocol."""

    def __init__(self, failure: Any) -> None:
        self._failure = failure

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = {"__type": self._failure.code, "Message": self._failure.message}
        return _send(start, f"{self._failure.status} Bad", body)


def _price_list(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    asked = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    assert (asked["ServiceCode"], asked["FormatVersion"]) == ("AmazonEC2", "aws_v1")
    wanted = {one["Field"]: one["Value"] for one in asked["Filters"]}
    region = wanted["regionCode"]
    listed = [_volume(region), *(_instance(region, kind, usd) for kind, usd in ON_DEMAND.items())]
    found = [
        json.dumps(product)
        for product in listed
        if wanted.items()
        <= {**product["product"]["attributes"], "productFamily": product["product"]["productFamily"]}.items()
    ]
    return _send(start, "200 OK", {"FormatVersion": "aws_v1", "PriceList": found})


def _send(start: Callable[..., Any], status: str, body: dict[str, Any]) -> Iterable[bytes]:
    data = json.dumps(body).encode()
    start(status, [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(data)))])
    return [data]


def _instance(region: str, kind: str, usd: str) -> dict[str, Any]:
    attributes = {
        "instanceType": kind,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "usagetype": f"USW2-BoxUsage:{kind}",
        "operation": "RunInstances",
        "licenseModel": "No License required",
        "currentGeneration": "Yes",
        "processorArchitecture": "64-bit",
        "marketoption": "OnDemand",
    }
    words = f"${usd} per On Demand Linux {kind} Instance Hour"
    return _product(region, "Compute Instance", attributes, "Hrs", usd, words)


def _volume(region: str) -> dict[str, Any]:
    attributes = {
        "volumeApiName": "gp3",
        "volumeType": "General Purpose",
        "storageMedia": "SSD-backed",
        "usagetype": "USW2-EBS:VolumeUsage.gp3",
        "operation": "",
    }
    words = f"${GP3_GB_MONTH} per GB-month of General Purpose (gp3) provisioned storage - {region}"
    return _product(region, "Storage", attributes, "GB-Mo", GP3_GB_MONTH, words)


def _product(
    region: str, family: str, attributes: dict[str, str], unit: str, usd: str, description: str
) -> dict[str, Any]:
    sku = "2257YY4K7BWZ4F46"
    offer = f"{sku}.JRTCKXETXF"
    dimension = {
        "unit": unit,
        "endRange": "Inf",
        "description": description,
        "appliesTo": [],
        "rateCode": f"{offer}.6YS6EN2CT7",
        "beginRange": "0",
        "pricePerUnit": {"USD": f"{usd}000000"},
    }
    term = {
        "priceDimensions": {f"{offer}.6YS6EN2CT7": dimension},
        "sku": sku,
        "effectiveDate": "2026-11-01T00:00:00Z",
        "offerTermCode": "JRTCKXETXF",
        "termAttributes": {},
    }
    where = {"regionCode": region, "locationType": "AWS Region", "servicecode": "AmazonEC2"}
    return {
        "product": {"productFamily": family, "attributes": {**attributes, **where}, "sku": sku},
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {offer: term}},
        "version": "20261120191027",
        "publicationDate": PUBLISHED,
    }
