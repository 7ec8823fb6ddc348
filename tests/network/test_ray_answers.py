"""Each step of each command that asks Ray, by each answer that is none: bounded time, clear words, true exit status."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace

import pytest

from daft_launcher.reach import Reach
from tests.adapters.ray_api_server import TOKEN, Answer, Raw, RayApiServer, job_answer
from tests.cli.clikit import Desk, Seen, failed
from tests.network.answers import BODIES, BREAKS, ENDLESS, NOT_RAY, NOT_RAY_HINT, PASSING, STATUSES, Case
from tests.network.head import PACKAGE, SUBMIT, WAYS

# Only the deadlines that a case waits for are short, so that a busy machine changes no outcome.
PATIENT = Reach(ray_poll=0.05)
IMPATIENT = replace(PATIENT, ray_answer=0.4, ray_upload=0.4, ray_connect=0.4)
BOUND = 30

MAY_HAVE_STARTED = "it may have started the job; `daft logs job-1` follows it if so"


def typed(project: Desk, *args: str, reach: Reach = PATIENT) -> Seen:
    """Type a command, in bounded time; the port of Ray is shown as RAY."""
    start = time.monotonic()
    seen = project.daft(*args, reach=reach)
    took = time.monotonic() - start
    assert took < BOUND, (took, seen)
    err = re.sub(r"http://127\.0\.0\.1:\d+", "RAY", seen.err)
    assert TOKEN not in err + seen.out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", err)
    return replace(seen, err=re.sub(r"_ray_pkg_[0-9a-f]{16}\.zip", "_ray_pkg_", err))


def reach_of(case: Case, **changes: float) -> Reach:
    return replace(IMPATIENT if case.waits else PATIENT, **changes)


def shown(case: Case, request: str) -> str:
    return case.message.replace("{request}", request)


def table(*groups: dict[str, Case]):
    cases = {name: case for group in groups for name, case in group.items()}
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


UNKNOWN = "Ray at RAY has no job `job-1`"
UNKNOWN_HINT = "`daft jobs` lists the jobs; a cluster forgets them when its head is replaced"
ABSENT = Case(Answer(status=404, body="404: Not Found"), NOT_RAY, NOT_RAY_HINT, "final")
NO_JOB = Case(Answer(status=404, body="gone"), UNKNOWN, UNKNOWN_HINT, "final")
LARGE = Case(
    Answer(status=413, body="Maximum request body size 104857600 exceeded"),
    "Ray at RAY takes no package of this size (413)",
    "put what the job does not read into the folder's .rayignore",
    "final",
)
NOT_LARGE = Case(
    Answer(status=413, body="too large"),
    "Ray at RAY failed at `{request}` (413): too large",
    "the dashboard's logs on the head node say more",
    "final",
)
ODD_VERSIONS = {
    f"version {body!r:.20}": Case(Answer(body={"version": body}), NOT_RAY, NOT_RAY_HINT, "final")
    for body in (None, 4, ["4"], "4" * 99_999)
}
OTHER_VERSION = Case(
    Answer(body={"version": f"5\x1b{TOKEN}"}),
    "Ray at RAY has version 5\\x1b*** of the job API, not 4",
    "`ray_version` under [setup] chooses the cluster's Ray",
    "final",
)
ODD_JOBS = {
    f"a job with {name} {value!r:.20}": Case(
        Answer(body={**job_answer("job-1", "RUNNING"), name: value}), NOT_RAY, NOT_RAY_HINT, "final"
    )
    for name, value in [
        ("status", "PAUSED"),
        ("status", None),
        ("status", []),
        ("driver_exit_code", "7"),
        ("driver_exit_code", 7.5),
        ("driver_exit_code", True),
        ("driver_exit_code", [7]),
        ("start_time", "x"),
        ("start_time", 1e300),
        ("end_time", float("inf")),
        ("end_time", float("nan")),
    ]
}
ODD_STOPS = {
    f"stopped {value!r}": Case(Answer(body={"stopped": value}), NOT_RAY, NOT_RAY_HINT, "final")
    for value in (None, "yes", 1, [])
}


# One question, one answer


@table(STATUSES, BREAKS, BODIES, ODD_VERSIONS, {"endless": ENDLESS, "404": ABSENT, "another": OTHER_VERSION})
def test_submit_asks_for_the_version(project: Desk, local_ray: RayApiServer, case: Case):
    local_ray.prepare("GET /api/version", case.answer)
    seen = typed(project, *SUBMIT, reach=reach_of(case))
    assert seen == failed(shown(case, "GET /api/version"), case.hint)
    assert local_ray.asked() == ["GET /api/version"]


@table(STATUSES, BREAKS, {"endless": ENDLESS, "413": NOT_LARGE})
def test_submit_asks_for_the_package(project: Desk, local_ray: RayApiServer, case: Case):
    local_ray.prepare(f"GET {PACKAGE}", case.answer)
    seen = typed(project, *SUBMIT, reach=reach_of(case))
    assert seen == failed(shown(case, f"GET {PACKAGE}"), case.hint)
    assert len(local_ray.asked()) == 2


@table(STATUSES, BREAKS, {"endless": ENDLESS, "404": ABSENT, "413": LARGE})
def test_submit_sends_the_package(project: Desk, local_ray: RayApiServer, case: Case):
    local_ray.prepare(f"PUT {PACKAGE}", case.answer)
    seen = typed(project, *SUBMIT, reach=reach_of(case))
    assert seen == failed(shown(case, f"PUT {PACKAGE}"), case.hint)
    assert len(local_ray.asked()) == 3


@table(STATUSES, BREAKS, BODIES, {"endless": ENDLESS, "404": ABSENT, "413": NOT_LARGE})
def test_submit_starts_the_job(project: Desk, local_ray: RayApiServer, case: Case):
    """Whoever breaks off here may have started it; whoever refuses has not."""
    local_ray.prepare("POST /api/jobs/", case.answer)
    seen = typed(project, *SUBMIT, reach=reach_of(case))
    unsure = case.kind == PASSING or case.hint == NOT_RAY_HINT
    assert seen == failed(shown(case, "POST /api/jobs/"), MAY_HAVE_STARTED if unsure else case.hint)
    assert len(local_ray.asked()) == 4


@table(STATUSES, BREAKS, BODIES, {"endless": ENDLESS, "404": ABSENT, "an object": BODIES["null"]})
def test_jobs(project: Desk, local_ray: RayApiServer, case: Case):
    local_ray.prepare("GET /api/jobs/", case.answer)
    seen = typed(project, "jobs", reach=reach_of(case))
    assert seen == failed(shown(case, "GET /api/jobs/"), case.hint)


@table(ODD_JOBS)
def test_jobs_with_one_that_makes_no_sense(project: Desk, local_ray: RayApiServer, case: Case):
    local_ray.prepare(
        "GET /api/jobs/", replace(case.answer, body=[job_answer("j", "RUNNING"), case.answer.body])
    )
    assert typed(project, "jobs") == failed(shown(case, "GET /api/jobs/"), case.hint)


@table(STATUSES, BREAKS, BODIES, ODD_STOPS, {"endless": ENDLESS, "404": NO_JOB})
def test_stop_job(project: Desk, local_ray: RayApiServer, case: Case):
    local_ray.prepare("POST /api/jobs/job-1/stop", case.answer)
    seen = typed(project, "stop-job", "job-1", reach=reach_of(case))
    assert seen == failed(shown(case, "POST /api/jobs/job-1/stop"), case.hint)


# Following


def lost(case: Case, request: str, seconds: float) -> tuple[str, str]:
    message = f"contact lost for {seconds:g} s: {shown(case, request)}"
    return message, f"the job goes on without this program; {WAYS}"


@table(STATUSES, BREAKS, BODIES, ODD_JOBS, {"endless": ENDLESS, "404": NO_JOB})
@pytest.mark.parametrize("command", ["submit", "logs"])
def test_the_status_of_a_job(project: Desk, local_ray: RayApiServer, case: Case, command: str):
    local_ray.prepare("GET /api/jobs/job-1", case.answer)
    args, out = (SUBMIT, "job-1\n") if command == "submit" else (("logs", "job-1"), "")
    seen = typed(project, *args, reach=reach_of(case, ray_reconnect=0.3))
    request = "GET /api/jobs/job-1"
    if case.kind == PASSING:
        message, hint = lost(case, request, 0.3)
    elif command == "submit":
        message, hint = shown(case, request), f"{case.hint}. The job may go on: {WAYS}"
    else:
        message, hint = shown(case, request), case.hint
    assert seen == replace(failed(message, hint), out=out)


# Of a handshake the whole answer is waited for, and any status but 101 is no stream.
NO_STREAM = {**STATUSES, "500, endless": replace(BREAKS["silence"], answer=STATUSES["500, endless"].answer)}


NO_ANSWER = BREAKS | {
    name: Case(BREAKS[name].answer, NOT_RAY, NOT_RAY_HINT, "final")
    for name in ("what is no gzip", "more to come, for ever")
}


@table(NO_STREAM, NO_ANSWER, {"404": NO_JOB})
def test_a_log_stream_that_does_not_open(project: Desk, local_ray: RayApiServer, case: Case):
    local_ray.prepare_job("job-1", "RUNNING")
    local_ray.prepare("GET /api/jobs/job-1/logs/tail", case.answer)
    seen = typed(project, *SUBMIT, reach=reach_of(case, ray_reconnect=0.3))
    request = "GET /api/jobs/job-1/logs/tail"
    if case.kind == PASSING:
        message, hint = lost(case, request, 0.3)
    else:
        message, hint = shown(case, request), f"{case.hint}. The job may go on: {WAYS}"
    assert seen == replace(failed(message, hint), out="job-1\n")


@table(STATUSES, BREAKS, BODIES, {"endless": ENDLESS, "404": NO_JOB})
def test_the_whole_log_of_a_job_has_another_way(project: Desk, local_ray: RayApiServer, case: Case):
    local_ray.prepare("GET /api/jobs/job-1/logs", case.answer)
    assert typed(project, "logs", "job-1", reach=reach_of(case)) == Seen(7, out="one\n")
    assert local_ray.asked()[-1].startswith("GET /api/v0/logs/file?")


@table(STATUSES, BREAKS)
def test_the_rest_of_a_log_is_lost_and_the_exit_status_is_the_jobs(
    project: Desk, local_ray: RayApiServer, case: Case
):
    local_ray.prepare("GET /api/jobs/job-1/logs", Answer(status=500))
    local_ray.prepare("GET /api/v0/logs/file", case.answer)
    seen = typed(project, *SUBMIT, reach=reach_of(case, ray_reconnect=0.3))
    path = re.sub(r".* `GET (\S+)`.*", r"\1", seen.err.partition("\n")[0])
    assert seen == Seen(
        7,
        out="job-1\none\n",
        err="warning: job `job-1` has ended (FAILED), and the rest of its log cannot be read: "
        f"{shown(case, f'GET {path}')}\nhint: `daft logs job-1` tries again\n",
    )


@pytest.mark.parametrize("status", [401, 413])
def test_a_package_that_is_refused_before_it_is_read(project: Desk, local_ray: RayApiServer, status: int):
    """Where the connection is reset before the refusal was read, that is what is said."""
    project.write("job/data", os.urandom(2 << 20))
    says = f"HTTP/1.1 {status} no\r\nContent-Length: 2\r\n\r\nno".encode()
    local_ray.prepare(f"PUT {PACKAGE}", Raw(says=says, unread=True))
    seen = typed(project, *SUBMIT)
    refusals = {
        401: failed("Ray at RAY does not accept the cluster's token (401): no", STATUSES["401"].hint),
        413: failed(LARGE.message, LARGE.hint),
    }
    reset = BREAKS["closed at once"]
    assert seen in (refusals[status], failed(reset.message, reset.hint))
