"""terraform/local/node.py as Terraform runs it, with a head that lists nodes as Ray's does while one starts."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "terraform/local/node.py"
# Stands for the environment's Python: its agent answers at once, and Ray's command line is not read any further.
RAY = f"""#!{sys.executable}
import os, pathlib, signal, socket, sys
port = next(int(word.partition("=")[2]) for word in sys.argv if word.startswith("--dashboard-agent-listen-port="))
agent = socket.create_server(("", port))
pathlib.Path("started").write_text(os.environ["RAY_CLOUD_INSTANCE_ID"])
signal.sigwait([signal.SIGTERM])
"""


class Head(http.server.ThreadingHTTPServer):
    """A head's dashboard, with another list of nodes at each call."""

    def __init__(self, run: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.run, self.listed = run, ["before", "before", "nobody", "dead", "ours"]

    def summary(self) -> list[dict[str, Any]]:
        """Return what is listed now: a node that has ended and had the same ports, nobody, or the new one."""
        record = json.loads((self.run / "worker-1/node.json").read_text())
        raylet = {"nodeManagerPort": record["ports"]["node_manager"], "nodeName": "demo-worker-1"}
        ours = {**raylet, "instanceId": (self.run / "started").read_text()}
        return {
            "before": [{"raylet": {**raylet, "instanceId": "0123456789abcdef", "state": "ALIVE"}}],
            "nobody": [],
            "dead": [{"raylet": {**ours, "state": "DEAD"}}],
            "ours": [{"raylet": {**ours, "state": "ALIVE"}}],
        }[self.listed.pop(0)]


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Head

    def do_GET(self):
        body = json.dumps({"data": {"summary": self.server.summary()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):  # noqa: A002
        pass


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    run = tmp_path / "run"
    (run / "venv/bin").mkdir(parents=True)
    (run / "venv/bin/python").write_text(RAY)
    (run / "venv/bin/python").chmod(0o755)
    (run / "logs").mkdir()
    (run / "head").mkdir()
    with Head(run) as server:
        record = {"node": "head", "ports": {"dashboard": server.server_port, "gcs": 1}}
        (run / "head/node.json").write_text(json.dumps(record))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def node(command: str, head: Head) -> subprocess.CompletedProcess[str]:
    spec = {"cluster": "demo", "node": "worker-1", "number_of_nodes": 2}
    environ = {**os.environ, "DAFT_LOCAL_RUN": str(head.run), "DAFT_LOCAL_SPEC": json.dumps(spec)}
    return subprocess.run(
        [sys.executable, SCRIPT, command],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_node_is_not_taken_for_the_one_that_ended_and_had_its_ports(head):
    try:
        started = node("start", head)
        record = json.loads((head.run / "worker-1/node.json").read_text())
    finally:
        stopped = node("stop", head)
    assert started.returncode == 0, started.stdout
    assert head.listed == []
    assert record["state"] == "ready"
    assert (stopped.returncode, stopped.stdout) == (0, "stopped: worker-1\n")
