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


class ContactLostError(JobError):
    """Nothing has answered for too long; what became of the job is not known."""


class LogIncompleteError(JobError):
    """The job has ended, and the rest of its log cannot be read."""

    def __init__(self, message: str, *, job: Job, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.job = job


def load_job(answer: Mapping[str, Any]) -> Job:
    """Return the job that one of Ray's JSON objects describes.

    Raises KeyError, TypeError or ValueError when it is not one of Ray's.
    """
    code, message = answer.get("driver_exit_code"), answer.get("message")
    if code is not None and (isinstance(code, bool) or not isinstance(code, int)):
        raise TypeError(code)
    return Job(
        submission_id=str(answer["submission_id"] or answer["job_id"]),
        status=JobStatus(answer["status"]),
        entrypoint=str(answer["entrypoint"]),
        message=None if message is None else str(message),
        driver_exit_code=code,
        driver_node_id=answer.get("driver_node_id"),
        started_at=_time(answer.get("start_time")),
        ended_at=_time(answer.get("end_time")),
    )


def exit_status(job: Job) -> int:
    """Return the exit status of a job that has ended, as a shell would give it."""
    code = job.driver_exit_code
    if job.status is JobStatus.STOPPED:
        return 130
    if job.status is JobStatus.SUCCEEDED and not code:
        return 0
    status = 128 - code if code is not None and code < 0 else code
    # The system keeps the last eight bits: 256 would arrive as 0.
    return status if status is not None and 0 < status < 256 else 1


def _time(milliseconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc) if milliseconds else None


def ways_to(submission_id: str) -> str:
    """Return, in words, how a job that goes on without this program is followed and stopped."""
    return f"follow it with `daft logs {submission_id}`, stop it with `daft stop-job {submission_id}`"
