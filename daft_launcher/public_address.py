"""The address under which the internet sees this machine, so that only it is let in."""

from __future__ import annotations

import ipaddress
import os
import queue
import threading
from urllib.parse import urlsplit

from daft_launcher.errors import AWSError

CHECKIP_URL = "https://checkip.amazonaws.com"
CHECKIP_VARIABLE = "DAFT_CHECKIP_URL"
CONNECT_TIMEOUT_SECONDS = 3.0
TOTAL_TIMEOUT_SECONDS = 5.0
LONGEST_ANSWER = 64


def find_public_address(*, timeout: float = TOTAL_TIMEOUT_SECONDS) -> str:
    """Return this machine's public IPv4 address; raises AWSError when it cannot be known in time."""
    # Before the clock starts: on a busy machine this takes longer than the answer.
    import requests  # noqa: F401 - what `_ask` speaks with

    url = os.environ.get(CHECKIP_VARIABLE) or CHECKIP_URL
    answers: queue.Queue[bytes | str] = queue.Queue()
    # A thread, because no timeout of the HTTP library covers the name look-up or an answer that drips.
    threading.Thread(target=lambda: answers.put(_ask(url, timeout)), daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        answer = f"did not answer within {timeout:g} seconds"
    if isinstance(answer, str):
        raise _unknown(url, answer)
    return _read_address(answer, url=url)


def _ask(url: str, timeout: float) -> bytes | str:
    """Return the beginning of the answer, or as text why there is none."""
    import requests

    try:
        with requests.get(url, timeout=(CONNECT_TIMEOUT_SECONDS, timeout), stream=True) as response:
            if not response.ok:
                return f"answered with HTTP status {response.status_code}"
            return next(response.iter_content(LONGEST_ANSWER), b"")
    except requests.Timeout:
        return f"did not answer within {timeout:g} seconds"
    except (requests.RequestException, ValueError):
        return "could not be reached"


def _read_address(answer: bytes, *, url: str) -> str:
    text = answer.decode("ascii", "replace").strip()
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise _unknown(url, f"answered with something else: {text[:32]!r}") from None
    # Who names another service may be in a network of their own, where that address is the right one.
    if not address.is_global and not os.environ.get(CHECKIP_VARIABLE):
        raise _unknown(url, f"answered with {address}, which is not a public address")
    return str(address)


def _unknown(url: str, why: str) -> AWSError:
    return AWSError(
        f"could not find this machine's public address: {urlsplit(url).hostname or url} {why}",
        hint="set `ssh_allowed_cidrs` under `[aws]` to the networks that may reach the head node",
    )
