"""The use cases that go to the head node itself: a shell on it, and the log of its bootstrap."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from daft_launcher.errors import TunnelError
from daft_launcher.jobs import get_cluster
from daft_launcher.models import SshLogin
from daft_launcher.tools import Tools

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig

_PORT = 22


def open_shell(
    config: ClusterConfig, words: Sequence[str], tools: Tools, *, identity_file: Path | None
) -> int:
    """Run OpenSSH's client on the head, for a shell or for a command, and return its exit status.

    Several words arrive as they are; a single one is a command line for the head's shell.
    """
    cluster = get_cluster(config.setup, tools)
    login = tools.provider.get_login(cluster, identity_file=identity_file)
    with _ssh_command(login, tools.reach.ssh_timeout) as command:
        try:
            # OpenSSH takes options behind the host too, up to the first word that is none, or `--`.
            remote = ["--", shlex.join(words) if len(words) > 1 else words[0]] if words else []
            return subprocess.run([*command, *remote], check=False).returncode
        except FileNotFoundError:
            raise TunnelError(
                "there is no `ssh` on PATH",
                hint="install OpenSSH's client, for example with `apt-get install ssh`",
            ) from None


def read_bootstrap_log(config: ClusterConfig, tools: Tools, *, identity_file: Path | None) -> str:
    """Return the end of what the head wrote while it was set up."""
    cluster = get_cluster(config.setup, tools)
    return tools.provider.read_bootstrap_log(cluster, identity_file=identity_file)


@contextlib.contextmanager
def _ssh_command(login: SshLogin, timeout: float) -> Iterator[list[str]]:
    """Yield the command that trusts this one host key and reads nobody's configuration."""
    with tempfile.NamedTemporaryFile("w", prefix="daft-known-hosts-") as known_hosts:
        # OpenSSH writes the port down only where it is not the usual one.
        name = login.address if login.port == _PORT else f"[{login.address}]:{login.port}"
        known_hosts.write(f"{name} {login.host_key}\n")
        known_hosts.flush()
        options = {
            "UserKnownHostsFile": known_hosts.name,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "HostKeyAlgorithms": "ssh-ed25519",
            "UpdateHostKeys": "no",
            # Without these a network that swallows packets holds it for as long as the kernel likes.
            "ConnectTimeout": f"{timeout:.0f}",
            "ServerAliveInterval": f"{timeout:.0f}",
            "ServerAliveCountMax": "3",
        }
        if login.identity_file:
            options["IdentitiesOnly"] = "yes"
        identity = ["-i", str(login.identity_file)] if login.identity_file else []
        settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        port = [] if login.port == _PORT else ["-p", str(login.port)]
        yield ["ssh", "-F", "none", *settings, *port, *identity, f"{login.user}@{login.address}"]
