"""What may answer in place of a head's SSH server, and what may sit between it and this machine."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Says some bytes, then others again and again, then closes, resets or is silent."""

    says: bytes = b""
    again: bytes = b""
    pause: float = 0.01
    ending: str = "silence"


@contextlib.contextmanager
def listening(peer: Peer) -> Iterator[int]:
    """Yield the port of a peer."""
    done = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.request.sendall(peer.says)
                while peer.again and not done.wait(peer.pause):
                    self.request.sendall(peer.again)
                if peer.ending == "silence":
                    done.wait(60)
                elif peer.ending == "reset":
                    self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with _serving(Handler) as port:
        try:
            yield port
        finally:
            done.set()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


@contextlib.contextmanager
def _serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def ending_at_the_login(host_key: Path, *, hangs_up: bool) -> Iterator[int]:
    """Yield the port of an SSH server that owns the host key, and closes or goes silent when one logs in."""
    done = threading.Event()
    transports: list[paramiko.Transport] = []

    class Login(paramiko.ServerInterface):
        def get_allowed_auths(self, username: str) -> str:
            return "publickey"

        def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
            if hangs_up:
                transports[-1].close()
            else:
                done.wait(30)
            return paramiko.AUTH_FAILED

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            transport = paramiko.Transport(self.request)
            transports.append(transport)
            transport.add_server_key(paramiko.Ed25519Key(filename=str(host_key)))
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=Login())
            done.wait(60)

    with _serving(Handler) as port:
        try:
            yield port
        finally:
            done.set()
            for transport in transports:
                transport.close()


class Relay:
    """Passes connections on to a port, until it is told to do otherwise."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self.accepts = True
        self.connections = 0
        self._harm = threading.Event()
        self._kind = ""
        relay = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                relay._serve(self.request)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def harm(self, kind: str, *, for_good: bool) -> None:
        """Do to the present connections, and to all that follow if it is for good, what `kind` says.

        "stall" passes nothing on and closes nothing, "flip" turns a bit over in each piece, "drop" closes.
        """
        with self._lock:
            harm, self._kind = self._harm, kind
            if not for_good:
                self._harm = threading.Event()
            elif kind == "drop":
                self.accepts = False
        harm.set()
        if kind == "drop":
            self.drop()

    def drop(self) -> None:
        """Close the present connections."""
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._sockets.clear()

    def _serve(self, near: socket.socket) -> None:
        with self._lock:
            if not self.accepts:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [near, far]
            self.connections += 1
            harm = self._harm
        back = threading.Thread(target=self._pump, args=(far, near, harm), daemon=True)
        back.start()
        self._pump(near, far, harm)
        back.join()
        far.close()

    def _pump(self, source: socket.socket, target: socket.socket, harm: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if harm.is_set() and self._kind == "stall":
                    continue
                if harm.is_set() and self._kind == "flip":
                    data = data[:-1] + bytes([data[-1] ^ 1])
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
