"""A service on loopback that says from where one asks, or whatever a test wants it to say."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class CheckipService(ThreadingHTTPServer):
    """Answers for the length of a `with` block."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = (200, b"", 0.0)
        self.stop = threading.Event()

    def __enter__(self) -> CheckipService:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.shutdown()
        self.server_close()

    def answer(self, body: bytes, *, status: int = 200, pause: float = 0) -> None:
        """Say this from now on, with `pause` seconds before each byte."""
        self.reply = (status, body, pause)


class _Handler(BaseHTTPRequestHandler):
    server: CheckipService

    def do_GET(self) -> None:
        status, body, pause = self.server.reply
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for byte in body:
            self.server.stop.wait(pause)
            if self.server.stop.is_set():
                return
            with contextlib.suppress(OSError):  # the client has read enough
                self.wfile.write(bytes([byte]))

    def log_message(self, *args: object) -> None:
        """Say nothing."""
