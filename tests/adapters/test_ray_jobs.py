"""RayJobs against a server that fails: each failure is one clear error, and a broken log goes on where it was."""

from __future__ import annotations

import inspect
import json
import socket
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ray_api_server import TOKEN, Answer, RayApiServer, Stream, job_answer, serve

from daft_launcher.errors import JobError, UsageError
from daft_launcher.job import ContactLostError, load_job
from daft_launcher.job_package import JobPackage
from daft_launcher.models import RayApi
from daft_launcher.ray_jobs import Job, JobStatus, LogIncompleteError, RayJobs, UnreachableError, exit_status
from daft_launcher.reach import Reach

GOES_ON = "the job goes on without this program; follow it with `daft logs j`, stop it with `daft stop-job j`"
BROKEN = Answer(body="{}", cut=1)
PACKAGE_PATH = "/api/packages/gcs/_ray_pkg_0123456789abcdef.zip"


@pytest.fixture
def server():
    with serve() as (ray, api):
        yield ray, api


@pytest.fixture
def ray(server) -> RayApiServer:
    return server[0]


@pytest.fixture
def url(server) -> str:
    return server[1].url


@pytest.fixture
def jobs(server):
    with RayJobs(server[1], Reach(ray_reconnect=1, ray_poll=0.1)) as jobs:
        yield jobs


@pytest.fixture
def package(tmp_path: Path) -> JobPackage:
    path = tmp_path / "package.zip"
    path.write_bytes(b"PK content")
    return JobPackage(uri="gcs://_ray_pkg_0123456789abcdef.zip", path=path, size=10, files=1)


def submit(jobs: RayJobs, package: JobPackage, **arguments) -> str:
    return jobs.submit(entrypoint="python main.py", package=package, env={}, **arguments)


def error_of(call) -> JobError:
    """Return the error of a call, or of reading to the end of what it returns."""
    with pytest.raises(JobError) as raised:
        exhaust(call)
    error = raised.value
    assert TOKEN not in f"{error!r} {error} {error.hint}"
    assert error.hint
    return error


def exhaust(call) -> None:
    result = call()
    if inspect.isgenerator(result):
        list(result)


# Submitting


def test_submit_sends_the_package_once_and_the_job(ray: RayApiServer, jobs: RayJobs, package: JobPackage):
    ray.prepare(f"GET {PACKAGE_PATH}", Answer(status=404, body="Package does not exist"), Answer())
    ray.prepare(f"PUT {PACKAGE_PATH}", Answer())
    ray.prepare("POST /api/jobs/", Answer(body={"job_id": "j1", "submission_id": "j1"}))
    env = {"A": "1 2", "B": "x\ny$é"}
    assert jobs.submit(entrypoint="python 'a b.py'", package=package, env=env, job_id="j1") == "j1"
    assert jobs.submit(entrypoint="x", package=package, env={}, job_id="j2") == "j2"
    once = ["GET /api/version", f"GET {PACKAGE_PATH}"]
    assert ray.asked() == [*once, f"PUT {PACKAGE_PATH}", "POST /api/jobs/", *once, "POST /api/jobs/"]
    assert ray.requests[2].body == b"PK content"
    assert json.loads(ray.requests[3].body) == {
        "entrypoint": "python 'a b.py'",
        "submission_id": "j1",
        "runtime_env": {"working_dir": package.uri, "env_vars": env},
        "metadata": {"submitted_by": "daft-launcher"},
    }


def test_headers(ray: RayApiServer, jobs: RayJobs):
    ray.prepare("GET /api/jobs/", Answer(body=[]))
    ray.prepare("GET /api/jobs/j/logs/tail", Stream(pieces=()))
    ray.prepare_job("j", "SUCCEEDED")
    ray.prepare("GET /api/jobs/j/logs", Answer(body={"logs": ""}))
    jobs.list_jobs()
    list(jobs.follow("j"))
    for request in ray.requests:
        headers = {name.lower(): value for name, value in request.headers.items()}
        assert headers["authorization"] == f"Bearer {TOKEN}"
        assert headers["user-agent"] == "daft-launcher"
        assert not headers.keys() & {"origin", "referer", "cookie", "sec-websocket-extensions"}


def test_without_a_token_no_header(ray: RayApiServer, url: str):
    ray.prepare("GET /api/jobs/", Answer(body=[]))
    RayJobs(RayApi(url=url)).list_jobs()
    assert "Authorization" not in ray.requests[0].headers


def test_a_made_up_id_is_new_each_time(ray: RayApiServer, jobs: RayJobs, package: JobPackage):
    ray.prepare(f"GET {PACKAGE_PATH}", Answer())
    ray.prepare("POST /api/jobs/", Answer(body={}))
    first, second = submit(jobs, package), submit(jobs, package)
    assert first != second
    assert [json.loads(r.body)["submission_id"] for r in ray.requests if r.body] == [first, second]


@pytest.mark.parametrize("job_id", ["", "a/b", "..", ".a", "-a", "a b", "a\n", "x" * 129, "é"])
def test_an_id_that_ray_would_stumble_over(
    ray: RayApiServer, jobs: RayJobs, package: JobPackage, job_id: str
):
    with pytest.raises(UsageError, match="cannot be a job id"):
        submit(jobs, package, job_id=job_id)
    assert ray.asked() == []


def test_a_job_id_that_is_taken(ray: RayApiServer, jobs: RayJobs, package: JobPackage, url: str):
    traceback = (
        "Traceback (most recent call last):\n  File\nRuntimeError: Request failed with status code 400: Traceback "
        "(most recent call last):\nValueError: Job with submission_id j already exists. Please use a different "
        "submission_id.\n."
    )
    ray.prepare(f"GET {PACKAGE_PATH}", Answer())
    ray.prepare("POST /api/jobs/", Answer(status=500, body=traceback))
    error = error_of(lambda: submit(jobs, package, job_id="j"))
    assert error.message == f"Ray at {url} already has a job `j`"
    assert error.hint == "choose another --job-id, or follow that job with `daft logs j`"


def test_another_version_of_the_api(ray: RayApiServer, jobs: RayJobs, package: JobPackage, url: str):
    ray.prepare("GET /api/version", Answer(body={"version": "5"}))
    assert (
        error_of(lambda: submit(jobs, package)).message == f"Ray at {url} has version 5 of the job API, not 4"
    )
    assert ray.asked() == ["GET /api/version"]


def test_a_package_that_ray_refuses(ray: RayApiServer, jobs: RayJobs, package: JobPackage, url: str):
    ray.prepare(f"GET {PACKAGE_PATH}", Answer(status=404))
    ray.prepare(
        f"PUT {PACKAGE_PATH}", Answer(status=413, body="Maximum request body size 104857600 exceeded")
    )
    error = error_of(lambda: submit(jobs, package))
    assert error.message == f"Ray at {url} takes no package of this size (413)"


def test_an_answer_lost_after_the_job_was_sent(
    ray: RayApiServer, jobs: RayJobs, package: JobPackage, url: str
):
    ray.prepare(f"GET {PACKAGE_PATH}", Answer())
    ray.prepare("POST /api/jobs/", Answer(body={"submission_id": "j"}, cut=3))
    error = error_of(lambda: submit(jobs, package, job_id="j"))
    assert error.message == f"Ray at {url} does not answer: the connection broke off"
    assert error.hint == "it may have started the job; `daft logs j` follows it if so"


# Every failure of every call

NOT_RAY = "what answers at {url} is not Ray's job API: no answer of Ray's to `{request}`"
FAILURES = {
    "401": (
        Answer(status=401, body="Unauthorized: Missing authentication token"),
        "Ray at {url} does not accept the cluster's token (401): Unauthorized: Missing authentication token",
    ),
    "403": (
        Answer(status=403, body=f"Forbidden: {TOKEN}"),
        "Ray at {url} does not accept the cluster's token (403): Forbidden: ***",
    ),
    "405": (
        Answer(status=405, body="'GET' not allowed"),
        "Ray at {url} failed at `{request}` (405): 'GET' not allowed",
    ),
    "500": (
        Answer(status=500, body=f"Traceback (most recent call last):\n  File x\nValueError: no {TOKEN}\n.\n\n"),
        "Ray at {url} failed at `{request}` (500): ValueError: no ***",
    ),
    "503 without a word": (
        Answer(status=503),
        "Ray at {url} failed at `{request}` (503): no reason given",
    ),
    "html": (Answer(body="<html>hello</html>", headers={"Content-Type": "text/html"}), NOT_RAY),
    "half a json": (Answer(body='{"version": "4'), NOT_RAY),
    "json of another shape": (Answer(body="7"), NOT_RAY),
    "a broken body": (
        Answer(body='{"version": "4"}' * 9, cut=5),
        "Ray at {url} does not answer: the connection broke off",
    ),
    "nothing at all": (Answer(cut=0, headers={"Content-Length": "9"}),
                       "Ray at {url} does not answer: the connection broke off"),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "message"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize(
    ("request_line", "call"),
    [
        ("GET /api/version", lambda jobs, package: submit(jobs, package)),
        ("GET /api/jobs/j", lambda jobs, package: jobs.get_job("j")),
        ("GET /api/jobs/", lambda jobs, package: jobs.list_jobs()),
        ("POST /api/jobs/j/stop", lambda jobs, package: jobs.stop("j")),
    ],
    ids=["submit", "get", "list", "stop"],
)
def test_failures(
    ray: RayApiServer, jobs: RayJobs, package, url: str, request_line: str, call, answer, message: str
):
    ray.prepare(request_line, answer)
    error = error_of(lambda: call(jobs, package))
    assert error.message == message.format(url=url, request=request_line)


@pytest.mark.parametrize(
    ("call", "request_line"),
    [
        (lambda jobs: jobs.get_job("a job/?é"), "GET /api/jobs/a%20job%2F%3F%C3%A9"),
        (lambda jobs: jobs.stop("a job/?é"), "POST /api/jobs/a%20job%2F%3F%C3%A9/stop"),
        (lambda jobs: jobs.wait("a job/?é"), "GET /api/jobs/a%20job%2F%3F%C3%A9"),
        (lambda jobs: jobs.follow("a job/?é"), "GET /api/jobs/a%20job%2F%3F%C3%A9"),
    ],
    ids=["get", "stop", "wait", "follow"],
)
def test_a_job_that_ray_does_not_know(ray: RayApiServer, jobs: RayJobs, url: str, call, request_line: str):
    assert error_of(lambda: call(jobs)).message == f"Ray at {url} has no job `a job/?é`"
    assert ray.asked() == [request_line]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("what", ["GET /api/jobs/j", "GET /api/jobs/j/logs/tail"])
def test_no_redirect_is_followed(ray: RayApiServer, jobs: RayJobs, url: str, status: int, what: str):
    ray.prepare_job("j", "RUNNING")
    with serve() as (other, other_api):
        path = what.removeprefix("GET ")
        ray.prepare(what, Answer(status=status, headers={"Location": f"{other_api.url}{path}"}))
        assert error_of(lambda: jobs.follow("j")).message == NOT_RAY.format(url=url, request=what)
        assert other.asked() == []
    assert ray.asked()[-1] == what


def test_proxies_and_netrc_are_not_asked(ray: RayApiServer, url: str, tmp_path: Path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    ray.prepare("GET /api/jobs/j/logs/tail", Stream(pieces=("a",)))
    ray.prepare_job("j", "SUCCEEDED")
    ray.prepare("GET /api/jobs/j/logs", Answer(body={"logs": "a"}))
    assert list(RayJobs(RayApi(url=url)).follow("j")) == ["a"]
    assert {request.headers.get("Authorization") for request in ray.requests} == {None}


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    jobs = RayJobs(RayApi(url=f"http://127.0.0.1:{port}", token=TOKEN))
    error = error_of(jobs.list_jobs)
    assert isinstance(error, UnreachableError)
    assert error.message == f"Ray at http://127.0.0.1:{port} does not answer: connection refused"


def test_no_token_in_a_representation(url: str):
    jobs = RayJobs(RayApi(url=url, token=TOKEN))
    assert TOKEN not in f"{jobs!r} {jobs} {RayApi(url=url, token=TOKEN)!r}"


# Asking and stopping


def test_a_job_as_ray_tells_it(ray: RayApiServer, jobs: RayJobs):
    ray.prepare_job("j", "FAILED", message="no", end_time=1795503036500, driver_exit_code=7)
    assert jobs.get_job("j") == Job(
        submission_id="j",
        status=JobStatus.FAILED,
        entrypoint="python main.py",
        message="no",
        driver_exit_code=7,
        driver_node_id="abc",
        started_at=datetime(2026, 11, 24, 6, 50, 35, 260000, tzinfo=timezone.utc),
        ended_at=datetime(2026, 11, 24, 6, 50, 36, 500000, tzinfo=timezone.utc),
    )


def test_list_is_sorted_and_holds_submitted_jobs_only(ray: RayApiServer, jobs: RayJobs):
    answers = [
        job_answer("new", "RUNNING", start_time=3000),
        job_answer("old", "SUCCEEDED", start_time=1000),
        job_answer("none", "RUNNING", type="DRIVER", submission_id=None, job_id="01000000"),
        job_answer("middle", "PENDING", start_time=2000),
    ]
    ray.prepare("GET /api/jobs/", Answer(body=answers))
    assert [job.submission_id for job in jobs.list_jobs()] == ["old", "middle", "new"]


@pytest.mark.parametrize("details", [{"status": "PAUSED"}, {"driver_exit_code": "x"}, {"start_time": "x"}])
def test_a_job_that_makes_no_sense(ray: RayApiServer, jobs: RayJobs, url: str, details: dict[str, object]):
    ray.prepare("GET /api/jobs/j", Answer(body={**job_answer("j", "RUNNING"), **details}))
    assert error_of(lambda: jobs.get_job("j")).message == NOT_RAY.format(url=url, request="GET /api/jobs/j")


def test_stop(ray: RayApiServer, jobs: RayJobs):
    ray.prepare("POST /api/jobs/j/stop", Answer(body={"stopped": True}), Answer(body={"stopped": False}))
    assert (jobs.stop("j"), jobs.stop("j")) == (True, False)


def test_wait_outlasts_a_failing_head(ray: RayApiServer, jobs: RayJobs):
    running, ended = Answer(body=job_answer("j", "RUNNING")), Answer(body=job_answer("j", "STOPPED"))
    ray.prepare("GET /api/jobs/j", running, Answer(status=503), BROKEN, running, ended)
    assert jobs.wait("j").status is JobStatus.STOPPED


def test_wait_ends_when_nothing_answers(ray: RayApiServer, jobs: RayJobs, url: str):
    ray.prepare("GET /api/jobs/j", Answer(status=503))
    error = error_of(lambda: jobs.wait("j"))
    assert (
        error.message
        == f"contact lost for 1 s: Ray at {url} failed at `GET /api/jobs/j` (503): no reason given"
    )
    assert error.hint == GOES_ON


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("SUCCEEDED", None, 0),
        ("FAILED", 7, 7),
        ("FAILED", 255, 255),
        ("FAILED", -9, 137),
        ("FAILED", -15, 143),
        ("FAILED", None, 1),
        ("FAILED", 0, 1),
        ("STOPPED", None, 130),
        ("STOPPED", 0, 130),
    ],
)
def test_exit_status(status: str, code: int | None, expected: int):
    assert exit_status(load_job(job_answer("j", status, driver_exit_code=code))) == expected


# Following a log

LOG = "first line\nsecond ünïcödé 日本 😀\n\n\nlast, without an end"


def pieces_of(log: str, size: int) -> tuple[str, ...]:
    return tuple(log[start : start + size] for start in range(0, len(log), size))


def followed(ray: RayApiServer, jobs: RayJobs, *streams: Stream, log: str = LOG) -> list[str]:
    """Follow a job that ends after the last stream."""
    ray.prepare("GET /api/jobs/j/logs/tail", *streams)
    ray.prepare_job("j", *["RUNNING"] * len(streams), "SUCCEEDED")
    ray.prepare("GET /api/jobs/j/logs", Answer(body={"logs": log}))
    return list(jobs.follow("j"))


@pytest.mark.parametrize(
    ("ending", "cut"),
    [("close", cut) for cut in range(len(LOG) + 1)]
    + [(ending, cut) for ending in ("cut", "cut in a frame") for cut in range(0, len(LOG) + 1, 7)],
)
def test_a_log_that_breaks_anywhere_goes_on_there(ray: RayApiServer, jobs: RayJobs, ending: str, cut: int):
    first = Stream(pieces=pieces_of(LOG[:cut], 7), ending=ending)
    assert "".join(followed(ray, jobs, first, Stream(pieces=pieces_of(LOG, 11)))) == LOG


def test_each_piece_comes_as_it_was_sent(ray: RayApiServer, jobs: RayJobs):
    assert followed(ray, jobs, Stream(pieces=("a", "b\n", "ć")), log="ab\nć") == ["a", "b\n", "ć"]


def test_a_stream_that_ends_early_proves_nothing(ray: RayApiServer, jobs: RayJobs):
    assert "".join(followed(ray, jobs, Stream(pieces=("first",)))) == LOG
    assert ray.asked() == [
        "GET /api/jobs/j",
        "GET /api/jobs/j/logs/tail",
        "GET /api/jobs/j",
        "GET /api/jobs/j/logs",
    ]


def test_a_job_that_has_ended_long_ago_needs_no_stream(ray: RayApiServer, jobs: RayJobs):
    assert "".join(followed(ray, jobs)) == LOG
    assert ray.asked() == ["GET /api/jobs/j", "GET /api/jobs/j/logs"]


def test_a_stream_that_falls_silent_is_left_when_the_job_has_ended(ray: RayApiServer, jobs: RayJobs):
    assert "".join(followed(ray, jobs, Stream(pieces=("first",), ending="silence"))) == LOG


def test_many_breaks(ray: RayApiServer, jobs: RayJobs):
    streams = [Stream(pieces=(LOG[: 4 * n], LOG[4 * n : 4 * n + 3]), ending="cut") for n in range(6)]
    assert "".join(followed(ray, jobs, *streams)) == LOG


def test_newlines_that_a_later_reading_joins(ray: RayApiServer, jobs: RayJobs):
    r"""Ray gives `\r` and a later `\n` as two newlines while the log grows, and as one when read again."""
    first = Stream(pieces=("50%\n", "100%\n", "\n", "\n"))
    assert "".join(
        followed(ray, jobs, first, Stream(pieces=("50%\n100%\n\ndo",)), log="50%\n100%\n\ndone\n")
    ) == ("50%\n100%\n\n\ndone\n")


def test_a_message_of_many_megabytes(ray: RayApiServer, jobs: RayJobs):
    log = "é" * 3_000_000 + "\nend\n"
    assert "".join(followed(ray, jobs, Stream(pieces=(log[:2_000_000],)), log=log)) == log


def test_an_empty_log(ray: RayApiServer, jobs: RayJobs):
    assert followed(ray, jobs, Stream(pieces=()), log="") == []


def test_a_log_that_ray_cannot_decode_comes_as_bytes(ray: RayApiServer, jobs: RayJobs):
    ray.prepare("GET /api/jobs/j/logs/tail", Stream(pieces=("bef",)))
    ray.prepare_job("j", "SUCCEEDED")
    ray.prepare("GET /api/jobs/j/logs", Answer(status=500, body="UnicodeDecodeError"))
    ray.prepare("GET /api/v0/logs/file", Answer(body=b"before\r\n\xff\xfe \xf0\x9f\x98\x80\rafter"))
    assert "".join(jobs.follow("j")) == "before\n\ufffd\ufffd 😀\nafter"
    assert (
        ray.asked()[-1] == "GET /api/v0/logs/file?node_id=abc&filename=job-driver-j.log&lines=-1&timeout=60"
    )


def test_the_head_is_away_for_a_while(server):
    ray, api = server
    jobs = RayJobs(api, Reach(ray_reconnect=20, ray_poll=0.1))
    ray.prepare(
        "GET /api/jobs/j/logs/tail",
        Stream(pieces=("first",), ending="cut"),
        Answer(status=500, body="WebSocket proxy error"),
        Answer(status=503),
        Stream(pieces=(LOG,), ending="silence"),
    )
    running, failed = Answer(body=job_answer("j", "RUNNING")), Answer(body=job_answer("j", "FAILED"))
    ray.prepare("GET /api/jobs/j", running, Answer(status=500), BROKEN, running, running, running, failed)
    ray.prepare("GET /api/jobs/j/logs", Answer(body={"logs": LOG}))
    assert "".join(jobs.follow("j")) == LOG


def test_contact_lost_for_good(ray: RayApiServer, jobs: RayJobs, url: str):
    ray.prepare("GET /api/jobs/j/logs/tail", Stream(pieces=("first",), ending="cut"))
    ray.prepare("GET /api/jobs/j", Answer(body=job_answer("j", "RUNNING")), Answer(status=503))
    seen = []
    with pytest.raises(JobError) as raised:
        seen.extend(jobs.follow("j"))
    assert seen == ["first"]
    assert type(raised.value) is ContactLostError
    assert raised.value.message == (
        f"contact lost for 1 s: Ray at {url} failed at `GET /api/jobs/j` (503): no reason given"
    )
    assert raised.value.hint == GOES_ON


def test_a_log_that_never_opens(ray: RayApiServer, jobs: RayJobs, url: str):
    ray.prepare("GET /api/jobs/j/logs/tail", Answer(status=500, body="WebSocket proxy error"))
    ray.prepare_job("j", "RUNNING")
    assert error_of(lambda: jobs.follow("j")).message == (
        f"contact lost for 1 s: Ray at {url} failed at `GET /api/jobs/j/logs/tail` (500): WebSocket proxy error"
    )


def test_the_rest_of_the_log_of_a_job_that_has_ended_is_lost(ray: RayApiServer, jobs: RayJobs, url: str):
    ray.prepare("GET /api/jobs/j/logs/tail", Stream(pieces=("first",)))
    ray.prepare_job("j", "FAILED", driver_exit_code=7)
    ray.prepare("GET /api/jobs/j/logs", Answer(status=500))
    ray.prepare("GET /api/v0/logs/file", Answer(status=500, body="node is gone"))
    with pytest.raises(LogIncompleteError) as raised:
        list(jobs.follow("j"))
    assert exit_status(raised.value.job) == 7
    assert raised.value.message.startswith(
        "job `j` has ended (FAILED), and the rest of its log cannot be read: "
    )
    assert raised.value.message.endswith("(500): node is gone")


def test_a_token_that_is_no_longer_taken_ends_it_at_once(ray: RayApiServer, jobs: RayJobs):
    ray.prepare("GET /api/jobs/j/logs/tail", Stream(pieces=("a",)), Answer(status=401, body="no"))
    ray.prepare_job("j", "RUNNING")
    assert "does not accept the cluster's token (401)" in error_of(lambda: jobs.follow("j")).message


# What Ray writes into a log

RAY_FIRST = "2026-11-24 06:50:35,268\tINFO job_manager.py:581 -- Runtime env is setting up.\n"
RAY_SECOND = "Running entrypoint for job j: python 'a\nb'.py\n"


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
@pytest.mark.parametrize(
    ("log", "own"),
    [
        (RAY_FIRST + RAY_SECOND + "x\n", "x\n"),
        (RAY_FIRST + "early\n" + RAY_SECOND + "x\n" + RAY_SECOND, "early\nx\n" + RAY_SECOND),
        (RAY_FIRST + RAY_SECOND, ""),
        (RAY_FIRST, ""),
        (RAY_FIRST[:-1], RAY_FIRST[:-1]),
        ("x" + RAY_FIRST + RAY_SECOND[:-1], "x" + RAY_FIRST + RAY_SECOND[:-1]),
        (RAY_FIRST + "Running Running entr" + RAY_SECOND, "Running Running entr"),
        ("12" * 200, "12" * 200),
    ],
)
def test_ray_own_lines_are_not_the_job_s(ray: RayApiServer, jobs: RayJobs, size: int, log: str, own: str):
    ray.prepare("GET /api/jobs/j/logs/tail", Stream(pieces=pieces_of(log, size)))
    entrypoint = "python 'a\r\nb'.py"
    ray.prepare_job("j", "RUNNING", "SUCCEEDED", entrypoint=entrypoint)
    ray.prepare("GET /api/jobs/j/logs", Answer(body={"logs": log}))
    assert "".join(jobs.follow("j")) == own
