"""A download of Terraform is whole and checked, or there is nothing of it."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest
from release_server import (
    Answer,
    Handler,
    half,
    half_then_wait,
    hang_up,
    redirect,
    serving,
    silence,
    start,
    trickle,
    whole,
)
from terraform_machine import BINARY, PLATFORM, ZIP, ZIP_PATH, Machine, new_machine, release_of, says, zip_of

import daft_launcher
from daft_launcher.errors import Interrupted
from daft_launcher.terraform_binary import (
    PINNED,
    WAYS_OUT,
    TerraformBinary,
    find_terraform,
)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return new_machine(tmp_path, monkeypatch)


def test_it_is_fetched_once(machine: Machine) -> None:
    with serving(whole(ZIP)) as server:
        machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = f"{server.url}/mirror/"
        found = [machine.find(), machine.find()]
        assert server.asked == [f"GET /mirror{ZIP_PATH}"]
    assert found == [TerraformBinary(path=machine.fetched, product="terraform", version="1.11.4")] * 2
    assert machine.kept() == [machine.fetched]
    assert machine.fetched.read_bytes() == BINARY
    assert machine.fetched.stat().st_mode & 0o7777 == 0o755


def test_progress_is_told_in_bytes_of_the_whole(machine: Machine) -> None:
    with serving(half_then_wait(ZIP)) as server:
        machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = server.url

        def progress(line: str) -> None:
            machine.lines.append(line)
            if re.fullmatch(r"Terraform 1\.11\.4: 0\.[45] of 1\.0 MB", line):
                server.released.set()

        find_terraform(
            progress=progress,
            environ={"PATH": ""} | machine.environ,
            cache=machine.cache,
            release=machine.release,
            platform=PLATFORM,
        )
        first = (
            f"fetching Terraform 1.11.4 from {server.url}{ZIP_PATH}, once, into `{machine.fetched.parent}`"
        )
    assert machine.lines[0] == first
    assert machine.lines[-1] == "Terraform 1.11.4: 1.0 of 1.0 MB"
    assert 3 <= len(machine.lines) <= 11


def test_an_old_terraform_is_named_when_another_is_fetched(machine: Machine) -> None:
    path = machine.program("terraform", says("1.5.7"))
    with serving(whole(ZIP)) as server:
        machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = server.url
        assert machine.find().path == machine.fetched
    assert machine.lines[0] == f"passed over: `{path}` is Terraform 1.5.7, and 1.11 or newer is needed"


def test_this_machines_own_platform_and_cache_are_the_defaults(machine: Machine, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(machine.root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine.cache))
    assert sorted(PINNED.sha256) == ["darwin_amd64", "darwin_arm64", "linux_amd64", "linux_arm64"]
    release = replace(machine.release, sha256=dict.fromkeys(PINNED.sha256, machine.release.sha256[PLATFORM]))
    system, arch = os.uname().sysname.lower(), {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine)
    arch = arch or os.uname().machine
    with serving(whole(ZIP)) as server:
        environ = {"PATH": "", "DAFT_TERRAFORM_RELEASES_URL": server.url}
        found = find_terraform(progress=machine.lines.append, environ=environ, release=release)
        assert server.asked == [f"GET /terraform/1.11.4/terraform_1.11.4_{system}_{arch}.zip"]
    cache = platformdirs.user_cache_path("daft-launcher")
    assert machine.root in cache.parents
    assert found.path == cache / "terraform" / "1.11.4" / f"{system}_{arch}" / "terraform"
    assert found.path.read_bytes() == BINARY


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (half(ZIP), "the connection closed early"),
        (half_then_wait(ZIP), "the server did not answer in time"),
        (silence, "the server did not answer in time"),
        (hang_up, "Remote end closed connection without response"),
        (whole(b"gone", status=404), "the server answered 404 Not Found"),
        (whole(b"oops", status=500), "the server answered 500 Internal Server Error"),
        (
            whole(b"<html>Log in</html>", kind="text/html; charset=utf-8"),
            "the server answered with a web page, as the login page of a network does",
        ),
        (redirect("http://127.0.0.1:1/login"), os.strerror(errno.ECONNREFUSED)),
    ],
    ids=["truncated", "stalled", "silent", "hung-up", "404", "500", "captive-portal", "redirected"],
)
def test_a_download_that_fails_says_why_and_keeps_nothing(
    machine: Machine, answer: Answer, trouble: str
) -> None:
    machine.release = release_of(ZIP, read_timeout=0.3 if "in time" in trouble else 10)
    with serving(answer) as server:
        machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = server.url
        message = f"Terraform 1.11.4 could not be fetched from {server.url}{ZIP_PATH}: {trouble}"
        assert machine.failure() == (message, WAYS_OUT)
    assert not machine.cache.exists()


def test_a_server_that_trickles_is_left_at_the_deadline(machine: Machine) -> None:
    machine.release = release_of(ZIP, deadline=0.4)
    with serving(trickle) as server:
        machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = server.url
        message = f"Terraform 1.11.4 could not be fetched from {server.url}{ZIP_PATH}"
        assert machine.failure() == (f"{message}: it was not there after 0.4 seconds", WAYS_OUT)
    assert not machine.cache.exists()


def test_a_server_that_never_stops_is_left(machine: Machine) -> None:
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not handler.server.released.is_set():
            handler.wfile.write(b"x" * 65536)

    machine.release = replace(machine.release, max_bytes=200_000)
    with serving(endless) as server:
        machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = server.url
        message = f"Terraform 1.11.4 could not be fetched from {server.url}{ZIP_PATH}"
        assert machine.failure() == (f"{message}: the server sends more than 200000 bytes", WAYS_OUT)
    assert not machine.cache.exists()


def test_a_tampered_zip_is_not_used(machine: Machine) -> None:
    tampered = ZIP.replace(b"the fetched one", b"an evil copy!!!")
    with serving(whole(tampered)) as server:
        machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = server.url
        actual, pinned = hashlib.sha256(tampered).hexdigest(), hashlib.sha256(ZIP).hexdigest()
        place = f"{server.url}{ZIP_PATH}"
        trouble = f"Terraform 1.11.4 from {place} is not used: its SHA-256 is {actual}, not {pinned}"
        assert machine.failure() == (trouble, WAYS_OUT)
    assert not machine.cache.exists()


@pytest.mark.parametrize("body", [zip_of("README", b"hello"), b"PK, or so it says"])
def test_a_zip_without_the_binary_is_not_used(machine: Machine, body: bytes) -> None:
    machine.release = release_of(body)
    with serving(whole(body)) as server:
        machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = server.url
        trouble = "Terraform 1.11.4 is not used: it is no zip with a `terraform` in it"
        assert machine.failure() == (trouble, WAYS_OUT)
    assert not machine.cache.exists()


def test_a_name_that_does_not_resolve(machine: Machine) -> None:
    host = ".".join(["x" * 60] * 6)  # too long for any name server to be asked
    with pytest.raises(socket.gaierror) as refusal:
        socket.getaddrinfo(host, 80)
    machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = f"http://user:secret@{host}"
    message = f"Terraform 1.11.4 could not be fetched from http://{host}{ZIP_PATH}: {refusal.value.strerror}"
    assert machine.failure() == (message, WAYS_OUT)
    assert not machine.cache.exists()


def test_an_old_terraform_is_named_when_none_can_be_fetched(machine: Machine) -> None:
    old = machine.program("terraform", says("1.5.7"))
    broken = machine.program("tofu", "echo 'no version is set' >&2; exit 1")
    url = machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = "http://127.0.0.1:1"
    message = (
        f"Terraform 1.11.4 could not be fetched from {url}{ZIP_PATH}: {os.strerror(errno.ECONNREFUSED)}"
        f"; `{old}` is Terraform 1.5.7, and 1.11 or newer is needed"
        f"; `{broken}` did not tell its version, but said: no version is set"
    )
    assert machine.failure() == (message, WAYS_OUT)


# The cache


def test_a_cache_that_cannot_be_written_is_found_out_before_the_download(machine: Machine) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    mine = os.geteuid()
    with serving(whole(ZIP)) as server:
        machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = server.url
        machine.root = folder
        try:
            if mine == 0:
                os.seteuid(65534)  # root may write anywhere
            failure = machine.failure()
        finally:
            os.seteuid(mine)
        assert server.asked == []
    where = folder / "cache" / "terraform" / "1.11.4" / PLATFORM
    trouble = f"Terraform 1.11.4 cannot be kept in `{where}`: {os.strerror(errno.EACCES)}"
    assert failure == (trouble, WAYS_OUT)
    assert list(folder.iterdir()) == []
    folder.rmdir()


def test_a_cache_that_is_a_file(machine: Machine) -> None:
    machine.cache.write_text("mine")
    trouble = f"Terraform 1.11.4 cannot be kept in `{machine.fetched.parent}`: {os.strerror(errno.ENOTDIR)}"
    assert machine.failure() == (trouble, WAYS_OUT)
    assert machine.cache.read_text() == "mine"


def test_a_full_disk_leaves_no_file(machine: Machine) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serving(whole(ZIP)) as server:
        machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = server.url
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
            failure = machine.failure()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert server.asked == [f"GET {ZIP_PATH}"]
    trouble = f"Terraform 1.11.4 cannot be kept in `{machine.fetched.parent}`: {os.strerror(errno.EFBIG)}"
    assert failure == (trouble, WAYS_OUT)
    assert machine.kept() == []


# Processes of their own

CHILD = """
import signal, sys
from pathlib import Path
from daft_launcher.errors import DaftLauncherError
from daft_launcher.terraform_binary import Release, find_terraform

# A shell that starts a test run in the background makes its children deaf to SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
url, cache, sha256 = sys.argv[1:]
try:
    binary = find_terraform(
        progress=lambda line: None,
        environ={"PATH": "", "DAFT_TERRAFORM_RELEASES_URL": url},
        cache=Path(cache),
        release=Release(version="1.11.4", sha256={"linux_amd64": sha256}),
        platform="linux_amd64",
    )
except DaftLauncherError as error:
    print(type(error).__name__, error.message, error.hint, sep="|")
    sys.exit(error.exit_code)
print(binary.path)
"""


def start_child(machine: Machine, url: str) -> subprocess.Popen[str]:
    package = str(Path(daft_launcher.__file__).parent.parent)
    command = [sys.executable, "-c", CHILD, url, str(machine.cache), machine.release.sha256[PLATFORM]]
    env = os.environ | {"PYTHONPATH": package}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


INTERRUPTED = "Interrupted|the download of Terraform 1.11.4 was interrupted|nothing of it is kept;"


@pytest.mark.parametrize(
    ("number", "status", "printed"),
    [
        (signal.SIGINT, Interrupted.exit_code, f"{INTERRUPTED} the next run starts it again\n"),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)
def test_ctrl_c_and_kill_in_mid_download_leave_nothing(
    machine: Machine, number: signal.Signals, status: int, printed: str
) -> None:
    reached = threading.Event()
    with serving(half_then_wait(ZIP, reached=reached)) as server, start_child(machine, server.url) as child:
        assert reached.wait(10)
        child.send_signal(number)
        assert child.communicate(timeout=10) == (printed, "")
        assert child.returncode == status
    assert not machine.cache.exists()


def test_two_processes_at_once_get_one_binary(machine: Machine) -> None:
    both_asking = threading.Barrier(2, timeout=10)

    def answer(handler: Handler) -> None:
        both_asking.wait()
        start(handler, length=len(ZIP))
        handler.wfile.write(ZIP)

    with serving(answer) as server:
        children = [start_child(machine, server.url) for _ in range(2)]
        outputs = [child.communicate(timeout=10) for child in children]
        assert len(server.asked) == 2
    assert outputs == [(f"{machine.fetched}\n", "")] * 2
    assert machine.kept() == [machine.fetched]
    assert machine.fetched.read_bytes() == BINARY
