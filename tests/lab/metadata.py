"""The instance metadata service, version 2 only, for all machines: it tells them apart by their address."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

_TTL = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN = "X-aws-ec2-metadata-token"

Look = Callable[[str], Mapping[str, str] | None]


class MetadataServer(ThreadingHTTPServer):
    """Answers for the length of a `with` block; `look` returns the tree of the machine with an address."""

    daemon_threads = True

    def __init__(self, address: str, look: Look) -> None:
        super().__init__((address, 80), _Handler)
        self.look = look
        self.tokens: dict[tuple[str, str], float] = {}
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def __enter__(self) -> MetadataServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: MetadataServer

    def log_message(self, *_: object) -> None: ...

    def do_PUT(self) -> None:
        seconds = self.headers.get(_TTL, "")
        valid = seconds.isdigit() and 1 <= int(seconds) <= 21600 and "X-Forwarded-For" not in self.headers
        if self.path != "/latest/api/token" or not valid:
            return self._answer(400)
        token = secrets.token_urlsafe(40)
        self.server.tokens[self.client_address[0], token] = time.monotonic() + int(seconds)
        return self._answer(200, token, {_TTL: seconds})

    def do_GET(self) -> None:
        token = self.client_address[0], self.headers.get(_TOKEN, "")
        if self.server.tokens.get(token, 0) < time.monotonic():
            return self._answer(401)
        tree = self.server.look(self.client_address[0])
        if tree is None:
            return self._answer(404)
        path = self.path.removeprefix("/latest/").removeprefix("/")
        if path in tree:
            return self._answer(200, tree[path])
        folder = path.rstrip("/") + "/"
        names = {key.removeprefix(folder).split("/")[0] for key in tree if key.startswith(folder)}
        return self._answer(200 if names else 404, "\n".join(sorted(names)))

    def _answer(self, status: int, text: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text.encode())), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())
