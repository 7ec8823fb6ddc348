"""A connection to the machine that owns a host key, logged in: paramiko without known_hosts and ssh_config.

ssh.py builds the tunnel on it. sshtunnel's own way to connect has no timeout and hides why it failed.
"""

from __future__ import annotations

import base64
import io
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daft_launcher.errors import SilentHostError, TunnelError
from daft_launcher.ssh_keys import load_private_key, public_key_of

if TYPE_CHECKING:
    from paramiko import PKey, Transport

_AGENT_TIMEOUT = 60.0  # an agent may ask its owner for a yes, or for a touch of a hardware key
_KEEPALIVE = 5

# Both libraries print to stderr when their logger has no handler, and sshtunnel can log every byte.
LOG = logging.getLogger("daft_launcher.ssh")
LOG.addHandler(logging.NullHandler())
LOG.setLevel(logging.CRITICAL)
LOG.propagate = False


@dataclass(frozen=True, kw_only=True)
class Login:
    """Who logs in where, with which key file (None: the SSH agent), and whose host key has to answer."""

    host: str
    port: int
    user: str
    identity: Path | None
    host_key: str
    timeout: float

    @property
    def where(self) -> str:
        """The address as messages name it."""
        return f"{self.host}:{self.port}"


def connect(login: Login) -> tuple[Transport, PKey]:
    """Return an open connection and the key that logged in. `login.timeout` bounds each step."""
    from paramiko import Transport

    expected = parse_host_key(login.host_key)
    with _login_keys(login.identity) as keys:
        transport = Transport(_dial(login))
        try:
            _shake_hands(transport, expected, login)
            key = _authenticate(transport, keys, login)
            transport.set_keepalive(_KEEPALIVE)
        except BaseException:
            transport.close()
            raise
    return transport, key


def parse_host_key(line: str) -> PKey:
    """Return the key of an OpenSSH public line."""
    from paramiko import PKey, SSHException
    from paramiko.pkey import UnknownKeyType

    try:
        kind, blob, *_ = line.split()
        return PKey.from_type_string(kind, base64.b64decode(blob, validate=True))
    except (ValueError, SSHException, UnknownKeyType) as error:
        raise TunnelError(
            f"the head's tag holds no OpenSSH public key: `{line}`",
            hint="`daft down` and `daft up` make a head that names its host key",
        ) from error


def _dial(login: Login) -> socket.socket:
    try:
        connection = socket.create_connection((login.host, login.port), timeout=login.timeout)
    except ConnectionRefusedError as error:
        raise TunnelError(
            f"{login.where} refuses SSH connections",
            hint="it is there but has no SSH server yet, or no longer; `daft list` shows its state",
        ) from error
    except TimeoutError as error:
        raise SilentHostError(
            f"cannot reach {login.where}: no answer within {login.timeout:g} seconds",
            hint="this machine's public address may have changed since `daft up`: run it again to let the new one in; "
            "`daft list` shows the head's state and address",
        ) from error
    except (ConnectionResetError, BrokenPipeError) as error:  # it was taken, and ended before we looked
        raise _no_handshake(login) from error
    except OSError as error:
        raise TunnelError(
            f"cannot reach {login.where}: {error.strerror}",
            hint="`daft list` shows the head's state and address",
        ) from error
    # Without this every question that paramiko asks may wait for the acknowledgement of the last: 40 ms on Linux.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _no_handshake(login: Login) -> TunnelError:
    return TunnelError(
        f"what answers at {login.where} does not complete an SSH handshake",
        hint="the head may be booting or overloaded, or something else may answer at its address; "
        "`daft list` shows its state and address",
    )


def _shake_hands(transport: Transport, expected: PKey, login: Login) -> None:
    from paramiko import SSHException

    transport.set_log_channel(LOG.name)
    transport.banner_timeout = transport.handshake_timeout = login.timeout
    options = transport.get_security_options()
    options.key_types = sorted(options.key_types, key=lambda kind: kind != expected.get_name())
    try:
        transport.start_client(timeout=login.timeout)
        # start_client returns as if all were well when its time is over; then this raises.
        answered = transport.get_remote_server_key()
    except (SSHException, EOFError, OSError) as error:
        raise _no_handshake(login) from error
    if answered.asbytes() != expected.asbytes():
        raise TunnelError(
            f"the machine that answers at {login.where} is not the head that tagged itself: its host key is "
            f"{answered.fingerprint}, the head's is {expected.fingerprint}",
            hint="nothing of yours was sent. The address may be another machine's by now, the head's host "
            "key may have been changed since it booted, or somebody sits in between. Compare the address with "
            "`daft list`; if it is the head's, `daft down` and `daft up` make a head whose key is known",
        )


def _authenticate(transport: Transport, keys: Sequence[tuple[str, PKey]], login: Login) -> PKey:
    from paramiko import AgentKey

    tried = []
    for name, key in keys:
        tried.append(name)
        started_at = time.monotonic()
        if _accepts(transport, key, login):
            return key
        if not transport.is_active():  # the server takes six keys or fewer before it hangs up
            if len(tried) == 1:
                raise _broken_login(f"{login.where} hung up during the login as {login.user}")
            break
        if time.monotonic() - started_at > login.timeout and not isinstance(key, AgentKey):
            raise _broken_login(f"{login.where} went silent during the login as {login.user}")
    raise TunnelError(
        f"cannot log in as {login.user}@{login.where} with {', '.join(tried)}",
        hint="`-i KEY` names the key that the cluster was made with; `ssh_user` must be the image's login, "
        "ec2-user on Amazon Linux, ubuntu on Ubuntu",
    )


def _broken_login(message: str) -> TunnelError:
    return TunnelError(
        message,
        hint="the head may be overloaded or shutting down: try again, and `daft list` shows its state; or it does "
        "not take this key: `-i KEY` names another",
    )


def _accepts(transport: Transport, key: PKey, login: Login) -> bool:
    from paramiko import AgentKey, SSHException

    transport.auth_timeout = _AGENT_TIMEOUT if isinstance(key, AgentKey) else login.timeout
    try:
        transport.auth_publickey(login.user, key)
    except (SSHException, EOFError, OSError):
        return False
    return transport.is_authenticated()


@contextmanager
def _login_keys(identity: Path | None) -> Iterator[Sequence[tuple[str, PKey]]]:
    """Yield the keys to log in with, each with its name for messages."""
    from paramiko import Agent, SSHException

    key = _load(identity) if identity else None
    if key is not None:
        yield [(f"the key `{identity}`", key)]
        return
    try:
        agent = Agent()
    except (SSHException, OSError) as error:
        raise TunnelError(
            "the SSH agent gives no answer", hint="`ssh-add -l` should list its keys"
        ) from error
    with closing(agent):
        yield _choose(agent.get_keys(), identity)


def _load(identity: Path) -> PKey | None:
    from cryptography.hazmat.primitives import serialization
    from paramiko import ECDSAKey, Ed25519Key, RSAKey

    private = load_private_key(identity)
    if private is None:
        return None
    # paramiko does not read PKCS #8, which OpenSSH accepts; both read OpenSSH's own format.
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    kinds: dict[str, type[PKey]] = {"ssh-ed25519": Ed25519Key, "ssh-rsa": RSAKey}
    kind = kinds.get(public_key_of(identity).split()[0], ECDSAKey)
    return kind.from_private_key(io.StringIO(text.decode("ascii")))


def _choose(held: Sequence[PKey], identity: Path | None) -> Sequence[tuple[str, PKey]]:
    """Return the agent's keys, or only the one whose file is `identity`, which has a passphrase."""
    if identity is not None:
        public = base64.b64decode(public_key_of(identity).split()[1])
        same = [(f"the key `{identity}`", key) for key in held if key.asbytes() == public]
        if not same:
            raise TunnelError(
                f"the key `{identity}` is protected by a passphrase, and no SSH agent holds it",
                hint=f"`ssh-add {identity}` asks for the passphrase and hands the key to the agent",
            )
        return same
    if not held:
        raise TunnelError(
            "there is no SSH key to log in with: none that `daft up` made on this machine, none of `ssh_key_name` "
            "in ~/.ssh, none in an SSH agent",
            hint="`-i KEY` names one; a team shares one whose `ssh_key_name` stands in [aws]",
        )
    return [(f"the SSH agent's key {key.fingerprint}", key) for key in held]
