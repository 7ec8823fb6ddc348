"""What the tests of the aws path share: a project folder, the installed `daft`, and a head node that we play."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moto.ec2.models.instances import Instance

from tests.moto.server import MotoServer
from tests.plan_json import check_plan_json

PATIENCE = 180.0
OPERATOR = "203.0.113.7"
_READING = ("Head", "Describe", "Get", "List")
_DONE = re.compile(r"  ((created|changed|replaced|removed) |\S+ failed after )")
_ENDING = {"shutting-down", "terminated"}
_PLAIN = (
    (re.compile(r"\bi-[0-9a-f]{17}\b"), "i-1"),
    (re.compile(r"\b(?!0\.0\.0\.0|203\.0\.113\.|127\.0\.0\.1)\d+\.\d+\.\d+\.\d+\b"), "1.2.3.4"),
    (re.compile(r"\b(sg|lt|sgr|subnet|vpc|key|vol)-[0-9a-f]{8,17}\b"), r"\1-1"),
    (re.compile(r"\b\d+ s\b"), "N s"),
    (
        re.compile(r"of \S+ on \S+ \(process \d+\), since [-0-9]+ [:0-9]+ UTC"),
        "of WHO (process N), since THEN",
    ),
    (
        re.compile(r"\S+@\S+ \((\w+)\), since [-0-9]+ [:0-9]+ UTC"),
        r"WHO (\1), since THEN",
    ),
    (re.compile(r"force-unlock [-0-9a-f]{36}"), "force-unlock ID"),
    (re.compile(r"\.\d{8}T\d{6}Z\.backup"), ".THEN.backup"),
    (re.compile(r"(modules/aws/\w+\.tf):\d+"), r"\1:N"),
    (re.compile(r"RequestID: [-\w]+"), "RequestID: R"),
    (re.compile(r"\b20\d\d-\d\d-\d\d\b"), "DAY"),
)


def no_changes(region: str) -> str:
    """Return what `up --plan` says of a cluster with two workers that is as the configuration says."""
    return (
        "No changes. Your infrastructure matches the configuration.\n\n"
        "Summary: 0 to add, 0 to change, 0 to replace, 0 to destroy; the head is kept.\n\n"
        "Price, estimated in USD:\n"
        "  now and after: 0.1388 an hour, 101.35 a month, for 3 m7g.medium on demand, 150 GB of gp3\n"
        f"  m7g.medium on demand in {region}: 0.0408 an hour; AWS Price List, DAY\n"
        f"  gp3 in {region}: 0.08 a GB and month; AWS Price List, DAY\n"
        "  A month has 730 hours; data transfer and public addresses are not counted.\n"
    )


@dataclass(frozen=True)
class Seen:
    """All that a user sees of a command that has ended."""

    status: int
    out: str = ""
    err: str = ""


def failed(message: str, hint: str | None, *, status: int = 1, before: str = "") -> Seen:
    """What a failure looks like: nothing on stdout, and one message on stderr."""
    return Seen(status, err=f"{before}error: {message}\n" + (f"hint: {hint}\n" if hint else ""))


RESOURCES = {
    "aws_autoscaling_group": ["workers"],
    "aws_iam_instance_profile": ['node["head"]', 'node["worker"]'],
    "aws_iam_role": ['node["head"]', 'node["worker"]'],
    "aws_iam_role_policy": ['node["head"]', 'node["worker"]'],
    "aws_instance": ["head"],
    "aws_key_pair": ["cluster[0]"],
    "aws_launch_template": ["worker"],
    "aws_security_group": ["nodes"],
    "aws_ssm_parameter": ["ray"],
    "aws_vpc_security_group_egress_rule": ["ipv4", "ipv6"],
    "aws_vpc_security_group_ingress_rule": ["between_nodes", f'ssh["{OPERATOR}/32"]'],
    "terraform_data": ["head_generation", "image", "placement", "region"],
}
ADDRESSES = [f"{kind}.{name}" for kind, names in RESOURCES.items() for name in names]
PLANNED = "".join(f"  create {len(names)} {kind}\n" for kind, names in RESOURCES.items())
NEXT = "next: daft list | daft submit -w FOLDER -- python job.py | daft down\n"
GO_ON = "go on with `daft up`, or remove what exists with `daft down`"


def done(verb: str, addresses: Iterable[str]) -> str:
    """What the user sees of Terraform's work."""
    return "".join(sorted(f"  {verb} {address} (N s)\n" for address in addresses))


def created(*steps: str) -> str:
    """What `up` says of a new cluster, with the steps that its head goes through."""
    return PLANNED + done("created", ADDRESSES) + "".join(f"  {step} (N s)\n" for step in steps)


@dataclass
class Project:
    """A user's folder with a `.daft.toml`, on a machine that knows no AWS but the one in this process."""

    root: Path
    aws: MotoServer
    environ: Mapping[str, str]
    name: str = "demo"
    region: str = "us-west-2"
    setup: dict[str, object] = field(default_factory=dict)
    run: dict[str, object] = field(default_factory=dict)
    access: dict[str, object] = field(default_factory=lambda: {"ssh_allowed_cidrs": [f"{OPERATOR}/32"]})
    more: str = ""
    through: tuple[str, ...] = ()
    state_dir: Path | None = None
    backend: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root.mkdir()
        self.write()

    @property
    def terraform_root(self) -> Path:
        return (self.state_dir or self.root / ".daft") / self.name

    def write(self, **setup: object) -> None:
        """Write `.daft.toml`, with other values in [setup] from now on; None takes a key out."""
        self.setup |= setup
        values = {"name": self.name, "provider": "aws", "region": self.region, **self.setup}
        tables = {"setup": values, "run": self.run, "aws": self.access, "backend": self.backend}
        text = "".join(f"[{name}]\n{_toml(table)}\n" for name, table in tables.items() if table)
        (self.root / ".daft.toml").write_text(text + self.more)

    def keep_state(self, **backend: object) -> None:
        """Write `.daft.toml` with this [backend] from now on."""
        self.backend = backend
        self.write()

    def start(self, *args: str) -> Running:
        """Start the installed program as a user would."""
        return Running(self, args)

    def daft(self, *args: str) -> Seen:
        """Run the installed program to its end."""
        return self.start(*args).end()

    def up(self, *args: str) -> Seen:
        """Run `daft up` with a head that is ready as soon as it exists."""
        with self.head_says("ready"):
            return self.daft("up", *args)

    @contextlib.contextmanager
    def head_says(self, status: str, detail: str = "") -> Iterator[None]:
        """Let every head that has said nothing yet say this, while the block runs."""
        done = threading.Event()

        def play() -> None:
            while not done.wait(0.05):
                head = self.find_head()
                if head and "daft:status" not in tags_of(head):
                    self.say(head, status, detail)

        player = threading.Thread(target=play, name=f"head of {self.name}")
        player.start()
        try:
            yield
        finally:
            done.set()
            player.join()

    def say(self, head: Instance, status: str, detail: str = "") -> None:
        """Speak as a head does, by its tags."""
        self.aws.set_tags(head, {"daft:status": status, "daft:detail": detail})

    def forget(self) -> None:
        """Let the head have said nothing."""
        gone = {"daft:status": None, "daft:detail": None}
        self.aws.backend(self.region).delete_tags([self.head().id], gone)

    def nodes(self, role: str) -> list[Instance]:
        """Return this cluster's nodes of a role that are not on their way out."""
        # moto starts instances in a thread of its own, and a dictionary that grows cannot be read.
        for _ in range(10):
            with contextlib.suppress(RuntimeError):
                found = self.aws.instances(self.region, role=role)
                mine = [node for node in found if tags_of(node).get("daft:cluster") == self.name]
                return [node for node in mine if node.state not in _ENDING]
        raise AssertionError("moto's instances do not stop changing")

    def find_head(self) -> Instance | None:
        return next(iter(self.nodes("head")), None)

    def head(self) -> Instance:
        head = self.find_head()
        assert head, f"no head of {self.name}"
        return head

    def changes_asked(self) -> list[str]:
        """Return the calls that change something in this region; IAM, which knows no regions, left out."""
        here = [r for r in list(self.aws.requests) if r.region == self.region and r.service != "iam"]
        return [f"{r.service} {r.action}" for r in here if not r.action.startswith(_READING)]

    def tagged(self) -> list[str]:
        return self.aws.tagged(self.name, self.region)

    def state(self) -> Any:
        return json.loads((self.terraform_root / "terraform.tfstate").read_text())

    def files(self) -> dict[str, str]:
        """Return everything below the project but Terraform's own working files: mode and content of each path."""
        return {
            str(path.relative_to(self.root)): _content(path)
            for path in sorted(self.root.rglob("*"))
            if not {".terraform", "logs"} & set(path.relative_to(self.root).parts)
            if path.name != "daft.lock"
        }

    def plain(self, text: str) -> str:
        """Take out what differs from run to run, and the order of what Terraform does side by side."""
        text = text.replace(str(self.root), "PROJECT")
        for pattern, replacement in _PLAIN:
            text = pattern.sub(replacement, text)
        runs = itertools.groupby(text.splitlines(keepends=True), key=lambda line: bool(_DONE.match(line)))
        return "".join(line for done, lines in runs for line in (sorted(lines) if done else lines))


@dataclass(frozen=True, kw_only=True)
class NewCluster:
    """A cluster just made: what the user saw of it, in the order in which it came, and what was asked of AWS."""

    project: Project
    seen: Seen
    words: str
    asked: list[str]


class Running:
    """The installed program, at work in a process of its own."""

    def __init__(self, project: Project, args: tuple[str, ...]) -> None:
        self.project, self._args = project, args
        place = project.root.parent / f"{project.root.name}.output"
        place.mkdir(exist_ok=True)
        number = len(list(place.iterdir()))
        self._out, self._err = place / f"{number:03}.out", place / f"{number:03}.err"
        program = str(Path(sys.executable).parent / "daft")
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*project.through, program, *args],
                cwd=project.root,
                env=dict(project.environ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def words(self) -> str:
        """Return what the program has said on stderr so far, as it is."""
        return self._err.read_text()

    def said(self) -> str:
        """Return what the program has said on stdout so far, as it is."""
        return self._out.read_text()

    def has_said(self, text: str) -> bool:
        return text in self.words()

    def await_words(self, text: str) -> None:
        """Wait until the program has said something on stderr."""
        wait_until(lambda: self.has_said(text) or self.process.poll() is not None)
        assert self.has_said(text), self.end()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def end(self) -> Seen:
        """Wait for the end, and return what the user sees."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        plain = self.project.plain
        check_plan_json(self._args, self._out.read_text())
        return Seen(status, plain(self._out.read_text()), plain(self._err.read_text()))


def is_free(lock: Path) -> bool:
    """Return whether nobody works on a cluster, its Terraform included."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def tags_of(instance: Instance) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in instance.get_tags()}


def wait_until(condition: Callable[[], bool], *, timeout: float = PATIENCE) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def answer(project: Project, *args: str, question: str, reply: str) -> tuple[int, str]:
    """Run the program on a terminal, answer its question, and return its status and what the terminal showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project.root)
        os.execve(Path(sys.executable).parent / "daft", ["daft", *args], {**project.environ, "TERM": "dumb"})
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that nobody holds the terminal's other end any more
        while chunk := os.read(terminal, 4096):
            shown += chunk
            if question.encode() in shown and reply:
                os.write(terminal, f"{reply}\n".encode())
                reply = ""
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n")
    return os.waitstatus_to_exitcode(status), project.plain(text)


def _toml(table: Mapping[str, object]) -> str:
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in table.items() if value is not None)


def _toml_value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + " }"
    # Of a string, a number, a truth and a list of strings JSON says what TOML does.
    return json.dumps(value)


def _content(path: Path) -> str:
    mode = oct(path.lstat().st_mode)
    if path.is_symlink():
        return f"{mode} to {path.readlink()}"
    return mode if path.is_dir() else f"{mode} {path.read_bytes()!r}"
