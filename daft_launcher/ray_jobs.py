"""Ray's job API over HTTP: submit a job, follow its log, ask what became of it, stop it."""

from __future__ import annotations

import codecs
import io
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from daft_launcher.errors import JobError, UsageError
from daft_launcher.job import Job, JobStatus, LogIncompleteError, UnreachableError, exit_status, load_job
from daft_launcher.job_log import Patience, follow_log
from daft_launcher.job_package import JobPackage
from daft_launcher.models import RayApi
from daft_launcher.ray_errors import no_answer, not_ray, refused

if TYPE_CHECKING:
    import requests
    from websockets.sync.client import ClientConnection

__all__ = ["Job", "JobStatus", "LogIncompleteError", "RayJobs", "UnreachableError", "exit_status"]

API_VERSION = "4"

_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 60
_UPLOAD_SECONDS = 300
# Ray holds the whole answer of `/logs` in the memory of three processes of the head node.
_WHOLE_LOG_CHARACTERS = 8 * 1024 * 1024


class RayJobs:
    """The jobs of one Ray cluster. Every method raises JobError when Ray refuses or cannot be reached.

    `reconnect_timeout` is how many seconds `follow` and `wait` go on trying while nothing answers.
    """

    def __init__(self, api: RayApi, *, reconnect_timeout: float = 60, poll_seconds: float = 1) -> None:
        self._http = _Http(api)
        self._reconnect_timeout = reconnect_timeout
        self._poll_seconds = poll_seconds

    def __enter__(self) -> RayJobs:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit(
        self, *, entrypoint: str, package: JobPackage, env: Mapping[str, str], job_id: str | None = None
    ) -> str:
        """Upload the package unless Ray has it, start the job and return its submission id."""
        submission_id = job_id if job_id is not None else f"daft-{secrets.token_hex(8)}"
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", submission_id):
            raise UsageError(
                f"`{submission_id}` cannot be a job id",
                hint="a job id has up to 128 letters, digits, `_`, `-` and `.`, the first no `-` and no `.`",
            )
        version = self._http.json("GET", "/api/version").get("version")
        if version != API_VERSION:
            raise JobError(
                f"Ray at {self._http.url} has version {version} of the job API, not {API_VERSION}",
                hint="`ray_version` under [setup] chooses the cluster's Ray",
            )
        self._upload(package)
        self._start(
            submission_id,
            {
                "entrypoint": entrypoint,
                "submission_id": submission_id,
                "runtime_env": {"working_dir": package.uri, "env_vars": dict(env)},
                "metadata": {"submitted_by": "daft-launcher"},
            },
        )
        return submission_id

    def _upload(self, package: JobPackage) -> None:
        path = f"/api/packages/{package.uri.replace('://', '/', 1)}"
        # Asking also keeps Ray from throwing a package away before the job that needs it has started.
        if self._http.call("GET", path, allow=404).status_code == 404:
            with package.path.open("rb") as body:
                self._http.call("PUT", path, body=body, seconds=_UPLOAD_SECONDS)

    def _start(self, submission_id: str, request: dict[str, Any]) -> None:
        try:
            self._http.json("POST", "/api/jobs/", json=request)
        except JobError as error:
            if "already exists" in error.message:
                raise JobError(
                    f"Ray at {self._http.url} already has a job `{submission_id}`",
                    hint=f"choose another --job-id, or follow that job with `daft logs {submission_id}`",
                ) from error
            if isinstance(error, UnreachableError):
                error.hint = f"it may have started the job; `daft logs {submission_id}` follows it if so"
            raise

    def get_job(self, submission_id: str) -> Job:
        """Return what Ray says of a job now."""
        return self._http.job(_job_path(submission_id))

    def list_jobs(self) -> list[Job]:
        """Return all submitted jobs that Ray remembers, the oldest first."""
        return sorted(
            self._http.jobs("/api/jobs/"), key=lambda job: job.started_at.timestamp() if job.started_at else 0
        )

    def stop(self, submission_id: str) -> bool:
        """Ask Ray to end a job, and return whether there was anything to end."""
        return bool(self._http.json("POST", _job_path(submission_id, "/stop")).get("stopped"))

    def wait(self, submission_id: str) -> Job:
        """Return a job once it has ended."""
        patience = Patience(submission_id, seconds=self._reconnect_timeout)
        while True:
            try:
                job = self.get_job(submission_id)
            except UnreachableError as error:
                patience.failed(error)
            else:
                if job.ended:
                    return job
                patience.reached()
            time.sleep(self._poll_seconds)

    def follow(self, submission_id: str) -> Iterator[str]:
        """Yield what a job writes as it comes, each character once, until it has ended and all of it was read.

        Goes on after a broken connection from where it was. Raises JobError when nothing has answered for
        `reconnect_timeout` seconds, and LogIncompleteError when the job had ended by then.
        """
        return follow_log(self, submission_id, reconnect_timeout=self._reconnect_timeout)

    def tail_log(self, submission_id: str) -> Iterator[str | None]:
        """Yield the log as Ray streams it, and None when nothing has come for `poll_seconds`."""
        from websockets.exceptions import ConnectionClosed

        with self._http.stream(_job_path(submission_id, "/logs/tail")) as stream:
            while True:
                try:
                    message = stream.recv(timeout=self._poll_seconds)
                except TimeoutError:
                    yield None
                except ConnectionClosed:
                    return
                else:
                    yield message if isinstance(message, str) else message.decode()

    def read_log(self, job: Job, *, expected_characters: int) -> Iterator[str]:
        """Yield the log of a job that has ended, from beginning to end."""
        if expected_characters < _WHOLE_LOG_CHARACTERS or job.driver_node_id is None:
            # When this fails, Ray cannot decode it: the way below has the bytes themselves.
            with suppress(JobError):
                whole = self._http.json("GET", _job_path(job.submission_id, "/logs"))
                yield str(whole.get("logs", ""))
                return
        query = {
            "node_id": job.driver_node_id or "",
            "filename": f"job-driver-{job.submission_id}.log",
            "lines": -1,
            "timeout": _ANSWER_SECONDS,
        }
        text = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
        for chunk in self._http.chunks(f"/api/v0/logs/file?{urlencode(query)}"):
            yield text.decode(chunk)
        yield text.decode(b"", final=True)


def _job_path(submission_id: str, what: str = "") -> str:
    return f"/api/jobs/{quote(submission_id, safe='')}{what}"


class _Http:
    """Requests to Ray at one address of this machine: no proxy, no redirect, every failure a JobError."""

    def __init__(self, api: RayApi) -> None:
        self.url = api.url.rstrip("/")
        self._token = api.token
        self._headers = {"User-Agent": "daft-launcher"}
        if api.token:
            self._headers["Authorization"] = f"Bearer {api.token}"
        self._open_session: requests.Session | None = None

    def close(self) -> None:
        if self._open_session is not None:
            self._open_session.close()
            self._open_session = None

    def _session(self) -> requests.Session:
        import requests

        if self._open_session is None:
            self._open_session = requests.Session()
            self._open_session.trust_env = False  # proxies and .netrc are for the world outside
            self._open_session.headers.update(self._headers)
        return self._open_session

    def call(
        self,
        method: str,
        path: str,
        *,
        body: IO[bytes] | None = None,
        json: dict[str, Any] | None = None,
        seconds: float = _ANSWER_SECONDS,
        allow: int = HTTPStatus.OK,
        stream: bool = False,
    ) -> requests.Response:
        """Return the answer when it has the status 200 or the one that `allow` names."""
        import requests

        try:
            response = self._session().request(
                method,
                self.url + path,
                data=body,
                json=json,
                timeout=(_CONNECT_SECONDS, seconds),
                allow_redirects=False,
                stream=stream,
            )
            if response.status_code in (HTTPStatus.OK, allow):
                return response
            raise self._refused(f"{method} {path}", response.status_code, response.text)
        except requests.RequestException as error:
            raise no_answer(self.url, error) from error

    def chunks(self, path: str) -> Iterator[bytes]:
        """Yield the body of a long answer."""
        import requests

        with self.call("GET", path, stream=True) as response:
            try:
                yield from response.iter_content(1 << 16)
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

    @contextmanager
    def stream(self, path: str) -> Iterator[ClientConnection]:
        """Keep a WebSocket open."""
        from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException
        from websockets.sync.client import connect

        address = urlsplit(self.url)
        try:
            # A socket of our own: websockets then uses no proxy and follows no redirect. Nobody answers pings,
            # and Ray forwards the offer of compression to where it is not understood.
            sock = socket.create_connection((address.hostname, address.port or 80), timeout=_CONNECT_SECONDS)
            sock.settimeout(None)
            connection = connect(
                f"ws://{address.netloc}{path}",
                sock=sock,
                additional_headers={k: v for k, v in self._headers.items() if k != "User-Agent"},
                user_agent_header=self._headers["User-Agent"],
                open_timeout=_CONNECT_SECONDS,
                ping_interval=None,
                compression=None,
                max_size=None,
            )
        except InvalidStatus as error:
            body = (error.response.body or b"").decode(errors="replace")
            raise self._refused(f"GET {path}", error.response.status_code, body) from error
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

    def _parse(self, response: requests.Response) -> object:
        try:
            return response.json()
        except ValueError as error:
            request = response.request
            raise not_ray(self.url, f"{request.method} {request.path_url}") from error

    def _load_job(self, answer: Mapping[str, Any], path: str) -> Job:
        try:
            return load_job(answer)
        except (KeyError, TypeError, ValueError) as error:
            raise not_ray(self.url, f"GET {path}") from error

    def _refused(self, request: str, status: int, body: str) -> JobError:
        if self._token:
            body = body.replace(self._token, "***")
        return refused(self.url, request, status=status, body=body)
