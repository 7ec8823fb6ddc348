"""Ways out for a machine that has hardly any: a proxy, a page of wheels, and a router that lets nothing else pass.

Both servers stand at the router, and write down who asked them for what.
"""

from __future__ import annotations

import contextlib
import functools
import json
import selectors
import shutil
import socket
import subprocess
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from tests.lab import network
from tests.lab.machine import Machine

_HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "transfer-encoding"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, handler: type[BaseHTTPRequestHandler] | functools.partial[SimpleHTTPRequestHandler]
    ) -> None:
        super().__init__((network.OPERATOR, 0), handler)
        self.url = f"http://{network.OPERATOR}:{self.server_port}/"
        #: The address of each client, and its request: `GET http://…`, `CONNECT host:port`.
        self.asked: list[tuple[str, str]] = []
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def __enter__(self) -> _Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Say nothing: uv hangs up when it has read as much of a wheel as it needs."""


class Proxy(_Server):
    """An HTTP proxy (RFC 9110, 7.6 and 9.3.6) for the length of a `with` block."""

    def __init__(self) -> None:
        super().__init__(_ProxyHandler)


class WheelPage(_Server):
    """A page with links to wheels, and no index, for the length of a `with` block."""

    def __init__(self, folder: Path) -> None:
        super().__init__(functools.partial(_PageHandler, directory=str(folder)))


class _PageHandler(SimpleHTTPRequestHandler):
    server: WheelPage

    def log_message(self, *_: object) -> None:
        self.server.asked.append((self.client_address[0], f"{self.command} {self.path}"))


class _ProxyHandler(BaseHTTPRequestHandler):
    server: Proxy

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.server.asked.append((self.client_address[0], f"{self.command} {self.path}"))
        host = urlsplit(self.path).netloc
        if not host:
            return self.send_error(400, "this is a proxy")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with contextlib.closing(HTTPConnection(host, timeout=60)) as far:
            far.request(self.command, self.path.partition(host)[2], body or None, headers)
            answer = far.getresponse()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.end_headers()
            shutil.copyfileobj(answer, self.wfile)
        return None

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_CONNECT(self) -> None:
        self.server.asked.append((self.client_address[0], f"{self.command} {self.path}"))
        host, _, port = self.path.rpartition(":")
        try:
            far = socket.create_connection((host, int(port)), 60)
        except OSError as error:  # a name of the outside's, which the lab does not know
            return self.send_error(502, str(error))
        with far:
            self.send_response_only(200)
            self.end_headers()
            _splice(self.connection, far)
        return None


def _splice(*ends: socket.socket) -> None:
    with selectors.DefaultSelector() as ready:
        for end, other in (ends, ends[::-1]):
            ready.register(end, selectors.EVENT_READ, other)
        while True:
            for key, _ in ready.select():
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)


class OnlyWayOut:
    """A machine reaches its metadata and these addresses of the router's, and no other, while a `with` block runs."""

    def __init__(self, machine: Machine, *urls: str) -> None:
        self._cable = machine.name
        self._table = f"out-{machine.name}"
        ways = [f"{urlsplit(url).hostname} . {urlsplit(url).port}" for url in urls]
        self._ways = ", ".join([f"{network.METADATA} . 80", *ways])

    def __enter__(self) -> OnlyWayOut:
        lines = [
            f"table inet {self._table} {{",
            "counter refused {}",
            "chain out {",
            "type filter hook input priority 0; policy accept;",
            f'iifname != "{self._cable}" accept',
            "ct state established,related accept",
            f"ip daddr . tcp dport {{ {self._ways} }} accept",
            "counter name refused drop",
            "}",
            "}",
        ]
        subprocess.run(["nft", "-f", "-"], input="\n".join(lines), text=True, check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["nft", "delete", "table", "inet", self._table], check=True)

    @property
    def refused(self) -> int:
        """How many packets wanted to go elsewhere."""
        words = ["nft", "--json", "list", "counter", "inet", self._table, "refused"]
        shown = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        return int(next(entry["counter"]["packets"] for entry in shown["nftables"] if "counter" in entry))
