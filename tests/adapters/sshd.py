"""A real sshd on a port of 127.0.0.1, for root and for an ordinary user, who can log in as themselves."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MISSING = "sshd is not installed: `apt-get install openssh-server` (macOS has it in /usr/sbin)"
USER = pwd.getpwuid(os.geteuid()).pw_name

CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxAuthTries 3
UseDNS no
"""
# Since 9.8 an address that fails to log in is locked out for a while; older versions do not know the word.
NO_PENALTIES = "PerSourcePenalties no\n"


class Sshd:
    """One server with a host key of its own; what it says is in `log`."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        if program is None:
            raise AssertionError(MISSING)
        self.program = program
        self.folder = folder
        self.port = free_port()
        self.log = folder / "sshd.log"
        self.host_key = make_key(folder / "host_key")
        (folder / "authorized_keys").touch()
        self._process: subprocess.Popen[bytes] | None = None
        self._configure()

    def authorize(self, public_key: str) -> None:
        with (self.folder / "authorized_keys").open("a") as file:
            file.write(public_key + "\n")

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.program, "-D", "-e", "-f", self._config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f"sshd did not start: {self.log.read_text()}")

    def kill(self) -> None:
        """Kill the server and the processes that serve its connections: these have left its process group."""
        if self._process is None:
            return
        for pid in [self._process.pid, *children_of(self._process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _configure(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # made by systemd where sshd is a service
        self._config = self.folder / "sshd_config"
        text = CONFIG.format(port=self.port, folder=self.folder)
        self._config.write_text(text + NO_PENALTIES)
        known = subprocess.run([self.program, "-t", "-f", self._config], capture_output=True, check=False)
        if known.returncode != 0:
            self._config.write_text(text)


@contextmanager
def running_sshd(folder: Path) -> Iterator[Sshd]:
    server = Sshd(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def make_key(path: Path, *options: str) -> str:
    """Make a key pair with ssh-keygen, ed25519 unless `options` say otherwise, and return its public line."""
    kind = [] if "-t" in options else ["-t", "ed25519"]
    passphrase = [] if "-N" in options else ["-N", ""]
    subprocess.run(
        ["ssh-keygen", "-q", "-C", "", *kind, *passphrase, *options, "-f", path],
        check=True,
        capture_output=True,
    )
    return path.with_name(path.name + ".pub").read_text().strip()


def fingerprint(path: Path) -> str:
    shown = subprocess.run(["ssh-keygen", "-l", "-f", path], check=True, capture_output=True, text=True)
    return shown.stdout.split()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def children_of(pid: int) -> list[int]:
    table = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True
    ).stdout
    parents = [tuple(map(int, line.split())) for line in table.splitlines()]
    found = [pid]
    for parent in found:
        found.extend(child for child, its_parent in parents if its_parent == parent)
    return found[1:]
