"""As much of AWS as `daft` asks when it looks around: who am I, which instances are there, what do they cost."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

EC2 = "http://ec2.amazonaws.com/doc/2016-11-15/"
IDENTITY = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    "<Arn>arn:aws:iam::123456789012:user/ann</Arn><UserId>AIDA</UserId><Account>123456789012</Account>"
    "</GetCallerIdentityResult></GetCallerIdentityResponse>"
)
NO_PRICES = '{"FormatVersion": "aws_v1", "PriceList": []}'


@dataclass(frozen=True)
class Refusal:
    """An error of AWS's; `message` is what it says of it."""

    code: str
    message: str = "no"
    status: int = 400


@dataclass(frozen=True)
class Page:
    """One page of a region's instances, as XML."""

    instances: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """What was asked: the region from the signature, and the parameters of the call."""

    region: str
    parameters: dict[str, str]

    @property
    def action(self) -> str:
        return self.parameters["Action"]


@dataclass
class FakeAws:
    """What each region answers; one that is not named has no instances. `refusal` is for every call."""

    url: str = ""
    pages: dict[str, list[Page] | Refusal] = field(default_factory=dict)
    refusal: Refusal | None = None
    silent: bool = False
    calls: list[Call] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def answer(self, call: Call) -> str | Refusal:
        self.calls.append(call)
        self.asked.set()
        if self.silent:
            self.released.wait(60)
        if self.refusal:
            return self.refusal
        if call.action == "GetCallerIdentity":
            return IDENTITY
        if call.action == "DescribeRegions":
            return _regions(self.pages)
        if call.action == "GetProducts":
            return NO_PRICES
        assert call.action == "DescribeInstances", call
        pages = self.pages.get(call.region, [Page()])
        return pages if isinstance(pages, Refusal) else _instances(pages, call)


def instance(
    name: str, role: str, instance_id: str, state: str, address: str | None = None, **tags: str
) -> str:
    """Return an EC2 instance as XML."""
    tags = {"daft:managed-by": "daft-launcher", "daft:cluster": name, "daft:role": role} | {
        f"daft:{key}": value for key, value in tags.items()
    }
    items = "".join(f"<item><key>{key}</key><value>{value}</value></item>" for key, value in tags.items())
    public = f"<ipAddress>{address}</ipAddress>" if address else ""
    return (
        f"<item><instanceId>{instance_id}</instanceId><instanceState><code>0</code><name>{state}</name>"
        f"</instanceState><instanceType>m7g.medium</instanceType><launchTime>2026-01-02T03:04:05.000Z</launchTime>"
        f"<placement><availabilityZone>us-west-2a</availabilityZone></placement>{public}"
        f"<privateIpAddress>10.0.0.4</privateIpAddress><tagSet>{items}</tagSet></item>"
    )


@contextlib.contextmanager
def serving() -> Iterator[FakeAws]:
    """Keep the fake at an address of its own while the context is open."""
    fake = FakeAws()

    class Handler(_Handler):
        aws = fake

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield fake
        finally:
            fake.released.set()
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Give a port at which nobody listens, and that nobody else gets."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


class _Handler(BaseHTTPRequestHandler):
    aws: FakeAws

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        region = re.search(r"Credential=\w+/\d+/([\w-]+)/", self.headers["Authorization"])
        assert region
        parameters = {key: values[0] for key, values in parse_qs(body).items()}
        if target := self.headers["X-Amz-Target"]:  # how the price list is called
            parameters = {"Action": target.partition(".")[2]}
        answer = self.aws.answer(Call(region[1], parameters))
        with contextlib.suppress(OSError):
            self._send(answer)

    def _send(self, answer: str | Refusal) -> None:
        status = answer.status if isinstance(answer, Refusal) else 200
        text = _error(answer) if isinstance(answer, Refusal) else answer
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


def _error(refusal: Refusal) -> str:
    # EC2 wraps its errors otherwise than STS; botocore reads this form for both.
    error = f"<Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>"
    return f"<Response><Errors>{error}</Errors>{error}<RequestID>1</RequestID></Response>"


def _regions(names: object) -> str:
    items = "".join(f"<item><regionName>{name}</regionName></item>" for name in names)  # type: ignore[attr-defined]
    return (
        f'<DescribeRegionsResponse xmlns="{EC2}"><regionInfo>{items}</regionInfo></DescribeRegionsResponse>'
    )


def _instances(pages: list[Page], call: Call) -> str:
    position = int(call.parameters.get("NextToken", 0))
    more = f"<nextToken>{position + 1}</nextToken>" if position + 1 < len(pages) else ""
    reservations = "".join(
        f"<item><instancesSet>{item}</instancesSet></item>" for item in pages[position].instances
    )
    return (
        f'<DescribeInstancesResponse xmlns="{EC2}"><reservationSet>{reservations}</reservationSet>{more}'
        "</DescribeInstancesResponse>"
    )
