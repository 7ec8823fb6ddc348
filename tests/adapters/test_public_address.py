"""The public address from a service that answers rightly, wrongly, late or not at all."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from daft_launcher import public_address
from daft_launcher.errors import AWSError
from daft_launcher.public_address import find_public_address

HINT = "set `ssh_allowed_cidrs` under `[aws]` to the networks that may reach the head node"


class Service(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body, pause = self.server.reply
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for byte in body:
            self.server.stop.wait(pause)
            if self.server.stop.is_set():
                return
            with contextlib.suppress(OSError):  # the client has read enough
                self.wfile.write(bytes([byte]))

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def service(monkeypatch) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        server.stop = threading.Event()
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("DAFT_CHECKIP_URL", f"http://127.0.0.1:{server.server_port}/")
        yield server
        server.stop.set()
        server.shutdown()


def answer(service: ThreadingHTTPServer, body: bytes, *, status: int = 200, pause: float = 0) -> None:
    service.reply = (status, body, pause)


def refusal(**options) -> str:
    with pytest.raises(AWSError) as caught:
        find_public_address(**options)
    assert caught.value.hint == HINT
    return caught.value.message.removeprefix("could not find this machine's public address: ")


@pytest.mark.parametrize("body", [b"203.0.113.9\n", b"8.8.8.8"])
def test_the_address_is_what_the_service_says(service, body):
    answer(service, body)
    assert find_public_address() == body.decode().strip()


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (
            b"<html><head><title>Log in to this hotel</title>" + b"x" * 10000,
            "'<html><head><title>Log in to thi'",
        ),
        (b"0.0.0.0/0", "'0.0.0.0/0'"),
        (b"8.8.8.8, 10.0.0.1", "'8.8.8.8, 10.0.0.1'"),
        (b"2001:db8::1", "'2001:db8::1'"),
        (b"\xff\x00", "'\ufffd\\x00'"),
        (b"", "''"),
    ],
)
def test_whatever_is_no_address_is_refused(service, body, shown):
    answer(service, body)
    assert refusal() == f"127.0.0.1 answered with something else: {shown}"


@pytest.mark.parametrize("address", ["10.0.0.7", "0.0.0.0", "127.0.0.1", "100.64.0.1"])
def test_only_a_public_address_is_believed_of_the_public_service(service, monkeypatch, address):
    answer(service, address.encode())
    monkeypatch.setattr(public_address, "CHECKIP_URL", f"http://127.0.0.1:{service.server_port}/")
    monkeypatch.delenv("DAFT_CHECKIP_URL")
    assert refusal() == f"127.0.0.1 answered with {address}, which is not a public address"


def test_an_error_of_the_service(service):
    answer(service, b"8.8.8.8", status=503)
    assert refusal() == "127.0.0.1 answered with HTTP status 503"


def test_an_answer_that_drips_does_not_hold_us(service):
    answer(service, b"203.0.113.9", pause=0.2)
    began = time.monotonic()
    assert refusal(timeout=0.5) == "127.0.0.1 did not answer within 0.5 seconds"
    assert time.monotonic() - began < 1.5


def test_nobody_there(service, monkeypatch):
    service.server_close()
    assert refusal() == "127.0.0.1 could not be reached"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "nonsense", "http://"])
def test_a_url_that_is_none(monkeypatch, url):
    monkeypatch.setenv("DAFT_CHECKIP_URL", url)
    assert refusal() == f"{url} could not be reached"
