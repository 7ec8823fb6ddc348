"""HTTP connections of `requests` on which a whole answer has a deadline.

Its own timeout is for each read, so that a server which says a byte a minute is listened to for years.
"""

from __future__ import annotations

import math
import socket
import time
from typing import Any

import requests.adapters
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection


class Deadline:
    """The moment by which the answer to what was sent last has to be there; `seconds` after it was sent."""

    def __init__(self) -> None:
        self.seconds = math.inf
        self._at = math.inf

    def renew(self) -> None:
        """Let the time begin now."""
        self._at = time.monotonic() + self.seconds

    def left(self) -> float | None:
        """Return how many seconds are left, None for no end. Raises TimeoutError when none is."""
        if math.isinf(self._at):
            return None
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class DeadlineAdapter(requests.adapters.HTTPAdapter):
    """Makes connections that keep one deadline."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as requests has it
        """Make the pool of connections, as requests asks for it."""
        super().init_poolmanager(*args, **kwargs)
        deadline = self._deadline

        class Connection(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                self.sock = _TimedSocket(self.sock, deadline)

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        self.poolmanager.pool_classes_by_scheme = {"http": Pool}


class _TimedSocket(socket.socket):
    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        timeout = connected.gettimeout()
        super().__init__(connected.family, connected.type, connected.proto, fileno=connected.detach())
        self.settimeout(timeout)
        self._deadline = deadline

    def sendall(self, *args: Any) -> None:  # noqa: ANN401 - what a socket takes
        super().sendall(*args)
        self._deadline.renew()

    def recv_into(self, *args: Any, **kwargs: Any) -> int:  # noqa: ANN401 - what a socket takes
        self.settimeout(self._deadline.left())
        return super().recv_into(*args, **kwargs)
