"""A stand-in for Ray's HTTP API that fails on demand; what Ray does when all is well is tested with Ray itself."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from daft_launcher.models import RayApi

TOKEN = "s3cret-token"
VERSION = {"version": "4", "ray_version": "2.60.0"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server says to one request. `cut` closes the connection after so many bytes of the body."""

    status: int = 200
    body: object = ""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    delay: float = 0


@dataclass(frozen=True, kw_only=True)
class Raw:
    """What the server says to one request, byte for byte: some bytes, then others again and again, or silence.

    `unread` answers before the body of the request is read.
    """

    says: bytes = b""
    again: bytes = b""
    pause: float = 0
    silent: bool = False
    unread: bool = False


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One WebSocket: the pieces that it sends, bytes as they are, and how it ends.

    `ending` is "close" (orderly, as Ray's dashboard does even when its agent failed), "cut" (the connection
    breaks), "cut in a frame", "silence" (nothing more comes) or "again" (the pieces, for ever).
    """

    pieces: tuple[str | bytes, ...]
    ending: str = "close"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the server was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class RayApiServer:
    """Answers each request with the next of the answers prepared for it; the last one is repeated."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._answers: dict[str, list[Answer | Stream | Raw]] = defaultdict(list)
        self._lock = threading.Lock()
        self.released = threading.Event()

    def prepare(self, request: str, *answers: Answer | Stream | Raw) -> None:
        """Set the answers to a request such as `GET /api/version`."""
        self._answers[request] = list(answers)

    def prepare_job(self, submission_id: str, /, *statuses: str, **details: object) -> None:
        """Set what is said of a job, one status after the other."""
        self.prepare(
            f"GET /api/jobs/{submission_id}",
            *[Answer(body=job_answer(submission_id, status, **details)) for status in statuses],
        )

    def next_answer(self, request: str) -> Answer | Stream | Raw:
        with self._lock:
            answers = self._answers[request.partition("?")[0]]
            if not answers:
                return Answer(status=404, body="404: Not Found")
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def asked(self) -> list[str]:
        """Return what was asked, in order."""
        return [f"{request.method} {request.path}" for request in self.requests]


def job_answer(submission_id: str, status: str, /, **details: object) -> dict[str, object]:
    """Return one job as Ray describes it."""
    job = {
        "type": "SUBMISSION",
        "job_id": None,
        "submission_id": submission_id,
        "status": status,
        "entrypoint": "python main.py",
        "message": None,
        "start_time": 1795503035260,
        "end_time": None,
        "driver_node_id": "abc",
        "driver_exit_code": None,
    }
    return {**job, **details}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ray: RayApiServer

    def handle_request(self) -> None:
        answer = self.ray.next_answer(f"{self.command} {self.path}")
        unread = isinstance(answer, Raw) and answer.unread
        body = b"" if unread else self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.ray.requests.append(
            Request(method=self.command, path=self.path, headers=dict(self.headers), body=body)
        )
        with contextlib.suppress(OSError):  # whoever asked is gone
            if isinstance(answer, Stream):
                self._stream(answer)
            elif isinstance(answer, Raw):
                self._raw(answer)
            else:
                self._answer(answer)

    do_GET = do_PUT = do_POST = handle_request  # noqa: N815

    def _answer(self, answer: Answer) -> None:
        self.ray.released.wait(answer.delay)
        body = answer.body if isinstance(answer.body, str | bytes) else json.dumps(answer.body)
        body = body.encode() if isinstance(body, str) else body
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: answer.cut])
        if answer.cut is not None:
            self.close_connection = True

    def _raw(self, raw: Raw) -> None:
        self.close_connection = True
        self.wfile.write(raw.says)
        while raw.again and not self.ray.released.wait(raw.pause):
            self.wfile.write(raw.again)
        if raw.silent:
            self.ray.released.wait(30)

    def _stream(self, stream: Stream) -> None:
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        for name, value in {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": accept,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self._send(stream.pieces)
        while stream.ending == "again" and not self.ray.released.wait(0.02):
            self._send(stream.pieces)
        if stream.ending == "close":
            self.wfile.write(frame(0x8, struct.pack("!H", 1000)))
        elif stream.ending == "cut in a frame":
            self.wfile.write(frame(0x1, b"never seen whole")[:9])
        elif stream.ending == "silence":
            self.ray.released.wait(30)
        self.close_connection = True

    def _send(self, pieces: Iterable[str | bytes]) -> None:
        for piece in pieces:
            self.wfile.write(frame(0x1, piece.encode()) if isinstance(piece, str) else piece)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def frame(opcode: int, payload: bytes) -> bytes:
    if len(payload) < 126:
        return struct.pack("!BB", 0x80 | opcode, len(payload)) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, len(payload)) + payload


@contextmanager
def serve(ray: RayApiServer | None = None):
    """Run the server on a free port of this machine and yield it with its address."""
    ray = ray or RayApiServer()
    handler = type("Handler", (_Handler,), {"ray": ray})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    ray.prepare("GET /api/version", Answer(body=VERSION))
    try:
        yield ray, RayApi(url=f"http://127.0.0.1:{server.server_port}", token=TOKEN)
    finally:
        ray.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
