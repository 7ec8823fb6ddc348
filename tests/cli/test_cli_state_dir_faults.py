"""A state directory that is in nobody's power: not a folder, read-only, full, somebody else's, or in use."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clikit import COMMANDS, LOCAL, Desk, Seen, failed, full_disk, read_only_disk

ELSEWHERE = "name another place with `--state-dir` or DAFT_STATE_DIR"
STATE = '{"version": 4, "resources": [{"mode": "managed", "type": "terraform_data", "name": "x", "instances": []}]}'
NO_HEAD = failed(
    "no head of cluster `demo` is running on this machine",
    "make it with `daft up`; `daft list` shows what there is",
)


@pytest.mark.parametrize("command", ["up", "render"])
@pytest.mark.parametrize(
    ("args", "place"),
    [([], ".daft"), (["--state-dir", "file"], "file"), (["--state-dir", "file/below"], "file/below")],
)
def test_a_file_where_the_folder_should_be(terraform_desk: Desk, command: str, args: list[str], place: str):
    desk = terraform_desk
    desk.write(".daft.toml", LOCAL)
    desk.write(".daft", "mine")
    desk.write("file", "mine")
    verb = "made" if command == "up" else "written"
    with desk.unchanged():
        assert desk.daft(command, *args) == failed(
            f"{place}/demo.local cannot be {verb}: Not a directory", ELSEWHERE
        )


def test_render_out_at_a_file(desk: Desk):
    desk.write(".daft.toml", LOCAL)
    desk.write("file", "mine")
    with desk.unchanged():
        assert desk.daft("render", "--out", "file") == failed(
            "file cannot be written: File exists", "name another place with `--out`"
        )


@pytest.mark.parametrize("command", ["down", "submit", "dashboard", "jobs", "logs", "stop-job", "list"])
def test_what_only_reads_finds_nothing_at_a_file(desk: Desk, command: str):
    desk.write(".daft.toml", LOCAL)
    desk.write("job/main.py", "")
    desk.environ["DAFT_STATE_DIR"] = str(desk.write("file", "mine"))
    expected = {
        "down": Seen(0, err="there is no cluster demo\n"),
        "list": Seen(0, err="no cluster is running\n"),
    }.get(command, NO_HEAD)
    with desk.unchanged():
        args = ["list", "--provider", "local"] if command == "list" else COMMANDS[command]
        assert desk.daft(*args) == expected


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["up", "--state-dir", "../disk"], "../disk/demo.local cannot be made", ELSEWHERE),
        (["render", "--state-dir", "../disk"], "../disk/demo.local cannot be written", ELSEWHERE),
        (
            ["init-config", "../disk/x.toml"],
            "../disk/x.toml cannot be written",
            "name another place: `daft init-config FILE`",
        ),
    ],
)
def test_a_read_only_disk(terraform_desk: Desk, args: list[str], message: str, hint: str):
    disk = read_only_disk(terraform_desk)
    terraform_desk.write(".daft.toml", LOCAL)
    assert disk.run(*args) == failed(f"{message}: {disk.error}", hint)
    assert disk.left == []


@pytest.mark.parametrize(("command", "file"), [("render", "modules/local/environment.py"), ("up", "main.tf")])
def test_a_full_disk(terraform_desk: Desk, command: str, file: str):
    """With room for a few files; `up` has written its lock as well."""
    disk = full_disk(terraform_desk, kib=16)
    terraform_desk.write(".daft.toml", LOCAL)
    assert disk.run(command, "--state-dir", "../disk/state") == failed(
        f"../disk/state/demo.local/{file} cannot be written: {disk.error}", ELSEWHERE
    )
    assert disk.left == ["./full"]


@pytest.mark.parametrize("kib", [0, 4])
def test_init_config_on_a_full_disk(desk: Desk, kib: int):
    """With no room for the file, and with room for the file and none for its schema."""
    disk = full_disk(desk, kib=kib)
    assert disk.run("init-config", "../disk/x.toml") == failed(
        f"../disk/x.toml cannot be written: {disk.error}", "name another place: `daft init-config FILE`"
    )
    assert disk.left == ["./full"]


def test_output_to_a_full_disk(desk: Desk):
    desk.local_node("head")
    for args in (["list", "--provider", "local"], ["list", "--format", "table", "--provider", "local"]):
        with Path("/dev/full").open("w") as full:
            assert desk.program(*args, stdout=full) == failed(
                "the output cannot be written: No space left on device", "send it somewhere else"
            )


@pytest.mark.parametrize("command", ["up", "up --plan", "render", "render --check"])
@pytest.mark.parametrize("name", ["main.tf", "backend.tf", ".gitignore", "modules/local/node.py"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_foreign_file(terraform_desk: Desk, command: str, name: str, kind: str):
    desk = terraform_desk
    desk.write(".daft.toml", LOCAL)
    path = desk.project / ".daft/demo.local" / name
    path.parent.mkdir(parents=True)
    if kind == "file":
        path.write_text("mine\n")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(desk.write("elsewhere", "# Generated by daft-launcher\n"))
    with desk.unchanged():
        assert desk.daft(*command.split()) == failed(
            f".daft/demo.local/{name} is in the way: it was not generated here, and is never overwritten",
            f"move it away, or {ELSEWHERE}",
        )


def test_down_leaves_a_foreign_root_alone(terraform_desk: Desk):
    desk = terraform_desk
    desk.write(".daft.toml", LOCAL)
    desk.write(".daft/demo.local/main.tf", "mine\n")
    desk.write(".daft/demo.local/terraform.tfstate", STATE)
    with desk.unchanged():
        assert desk.daft("down") == failed(
            ".daft/demo.local/main.tf is in the way: it was not generated here, and is never overwritten",
            f"move it away, or {ELSEWHERE}",
        )


@pytest.mark.parametrize("command", ["up", "down"])
@pytest.mark.parametrize(
    ("options", "before"),
    [
        (["--no-wait-lock"], ""),
        (["--lock-timeout", "0"], ""),
        (
            ["--lock-timeout", "1"],
            "waiting for `daft up` of bob on desktop (process 4242), since 2026-01-02 03:04:05 UTC; Ctrl-C gives up\n",
        ),
    ],
)
def test_a_cluster_that_somebody_works_on(
    terraform_desk: Desk, command: str, options: list[str], before: str
):
    desk = terraform_desk
    desk.write(".daft.toml", LOCAL)
    assert desk.daft("render").status == 0
    desk.write(".daft/demo.local/terraform.tfstate", STATE)
    holder = {
        "command": "daft up",
        "user": "bob",
        "host": "desktop",
        "pid": 4242,
        "since": "2026-01-02 03:04:05 UTC",
    }
    with _held(desk.write(".daft/demo.local/daft.lock", json.dumps(holder))), desk.unchanged():
        assert desk.daft(command, *options) == failed(
            ".daft/demo.local is locked by `daft up` of bob on desktop (process 4242), "
            "since 2026-01-02 03:04:05 UTC",
            "wait for it to end; what it does stands in .daft/demo.local/logs/",
            before=before,
        )


def test_the_holder_of_a_lock_is_named_as_it_is(terraform_desk: Desk):
    """A real `daft up`, kept at work by a Terraform that does not come back."""
    desk = terraform_desk
    (desk.bin / "terraform").unlink()
    desk.patient_terraform()
    desk.write(".daft.toml", LOCAL)
    with desk.command("up") as first:
        try:
            while not (desk.root / "at-work").exists():
                assert first.poll() is None, desk.end(first)
            seen = desk.daft("up", "--no-wait-lock")
        finally:
            first.send_signal(signal.SIGINT)  # which ends its Terraform too
            desk.end(first)
    lines = seen.err.splitlines()
    assert lines[0].startswith(".daft/demo.local is locked by `daft up` of ann on ", len("error: "))
    assert f" (process {first.pid}), since 2" in lines[0]
    assert (seen.status, seen.out, len(lines)) == (1, "", 2)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Let another process hold a lock."""
    program = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate(b"\n")
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert os.access(path, os.R_OK)
