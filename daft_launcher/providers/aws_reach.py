"""The way to a head node: its login, a tunnel that is kept open, and why one that runs does not answer."""

from __future__ import annotations

import ipaddress
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from daft_launcher.errors import AWSError, SilentHostError, TunnelError
from daft_launcher.models import SshLogin
from daft_launcher.public_address import find_public_address
from daft_launcher.state_dir import OPERATOR_FILE

if TYPE_CHECKING:
    from daft_launcher.ssh import Tunnel


class SshArguments(TypedDict):
    """What the functions of ssh.py take alike."""

    host: str
    port: int
    user: str
    identity: Path | None
    host_key: str
    timeout: float


def ssh_arguments(login: SshLogin, timeout: float) -> SshArguments:
    """Return a login as ssh.py takes it."""
    return {
        "host": login.address,
        "port": login.port,
        "user": login.user,
        "identity": login.identity_file,
        "host_key": login.host_key,
        "timeout": timeout,
    }


def as_token(content: str, path: str, login: SshLogin) -> str:
    """Return the token that a file of the head holds. Raises TunnelError when it is none that HTTP could carry."""
    token = content.strip()
    if not token or not all("!" <= character <= "~" for character in token):
        raise TunnelError(
            f"`{path}` at {login.user}@{login.address} holds no token of Ray's",
            hint="`daft logs --bootstrap` shows how the head was set up",
        )
    return token


@contextmanager
def kept_open(tunnel: Tunnel, *, every: float) -> Iterator[None]:
    """Open a tunnel again whenever it is cut while the context is open; it keeps its port."""
    done = threading.Event()

    def keep() -> None:
        while not done.wait(every):
            # Whoever uses the tunnel gives up in its own time, and says why.
            with suppress(TunnelError):
                tunnel.ensure_open()

    keeper = threading.Thread(target=keep, daemon=True, name="tunnel-keeper")
    keeper.start()
    try:
        yield
    finally:
        done.set()


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
