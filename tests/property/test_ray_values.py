"""What `submit` sends to Ray is what was typed: the words of the command, the environment, the job's id."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import example
from hypothesis import strategies as st

from daft_launcher.models import RayApi
from tests.adapters import ray_api_server
from tests.adapters.ray_api_server import Answer, RayApiServer, job_answer
from tests.cli.clikit import LOCAL, Desk
from tests.property.desks import check, new_desk
from tests.property.examples import inputs
from tests.property.hostile import CONTROLS, NO_UTF8, texts

# The kernel ends an argument at a NUL, so that no program ever sees one.
_WORDS = texts(*CONTROLS, *NO_UTF8).map(lambda text: text.replace("\0", ""))
_NAMES = st.sampled_from(["A", "_b1", "PATH", "é"]) | texts(longest=2)
_IDS = st.sampled_from(["a", "_1.x-y", "9" * 128]) | _WORDS
_TOLD = texts(*CONTROLS)
_PRINT_WORDS = "import json, sys; print(json.dumps(sys.argv[1:]))"


@contextmanager
def _desk() -> Iterator[tuple[Desk, RayApiServer, RayApi]]:
    """A folder to send, and a Ray that takes whatever it is sent."""
    with new_desk() as desk, ray_api_server.serve() as (ray, api):
        desk.write(".daft.toml", LOCAL)
        desk.write("job/main.py", "print(1)\n")
        desk.local_node("head", ports={"dashboard": int(api.url.rpartition(":")[2])})
        ray.prepare("POST /api/jobs/", Answer(body={"submission_id": "job-1"}))
        prepared = ray.next_answer
        # It has each package already, whatever its name.
        ray.next_answer = lambda request: (  # type: ignore[method-assign]
            Answer() if " /api/packages/" in request else prepared(request)
        )
        yield desk, ray, api


def _sent(ray: RayApiServer) -> dict[str, object] | None:
    asked = [(request.method, request.path, request.body) for request in ray.requests]
    bodies = [body for method, path, body in asked if (method, path) == ("POST", "/api/jobs/")]
    return json.loads(bodies[0]) if bodies else None


def _words_of(command: str) -> list[str]:
    """Return what a program gets of a command line, as Ray has it run: by a real shell."""
    said = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True).stdout
    return json.loads(said)


@inputs(40, words=st.lists(_WORDS, max_size=6))
@example(words=["$HOME `touch pwned` $(touch pwned)", "", "-x", "new\nline", "*", "\u202e"])
def test_words_arrive_as_they_were_typed(words: list[str]) -> None:
    python = [sys.executable, "-c", _PRINT_WORDS]
    with _desk() as (desk, ray, _):
        seen = desk.daft("submit", "-w", "job", "--no-wait", "--", *python, *words)
        check(seen)
        sent = _sent(ray)
        if seen.status == 0:
            assert sent is not None
            assert _words_of(str(sent["entrypoint"])) == words
            return
        assert (seen.status, sent) == (2, None)
        assert any("\ud800" <= char <= "\udfff" for word in words for char in word)


@inputs(40, name=_NAMES, value=_WORDS, job_id=_IDS)
@example(name="A", value="${HOME}", job_id="a")
@example(name="A", value="\udcff", job_id="a")
def test_environment_and_id_arrive_as_they_were_typed(name: str, value: str, job_id: str) -> None:
    with _desk() as (desk, ray, _):
        seen = desk.daft("submit", "-w", "job", "--no-wait", "--env", f"{name}={value}", "--job-id", job_id)
        check(seen)
        sent = _sent(ray)
        if seen.status != 0:
            assert (seen.status, sent) == (2, None)
            return
        assert sent is not None
        typed = dict([f"{name}={value}".split("=", 1)])
        assert sent["runtime_env"]["env_vars"] == typed  # type: ignore[index]
        assert sent["submission_id"] == job_id
        assert seen.out == f"{job_id}\n"


@inputs(30, told=_TOLD, status=st.sampled_from(["SUCCEEDED", "FAILED", "STOPPED"]))
@example(told="\x1b]0;pwned\x07\n\u202e\x9b31m", status="FAILED")
def test_what_ray_tells_of_a_job_commands_no_terminal(told: str, status: str) -> None:
    with _desk() as (desk, ray, _):
        details = {"message": told, "entrypoint": told, "driver_exit_code": None}
        ray.prepare("GET /api/jobs/", Answer(body=[job_answer(told or "x", status, **details)]))
        ray.prepare("GET /api/jobs/job-1", Answer(body=job_answer("job-1", status, **details)))
        ray.prepare("GET /api/jobs/job-1/logs", Answer(body={"logs": ""}))
        ray.prepare("POST /api/jobs/job-1/stop", Answer(status=500, body=told))
        for words in (["jobs"], ["jobs", "--json"], ["logs", "job-1"], ["stop-job", "job-1"]):
            seen = desk.daft(*words)
            check(seen)
            if words == ["jobs"]:
                assert seen.out.count("\n") == 1
            if words == ["jobs", "--json"]:
                assert json.loads(seen.out)[0]["entrypoint"] == told
