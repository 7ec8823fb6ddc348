"""What the tests of clusters on this machine share: a user's folder, the installed `daft`, and what a user sees."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.plan_json import check_plan_json

PATIENCE = 240.0
DAFT = str(Path(sys.executable).parent / "daft")
NEXT = "next: daft list | daft submit -w FOLDER -- python job.py | daft down\n"

#: The job of these tests: a folder of scripts.
SCRIPTS = {
    "main.py": """\
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "greeting": os.environ.get("GREETING")}))
""",
    "files.py": """\
import os
for top, folders, names in sorted(os.walk(".")):
    print(top, sorted(names))
""",
    "slow.py": """\
import time
print("line 1", flush=True)
time.sleep(600)
""",
}

_PLAIN = (
    (re.compile(r"\bdaft-[0-9a-f]{16}\b"), "daft-ID"),
    (re.compile(r"\b\d+(\.\d+)? s\b"), "N s"),
    (re.compile(r"(?<=127\.0\.0\.1:)\d+"), "PORT"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\+00:00)?"), "TIME"),
    # Ray gives up on a node that needs over 30 s, which a busy machine makes it need.
    (
        re.compile(r"^  retrying: (head|worker-\d+): `ray start` ended with exit code \d+\.\n", re.MULTILINE),
        "",
    ),
)
#: Workers start and end side by side, in an order of their own.
_WORKERS = re.compile(r"(?:^  .*worker.*\n)+", re.MULTILINE)


@dataclass(frozen=True)
class Seen:
    """All that a user sees of a command that has ended."""

    status: int
    out: str = ""
    err: str = ""


def failed(message: str, hint: str, *, status: int = 1, out: str = "", before: str = "") -> Seen:
    """What a failure looks like."""
    return Seen(status, out, f"{before}error: {message}\nhint: {hint}\n")


@dataclass
class Project:
    """A user's folder with a `.daft.toml` and a job in it."""

    root: Path
    environ: Mapping[str, str]
    name: str = "demo"
    setup: dict[str, object] = field(default_factory=dict)
    run: dict[str, object] = field(default_factory=dict)
    program: tuple[str, ...] = (DAFT,)
    _applied: str | None = None

    def __post_init__(self) -> None:
        self.root.mkdir(exist_ok=True)
        for script, text in SCRIPTS.items():
            (self.root / "job").mkdir(exist_ok=True)
            (self.root / "job" / script).write_text(text)
        self.write()

    def _config(self) -> str:
        return (self.root / ".daft.toml").read_text()

    def write(
        self, *, path: str = ".daft.toml", run: Mapping[str, object] | None = None, **setup: object
    ) -> None:
        """Write the configuration, with other values from now on; None takes a key out."""
        self.setup |= setup
        self.run |= run or {}
        tables = {"setup": {"name": self.name, "provider": "local", **self.setup}, "run": self.run}
        (self.root / path).write_text(
            "".join(f"[{name}]\n{_toml(table)}\n" for name, table in tables.items())
        )

    # what a user does

    def start(self, *args: str) -> Running:
        """Start the installed program as a user would."""
        return Running(self, args)

    def daft(self, *args: str) -> Seen:
        """Run the installed program to its end."""
        seen = self.start(*args).end()
        check_plan_json(args, seen.out)
        if args[0] == "up" and "--plan" not in args and seen.status == 0:
            self._applied = self._config()
        return seen

    def submit(self, *words: str, options: tuple[str, ...] = ()) -> Seen:
        return self.daft("submit", "-w", "job", *options, *(("--", *words) if words else ()))

    def terminal(self, *args: str, question: str, reply: str) -> Seen:
        """Run the program on a terminal and answer its question; a terminal shows everything in one stream."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        process = subprocess.Popen(
            [*self.program, *args],
            cwd=self.root,
            env={**self.environ, "TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            shown = _converse(ours, question, reply)
        finally:
            os.close(ours)
            if process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()
        return Seen(
            process.wait(), self.plain(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r\n", "\n"))
        )

    # what lies there

    def terraform_root(self) -> Path:
        return self.root / ".daft" / f"{self.name}.local"

    def nodes(self) -> dict[str, Any]:
        """Return the record of each node, by its name."""
        records = self.terraform_root().glob("run/*/node.json")
        return {record.parent.name: json.loads(record.read_text()) for record in records}

    def pid(self, node: str) -> int:
        return int(self.nodes()[node]["pid"])

    def is_up(self) -> bool:
        """Return whether the cluster is as the configuration says, all its nodes included."""
        if self._applied != self._config():
            return False
        nodes = self.nodes()
        wanted = {"head", *(f"worker-{index}" for index in range(int(str(self.setup["number_of_workers"]))))}
        return set(nodes) == wanted and all(Path(f"/proc/{node['pid']}").exists() for node in nodes.values())

    @property
    def token(self) -> str:
        return (self.terraform_root() / "run/token").read_text().strip()

    def kill(self, node: str) -> None:
        """Kill a node's first process."""
        pid = self.pid(node)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _lives(pid))

    def plain(self, text: str) -> str:
        """Take out what differs from run to run."""
        text = text.replace(str(self.root), "PROJECT")
        for pattern, replacement in _PLAIN:
            text = pattern.sub(replacement, text)
        return _WORKERS.sub(lambda block: "".join(sorted(block[0].splitlines(keepends=True))), text)

    def listed(self) -> list[str]:
        """Return what `daft list` shows of this machine; workers in the order of their names."""
        seen = self.daft("list", "--provider", "local")
        assert (seen.status, seen.err) == (0, "")
        return self.plain(seen.out).splitlines()

    def jobs(self) -> list[tuple[str, str]]:
        """Return id and status of each job that `daft jobs` shows."""
        seen = self.daft("jobs")
        assert (seen.status, seen.err) == (0, "" if seen.out else "no job was submitted yet\n")
        return [
            (line.split()[0], line.split()[1]) for line in seen.out.splitlines() if not line.startswith(" ")
        ]


class Running:
    """The installed program, at work."""

    def __init__(self, project: Project, args: tuple[str, ...]) -> None:
        self.project = project
        place = project.root.parent / f"{project.root.name}.output"
        place.mkdir(exist_ok=True)
        number = len(list(place.iterdir())) // 2
        self._out, self._err = place / f"{number:03}.out", place / f"{number:03}.err"
        # To files: what a pipe is left open by would keep a reader waiting.
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*project.program, *args],
                cwd=project.root,
                env=dict(project.environ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                # Whoever runs the tests in the background has Ctrl-C ignored, and children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def await_words(self, text: str) -> None:
        """Wait until the program has said something on either stream."""
        wait_until(lambda: text in self.out + self.err or self.process.poll() is not None)
        assert text in self.out + self.err, self.end()

    def interrupt(self) -> Seen:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> Seen:
        """Wait for the end, and return what the user sees."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"it does not end; it said:\n{self.out}{self.err}")
        return Seen(status, self.project.plain(self.out), self.project.plain(self.err))


class Traces:
    """Everything that a cluster has on this machine, to be asked for again when it should be gone."""

    def __init__(self, project: Project) -> None:
        self._run = project.terraform_root() / "run"
        nodes = project.nodes().values()
        self._folders = {Path(node["temp_dir"]) for node in nodes}
        self._ports = {port for node in nodes for port in node["ports"].values()}
        self._sessions = {node["pid"] for node in nodes}

    def processes(self) -> list[str]:
        """Return the processes that run still."""
        folders = [str(folder) for folder in (self._run, *self._folders)]
        return [
            f"process {pid}: {words[:200]}"
            for pid, session, words in _processes()
            if session in self._sessions or any(folder in words for folder in folders)
        ]

    def left(self) -> list[str]:
        """Return the processes, ports and folders that are there still."""
        ports = [f"port {port}" for port in sorted(self._ports) if _listens(port)]
        folders = [f"folder {folder}" for folder in (self._run, *sorted(self._folders)) if folder.exists()]
        links = Path("/tmp").glob(f"daft-{os.getuid()}-*/venv")
        return [
            *self.processes(),
            *ports,
            *folders,
            *(str(link) for link in links if link.readlink().parent == self._run),
        ]


def processes_of(project: Project) -> dict[int, str]:
    """Return command line and environment of each process that belongs to a cluster, by its number."""
    nodes = project.nodes().values()
    folders = [str(project.terraform_root() / "run"), *(node["temp_dir"] for node in nodes)]
    sessions = {node["pid"] for node in nodes}
    return {
        pid: words
        for pid, session, words in _processes()
        if session in sessions or any(folder in words for folder in folders)
    }


def ask(port: int, path: str, token: str | None = None) -> tuple[int, str]:
    """Return status and body of an answer at a port of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")


def wait_until(condition: Callable[[], bool], *, timeout: float = PATIENCE) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _processes() -> Iterator[tuple[int, int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            words = b"\0".join((folder / name).read_bytes() for name in ("cmdline", "environ"))
            if fields[0] not in "ZX" and int(folder.name) != os.getpid():
                yield int(folder.name), int(fields[3]), words.replace(b"\0", b" ").decode(errors="replace")


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    return False


def _listens(port: int) -> bool:
    for address in ("127.0.0.1", "127.0.0.2"):
        with socket.socket() as probe:
            if probe.connect_ex((address, port)) == 0:
                return True
    return False


def _converse(terminal: int, question: str, reply: str) -> str:
    shown, deadline, asked = b"", time.monotonic() + PATIENCE, False
    while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # Linux's way to say that the other end is closed
            piece = b""
        if not piece:
            return shown.decode()
        shown += piece
        if not asked and question in shown.decode(errors="replace"):
            asked = True
            os.write(terminal, f"{reply}\n".encode())
    pytest.fail(f"it does not end; it said:\n{shown.decode()}")


def _toml(table: Mapping[str, object]) -> str:
    # A value of ours is a string, a number, or a list of strings: JSON says these as TOML does.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items() if value is not None)
