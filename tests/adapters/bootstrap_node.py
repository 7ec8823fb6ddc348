"""A machine that is a directory, on which the bootstrap script runs for real."""

from __future__ import annotations

import base64
import json
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.adapters.bootstrap_cloud import FakeCloud

SCRIPT = Path(__file__).parents[2] / "terraform" / "aws" / "bootstrap.sh"
STUB = Path(__file__).with_name("bootstrap_stub.py")
TOKEN = "@DAFT_SETTINGS@"
ME = pwd.getpwuid(os.geteuid()).pw_name


class Node:
    """A machine that is a directory: the script's root, its stubs, and what came of them."""

    def __init__(self, root: Path, cloud: FakeCloud) -> None:
        self.root, self.cloud, self.script = root, cloud, SCRIPT.read_text()
        self.pack: Callable[[bytes], bytes] = bytes
        self.venv, self.etc, self.log = (
            root / "opt/daft/venv",
            root / "etc/daft",
            root / "var/log/daft-bootstrap.log",
        )
        for folder in (
            "opt/daft/bin",
            "etc/ssh",
            "run/systemd/system",
            "stubs",
            "proc/1",
            "proc/sys/net/ipv4",
        ):
            (root / folder).mkdir(parents=True)
        (root / "proc/uptime").write_text("10.00 9.00\n")
        (root / "proc/1/stat").write_text(f"1 (init) S {' '.join(['0'] * 18)} 0 0\n")
        for name in ("opt/daft/bin/uv", "stubs/systemctl", "stubs/shutdown"):
            (root / name).write_bytes(STUB.read_bytes())
            (root / name).chmod(0o755)
        (root / "etc/ssh/ssh_host_ed25519_key.pub").write_text("ssh-ed25519 AAAAkey root@ip-10-0-0-1\n")
        (root / "calls").touch()
        (root / "calls").chmod(0o666)
        self.answer({})
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.port = unused.getsockname()[1]
        cloud.files |= dict.fromkeys(("/52365/api/local_raylet_healthz", "/8265/api/gcs_healthz"), b"success")

    def answer(self, answers: dict[str, dict[str, tuple[str, int]]]) -> None:
        (self.root / "answers").write_text(json.dumps(answers))

    def boot(
        self, *, extra: dict[str, str] | None = None, timeout: float = 25, **changes: Any
    ) -> subprocess.CompletedProcess[str]:
        settings = {
            "cluster": "demo",
            "role": "head",
            "region": "us-west-2",
            "secret_name": "/daft/demo",
            "python_version": "3.11",
            "ray_version": None,
            "daft_version": None,
            "dependencies": [],
            "setup_commands": [],
            "ssh_user": ME,
        } | changes
        value = base64.b64encode(self.pack(json.dumps(settings, ensure_ascii=False).encode())).decode()
        user_data = self.root / "part-001"
        user_data.write_text(self.script.replace(TOKEN, value))
        return self._run("bash", str(user_data), extra=extra or {}, timeout=timeout)

    def boot_again(self) -> subprocess.CompletedProcess[str]:
        """Do what cloud-init does at every boot but the first."""
        return self._run(str(self.root / "var/lib/cloud/scripts/per-boot/daft"), extra={}, timeout=25)

    def _run(self, *argv: str, extra: dict[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.root}/stubs:/usr/bin:/bin",
            "DAFT_ROOT": str(self.root),
            "DAFT_HEALTH": self.cloud.url + "/",
            "DAFT_RAY_PORT": str(self.port),
            "DAFT_PAUSE": "0.1",
            "AWS_ENDPOINT_URL": self.cloud.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.cloud.url,
        } | extra
        return subprocess.run(
            argv, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    def wait_for(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not what():
            assert time.monotonic() < deadline, f"{self.cloud.statuses}\n{self.log.read_text()}"
            time.sleep(0.05)

    def wait_ready(self, times: int = 1) -> None:
        self.wait_for(lambda: [status for status, _ in self.cloud.statuses].count("ready") >= times)
        self.wait_for(lambda: len(self.argv("ray")) >= times)  # the health we serve does not wait for it

    def calls(self, name: str) -> list[dict[str, Any]]:
        every = [json.loads(line) for line in (self.root / "calls").read_text().splitlines()]
        return [call for call in every if call["name"] == name]

    def argv(self, name: str) -> list[list[str]]:
        return [call["argv"] for call in self.calls(name)]

    def token(self) -> str:
        return (self.etc / "ray-token").read_text()

    def stop(self) -> None:
        for path in (self.root / "run.pid", self.etc / "supervisor.pid", self.etc / "watch.pid"):
            if path.exists():
                os.kill(int(path.read_text()), signal.SIGTERM)
