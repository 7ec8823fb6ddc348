"""A reverse proxy between one life's program and AWS: it records each call, and lets one of them fail."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import math
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.torture.calls import Call, Record, Wire
from tests.torture.kinds import AFTER, Kind
from tests.torture.replies import Cut, Reply
from tests.torture.unseen import UNSEEN

_DROPPED = {"connection", "content-length", "date", "server", "transfer-encoding"}
# AWS honours a token: a call that is made again with it takes no effect again, and hears the first answer.
_TOKENS = ("ClientToken", "ClientRequestToken")


@dataclass
class Rule:
    """One call that is to fail, in one command."""

    call: Call
    kind: Kind
    #: How often it has struck.
    strikes: int = 0
    _since: float = field(default=math.nan)

    def meets(self, wire: Wire, made: set[str]) -> bool:
        """Return whether a call meets the fault."""
        if wire.call != self.call and not (self.kind.everywhere and self.strikes):
            return False
        if self.kind.name == "unseen":
            maker = UNSEEN[wire.service, wire.call.action].made_by
            if not any(action.startswith(maker) for action in made):
                return False
        now = time.monotonic()
        if not self.strikes:
            self._since = now
        elif now - self._since > self.kind.seconds:
            return False
        return True

    def strike(self, wire: Wire) -> Reply | None:
        """Return what AWS answers, None where the call goes through. Raises Cut for no answer."""
        self.strikes += 1
        if self.kind.when == AFTER:
            return None
        reply = self.kind.answer(wire)
        if reply is None:
            self.strikes -= 1
        return reply


class FaultProxy:
    """The proxy of one life, for the length of a `with` block."""

    def __init__(self, target: str, *, turns: threading.Lock) -> None:
        """`turns` lets one call at a time through to AWS: moto's tables bear no second reader while they grow."""
        self._target = urlsplit(target)
        self._turns = turns
        self._replies: dict[tuple[str, str, str], Reply] = {}
        self._made: set[str] = set()
        self._lock = threading.Lock()
        self.record = Record()
        #: What went wrong in the proxy itself: a call whose answer it lost failed otherwise than it was to.
        self.troubles: list[str] = []
        self.rules: Sequence[Rule] = ()
        self._server = _Server(self)

    def __enter__(self) -> FaultProxy:
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="fault proxy"
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @contextlib.contextmanager
    def during(self, rules: Sequence[Rule]) -> Iterator[Record]:
        """Record the calls of one command, and let rules hold for it."""
        with self._lock:
            self.record, self.rules, self._made = Record(), rules, set()
        yield self.record
        self.rules = ()

    def answer(self, wire: Wire) -> Reply:
        """Return the answer to a call. Raises Cut where there is to be none."""
        with self._lock:
            self.record.add(wire.call)
            rule = next((rule for rule in self.rules if rule.meets(wire, self._made)), None)
            if rule and (reply := rule.strike(wire)):
                return reply
        reply = self._forward_once(wire)
        if rule and rule.kind.when == AFTER:
            raise Cut
        return reply

    def _forward_once(self, wire: Wire) -> Reply:
        token = _token_of(wire)
        known = self._replies.get((wire.service, wire.call.action, token)) if token else None
        if known:
            return known
        reply = self._forward(wire)
        if reply.status >= 500:
            self.troubles.append(f"{wire.call}: moto failed: {reply.body[:300]!r}")
        if reply.status < 300:
            self._made.add(wire.call.action)
            if token:
                self._replies[wire.service, wire.call.action, token] = reply
        return reply

    def _forward(self, wire: Wire) -> Reply:
        connection = http.client.HTTPConnection(str(self._target.hostname), self._target.port, timeout=60)
        try:
            with self._turns:
                connection.request(wire.method, wire.path, wire.body, dict(wire.headers))
                answer = connection.getresponse()
                body = answer.read()
        finally:
            connection.close()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _DROPPED}
        return Reply(answer.status, body, headers)


def _token_of(wire: Wire) -> str | None:
    if wire.service == "s3" or not wire.body:
        return None
    parameters = wire.parameters()
    return next((str(parameters[name]) for name in _TOKENS if name in parameters), None)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        # No orderly end before a reset.
        self.close_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that are killed leave their connections as they are."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        wire = Wire(self.command, self.path, headers, body)
        try:
            reply = self.server.proxy.answer(wire)
        except Cut:
            self._reset()
            return
        except Exception as error:
            self.server.proxy.troubles.append(f"{wire.call}: {error!r}")
            raise
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Date" not in reply.headers:
            self.send_header("Date", self.date_time_string())
        self.send_header("Content-Length", str(len(reply.body)))
        # As moto does: of a connection that was kept, clients lost an answer now and then, and asked again.
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815 - the base class's names

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass
