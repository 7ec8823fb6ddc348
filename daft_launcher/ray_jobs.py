"""Ray's job API over HTTP: submit a job, follow its log, ask what became of it, stop it."""

from __future__ import annotations

import codecs
import io
import math
import re
import secrets
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from daft_launcher.errors import JobError, UsageError
from daft_launcher.job import Job, JobStatus, LogIncompleteError, UnreachableError, exit_status
from daft_launcher.job_log import Patience, follow_log
from daft_launcher.job_package import JobPackage
from daft_launcher.models import RayApi
from daft_launcher.ray_errors import NotRayError, not_ray
from daft_launcher.ray_http import RayHttp
from daft_launcher.reach import USUAL_REACH, Reach

__all__ = ["Job", "JobStatus", "LogIncompleteError", "RayJobs", "UnreachableError", "exit_status"]

API_VERSION = "4"
_LONGEST_VERSION = 40

# Ray holds the whole answer of `/logs` in the memory of three processes of the head node.
_WHOLE_LOG_CHARACTERS = 8 * 1024 * 1024


class RayJobs:
    """The jobs of one Ray cluster. Every method raises JobError when Ray refuses or cannot be reached."""

    def __init__(self, api: RayApi, reach: Reach = USUAL_REACH) -> None:
        self._http = RayHttp(api, reach)
        self._reach = reach

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
        if not isinstance(version, str) or len(version) > _LONGEST_VERSION:
            raise not_ray(self._http.url, "GET /api/version")
        if version != API_VERSION:
            version = self._http.without_token(version)
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
        if self._http.call("GET", path, allow=HTTPStatus.NOT_FOUND).status == HTTPStatus.NOT_FOUND:
            with package.path.open("rb") as body:
                self._http.call("PUT", path, body=body)

    def _start(self, submission_id: str, request: dict[str, Any]) -> None:
        try:
            self._http.json("POST", "/api/jobs/", json=request)
        except JobError as error:
            if "already exists" in error.message:
                raise JobError(
                    f"Ray at {self._http.url} already has a job `{submission_id}`",
                    hint=f"choose another --job-id, or follow that job with `daft logs {submission_id}`",
                ) from error
            if isinstance(error, (UnreachableError, NotRayError)):
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
        path = _job_path(submission_id, "/stop")
        stopped = self._http.json("POST", path).get("stopped")
        if not isinstance(stopped, bool):
            raise not_ray(self._http.url, f"POST {path}")
        return stopped

    def wait(self, submission_id: str) -> Job:
        """Return a job once it has ended."""
        patience = Patience(submission_id, seconds=self._reach.ray_reconnect)
        while True:
            try:
                job = self.get_job(submission_id)
            except UnreachableError as error:
                patience.failed(error)
            else:
                if job.ended:
                    return job
                patience.reached()
            time.sleep(self._reach.ray_poll)

    def follow(self, submission_id: str) -> Generator[str, None, Job]:
        """Yield what a job writes as it comes, each character once, and return the job once all of it was read.

        Goes on after a broken connection from where it was. Raises JobError when nothing has answered for
        `ray_reconnect` seconds, and LogIncompleteError when the job had ended by then.
        """
        return follow_log(self, submission_id, reconnect_timeout=self._reach.ray_reconnect)

    def tail_log(self, submission_id: str) -> Iterator[str | None]:
        """Yield the log as Ray streams it, and None when nothing has come for `ray_poll` seconds."""
        return self._http.messages(_job_path(submission_id, "/logs/tail"), poll_seconds=self._reach.ray_poll)

    def read_log(self, job: Job, *, expected_characters: int) -> Iterator[str]:
        """Yield the log of a job that has ended, from beginning to end."""
        if expected_characters < _WHOLE_LOG_CHARACTERS or job.driver_node_id is None:
            # When this fails, Ray cannot decode it: the way below has the bytes themselves.
            with suppress(JobError):
                yield self._read_whole_log(_job_path(job.submission_id, "/logs"))
                return
        query = {
            "node_id": job.driver_node_id or "",
            "filename": f"job-driver-{job.submission_id}.log",
            "lines": -1,
            "timeout": math.ceil(self._reach.ray_answer),
        }
        text = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
        for chunk in self._http.chunks(f"/api/v0/logs/file?{urlencode(query)}"):
            yield text.decode(chunk)
        yield text.decode(b"", final=True)

    def _read_whole_log(self, path: str) -> str:
        log = self._http.json("GET", path).get("logs")
        if not isinstance(log, str):
            raise not_ray(self._http.url, f"GET {path}")
        return log


def _job_path(submission_id: str, what: str = "") -> str:
    return f"/api/jobs/{quote(submission_id, safe='')}{what}"
