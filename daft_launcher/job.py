"""What Ray says of a job, and what a shell would say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from daft_launcher.errors import JobError


class JobStatus(Enum):
    """Ray's job statuses."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as Ray describes it. One that failed before it started has a message and no `driver_exit_code`."""

    submission_id: str
    status: JobStatus
    entrypoint: str
    message: str | None = None
    driver_exit_code: int | None = None
    driver_node_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether the status is one that no longer changes."""
        return self.status not in (JobStatus.PENDING, JobStatus.RUNNING)


class UnreachableError(JobError):
    """Ray did not answer, or answered that it cannot at the moment; asking again may help."""


class LogIncompleteError(JobError):
    """The job has ended, and the rest of its log cannot be read."""

    def __init__(self, message: str, *, job: Job, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.job = job


def load_job(answer: Mapping[str, Any]) -> Job:
    """Return the job that one of Ray's JSON objects describes.

    Raises KeyError, TypeError or ValueError when it is not one of Ray's.
    """
    code = answer.get("driver_exit_code")
    return Job(
        submission_id=str(answer["submission_id"] or answer["job_id"]),
        status=JobStatus(answer["status"]),
        entrypoint=str(answer["entrypoint"]),
        message=answer.get("message"),
        driver_exit_code=None if code is None else int(code),
        driver_node_id=answer.get("driver_node_id"),
        started_at=_time(answer.get("start_time")),
        ended_at=_time(answer.get("end_time")),
    )


def exit_status(job: Job) -> int:
    """Return the exit status of a job that has ended, as a shell would give it."""
    code = job.driver_exit_code
    if job.status is JobStatus.STOPPED:
        return 130
    if job.status is JobStatus.SUCCEEDED:
        return code or 0
    if code is not None and code < 0:
        return 128 - code
    return code or 1


def _time(milliseconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc) if milliseconds else None
