"""Why a head node that runs does not answer: whom it lets in, and from where this machine comes."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from daft_launcher.errors import AWSError, SilentHostError
from daft_launcher.public_address import find_public_address
from daft_launcher.state_dir import OPERATOR_FILE


@contextmanager
def explaining_silence(directory: Path, *, ssh_allowed_cidrs: Sequence[str]) -> Iterator[None]:
    """Add to a silence what is known of its cause; the root in `directory` keeps whom `up` let in."""
    try:
        yield
    except SilentHostError as error:
        error.hint = _find_cause(directory, ssh_allowed_cidrs) or error.hint
        raise


def _find_cause(directory: Path, ssh_allowed_cidrs: Sequence[str]) -> str | None:
    allowed = ssh_allowed_cidrs or _read_operator_cidrs(directory)
    if not allowed:
        return None
    try:
        address = find_public_address()
        let_in = any(ipaddress.ip_address(address) in ipaddress.ip_network(cidr) for cidr in allowed)
    except (AWSError, ValueError):
        return None
    if let_in:
        return (
            f"this machine's public address, {address}, is let in: does a firewall on the way stop port 22, and does "
            "the head's subnet reach the internet? `daft list` shows the head's state and address"
        )
    if ssh_allowed_cidrs:
        return (
            f"this machine's public address is {address}, and `ssh_allowed_cidrs` under `[aws]` lets in "
            f"{', '.join(allowed)} only: add it there, then `daft up`"
        )
    return (
        f"this machine's public address is {address} now, and the cluster lets in {', '.join(allowed)} only: "
        "`daft up` lets the new one in"
    )


def _read_operator_cidrs(directory: Path) -> list[str]:
    try:
        return [str(cidr) for cidr in json.loads((directory / OPERATOR_FILE).read_text())["operator_cidrs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
