"""A head of AWS's on loopback: EC2 says its address and host key, sshd lets in, and Ray is whatever a test wants."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

from daft_launcher.reach import Reach
from tests.adapters.ray_api_server import TOKEN
from tests.adapters.sshd import USER
from tests.cli.clikit import CREDENTIALS, Desk, Seen
from tests.cli.fake_aws import FakeAws, Page, instance

#: Only what a test waits for is short, so that a busy machine changes no outcome.
PATIENT = Reach(ray_poll=0.1, tunnel_check=0.2)
PACKAGE = "/api/packages/gcs/_ray_pkg_"
SUBMIT = ("submit", "-w", "job", "--job-id", "job-1")
WAYS = "follow it with `daft logs job-1`, stop it with `daft stop-job job-1`"
CONFIG = f"""[setup]
name = "demo"
provider = "aws"
ssh_user = "{USER}"

[aws]
ssh_allowed_cidrs = ["203.0.113.7/32"]
"""


@dataclass
class Head:
    """What a user at a desk has: a cluster `demo` whose head is here."""

    desk: Desk
    aws: FakeAws
    reach: Reach
    host_key: str
    key: Path

    def __post_init__(self) -> None:
        self.desk.write(".daft.toml", CONFIG)
        self.desk.write("job/main.py", "print(1)\n")
        self.desk.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": self.aws.url}
        self.tag(self.host_key)

    def tag(self, host_key: str | None) -> None:
        """Let EC2 say this of the head."""
        tags = {"ssh-host-key": host_key} if host_key is not None else {}
        self.aws.pages = {
            "us-west-2": [Page((instance("demo", "head", "i-1", "running", "127.0.0.1", **tags),))]
        }

    def daft(self, *args: str, within: float = 20, **changes: object) -> Seen:
        """Type a command; the ports that differ from run to run are shown as SSH and RAY."""
        reach = replace(self.reach, **changes)
        start = time.monotonic()
        seen = self.desk.daft(*args, "-i", str(self.key), reach=reach)
        took = time.monotonic() - start
        assert took < within, (took, seen)
        assert TOKEN not in seen.err, seen
        assert not any((ord(char) < 32 and char != "\n") or 127 <= ord(char) < 160 for char in seen.err), seen
        assert "Traceback" not in seen.err, seen
        assert "has a fault" not in seen.err, seen
        return replace(seen, out=plain(seen.out, reach), err=plain(seen.err, reach))


def plain(text: str, reach: Reach) -> str:
    """Take out what differs from run to run."""
    text = text.replace(f"127.0.0.1:{reach.ssh_port}", "SSH").replace(f"port {reach.ray_port} ", "port RAY ")
    return re.sub(r"http://127\.0\.0\.1:\d+", "RAY", text)
