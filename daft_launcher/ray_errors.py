"""What went wrong between this machine and Ray's HTTP API, as errors that say what to do."""

from __future__ import annotations

import re
from http import HTTPStatus
from urllib.parse import unquote

from daft_launcher.errors import JobError
from daft_launcher.job import UnreachableError

_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class NotRayError(JobError):
    """Something answered, and it cannot have been Ray."""


def not_ray(url: str, request: str) -> NotRayError:
    """Return the error for an answer that Ray would not give."""
    return NotRayError(
        f"what answers at {url} is not Ray's job API: no answer of Ray's to `{request}`",
        hint="another program may have the port; `daft list` shows the cluster's address",
    )


def too_long(url: str, request: str, limit: int) -> NotRayError:
    """Return the error for an answer that is longer than any of Ray's."""
    return NotRayError(
        f"what answers at {url} is not Ray's job API: over {limit >> 20} MiB in answer to `{request}`",
        hint="another program may have the port; `daft list` shows the cluster's address",
    )


def not_text(url: str, request: str) -> UnreachableError:
    """Return the error for a log stream that is no text, or in pieces that are longer than any of Ray's."""
    return UnreachableError(
        f"Ray at {url} sends what is no log in answer to `{request}`",
        hint="the dashboard's logs on the head node say more",
    )


def no_answer(url: str, error: Exception) -> UnreachableError:
    """Return the error for a connection that could not be made or did not last."""
    text = str(error)
    if isinstance(error, TimeoutError) or "timed out" in text:
        reason = "it is silent"
    elif "refused" in text:
        reason = "connection refused"
    else:
        reason = "the connection broke off"
    return UnreachableError(
        f"Ray at {url} does not answer: {reason}", hint="`daft list` shows whether the cluster is there"
    )


def refused(url: str, request: str, *, status: int, body: str) -> JobError:
    """Return the error for an answer with an HTTP status that is no success."""
    job = re.match(r"\w+ /api/jobs/([^/]+)", request)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return JobError(
            f"Ray at {url} does not accept the cluster's token ({status}): {_last_line(body)}",
            hint="another cluster may answer at this address, or this one was made anew; try again",
        )
    if status == HTTPStatus.NOT_FOUND and job:
        return JobError(
            f"Ray at {url} has no job `{unquote(job[1])}`",
            hint="`daft jobs` lists the jobs; a cluster forgets them when its head is replaced",
        )
    if status == HTTPStatus.NOT_FOUND or status < HTTPStatus.BAD_REQUEST:
        return not_ray(url, request)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and request.startswith("PUT "):
        return JobError(
            f"Ray at {url} takes no package of this size ({status})",
            hint="put what the job does not read into the folder's .rayignore",
        )
    passing = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING
    kind = UnreachableError if passing else JobError
    return kind(
        f"Ray at {url} failed at `{request}` ({status}): {_last_line(body)}",
        hint="the dashboard's logs on the head node say more",
    )


def _last_line(body: str) -> str:
    """Return the last line of an error page, because Ray's are Python tracebacks."""
    lines = [line.strip() for line in body.splitlines() if line.strip(" .\t")]
    return lines[-1][:300] if lines else "no reason given"
