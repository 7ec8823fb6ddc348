"""A log stream that closes early or never, or brings what is no log: all of the log once, and the job's own status."""

from __future__ import annotations

import struct
import time
from dataclasses import replace

import pytest

from daft_launcher.reach import Reach
from tests.adapters.ray_api_server import Answer, RayApiServer, Stream, frame, job_answer
from tests.cli.clikit import Desk, Seen, failed
from tests.network.head import SUBMIT, WAYS, plain

LOG = "one\ntwo\nthree\n"
WHOLE = Seen(7, out=f"job-1\n{LOG}")
NO_LOG = (
    "contact lost for 0.3 s: Ray at RAY sends what is no log in answer to `GET /api/jobs/job-1/logs/tail`",
    f"the job goes on without this program; {WAYS}",
)


def follow(project: Desk, ray: RayApiServer, *streams: Stream, running: int, reconnect: float = 60) -> Seen:
    """Submit a job that is seen running so many times, and fails with 7."""
    ray.prepare("GET /api/jobs/job-1/logs/tail", *streams)
    ray.prepare_job("job-1", *["RUNNING"] * running, "FAILED", driver_exit_code=7)
    ray.prepare("GET /api/jobs/job-1/logs", Answer(body={"logs": LOG}))
    reach = Reach(ray_poll=0.05, ray_reconnect=reconnect)
    start = time.monotonic()
    seen = project.daft(*SUBMIT, reach=reach)
    assert time.monotonic() - start < 15
    return replace(seen, err=plain(seen.err, reach))


@pytest.mark.parametrize("ending", ["close", "cut", "cut in a frame"])
@pytest.mark.parametrize("pieces", [(), ("one\n",), ("one\n", "tw"), (LOG,)], ids=repr)
def test_a_stream_that_ends_early(project: Desk, local_ray: RayApiServer, pieces, ending: str):
    assert follow(project, local_ray, Stream(pieces=pieces, ending=ending), running=1) == WHOLE


def test_a_stream_that_closes_at_once_each_time(project: Desk, local_ray: RayApiServer):
    assert follow(project, local_ray, Stream(pieces=()), running=4) == WHOLE
    assert local_ray.asked().count("GET /api/jobs/job-1/logs/tail") == 4


def test_a_stream_that_stays_open_after_the_job_has_ended(project: Desk, local_ray: RayApiServer):
    assert follow(project, local_ray, Stream(pieces=("one\n",), ending="silence"), running=2) == WHOLE


def test_a_stream_that_never_pauses_after_the_job_has_ended(project: Desk, local_ray: RayApiServer):
    seen = follow(project, local_ray, Stream(pieces=("one\n",), ending="again"), running=1, reconnect=0.5)
    assert seen.status == 7
    assert seen.err == ""
    assert seen.out.startswith("job-1\none\none\n")


NONSENSE = {
    "binary": frame(0x2, b"\xff\x00\x1b[31m"),
    "not UTF-8": frame(0x1, b"\xff\xfe"),
    "half a character": frame(0x1, b"one\n\xf0\x9f"),
    "longer than any message": struct.pack("!BBQ", 0x81, 127, 1 << 40),
    "a masked frame": b"\x81\x83abcdxyz",
    "an unknown kind of frame": b"\x8b\x00",
    "reserved bits": b"\xf1\x01x",
}


# This one cannot be told from a frame that was cut.
ONCE = {**NONSENSE, "no frame at all": b"HTTP/1.1 500 no\r\n\r\n"}


@pytest.mark.parametrize("nonsense", ONCE.values(), ids=ONCE)
def test_nonsense_once(project: Desk, local_ray: RayApiServer, nonsense: bytes):
    assert (
        follow(project, local_ray, Stream(pieces=("one\n", nonsense)), Stream(pieces=(LOG,)), running=2)
        == WHOLE
    )


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_each_time(project: Desk, local_ray: RayApiServer, nonsense: bytes):
    seen = follow(project, local_ray, Stream(pieces=(nonsense,)), running=999, reconnect=0.3)
    assert seen == replace(failed(*NO_LOG), out="job-1\n")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        *[("FAILED", code, code) for code in (1, 7, 255)],
        *[("FAILED", code, 1) for code in (0, 256, 512, 1 << 40, -128, -300, -(1 << 40))],
        *[("FAILED", code, 128 - code) for code in (-9, -15, -127)],
        *[
            ("SUCCEEDED", code, expected)
            for code, expected in ((0, 0), (None, 0), (3, 3), (256, 1), (-9, 137))
        ],
        *[("STOPPED", code, 130) for code in (None, 0, 7)],
    ],
)
def test_exit_codes(project: Desk, local_ray: RayApiServer, status: str, code: int | None, expected: int):
    local_ray.prepare_job("job-1", status, driver_exit_code=code)
    assert project.daft("logs", "job-1") == Seen(expected, out="one\n")


def test_the_exit_status_that_the_system_sees(project: Desk, local_ray: RayApiServer):
    """The system cuts off what is over eight bits."""
    local_ray.prepare_job("job-1", "FAILED", driver_exit_code=256)
    assert project.program("logs", "job-1") == Seen(1, out="one\n")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (None, "Ray does not say why"),
        ("no \x1b[31mpip\x9b s3cret-token", "no \\x1b[31mpip\\x9b ***"),
        (["a", {"b": "s3cret-token"}], "['a', {'b': '***'}]"),
    ],
    ids=["none", "escapes and the token", "no text"],
)
def test_a_job_that_never_started(project: Desk, local_ray: RayApiServer, message, shown: str):
    local_ray.prepare_job("job-1", "FAILED", message=message)
    local_ray.prepare("GET /api/jobs/job-1/logs", Answer(body={"logs": ""}))
    assert project.daft("logs", "job-1") == Seen(
        1, err=f"warning: the job failed before it started: {shown}\n"
    )


def test_a_connection_lost_after_the_end_was_seen(project: Desk, local_ray: RayApiServer):
    """The job's own status is known by then."""
    local_ray.prepare(
        "GET /api/jobs/job-1",
        Answer(body=job_answer("job-1", "FAILED", driver_exit_code=7)),
        Answer(status=503),
    )
    assert project.daft("logs", "job-1", reach=Reach(ray_reconnect=0.3)) == Seen(7, out="one\n")


@pytest.mark.parametrize("logs", [None, 7, ["one\n"], {}], ids=repr)
def test_a_log_that_is_no_text(project: Desk, local_ray: RayApiServer, logs):
    local_ray.prepare_job("job-1", "FAILED", driver_exit_code=7)
    local_ray.prepare("GET /api/jobs/job-1/logs", Answer(body={"logs": logs}))
    assert project.daft("logs", "job-1") == Seen(7, out="one\n")
