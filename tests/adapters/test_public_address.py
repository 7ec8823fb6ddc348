"""The public address from a service that answers rightly, wrongly, late or not at all."""

from __future__ import annotations

import time

import pytest

from daft_launcher import public_address
from daft_launcher.errors import AWSError
from daft_launcher.public_address import find_public_address

HINT = "set `ssh_allowed_cidrs` under `[aws]` to the networks that may reach the head node"


def refusal(**options) -> str:
    with pytest.raises(AWSError) as caught:
        find_public_address(**options)
    assert caught.value.hint == HINT
    return caught.value.message.removeprefix("could not find this machine's public address: ")


@pytest.mark.parametrize("body", [b"203.0.113.9\n", b"8.8.8.8"])
def test_the_address_is_what_the_service_says(checkip, body):
    checkip.answer(body)
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
def test_whatever_is_no_address_is_refused(checkip, body, shown):
    checkip.answer(body)
    assert refusal() == f"127.0.0.1 answered with something else: {shown}"


@pytest.mark.parametrize("address", ["10.0.0.7", "0.0.0.0", "127.0.0.1", "100.64.0.1"])
def test_only_a_public_address_is_believed_of_the_public_service(checkip, monkeypatch, address):
    checkip.answer(address.encode())
    monkeypatch.setattr(public_address, "CHECKIP_URL", f"http://127.0.0.1:{checkip.server_port}/")
    monkeypatch.delenv("DAFT_CHECKIP_URL")
    assert refusal() == f"127.0.0.1 answered with {address}, which is not a public address"


def test_an_error_of_the_service(checkip):
    checkip.answer(b"8.8.8.8", status=503)
    assert refusal() == "127.0.0.1 answered with HTTP status 503"


def test_an_answer_that_drips_does_not_hold_us(checkip):
    checkip.answer(b"203.0.113.9", pause=0.2)
    began = time.monotonic()
    assert refusal(timeout=0.5) == "127.0.0.1 did not answer within 0.5 seconds"
    assert time.monotonic() - began < 1.5


def test_nobody_there(checkip, monkeypatch):
    checkip.server_close()
    assert refusal() == "127.0.0.1 could not be reached"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "nonsense", "http://"])
def test_a_url_that_is_none(monkeypatch, url):
    monkeypatch.setenv("DAFT_CHECKIP_URL", url)
    assert refusal() == f"{url} could not be reached"
