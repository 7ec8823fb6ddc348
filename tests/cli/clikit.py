"""What the tests of the command line share: a desk with nothing on it, and what a user sees of a command."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from daft_launcher.cli import app
from daft_launcher.reach import Reach

TOKEN = "s3cret-token"
LOCAL = '[setup]\nname = "demo"\nprovider = "local"\n'
AWS = '[setup]\nname = "demo"\nprovider = "aws"\n\n[aws]\nssh_allowed_cidrs = ["203.0.113.7/32"]\n'
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}

#: What each command that reads `.daft.toml` is called with.
COMMANDS = {
    "up": ["up"],
    "up --plan": ["up", "--plan"],
    "down": ["down"],
    "render": ["render"],
    "render --check": ["render", "--check"],
    "submit": ["submit", "-w", "job", "--", "python", "main.py"],
    "dashboard": ["dashboard", "--no-open"],
    "jobs": ["jobs"],
    "logs": ["logs", "job-1"],
    "stop-job": ["stop-job", "job-1"],
}
#: Those of them that need a cluster which runs.
JOB_COMMANDS = ("submit", "dashboard", "jobs", "logs", "stop-job")


@dataclass(frozen=True)
class Seen:
    """All that a user sees of a command that has ended."""

    status: int
    out: str = ""
    err: str = ""


def failed(message: str, hint: str | None = None, *, status: int = 1, before: str = "") -> Seen:
    """What a failure looks like: nothing on stdout, and one message on stderr."""
    lines = [before, f"error: {message}\n", f"hint: {hint}\n" if hint else ""]
    return Seen(status, err="".join(lines))


@dataclass
class Desk:
    """A folder with a project and a home in it, and an environment that knows of nothing else.

    `daft` runs a command in this process, `program` the installed script in one of its own.
    """

    root: Path
    monkeypatch: pytest.MonkeyPatch
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in (self.project, self.home, self.bin):
            path.mkdir()
        self.environ = {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "CHECKPOINT_DISABLE": "1",
            "COLUMNS": "100",
            "DAFT_TERRAFORM_DOWNLOAD": "never",
            "HOME": str(self.home),
            "NO_PROXY": "*",
            "PATH": str(self.bin),
            "USER": "ann",
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            **self.environ,
        }

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file of the project."""
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def script(self, name: str, text: str) -> Path:
        """Put a shell script on PATH."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def patient_terraform(self) -> None:
        """Put a Terraform on PATH that works on for a minute unless it is interrupted.

        DESK/at-work says that it has begun, DESK/stopped that it was interrupted.
        """
        self.script(
            "terraform",
            f"""case "$1" in
version) echo '{{"terraform_version": "1.11.4"}}' ;;
*) trap ': > {self.root}/stopped; exit 1' INT; : > {self.root}/at-work
   n=0; while [ "$n" -lt 1200 ]; do n=$((n + 1)); /bin/sleep 0.05; done ;;
esac""",
        )

    def local_node(self, node: str, *, alive: bool = True, cluster: str = "demo", **changes: Any) -> None:
        """Leave the record of a node of a local cluster; a living one is this very process."""
        role, _, index = node.partition("-")
        pid = os.getpid() if alive else None
        record = {
            "cluster": cluster,
            "node": node,
            "role": role,
            "index": int(index) if index else None,
            "pid": pid,
            "process_start": _processes().process_start(pid) if pid else None,
            "ports": {},
            "state": "ready",
            "started_at": "2026-01-02T03:04:05+00:00",
            "temp_dir": str(self.root / "ray"),
            **changes,
        }
        self.write(f".daft/{cluster}.local/run/token", TOKEN)
        self.write(f".daft/{cluster}.local/run/{node}/node.json", json.dumps(record))

    def daft(self, *args: str, stdin: str = "", reach: Reach | None = None) -> Seen:
        """Run a command in this process, as a user without a terminal would see it."""
        with self.monkeypatch.context() as patch:
            patch.chdir(self.project)
            for name in set(os.environ) - set(self.environ):
                patch.delenv(name)
            for name, value in self.environ.items():
                patch.setenv(name, value)
            result = CliRunner().invoke(app, list(args), input=stdin, prog_name="daft", obj=reach)
        error = result.exception
        if error is not None and not isinstance(error, SystemExit):
            raise error
        return Seen(result.exit_code, self.plain(result.stdout), self.plain(result.stderr))

    def command(self, *args: str, prefix: tuple[str, ...] = (), name: str = "daft", **options: Any) -> Any:
        """Start the installed program in a process of its own."""
        program = str(Path(sys.executable).parent / name)
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        } | options
        return subprocess.Popen(
            [*prefix, program, *args], cwd=self.project, env=self.environ, text=True, **options
        )

    def program(self, *args: str, timeout: float = 60, **options: Any) -> Seen:
        """Run the installed program in a process of its own."""
        with self.command(*args, **options) as process:
            return self.end(process, timeout)

    def terminal(self, *args: str, answers: Mapping[str, str] | None = None, timeout: float = 60) -> Seen:
        """Run the installed program on a terminal; each answer is typed when its question is seen.

        A terminal shows both streams, and what is typed: all of it is in `out`.
        """
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        with self.command(*args, **streams, start_new_session=True, preexec_fn=_take_terminal) as process:
            os.close(theirs)
            try:
                shown = _converse(ours, dict(answers or {}), time.monotonic() + timeout)
            except BaseException:
                process.kill()
                raise
            finally:
                os.close(ours)
            return Seen(process.wait(timeout), self.plain(shown))

    def end(self, process: subprocess.Popen[str], timeout: float = 60) -> Seen:
        """Wait for a started program."""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Seen(process.returncode, self.plain(out or ""), self.plain(err or ""))

    def plain(self, text: str) -> str:
        """Take out what differs from run to run."""
        return text.replace(str(self.root), "DESK")

    def tree(self) -> Mapping[str, str]:
        """Return all of the project and the home, each path with its mode and content, but for what may always change.

        That is who held a cluster's lock last, and the provider cache that Terraform shares between clusters.
        """
        return {
            str(path.relative_to(self.root)): _content(path)
            for folder in (self.project, self.home)
            for path in sorted(folder.rglob("*"))
            if path.name != "daft.lock" and not path.is_relative_to(self.home / ".cache")
        } | {str(path): "left in the cache" for path in self.home.glob(".cache/daft-launcher/plans/*")}

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Fail when the block changes, makes or removes a file."""
        before = self.tree()
        yield
        assert self.tree() == before


def _content(path: Path) -> str:
    mode = oct(path.lstat().st_mode)
    if path.is_symlink():
        return f"{mode} to {path.readlink()}"
    return mode if path.is_dir() else f"{mode} {path.read_bytes()!r}"


def _processes() -> ModuleType:
    """terraform/local/processes.py, which writes what the provider reads."""
    spec = importlib.util.spec_from_file_location(
        "processes", Path(__file__).parents[2] / "terraform/local/processes.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Disk:
    """A disk that can only be seen by the program that `run` starts; afterwards `left` says what lies on it."""

    desk: Desk
    mount: str
    error: str

    def run(self, *args: str) -> Seen:
        """Run the installed program with the disk mounted at DESK/disk."""
        script = (
            f'{self.mount} && cd "$2" && shift 2 && {{ "$@"; status=$?; cd "$0/disk"; '
            f'find . -mindepth 1 > "$0/left"; exit $status; }}'
        )
        self.desk.environ["PATH"] += ":/usr/bin:/bin:/usr/sbin:/sbin"
        root = str(self.desk.root)
        inside = ("/bin/sh", "-c", script, root, f"{root}/disk", str(self.desk.project))
        return self.desk.program(*args, prefix=("unshare", "--mount", *_as_root(), *inside))

    @property
    def left(self) -> list[str]:
        return (self.desk.root / "left").read_text().splitlines()


def read_only_disk(desk: Desk) -> Disk:
    """Return a disk on which nothing can be written, not even by root, whom modes do not bind."""
    (desk.root / "disk").mkdir()
    return Disk(desk, 'mount -t tmpfs -o ro none "$1"', "Read-only file system")


def full_disk(desk: Desk, *, kib: int) -> Disk:
    """Return a disk with a file on it, and room for so many KiB more."""
    (desk.root / "disk").mkdir()
    mount = f'mount -t tmpfs -o size={4 + kib}k none "$1" && head -c 4096 /dev/zero > "$1/full"'
    return Disk(desk, mount, "No space left on device")


def _as_root() -> tuple[str, ...]:
    """Let a user mount in a namespace of the user's own."""
    return () if os.geteuid() == 0 else ("--user", "--map-root-user")


def without_escapes(text: str) -> str:
    """Return a terminal's text without colour and cursor movements, with line ends as files have them."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _converse(terminal: int, answers: dict[str, str], deadline: float) -> str:
    """Read a terminal to its end, and type each answer once its question stands at the end of what was read."""
    shown = b""
    while True:
        assert select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0], shown
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # Linux's way to say that the other end is closed
            piece = b""
        if not piece:
            return shown.decode()
        shown += piece
        for question in [
            question for question in answers if shown.decode(errors="replace").endswith(question)
        ]:
            time.sleep(
                0.2
            )  # as no person is quicker; a Ctrl-C at once would hit the question as it is printed
            os.write(terminal, answers.pop(question).encode())
