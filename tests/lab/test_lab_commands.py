"""What a user does with a cluster that is up, over the real tunnel: jobs, their logs, and the head itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.lab.lab import Lab, Project, Seen
from tests.lab.machine import Machine, wait_for

GO = "/tmp/go"
WAIT = f"""\
import pathlib, time
print("before", flush=True)
while not pathlib.Path("{GO}").exists():
    time.sleep(0.1)
print("after")
raise SystemExit(4)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "main.py").write_text(WAIT)
    return tmp_path / "work"


def test_ctrl_c_leaves_the_job_running_and_logs_follows_it_to_its_end(cluster: Project, folder: Path) -> None:
    submit = cluster.start("submit", "-w", str(folder), "--job-id", "left")
    submit.says("before\n")
    submit.interrupt()

    assert _plain(submit.end()) == (
        130,
        "left\nbefore\n",
        _error(
            "no longer following `left`; the job goes on",
            "follow it with `daft logs left`, stop it with `daft stop-job left`",
        ),
    )
    assert _statuses(cluster)["left"] == "RUNNING"
    cluster.head().run("touch", GO)
    assert _plain(cluster.daft("logs", "left")) == (4, "before\nafter\n", "")
    assert _statuses(cluster)["left"] == "FAILED"


def test_job_that_nobody_waits_for_is_listed_and_stopped(cluster: Project, folder: Path) -> None:
    (folder / "main.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    sent = cluster.daft("submit", "-w", str(folder), "--no-wait")
    name = sent.out.strip()
    assert (sent.status, sent.err) == (0, "")
    assert re.fullmatch(r"daft-[0-9a-f]{16}\n", sent.out)

    wait_for(lambda: _statuses(cluster)[name] == "RUNNING", "job that runs", timeout=60, pause=1)
    listed = cluster.daft("jobs")
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert (listed.status, listed.err) == (0, "")
    assert re.fullmatch(rf"{name}  RUNNING    {when}  python main\.py", listed.out.splitlines()[0])

    follower = cluster.start("logs", name)
    follower.says("begun\n")
    assert _plain(cluster.daft("stop-job", name)) == (0, "", f"asked {name} to stop\n")
    assert _plain(follower.end()) == (130, "begun\n", "")
    assert _statuses(cluster)[name] == "STOPPED"
    assert _plain(cluster.daft("stop-job", name)) == (
        1,
        "",
        _error(f"job `{name}` has ended already", "`daft jobs` shows how"),
    )


def test_environment_and_words_arrive_as_they_are(cluster: Project, folder: Path) -> None:
    value = "é “'\"\\ $(id) `id` %{x}; & | *"
    words = [value, "$HOME", ""]
    script = "import os, sys; print(os.environ['ONE'], os.environ['TWO'], sys.argv[1:])"
    options = ("--job-id", "words", "--env", f"ONE={value}", "--env", "TWO=a=$ $$")
    seen = cluster.daft("submit", "-w", str(folder), *options, "--", "python", "-c", script, *words)

    assert _plain(seen) == (0, f"words\n{value} a=$ $$ {words}\n", "")


def test_unchanged_folder_is_sent_once(cluster: Project, folder: Path) -> None:
    (folder / "data").write_bytes(os.urandom(4 << 20))
    sent = []
    for number in range(2):
        before = _bytes_to(cluster.head())
        seen = cluster.daft("submit", "-w", str(folder), "--job-id", f"once-{number}", "--", "echo", "done")
        assert _plain(seen) == (0, f"once-{number}\ndone\n", "")
        sent.append(_bytes_to(cluster.head()) - before)

    assert sent[0] > 4 << 20
    assert sent[1] < 1 << 20


def test_too_large_folder_is_explained_before_anything_is_sent(cluster: Project, folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "big.bin").write_bytes(os.urandom(101 << 20))
    before, logins = _bytes_to(cluster.head()), cluster.head().log("sshd.log").count("Accepted")
    seen = cluster.daft("submit", "-w", str(folder))

    assert _plain(seen) == (
        1,
        "",
        _error(
            f"`{folder}` holds 101.0 MiB in 2 files; compressed it is over 100.0 MiB, and Ray takes no more than that",
            f"put what the job does not read into `{folder}/.rayignore`; the largest entries: "
            "data/big.bin (101.0 MiB), main.py (0.0 MiB)",
        ),
    )
    assert cluster.head().log("sshd.log").count("Accepted") == logins > 0
    assert _bytes_to(cluster.head()) - before < 1 << 20


def test_job_that_ray_does_not_know(cluster: Project) -> None:
    for command in ("logs", "stop-job"):
        seen = cluster.daft(command, "nope")
        assert (seen.status, seen.out) == (1, "")
        assert re.fullmatch(
            r"error: Ray at http://127\.0\.0\.1:\d+ has no job `nope`\n"
            r"hint: `daft jobs` lists the jobs; a cluster forgets them when its head is replaced\n",
            seen.err,
        )


def test_bootstrap_log_is_the_heads_own(cluster: Project) -> None:
    assert _plain(cluster.daft("logs", "--bootstrap")) == (0, cluster.head().log(), "")


def test_ssh_runs_a_command_and_ends_as_it_does(cluster: Project) -> None:
    words = ("sh", "-c", 'echo "$0" "$1"; hostname; id -un; echo to stderr >&2; exit 3', "two words", "$HOME")
    name = f"ip-{cluster.head().facts.private.replace('.', '-')}"
    assert _plain(cluster.daft("ssh", "--", *words)) == (
        3,
        f"two words $HOME\n{name}\nec2-user\n",
        "to stderr\n",
    )
    assert _plain(cluster.daft("ssh", "--", "echo $HOME | tr a-z A-Z")) == (0, "/HOME/EC2-USER\n", "")
    # Whom to trust came from the head's tag, and nobody else's file was asked or told.
    assert not Path(cluster.environ["HOME"], ".ssh").exists()


def test_ssh_trusts_no_other_machine_at_the_heads_address(lab: Lab, cluster: Project, tmp_path: Path) -> None:
    (head,) = lab.cloud.find(cluster.name, "head")
    key = next(tag["value"] for tag in head.get_tags() if tag["key"] == "daft:ssh-host-key")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    other = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    lab.cloud.set_tags(head, {"daft:ssh-host-key": other})
    try:
        seen = cluster.daft("ssh", "--", "echo", "in")
    finally:
        lab.cloud.set_tags(head, {"daft:ssh-host-key": key})

    assert (seen.status, seen.out) == (255, "")
    assert "Host key verification failed." in seen.err


def _error(message: str, hint: str) -> str:
    return f"error: {message}\nhint: {hint}\n"


def _plain(seen: Seen) -> tuple[int, str, str]:
    return seen.status, seen.out, seen.err


def _statuses(cluster: Project) -> dict[str, str]:
    seen = cluster.daft("jobs", "--json")
    assert (seen.status, seen.err) == (0, "")
    return {job["submission_id"]: job["status"] for job in json.loads(seen.out)}


def _bytes_to(machine: Machine) -> int:
    """Return how much has gone into a machine's cable."""
    words = ["ip", "-json", "-statistics", "link", "show", "dev", machine.name]
    shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return int(json.loads(shown)[0]["stats64"]["tx"]["bytes"])
