"""The way over SSH to a head node: a tunnel that can be reopened, and files read from there.

~/.ssh/known_hosts and ~/.ssh/config are neither read nor written: whom to trust is in the head's own tag.
sshtunnel and paramiko are imported by the functions that need them, since they take 0.2 seconds.
"""

from __future__ import annotations

import shlex
import socket
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from daft_launcher.errors import TunnelError
from daft_launcher.ssh_keys import GENERATED_KEY, find_identity, make_key_pair, public_key_of
from daft_launcher.ssh_login import LOG, Login, connect, parse_host_key

if TYPE_CHECKING:
    from paramiko import PKey, Transport

__all__ = [
    "GENERATED_KEY",
    "Tunnel",
    "find_identity",
    "make_key_pair",
    "open_tunnel",
    "public_key_of",
    "read_file",
]

_LOOPBACK = "127.0.0.1"
_TIMEOUT = 20.0
_READ_TIMEOUTS = 6  # a whole file may take so many times what one step may
_CONNECT_FAILED = 2  # RFC 4254, 5.1


def open_tunnel(
    *,
    host: str,
    port: int = 22,
    user: str,
    identity: Path | None,
    host_key: str,
    remote_port: int,
    local_port: int | None = None,
    timeout: float = _TIMEOUT,
) -> Tunnel:
    """Return a context in which a port of 127.0.0.1 leads to `remote_port` of the head's own loopback.

    `identity` is a private key file, None the SSH agent; `host_key` is the OpenSSH public line of a key that
    the head must own. `timeout` bounds each step: to connect, to agree on encryption, to log in.
    """
    login = Login(host=host, port=port, user=user, identity=identity, host_key=host_key, timeout=timeout)
    return Tunnel(login, remote_port=remote_port, local_port=local_port or 0)


def read_file(
    *,
    host: str,
    port: int = 22,
    user: str,
    identity: Path | None,
    host_key: str,
    path: str,
    max_bytes: int = 1 << 20,
    timeout: float = _TIMEOUT,
) -> bytes:
    """Return the last `max_bytes` of a file that `user` may read on the head, by sudo if not otherwise.

    Everything else is as in `open_tunnel`.
    """
    login = Login(host=host, port=port, user=user, identity=identity, host_key=host_key, timeout=timeout)
    transport, _ = connect(login)
    try:
        return _read_remote(transport, path, max_bytes, login)
    finally:
        transport.close()


class Tunnel(AbstractContextManager[int]):
    """A local port that leads to the head while the context is open; entering it yields the port.

    When the connection to the head breaks, the local port stays and closes at once whatever connects to it.
    A caller that sees this, or hears nothing for too long, calls `ensure_open` and tries that port again.
    All threads are daemons, and are gone with the context.
    """

    def __init__(self, login: Login, *, remote_port: int, local_port: int) -> None:
        self._login = login
        self._remote_port = remote_port
        self._local_port = local_port
        self._transport: Transport | None = None
        self._forwarder: Any = None
        self._ended = False
        # Opening takes its time when the head is away, and who ends the tunnel does not wait for it.
        self._opening = threading.Lock()
        self._swapping = threading.Lock()

    def __enter__(self) -> int:
        _check_bindable(self._local_port)
        transport, key = connect(self._login)
        try:
            _check_forwarding(transport, self._login, self._remote_port)
        except BaseException:
            transport.close()
            raise
        self._swap(transport, key)
        return self._local_port

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._swapping:
            self._ended = True
            self._close()

    def ensure_open(self) -> None:
        """Connect anew, at the same local port, unless the head answers; one round trip when it does.

        Raises TunnelError when the head cannot be reached; a later call may succeed.
        """
        with self._opening:
            if not self._answers():
                self._swap(*connect(self._login))

    def _answers(self) -> bool:
        # A network that swallows packets leaves a connection looking alive for a quarter of an hour: so ask.
        from paramiko import ChannelException, SSHException

        transport = self._transport
        if transport is None:
            return False
        try:
            transport.open_session(timeout=self._login.timeout).close()
        except ChannelException:  # a refusal is an answer
            return True
        except (SSHException, EOFError, OSError):
            return False
        return True

    def _swap(self, transport: Transport, key: PKey) -> None:
        with self._swapping:
            self._close()
            if self._ended:
                transport.close()
                return
            try:
                self._forwarder = _forward(transport, key, self._login, self._remote_port, self._local_port)
            except BaseException:
                transport.close()
                raise
            self._transport = transport
            self._local_port = self._forwarder.local_bind_port

    def _close(self) -> None:
        forwarder, self._forwarder, self._transport = self._forwarder, None, None
        if forwarder is not None:
            forwarder.stop(force=True)


def _check_forwarding(transport: Transport, login: Login, remote_port: int) -> None:
    """Raise TunnelError unless the head leads to something at `remote_port`."""
    from paramiko import ChannelException, SSHException

    target = (_LOOPBACK, remote_port)
    try:
        transport.open_channel("direct-tcpip", target, (_LOOPBACK, 0), timeout=login.timeout).close()
    except ChannelException as error:
        if error.code == _CONNECT_FAILED:
            raise TunnelError(
                f"nothing listens at port {remote_port} of {login.where}: its Ray is not running",
                hint="`daft logs --bootstrap` shows how the head was set up, `daft ssh` opens a shell on it",
            ) from error
        raise TunnelError(
            f"the SSH server of {login.where} does not forward to port {remote_port}",
            hint="its sshd_config needs `AllowTcpForwarding yes` or `local`, and must permit that port",
        ) from error
    except (SSHException, EOFError, OSError) as error:
        raise TunnelError(
            f"the connection to {login.where} broke while it was opened", hint="try again"
        ) from error


def _forward(transport: Transport, key: PKey, login: Login, remote_port: int, local_port: int) -> Any:  # noqa: ANN401 - sshtunnel has no types
    import sshtunnel

    forwarder = sshtunnel.SSHTunnelForwarder(
        (login.host, login.port),
        ssh_config_file=None,
        ssh_host_key=parse_host_key(login.host_key),
        ssh_username=login.user,
        ssh_pkey=key,
        allow_agent=False,
        host_pkey_directories=[],
        local_bind_address=(_LOOPBACK, local_port),
        remote_bind_address=(_LOOPBACK, remote_port),
        logger=LOG,
    )
    # Given an active transport it makes none. Were this name to change, it would connect by itself, with the
    # same login, and check the same host key.
    forwarder._transport = transport  # noqa: SLF001
    try:
        forwarder.start()
    except sshtunnel.BaseSSHTunnelForwarderError as error:
        _check_bindable(local_port)
        raise TunnelError(
            f"the connection to {login.where} broke while it was opened", hint="try again"
        ) from error
    return forwarder


def _check_bindable(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError as error:
            from daft_launcher.forward import port_error

            raise port_error(port, error) from error


def _read_remote(transport: Transport, path: str, max_bytes: int, login: Login) -> bytes:
    from paramiko import SSHException

    # Until it has found the user that it belongs to, the bootstrap log is root's.
    tail = shlex.join(["tail", "-c", str(max_bytes), "--", path])
    data = bytearray()
    end = time.monotonic() + _READ_TIMEOUTS * login.timeout
    try:
        channel = transport.open_session(timeout=login.timeout)
        channel.settimeout(login.timeout)
        channel.exec_command(f"{tail} || sudo -n {tail}")
        while len(data) < max_bytes and (chunk := channel.recv(max_bytes - len(data))):
            data += chunk
            if time.monotonic() > end:
                raise TimeoutError
        finished = channel.status_event.wait(login.timeout)
        complaint = channel.recv_stderr(500) if channel.recv_stderr_ready() else b""
    except (SSHException, EOFError, OSError) as error:
        raise TunnelError(
            f"the connection to {login.where} broke while `{path}` was read", hint="try again"
        ) from error
    if not finished or channel.recv_exit_status() != 0:
        words = complaint.decode(errors="replace").strip().splitlines()
        reason = words[0] if words else "the command did not end"
        raise TunnelError(
            f"cannot read `{path}` at {login.user}@{login.where}: {reason}",
            hint="`daft ssh` opens a shell on the head",
        )
    return bytes(data)
