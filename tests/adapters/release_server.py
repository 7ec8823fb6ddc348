"""A release site of the test's own on 127.0.0.1, and a proxy; both write down what they were asked."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Handler(BaseHTTPRequestHandler):
    server: LocalServer

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path}")
        with suppress(OSError):  # the client may have gone
            self.server.answer(self)
        self.close_connection = True

    def do_CONNECT(self) -> None:
        self.server.asked.append(f"CONNECT {self.path}")
        self.send_error(403, "Not through here")

    def log_message(self, *args: object) -> None:
        """Say nothing."""


Answer = Callable[[Handler], None]


class LocalServer(ThreadingHTTPServer):
    """Answers every GET with `answer`. `released` is set at the end, so that no answer outlasts the test."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.asked: list[str] = []
        self.released = threading.Event()
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"


@contextmanager
def serving(answer: Answer) -> Iterator[LocalServer]:
    with LocalServer(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


def start(handler: Handler, *, length: int, kind: str = "application/zip", status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()


def whole(body: bytes, *, kind: str = "application/zip", status: int = 200) -> Answer:
    def answer(handler: Handler) -> None:
        start(handler, length=len(body), kind=kind, status=status)
        handler.wfile.write(body)

    return answer


def half(body: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        start(handler, length=len(body))
        handler.wfile.write(body[: len(body) // 2])

    return answer


def half_then_wait(body: bytes, *, reached: threading.Event | None = None) -> Answer:
    """Send half, set `reached`, and the rest when the server is released."""

    def answer(handler: Handler) -> None:
        half(body)(handler)
        handler.wfile.flush()
        if reached:
            reached.set()
        handler.server.released.wait(20)
        handler.wfile.write(body[len(body) // 2 :])

    return answer


def silence(handler: Handler) -> None:
    handler.server.released.wait(20)


def hang_up(handler: Handler) -> None:
    """Close the connection without a word."""


def trickle(handler: Handler) -> None:
    start(handler, length=1_000_000)
    while not handler.server.released.wait(0.02):
        handler.wfile.write(b"x")


def redirect(location: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def forward_to(upstream: str) -> Answer:
    """Be a proxy that knows one host only, whatever it is asked for."""

    def answer(handler: Handler) -> None:
        connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=5)
        connection.request("GET", urlsplit(handler.path).path)
        whole(connection.getresponse().read())(handler)
        connection.close()

    return answer
