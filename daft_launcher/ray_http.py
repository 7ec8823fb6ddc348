"""Requests to Ray at one address of this machine: bounded in time and size, every failure a JobError."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from daft_launcher.errors import JobError
from daft_launcher.job import Job, load_job
from daft_launcher.models import RayApi
from daft_launcher.ray_errors import no_answer, not_ray, not_text, refused, too_long
from daft_launcher.reach import Reach

if TYPE_CHECKING:
    import requests
    from websockets.sync.client import ClientConnection

    from daft_launcher.ray_deadline import Deadline

_CHUNK = 1 << 16
# What is held in memory: an answer, a piece of a log, and of an answer that is an error as much as may say why.
_LONGEST_ANSWER = 32 << 20
_LONGEST_MESSAGE = 64 << 20
_LONGEST_ERROR = 1 << 18
# How we end a WebSocket whose other side breaks its rules: nonsense, or too long.
_NONSENSE = {1002, 1009}


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    """An answer of Ray's, whole."""

    request: str
    status: int
    body: bytes


class RayHttp:
    """The HTTP side of Ray's dashboard. No proxy and no redirect: the token goes to one address only."""

    def __init__(self, api: RayApi, reach: Reach) -> None:
        self.url = api.url.rstrip("/")
        self._token = api.token
        self._reach = reach
        self._headers = {"User-Agent": "daft-launcher", "Accept-Encoding": "identity"}
        if api.token:
            self._headers["Authorization"] = f"Bearer {api.token}"
        self._open_session: tuple[requests.Session, Deadline] | None = None

    def close(self) -> None:
        """Close the connections that are kept."""
        if self._open_session is not None:
            self._open_session[0].close()
            self._open_session = None

    def call(
        self,
        method: str,
        path: str,
        *,
        body: IO[bytes] | None = None,
        json: dict[str, Any] | None = None,
        allow: int = HTTPStatus.OK,
    ) -> HttpAnswer:
        """Return the answer when it has the status 200 or the one that `allow` names."""
        import requests

        request = f"{method} {path}"
        try:
            with self._ask(method, path, body=body, json=json) as response:
                if response.status_code in (HTTPStatus.OK, allow):
                    whole = self._read(response, _LONGEST_ANSWER, request)
                    return HttpAnswer(request=request, status=response.status_code, body=whole)
                page = next(response.iter_content(_LONGEST_ERROR), b"")
        except requests.RequestException as error:
            raise no_answer(self.url, error) from error
        raise self._refused(request, response.status_code, page)

    def chunks(self, path: str) -> Iterator[bytes]:
        """Yield the body of an answer as it comes, however long it is."""
        import requests

        try:
            with self._ask("GET", path) as response:
                if response.status_code != HTTPStatus.OK:
                    page = next(response.iter_content(_LONGEST_ERROR), b"")
                    raise self._refused(f"GET {path}", response.status_code, page)
                received = 0
                for chunk in response.iter_content(_CHUNK):
                    yield chunk
                    received += len(chunk)
                    if received >= _CHUNK:  # less than this in all the time of an answer is no progress
                        received = 0
                        self._session()[1].renew()
        except requests.RequestException as error:
            raise no_answer(self.url, error) from error

    def json(self, method: str, path: str, *, json: dict[str, Any] | None = None) -> Mapping[str, Any]:
        """Return an answer that has to be a JSON object."""
        answer = self._parse(self.call(method, path, json=json))
        if not isinstance(answer, dict):
            raise not_ray(self.url, f"{method} {path}")
        return answer

    def job(self, path: str) -> Job:
        """Return the job that an answer describes."""
        return self._load_job(self.json("GET", path), path)

    def jobs(self, path: str) -> list[Job]:
        """Return the submitted jobs of an answer; other drivers have no log and no exit code."""
        answer = self._parse(self.call("GET", path))
        if not isinstance(answer, list) or not all(isinstance(job, dict) for job in answer):
            raise not_ray(self.url, f"GET {path}")
        return [self._load_job(job, path) for job in answer if job.get("type") == "SUBMISSION"]

    def messages(self, path: str, *, poll_seconds: float) -> Iterator[str | None]:
        """Yield what a WebSocket says until it closes, and None when it has said nothing for `poll_seconds`."""
        from websockets.exceptions import ConnectionClosed

        with self._stream(path) as stream:
            while True:
                try:
                    yield stream.recv(timeout=poll_seconds, decode=False).decode()
                except TimeoutError:
                    yield None
                except ConnectionClosed as error:
                    if error.sent and error.sent.code in _NONSENSE:
                        raise not_text(self.url, f"GET {path}") from error
                    return
                except UnicodeDecodeError as error:
                    raise not_text(self.url, f"GET {path}") from error

    def _session(self) -> tuple[requests.Session, Deadline]:
        import requests

        from daft_launcher.ray_deadline import Deadline, DeadlineAdapter

        if self._open_session is None:
            session, deadline = requests.Session(), Deadline()
            session.trust_env = False  # proxies and .netrc are for the world outside
            session.headers.update(self._headers)
            session.mount("http://", DeadlineAdapter(deadline))
            self._open_session = session, deadline
        return self._open_session

    @contextmanager
    def _ask(
        self, method: str, path: str, *, body: IO[bytes] | None = None, json: dict[str, Any] | None = None
    ) -> Iterator[requests.Response]:
        """Yield an answer whose body is still to be read."""
        session, deadline = self._session()
        deadline.seconds = self._reach.ray_answer if body is None else self._reach.ray_upload
        response = session.request(
            method,
            self.url + path,
            data=body,
            json=json,
            # While a request is sent, the first holds for each piece of it; the deadline begins with the last piece.
            timeout=(self._reach.ray_connect, deadline.seconds),
            allow_redirects=False,
            stream=True,
        )
        with response:
            yield response

    def _read(self, response: requests.Response, limit: int, request: str) -> bytes:
        body = bytearray()
        for chunk in response.iter_content(_CHUNK):
            body += chunk
            if len(body) > limit:
                raise too_long(self.url, request, limit)
        return bytes(body)

    @contextmanager
    def _stream(self, path: str) -> Iterator[ClientConnection]:
        """Keep a WebSocket open."""
        from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException
        from websockets.sync.client import connect

        address = urlsplit(self.url)
        seconds = self._reach.ray_connect
        try:
            # A socket of our own: websockets then uses no proxy and follows no redirect. Nobody answers pings,
            # and Ray forwards the offer of compression to where it is not understood.
            sock = socket.create_connection((address.hostname, address.port or 80), timeout=seconds)
            sock.settimeout(None)
            connection = connect(
                f"ws://{address.netloc}{path}",
                sock=sock,
                additional_headers={k: v for k, v in self._headers.items() if k == "Authorization"},
                user_agent_header=self._headers["User-Agent"],
                open_timeout=seconds,
                ping_interval=None,
                compression=None,
                max_size=_LONGEST_MESSAGE,
            )
        except InvalidStatus as error:
            raise self._refused(
                f"GET {path}", error.response.status_code, bytes(error.response.body or b"")
            ) from error
        except (ValueError, InvalidURI) as error:  # a redirect
            raise not_ray(self.url, f"GET {path}") from error
        except (OSError, WebSocketException) as error:
            raise no_answer(self.url, error) from error
        with connection:
            try:
                yield connection
            finally:
                # Ray does not read what we send, so it would not answer the closing handshake.
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _parse(self, answer: HttpAnswer) -> object:
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise not_ray(self.url, answer.request) from error

    def _load_job(self, answer: Mapping[str, Any], path: str) -> Job:
        try:
            job = load_job(answer)
        except (KeyError, TypeError, ValueError, ArithmeticError, OSError) as error:
            raise not_ray(self.url, f"GET {path}") from error
        return replace(job, message=self.without_token(job.message)) if job.message else job

    def without_token(self, text: str) -> str:
        """Return what a server says without the token, which it may have been told only to repeat it."""
        return text.replace(self._token, "***") if self._token else text

    def _refused(self, request: str, status: int, page: bytes) -> JobError:
        words = self.without_token(page.decode(errors="replace"))
        return refused(self.url, request, status=status, body=words)
