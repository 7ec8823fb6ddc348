"""AWS as a test writes it: real botocore clients whose calls are answered by a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse

from daft_launcher.providers.aws_access import AWSAccess

Answer = Callable[[str, dict[str, Any]], dict[str, Any]]


def script(access: AWSAccess, service: str, region: str, answer: Answer) -> list[tuple[str, dict[str, Any]]]:
    """Answer every call of a service with `answer(operation, parameters)`, and return the record of calls."""
    client = boto3.client(
        service, region_name=region, aws_access_key_id="AKIATEST", aws_secret_access_key="secret"
    )
    calls: list[tuple[str, dict[str, Any]]] = []

    def record(params, model, **_):
        calls.append((model.name, dict(params)))

    def reply(model, **_):
        http = AWSResponse(f"https://{service}.{region}.amazonaws.com", 200, {}, None)
        return http, answer(*calls[-1])

    client.meta.events.register(
        f"before-parameter-build.{client.meta.service_model.service_id.hyphenize()}", record
    )
    client.meta.events.register(f"before-call.{client.meta.service_model.service_id.hyphenize()}", reply)
    access._clients[service, region] = client
    return calls


class FakeClock:
    """A clock that moves when somebody sleeps on it."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def instance(
    instance_id: str = "i-head",
    *,
    state: str = "running",
    reason: str | None = None,
    address: str | None = "203.0.113.5",
    **tags: str,
) -> dict[str, Any]:
    """Return an instance in EC2's words; `daft_status="ready"` stands for the tag `daft:status`."""
    named = {key.replace("__", "-").replace("_", ":", 1): value for key, value in tags.items()}
    described: dict[str, Any] = {
        "InstanceId": instance_id,
        "State": {"Name": state},
        "Tags": [{"Key": key, "Value": value} for key, value in named.items()],
    }
    if address:
        described["PublicIpAddress"] = address
    if reason:
        described["StateReason"] = {"Code": reason.split(":")[0], "Message": reason}
    return described


def reservations(*instances: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of DescribeInstances."""
    return {"Reservations": [{"Instances": [one]} for one in instances]}
