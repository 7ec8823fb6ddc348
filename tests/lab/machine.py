"""One instance as a machine: namespaces and a root of its own, an SSH server, user data, and a plug to pull."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.lab import network

_SCRIPT = Path(__file__).with_name("machine.sh")
_UNSHARE = ("unshare", "-mpuif", "--kill-child", "--propagation", "private")
_T = TypeVar("_T")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What EC2 and the image decide of a machine."""

    instance_id: str
    private: str
    public: str | None
    user: str
    public_key: str
    user_data: bytes
    endpoint: str
    delay: float


class Machine:
    """A machine that was switched on; `folder` keeps its logs when it is gone."""

    def __init__(self, facts: Facts, folder: Path) -> None:
        self.facts = facts
        self.folder = folder
        self.name = facts.instance_id[:15]  # as long as the name of an interface can be
        self._unshare: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir()
        (self.folder / "user-data").write_bytes(self.facts.user_data)
        (self.folder / "authorized_keys").write_text(self.facts.public_key + "\n")
        facts = self.facts
        words = (facts.private, facts.user, str(facts.delay), facts.endpoint)
        network.plug_in(self.name, private=self.facts.private, public=self.facts.public)
        with (self.folder / "console.log").open("wb") as console:
            self._unshare = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *_UNSHARE, "bash", _SCRIPT, self.folder, *words],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={"PATH": _PATH},
            )

    @property
    def on(self) -> bool:
        return self._unshare is not None and self._unshare.poll() is None

    def kill(self) -> None:
        """Pull the plug: the kernel ends every process of the machine with its init."""
        if self._unshare is None:
            return
        self._unshare.kill()
        self._unshare.wait(10)
        self._unshare = None
        network.unplug(self.name)

    def run(
        self, *argv: str, user: str | None = None, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside, as root or as an account of the machine."""
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []
        enter = ["nsenter", f"--target={self._init()}", "-m", "-n", "-p", "-u", "-i", "--root", "--wd"]
        return subprocess.run(
            [*enter, *become, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            env={"PATH": _PATH},
        )

    def read(self, path: str) -> str:
        """Return a file of the machine's."""
        done = self.run("cat", path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def log(self, name: str = "daft-bootstrap.log") -> str:
        """Return a file of /var/log, also when the machine is gone."""
        path = self.folder / "log" / name
        return path.read_text(errors="replace") if path.exists() else ""

    def console(self) -> str:
        """Return what the machine's init says."""
        return (self.folder / "console.log").read_text(errors="replace")

    def cut_ssh(self) -> int:
        """End every SSH connection to the machine, and return how many processes served them."""
        pids = (
            "self=$(cat /run/sshd.pid); for pid in $(pgrep -x sshd); do [ $pid = $self ] || echo $pid; done"
        )
        found = self.run("sh", "-c", pids).stdout.split()
        if found:
            self.run("kill", "-KILL", *found)
        return len(found)

    def _init(self) -> int:
        assert self._unshare is not None, f"{self.name} is off"
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        return int(wait_for(lambda: children.read_text().split(), "the machine's init")[0])


def wait_for(look: Callable[[], _T], what: str, *, timeout: float = 30, pause: float = 0.1) -> _T:
    """Return what `look` returns once it is true."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, f"no {what} within {timeout:g} seconds"
        time.sleep(pause)
    return found
