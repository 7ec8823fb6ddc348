"""RayJobs and packages against a real Ray head of this test's own, with its token authentication on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from textwrap import dedent

import pytest

from daft_launcher.errors import JobError
from daft_launcher.job_package import JobPackage, build_package
from daft_launcher.jobs import parse_environment
from daft_launcher.models import RayApi
from daft_launcher.ray_jobs import Job, JobStatus, RayJobs, exit_status
from tests.property.hostile import CONTROLS, PIECES

pytestmark = pytest.mark.real

START_SECONDS = 120

SCRIPTS = {
    "args.py": """
        import json, os, sys
        print(json.dumps({"argv": sys.argv[1:], "env": os.environ.get("GREETING"),
                          "token": os.environ.get("RAY_AUTH_TOKEN")}))
    """,
    "hostile.py": """
        import json, os, sys
        print(json.dumps({"argv": sys.argv[1:], "env": {k: v for k, v in os.environ.items() if k.startswith("X_")}}))
    """,
    "folder.py": """
        import json, os
        names = sorted(os.path.join(top, name) for top, folders, files in os.walk(".") for name in folders + files)
        print(json.dumps({"names": names, "executable": os.access("only/run.sh", os.X_OK)}))
    """,
    "big.py": "for number in range(100_000): print(f'{number:06d} ' + 'x' * 42 + 'é')",
    "long_line.py": "print('y' * 5_000_000); print('after')",
    "slow.py": """
        import time
        for number in range(60):
            print(f"line {number} 日本 😀", flush=True)
            time.sleep(0.1)
    """,
    "carriage.py": """
        import sys, time
        for number in range(3):
            print(f"{number}%", end="\\r", flush=True)
            time.sleep(1.5)
        print(flush=True)
        time.sleep(1.5)
        print("done")
    """,
    "half_character.py": """
        import sys, time
        sys.stdout.buffer.write("before é".encode() + b"\\xf0\\x9f")
        sys.stdout.flush()
        time.sleep(3)
        sys.stdout.buffer.write(b"\\x98\\x80 after\\n")
    """,
    "binary.py": "import sys; sys.stdout.buffer.write(b'before \\xff\\xfe after\\n')",
}


def free_ports(count: int) -> list[int]:
    """Return ports that are free now and differ from each other."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


@pytest.fixture(scope="module")
def api(ray_executable: Path):
    """A Ray head on loopback, with a token."""
    folder = Path(tempfile.mkdtemp(prefix="rj", dir="/tmp"))  # Ray's socket paths have to be short
    token = secrets.token_hex(24)
    (folder / "token").touch(0o600)
    (folder / "token").write_text(token)
    names = ["port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port"]
    names += ["metrics-export-port", "runtime-env-agent-port", "ray-client-server-port"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [str(ray_executable), "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2"]
    # Ray puts this machine's own address in the place of 127.0.0.1; macOS has no other loopback address.
    address = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
    command += ["--dashboard-host=127.0.0.1", f"--node-ip-address={address}", f"--temp-dir={folder}/ray"]
    command += ["--object-store-memory=200000000", *(f"--{name}={port}" for name, port in ports.items())]
    environment = {
        **os.environ,
        "PATH": f"{ray_executable.parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
    }
    url = f"http://127.0.0.1:{ports['dashboard-port']}"
    agent = f"http://{address}:{ports['dashboard-agent-listen-port']}"
    with (folder / "log").open("wb") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        # It takes jobs when its agent answers too, some seconds after the rest.
        healthy = [f"{url}/api/gcs_healthz", f"{agent}/api/local_raylet_healthz"]
        wait_until_ready(healthy, head, folder / "log")
        yield RayApi(url=url, token=token)
    finally:
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_ready(urls: list[str], head: subprocess.Popen, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and head.poll() is None:
        try:
            if all(opener.open(url, timeout=5).read() == b"success" for url in urls):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.5)
    pytest.fail(f"Ray is not ready after {START_SECONDS} s, or has ended:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("job")
    for name, text in SCRIPTS.items():
        (folder / name).write_text(dedent(text))
    with build_package(folder) as package:
        yield package


@pytest.fixture
def jobs(api: RayApi):
    with RayJobs(api) as jobs:
        yield jobs


def run(jobs: RayJobs, package: JobPackage, *words: str, **env: str) -> tuple[str, Job]:
    """Run a command to its end and return its own output."""
    submission_id = jobs.submit(entrypoint=shlex.join(words), package=package, env=env)
    output = "".join(jobs.follow(submission_id))
    job = jobs.get_job(submission_id)
    assert job.ended
    return output, job


class Tunnel:
    """Forwards a port of this machine to Ray, and can break all its connections."""

    def __init__(self, api: RayApi) -> None:
        self._target = int(api.url.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.api = RayApi(url=f"http://127.0.0.1:{self._listener.getsockname()[1]}", token=api.token)
        self.passed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [near, far]
            threading.Thread(target=self._copy, args=(near, far), daemon=True).start()
            threading.Thread(target=self._copy, args=(far, near), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(4096):
                target.sendall(data)
                self.passed += len(data)
        except OSError:
            pass
        finally:
            shut(target)

    def cut(self) -> None:
        for connection in self._sockets:
            shut(connection)

    def close(self) -> None:
        shut(self._listener)
        self._listener.close()
        self.cut()


def shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def tunnel(api: RayApi):
    tunnel = Tunnel(api)
    yield tunnel
    tunnel.close()


def test_arguments_and_environment_arrive_intact(jobs: RayJobs, package: JobPackage):
    words = [
        "a b",
        'it\'s "q"',
        "$HOME `id` $(id)",
        "new\nline",
        "back\\slash",
        "",
        "*",
        "日本 😀",
        "-x",
        "#",
        "!",
    ]
    output, job = run(jobs, package, "python", "args.py", *words, GREETING="é $x\n'\"")
    assert json.loads(output) == {"argv": words, "env": "é $x\n'\"", "token": None}
    assert (job.status, job.driver_exit_code, exit_status(job)) == (JobStatus.SUCCEEDED, 0, 0)


def test_hostile_arguments_and_environment_arrive_exactly(jobs: RayJobs, package: JobPackage):
    """Of what `daft submit` lets pass: it refuses a variable in a value, in whose place Ray puts the node's own."""
    controls = [text for text in CONTROLS if "\0" not in text]
    words = [*PIECES, *controls, *(f"a{text}b" for text in [*PIECES, *controls])]
    values = parse_environment(
        [f"X_{number}={text}" for number, text in enumerate(words) if not re.search(r"\$(\w|\{)", text)]
    )
    output, _ = run(jobs, package, "python", "hostile.py", *words, **values)
    assert json.loads(output) == {"argv": words, "env": values}


def test_ray_itself_puts_variables_into_values(jobs: RayJobs, package: JobPackage):
    """Why `--env A='${HOME}'` is refused; when this fails, it need not be any more."""
    output, _ = run(jobs, package, "python", "hostile.py", X_1="${HOME}", X_2="$HOME", X_3="a${X_NONE}b")
    assert json.loads(output)["env"] == {"X_1": os.environ["HOME"], "X_2": os.environ["HOME"], "X_3": "ab"}


@pytest.mark.parametrize(
    ("script", "status"), [("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("nope", 127)]
)
def test_exit_codes(jobs: RayJobs, package: JobPackage, script: str, status: int):
    _, job = run(jobs, package, "sh", "-c", script)
    assert (job.status, exit_status(job)) == (JobStatus.FAILED, status)


def test_a_driver_killed_by_a_signal(jobs: RayJobs, package: JobPackage):
    submission_id = jobs.submit(entrypoint="kill -TERM $$", package=package, env={})
    job = jobs.wait(submission_id)
    assert (job.status, job.driver_exit_code, exit_status(job)) == (JobStatus.FAILED, -15, 143)


def test_a_job_that_fails_before_it_starts(jobs: RayJobs, tmp_path: Path):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"no zip at all")
    package = JobPackage(uri="gcs://_ray_pkg_00000000000000ff.zip", path=broken, size=13, files=1)
    submission_id = jobs.submit(entrypoint="python main.py", package=package, env={})
    assert list(jobs.follow(submission_id)) == []
    job = jobs.get_job(submission_id)
    assert (job.status, job.driver_exit_code, exit_status(job)) == (JobStatus.FAILED, None, 1)
    assert "runtime_env setup failed" in str(job.message)
    assert "File is not a zip file" in str(job.message)


def test_stopping(jobs: RayJobs, package: JobPackage, api: RayApi):
    submission_id = jobs.submit(
        entrypoint="echo started; sleep 300", package=package, env={}, job_id="stop-me"
    )
    log = ""
    for text in jobs.follow(submission_id):
        log += text
        if "started\n" in log:
            assert jobs.stop(submission_id)
            break
    log = "".join(jobs.follow(submission_id))
    job = jobs.get_job(submission_id)
    assert log == "started\n"
    assert (job.status, job.driver_exit_code, exit_status(job)) == (JobStatus.STOPPED, None, 130)
    assert not jobs.stop(submission_id)
    assert "stop-me" in [job.submission_id for job in jobs.list_jobs()]
    with pytest.raises(JobError, match="already has a job `stop-me`"):
        jobs.submit(entrypoint="true", package=package, env={}, job_id="stop-me")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("big.py", "".join(f"{number:06d} " + "x" * 42 + "é\n" for number in range(100_000))),
        ("long_line.py", "y" * 5_000_000 + "\nafter\n"),
        ("slow.py", "".join(f"line {number} 日本 😀\n" for number in range(60))),
        ("half_character.py", "before é😀 after\n"),
        ("binary.py", "before \ufffd\ufffd after\n"),
    ],
)
def test_logs_arrive_whole(jobs: RayJobs, package: JobPackage, script: str, expected: str):
    output, job = run(jobs, package, "python", script)
    assert output == expected
    assert exit_status(job) == 0


@pytest.mark.parametrize(("script", "every"), [("slow.py", 1.3), ("carriage.py", 1.1), ("big.py", 0.4)])
def test_a_tunnel_that_keeps_breaking_loses_and_repeats_nothing(
    tunnel: Tunnel, jobs: RayJobs, package: JobPackage, script: str, every: float
):
    submission_id = jobs.submit(entrypoint=f"python {script}", package=package, env={})
    stop = threading.Event()

    def keep_cutting() -> None:
        for _ in range(8):
            if stop.wait(every):
                return
            tunnel.cut()

    cutter = threading.Thread(target=keep_cutting)
    cutter.start()
    with RayJobs(tunnel.api) as far_jobs:
        log = "".join(far_jobs.follow(submission_id))
    stop.set()
    cutter.join()
    whole = "".join(jobs.follow(submission_id))
    # Ray shows `\r` and a later `\n` as two newlines while a log grows, and as one afterwards.
    assert [line for line in log.split("\n") if line] == [line for line in whole.split("\n") if line]
    if script != "carriage.py":
        assert log == whole
    assert exit_status(jobs.get_job(submission_id)) == 0


def test_an_unchanged_folder_is_not_sent_twice(tunnel: Tunnel, tmp_path: Path):
    (tmp_path / "main.py").write_text("print('ran')")
    (tmp_path / "noise.bin").write_bytes(secrets.token_bytes(3_000_000))
    sent = []
    with RayJobs(tunnel.api) as jobs:
        for _ in range(2):
            before = tunnel.passed
            with build_package(tmp_path) as package:
                submission_id = jobs.submit(entrypoint="python main.py", package=package, env={})
            sent.append(tunnel.passed - before)
            assert exit_status(jobs.wait(submission_id)) == 0
    assert sent[0] > 3_000_000
    assert sent[1] < 10_000


def test_a_folder_with_a_single_folder_in_it_arrives_intact(jobs: RayJobs, tmp_path: Path):
    (tmp_path / "only/empty").mkdir(parents=True)
    (tmp_path / "only/folder.py").write_text(dedent(SCRIPTS["folder.py"]))
    (tmp_path / "only/run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "only/run.sh").chmod(0o755)
    with build_package(tmp_path) as package:
        output, _ = run(jobs, package, "python", "only/folder.py")
    assert json.loads(output) == {
        "names": ["./only", "./only/empty", "./only/folder.py", "./only/run.sh"],
        "executable": True,
    }


def test_the_token_is_asked_for(api: RayApi):
    with pytest.raises(JobError, match="does not accept the cluster's token"):
        RayJobs(RayApi(url=api.url)).list_jobs()
    with pytest.raises(JobError, match="does not accept the cluster's token"):
        list(RayJobs(RayApi(url=api.url, token="wrong")).follow("stop-me"))


def test_a_job_that_ray_does_not_know(jobs: RayJobs):
    for call in (jobs.get_job, jobs.stop, lambda name: list(jobs.follow(name))):
        with pytest.raises(JobError, match="has no job `un/known`"):
            call("un/known")
