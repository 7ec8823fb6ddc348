"""What goes wrong: a setup command, a head that is gone, another machine in its place, a connection that breaks."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab import network
from tests.lab.lab import Lab, Project
from tests.lab.machine import wait_for

LINES = 60
COUNT = f"""\
import time
for number in range({LINES}):
    print("line", number, flush=True)
    time.sleep(0.2)
"""
NO_WORKERS = {"number_of_workers": 0}


def test_failed_setup_command_ends_up_within_seconds(new_project: Callable[..., Project]) -> None:
    command = "echo 'there is no such bucket' >&2; exit 3"
    project = new_project("broken", setup=NO_WORKERS, run={"setup_commands": ["true", command]})
    with project.starting() as up:
        head = project.head()
        wait_for(lambda: "daft: status failed" in head.log(), "failure", timeout=300)
        failed_at = time.monotonic()
        seen = up.end()
        seconds = time.monotonic() - failed_at

    instance = head.facts.instance_id
    told = f"setup: `{command}` exited with 3: there is no such bucket"
    assert seen.status == 1
    assert f"error: the head node of `broken` ({instance}) failed: {told}\n" in seen.err
    # Fetched over SSH, the log's last lines say what the command itself said.
    assert "\n  there is no such bucket\n" in seen.err
    assert f"\nthese exist: head {instance}\n" in seen.err
    assert seconds < 6
    assert "Traceback" not in seen.err


def test_terminated_head_ends_up_within_seconds(lab: Lab, new_project: Callable[..., Project]) -> None:
    project = new_project("lost", setup=NO_WORKERS)
    with project.starting() as up:
        head = project.head()
        up.says("the head is installing", timeout=120)
        lab.terminate(project.instance())
        ended_at = time.monotonic()
        seen = up.end()
        seconds = time.monotonic() - ended_at

    assert seen.status == 1
    assert f"error: the head node of `lost` ({head.facts.instance_id}) is " in seen.err
    assert seconds < 6


def test_other_machine_at_the_heads_address_gets_nothing(lab: Lab, cluster: Project, tmp_path: Path) -> None:
    head = cluster.instance()
    key = next(tag["value"] for tag in head.get_tags() if tag["key"] == "daft:ssh-host-key")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    other = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    (tmp_path / "main.py").write_text("print('sent')\n")
    logins = cluster.head().log("sshd.log").count("Accepted")
    lab.cloud.set_tags(head, {"daft:ssh-host-key": other})
    try:
        seen = cluster.daft("submit", "-w", str(tmp_path))
    finally:
        lab.cloud.set_tags(head, {"daft:ssh-host-key": key})

    assert (seen.status, seen.out) == (1, "")
    assert f"the machine that answers at {head.public_ip}:22 is not the head that tagged itself" in seen.err
    assert cluster.head().log("sshd.log").count("Accepted") == logins > 0


def test_laptop_that_moved_is_told_so_and_let_in(cluster: Project, stranger: None, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("print('here')\n")
    submit = ("submit", "-w", str(tmp_path))
    before = _from_stranger(cluster, *submit)
    moved = _from_stranger(cluster, "up")
    after = _from_stranger(cluster, *submit)
    back = cluster.daft("up")

    hint = (
        f"this machine's public address is {network.STRANGER} now, and the cluster lets in {network.OPERATOR}/32 only: "
        "`daft up` lets the new one in"
    )
    assert (before.returncode, before.stdout) == (1, "")
    assert before.stderr.endswith(f"no answer within 20 seconds\nhint: {hint}\n")
    assert (moved.returncode, after.returncode, back.status) == (0, 0, 0), (moved, after, back)
    assert after.stdout.endswith("\nhere\n")


def _from_stranger(cluster: Project, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "netns", "exec", "stranger", Path(sys.executable).parent / "daft", *args],
        cwd=cluster.root,
        env=dict(cluster.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_cut_tunnel_loses_and_repeats_no_line(cluster: Project, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(COUNT)
    submit = cluster.start("submit", "-w", str(tmp_path), "--job-id", "counted")
    for reached in (10, 35):
        submit.says(f"line {reached}\n")
        assert cluster.head().cut_ssh() > 0
    seen = submit.end()

    assert (seen.status, seen.err) == (0, "")
    assert seen.out == "counted\n" + "".join(f"line {number}\n" for number in range(LINES))
