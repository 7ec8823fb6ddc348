"""`submit`, `logs`, `jobs`, `stop-job` and `dashboard`: what they do with a cluster, and what without one."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from clikit import AWS, COMMANDS, CREDENTIALS, JOB_COMMANDS, LOCAL, TOKEN, Desk, Seen, failed
from fake_aws import Page, instance, serving

from tests.adapters import ray_api_server
from tests.adapters.ray_api_server import Answer, RayApiServer, Stream, job_answer

MAKE_IT = "make it with `daft up`; `daft list` shows what there is"


@pytest.fixture
def project(desk: Desk) -> Desk:
    desk.write(".daft.toml", LOCAL)
    desk.write("job/main.py", "print(1)\n")
    return desk


@pytest.fixture
def ray(project: Desk) -> Iterator[RayApiServer]:
    """A Ray that answers for the head of the local cluster demo."""
    with ray_api_server.serve() as (ray, api):
        port = int(api.url.rpartition(":")[2])
        project.local_node("head", ports={"dashboard": port})
        ray.prepare("POST /api/jobs/", Answer(body={"submission_id": "job-1"}))
        yield ray


@pytest.mark.parametrize("command", JOB_COMMANDS)
def test_no_cluster_here(project: Desk, command: str):
    with project.unchanged():
        assert project.daft(*COMMANDS[command]) == failed(
            "no head of cluster `demo` is running on this machine", MAKE_IT
        )


@pytest.mark.parametrize("command", JOB_COMMANDS)
def test_a_head_that_has_died(project: Desk, command: str):
    project.local_node("head", alive=False)
    with project.unchanged():
        assert project.daft(*COMMANDS[command]) == failed(
            "no head of cluster `demo` is running on this machine (one is terminated)", MAKE_IT
        )


@pytest.mark.parametrize(
    ("command", "state", "hint"),
    [
        *((command, None, MAKE_IT) for command in JOB_COMMANDS),
        ("submit", "pending", "wait until `daft up` says that it is ready"),
        *(
            ("submit", state, "`daft up` names the command that starts it")
            for state in ("stopping", "stopped")
        ),
        *(("submit", state, MAKE_IT) for state in ("shutting-down", "terminated")),
    ],
)
def test_no_head_on_aws(project: Desk, command: str, state: str | None, hint: str):
    project.write(".daft.toml", AWS)
    with serving() as aws:
        project.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": aws.url}
        if state:
            aws.pages = {"us-west-2": [Page((instance("demo", "head", "i-1", state),))]}
        also = f" (one is {state})" if state else ""
        with project.unchanged():
            assert project.daft(*COMMANDS[command]) == failed(
                f"no head of cluster `demo` is running in us-west-2{also}", hint
            )


COMMAND_HINT = (
    "write it after `--` (daft submit -w FOLDER -- python job.py), or as `command` under [run] in the "
    "configuration, or name the script main.py"
)


@pytest.mark.parametrize("words", [[], ["--", "python", "main.py"]])
@pytest.mark.parametrize(
    ("folder", "message", "hint"),
    [
        ("nowhere", "there is no folder `nowhere`", "-w names the folder that the job needs"),
        (
            "job/main.py",
            "`job/main.py` is a file, and -w takes a folder",
            "-w job sends the folder that it is in",
        ),
    ],
)
def test_no_folder_to_send(project: Desk, folder: str, message: str, hint: str, words: list[str]):
    """Said before anybody is asked for the cluster."""
    with project.unchanged():
        assert project.daft("submit", "-w", folder, *words) == failed(message, hint, status=2)


def test_nothing_to_run(project: Desk):
    project.write("other/job.py", "")
    with project.unchanged():
        assert project.daft("submit", "-w", "other") == failed(
            "no command to run: `other` has no main.py", COMMAND_HINT, status=2
        )


def test_a_ray_that_does_not_answer(project: Desk):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        project.local_node("head", ports={"dashboard": closed.getsockname()[1]})
        seen = project.daft("jobs")
    assert (seen.status, seen.out, seen.err.count("\n")) == (1, "", 2)
    assert seen.err.startswith("error: ")


def _prepare(ray: RayApiServer, *, status: str, code: int | None, message: str | None = None) -> None:
    ray.prepare_job("job-1", status, driver_exit_code=code, message=message)
    ray.prepare("GET /api/jobs/job-1/logs/tail", Stream(pieces=("one\n", "two\n")))
    ray.prepare("GET /api/jobs/job-1/logs", Answer(body={"logs": "one\ntwo\n"}))


@pytest.mark.parametrize(
    ("status", "code", "exit_status"),
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", -9, 137), ("STOPPED", None, 130)],
)
def test_logs_ends_as_the_job_did(
    project: Desk, ray: RayApiServer, status: str, code: int | None, exit_status: int
):
    _prepare(ray, status=status, code=code)
    assert project.daft("logs", "job-1") == Seen(exit_status, out="one\ntwo\n")
    assert {request.headers["Authorization"] for request in ray.requests} == {f"Bearer {TOKEN}"}


def test_jobs(project: Desk, ray: RayApiServer):
    ray.prepare(
        "GET /api/jobs/",
        Answer(
            body=[
                job_answer("job-1", "SUCCEEDED", start_time=1767323045000),
                job_answer("job-2", "RUNNING", start_time=1767323046000, entrypoint="python a.py\nand more"),
            ]
        ),
    )
    assert project.daft("jobs") == Seen(
        0,
        out="job-2  RUNNING    2026-01-02 03:04:06  python a.py\n"
        "job-1  SUCCEEDED  2026-01-02 03:04:05  python main.py\n",
    )
    seen = project.daft("jobs", "--json")
    assert (seen.status, seen.err) == (0, "")
    assert [(job["submission_id"], job["status"]) for job in json.loads(seen.out)] == [
        ("job-2", "RUNNING"),
        ("job-1", "SUCCEEDED"),
    ]


@pytest.mark.parametrize(("args", "out"), [([], ""), (["--json"], "[]\n")])
def test_no_jobs(project: Desk, ray: RayApiServer, args: list[str], out: str):
    ray.prepare("GET /api/jobs/", Answer(body=[]))
    err = "" if args else "no job was submitted yet\n"
    assert project.daft("jobs", *args) == Seen(0, out=out, err=err)


def test_stop_job(project: Desk, ray: RayApiServer):
    ray.prepare("POST /api/jobs/job-1/stop", Answer(body={"stopped": True}))
    assert project.daft("stop-job", "job-1") == Seen(0, err="asked job-1 to stop\n")


def test_stop_a_job_that_has_ended(project: Desk, ray: RayApiServer):
    ray.prepare("POST /api/jobs/job-1/stop", Answer(body={"stopped": False}))
    assert project.daft("stop-job", "job-1") == failed(
        "job `job-1` has ended already", "`daft jobs` shows how"
    )


@pytest.mark.parametrize("command", ["logs", "stop-job"])
def test_a_job_that_ray_does_not_know(project: Desk, ray: RayApiServer, command: str):
    seen = project.daft(command, "nope")
    port = json.loads((project.project / ".daft/demo.local/run/head/node.json").read_text())["ports"][
        "dashboard"
    ]
    assert seen == failed(
        f"Ray at http://127.0.0.1:{port} has no job `nope`",
        "`daft jobs` lists the jobs; a cluster forgets them when its head is replaced",
    )


def test_ctrl_c_leaves_the_job_running(project: Desk, ray: RayApiServer):
    ray.prepare_job("job-1", "RUNNING")
    ray.prepare("GET /api/jobs/job-1/logs/tail", Stream(pieces=("one\n",), ending="silence"))
    with project.command("logs", "job-1") as process:
        assert process.stdout.readline() == "one\n"
        process.send_signal(signal.SIGINT)
        assert project.end(process) == failed(
            "no longer following `job-1`; the job goes on",
            "follow it with `daft logs job-1`, stop it with `daft stop-job job-1`",
            status=130,
        )
    assert not any(request.path.endswith("/stop") for request in ray.requests)


def test_dashboard_at_a_busy_port(project: Desk):
    project.local_node("head", ports={"dashboard": 1})
    with socket.create_server(("127.0.0.1", 0)) as busy, project.unchanged():
        port = busy.getsockname()[1]
        assert project.daft("dashboard", "--no-open", "--port", str(port)) == failed(
            f"port {port} of this machine is in use", "end what uses it, or choose another one with --port"
        )


def test_dashboard_ends_with_ctrl_c(project: Desk):
    project.local_node("head", ports={"dashboard": 1})
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with project.command("dashboard", "--no-open", "--port", str(port)) as process:
        assert process.stdout.readline() == f"http://127.0.0.1:{port}\n"
        process.stderr.readline()
        assert process.stderr.readline() == "Ctrl-C ends it\n"
        process.send_signal(signal.SIGINT)
        assert project.end(process) == Seen(0)


def test_submit_warns_before_it_sends_to_a_cluster_that_ends_soon(project: Desk):
    """Nothing listens at the head's address: the warning comes first, whatever becomes of the job."""
    project.write(".daft.toml", AWS)
    at = datetime.now(timezone.utc) + timedelta(minutes=9, seconds=50)
    with serving() as aws:
        project.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": aws.url}
        head = instance("demo", "head", "i-1", "running", ends=f"max_lifetime {at:%Y-%m-%dT%H:%M:%SZ}")
        aws.pages = {"us-west-2": [Page((head,))]}
        seen = project.daft("submit", "-w", "job")
    assert (seen.status, seen.out) == (1, "")
    assert seen.err.startswith(
        f"warning: demo ends in 9 min, at {at:%H:%M} UTC, and its jobs with it, because of max_lifetime; raise that "
        "in the configuration and run `daft up` to let it live on\nerror: "
    )
