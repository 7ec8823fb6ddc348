"""One lock a cluster: who holds it is named, and it lasts as long as anybody works."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daft_launcher.errors import StateError
from daft_launcher.lock import ClusterLockedError, LockHolder, lock_cluster, note_terraform

HOLD = """
import sys
from pathlib import Path
from daft_launcher.lock import lock_cluster
with lock_cluster(Path(sys.argv[1]), command="daft up"):
    print("held", flush=True)
    sys.stdin.read()
"""
INHERIT = """
import subprocess, sys
from pathlib import Path
from daft_launcher.lock import lock_cluster
with lock_cluster(Path(sys.argv[1]), command="daft down") as lock:
    child = ["/bin/sh", "-c", "echo started; read end"]
    subprocess.Popen(child, pass_fds=[lock], start_new_session=True)
"""


def find_holder(directory: Path) -> LockHolder | None:
    """Return who holds a lock, None when nobody does."""
    try:
        with lock_cluster(directory, command="daft list"):
            return None
    except ClusterLockedError as error:
        return error.holder


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ClusterLockedError) as caught, lock_cluster(tmp_path, command="daft down"):
            pass
        holder = find_holder(tmp_path)
        other.stdin.close()
        assert other.wait(30) == 0
    assert holder is not None
    assert holder == LockHolder(
        command="daft up",
        user=getpass.getuser(),
        host=socket.gethostname(),
        pid=other.pid,
        since=holder.since,
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", holder.since)
    assert caught.value.holder == holder
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (
        (
            f"{tmp_path} is locked by `daft up` of {holder.user} on {holder.host} (process {other.pid}), "
            f"since {holder.since}"
        ),
        f"wait for it to end; what it does stands in {tmp_path}/logs/",
        1,
    )
    assert (caught.value.held_by("daft up"), caught.value.held_by("daft down")) == (True, False)
    assert find_holder(tmp_path) is None
    with lock_cluster(tmp_path, command="daft down"):
        assert find_holder(tmp_path).command == "daft down"


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        other.kill()
        other.wait(30)
        with lock_cluster(tmp_path, command="daft up") as descriptor:
            assert json.loads(os.pread(descriptor, 1000, 0))["pid"] == os.getpid()


def test_a_child_that_inherits_it_keeps_it_when_its_parent_has_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INHERIT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "started\n"
        assert other.wait(30) == 0
        with pytest.raises(ClusterLockedError) as caught, lock_cluster(tmp_path, command="daft up"):
            pass
        assert caught.value.held_by("daft down")
        assert find_holder(tmp_path).pid == other.pid
        other.stdin.close()
        assert other.stdout.read() == ""  # the child's end of it is closed: it has ended
    with lock_cluster(tmp_path, command="daft up"):
        pass


StartTerraform = Callable[[int, str], "subprocess.Popen[str]"]


@pytest.fixture
def start_terraform(tmp_path: Path) -> Iterator[StartTerraform]:
    """A function that starts a Terraform with one child, both in a process group of their own."""
    started: list[subprocess.Popen[str]] = []

    def start(lock: int, child: str) -> subprocess.Popen[str]:
        program = tmp_path / child
        shutil.copy(shutil.which("sleep") or "", program)
        # Until it has become that program it is a shell yet.
        started_up = f"until ps -ww -o args= -p $! | grep -q '^{program} '; do :; done"
        terraform = subprocess.Popen(
            ["/bin/sh", "-c", f"'{program}' 120 & {started_up}; echo started; wait"],
            pass_fds=[lock],
            start_new_session=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(terraform)
        assert terraform.stdout
        assert terraform.stdout.readline() == "started\n"
        return terraform

    yield start
    for terraform in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(terraform.pid, signal.SIGKILL)
        terraform.communicate()


def killed(terraform: subprocess.Popen[str]) -> int:
    """Kill a Terraform alone, and return its process number."""
    terraform.kill()
    terraform.wait()
    return terraform.pid


def test_the_provider_of_a_terraform_that_was_killed_holds_nothing(
    tmp_path: Path, start_terraform: StartTerraform
) -> None:
    with lock_cluster(tmp_path, command="daft down") as lock:
        note_terraform(lock, killed(start_terraform(lock, "terraform-provider-aws_v5")))
    with lock_cluster(tmp_path, command="daft up"):
        assert find_holder(tmp_path).command == "daft up"


@pytest.mark.parametrize(
    ("child", "noted"),
    [("node", {}), ("terraform-provider-aws_v5", {"host": "elsewhere"})],
    ids=["what is no provider", "another machine's"],
)
def test_what_else_holds_it_after_terraform_was_killed_is_waited_for(
    tmp_path: Path, start_terraform: StartTerraform, child: str, noted: dict[str, str]
) -> None:
    with lock_cluster(tmp_path, command="daft down") as lock:
        note_terraform(lock, killed(start_terraform(lock, child)))
    note = json.loads((tmp_path / "daft.lock").read_text())
    (tmp_path / "daft.lock").write_text(json.dumps({**note, **noted}))
    assert find_holder(tmp_path).command == "daft down"
    assert find_holder(tmp_path).command == "daft down"


def test_the_provider_of_a_terraform_that_works_is_left_alone(
    tmp_path: Path, start_terraform: StartTerraform
) -> None:
    with lock_cluster(tmp_path, command="daft down") as lock:
        terraform = start_terraform(lock, "terraform-provider-aws_v5")
        note_terraform(lock, terraform.pid)
    assert find_holder(tmp_path).terraform == terraform.pid
    assert find_holder(tmp_path).terraform == terraform.pid


def test_a_child_does_not_inherit_it_by_accident(tmp_path: Path) -> None:
    with lock_cluster(tmp_path, command="daft up"):
        child = subprocess.Popen(["/bin/sh", "-c", "read end"], stdin=subprocess.PIPE, close_fds=False)
    # Popen returns a moment before the kernel has closed the descriptors that the child does not keep.
    deadline = time.monotonic() + 10
    while find_holder(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    with lock_cluster(tmp_path, command="daft up"):
        assert child.poll() is None
    child.communicate(b"\n", timeout=30)


def test_it_is_given_back_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), lock_cluster(tmp_path, command="daft up"):
        raise RuntimeError
    with lock_cluster(tmp_path, command="daft up"):
        pass


def test_a_longer_note_of_an_earlier_holder_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "daft.lock").write_text("x" * 10_000)
    with lock_cluster(tmp_path, command="daft up"):
        assert find_holder(tmp_path).command == "daft up"
    assert (tmp_path / "daft.lock").stat().st_size < 1000


@pytest.mark.parametrize("note", ["", "{", "3", '{"command": "daft up"}', "null"])
def test_a_holder_that_says_nothing_sensible_still_holds(tmp_path: Path, note: str) -> None:
    with lock_cluster(tmp_path, command="daft up"):
        (tmp_path / "daft.lock").write_text(note)
        with pytest.raises(ClusterLockedError) as caught, lock_cluster(tmp_path, command="daft down"):
            pass
    assert (caught.value.message, caught.value.holder) == (f"{tmp_path} is locked by another process", None)
    assert not caught.value.held_by("daft up")


def test_the_note_is_for_the_user_alone(tmp_path: Path) -> None:
    with lock_cluster(tmp_path, command="daft up"):
        assert (tmp_path / "daft.lock").stat().st_mode & 0o777 == 0o600


def test_where_nothing_can_be_written_nothing_can_be_locked(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(StateError) as caught, lock_cluster(missing, command="daft up"):
        pass
    assert caught.value.message == f"{missing}/daft.lock cannot be written: No such file or directory"


def test_the_lock_holds_where_there_is_no_room_to_say_whose_it_is(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with (
            lock_cluster(tmp_path, command="daft up"),
            pytest.raises(ClusterLockedError) as caught,
            lock_cluster(tmp_path, command="daft down"),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.message == f"{tmp_path} is locked by another process"
