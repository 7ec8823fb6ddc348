"""Builds the environment of a local cluster and starts and stops its nodes, for Terraform's provisioners.

usage: node.py environment | start | stop | remove

The cluster's folder is in $DAFT_LOCAL_RUN, what is wanted in $DAFT_LOCAL_SPEC as JSON. Standard library only.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from environment import child_environment, last_lines, make_environment
from processes import (
    Failure,
    Json,
    guarded,
    locked,
    process_start,
    read_node,
    say,
    stop_node,
    stop_steps,
    wait_until,
    write_node,
)

START_SECONDS = 180.0
ATTEMPTS = 3
OBJECT_STORE_BYTES = 256 * 1024**2
# Ray takes 127.0.0.1 to mean "this machine's address on its network", which a laptop changes with every Wi-Fi. On Linux
# the rest of 127.0.0.0/8 is loopback too and taken as it is; macOS has 127.0.0.1 alone.
ADDRESS = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
# Each node has a block of ports below the ones that systems hand out to clients. The block belongs to whoever makes the
# folder of its number, which is Ray's temporary folder: short, because it holds sockets, whose paths end at 104 bytes.
BLOCKS = range(20000, 32752, 16)
PORTS = (
    "gcs",
    "dashboard",
    "dashboard_agent_listen",
    "dashboard_agent_grpc",
    "metrics_export",
    "runtime_env_agent",
    "node_manager",
    "object_manager",
    "ray_client_server",
    "autoscaler_metric",
    "dashboard_metric",
)
HEAD_ONLY = ("gcs", "dashboard", "ray_client_server", "autoscaler_metric", "dashboard_metric")


class EarlyEnd(Failure):
    """`ray start` has ended by itself."""


def claim_ports() -> tuple[str, dict[str, int]]:
    """Return a folder and a block of ports that no other node has."""
    for block in BLOCKS:
        folder = Path(f"/tmp/daft-{os.getuid()}-{block}")  # noqa: S108 - mkdir refuses a folder that is there already
        ports = {name: block + offset for offset, name in enumerate(PORTS)}
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if free(ports):
                return str(folder), ports
            folder.rmdir()
    raise Failure(f"no free ports from {BLOCKS.start} to {BLOCKS.stop}; stop another local cluster first")


def free(ports: dict[str, int]) -> bool:
    """Return whether nobody listens on any of the ports."""
    try:
        for port in ports.values():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("", port))
    except OSError:
        return False
    return True


def make_token(run: Path) -> Path:
    """Return the file that holds the cluster's token, made once and for its owner's eyes alone."""
    path, draft = run / "token", run / "token.new"
    if not path.exists():
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        draft.replace(path)
    return path


def ray_command(node: Json, head: Json, number_of_nodes: int) -> list[str]:
    """Return the command line that runs a node in the foreground."""
    ports = node["ports"]
    command = [
        f"{node['temp_dir']}/venv/bin/python",
        *("-m", "ray.scripts.scripts", "start", "--block", "--log-style=record", "--log-color=false"),
        f"--node-ip-address={ADDRESS}",
        f"--node-name={node['cluster']}-{node['node']}",
        f"--num-cpus={max(1, (os.cpu_count() or 1) // number_of_nodes)}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        # Any free port for each worker process; Ray's default is one range for all nodes.
        *("--min-worker-port=0", "--max-worker-port=0"),
        # Ray opens its folder to everybody; the one around it stays closed.
        f"--temp-dir={node['temp_dir']}/ray",
        *(f"--{name.replace('_', '-')}-port={ports[name]}" for name in PORTS if name not in HEAD_ONLY),
    ]
    if node["role"] == "worker":
        return [*command, f"--address={ADDRESS}:{head['ports']['gcs']}"]
    return [
        *command,
        "--head",
        f"--port={ports['gcs']}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={ports['dashboard']}",
        f"--ray-client-server-port={ports['ray_client_server']}",
        "--disable-usage-stats",
    ]


def ask(head: Json, path: str, token: str) -> Any:  # noqa: ANN401 - JSON
    """Return the head's answer, or None when there is none yet."""
    connection = http.client.HTTPConnection("127.0.0.1", head["ports"]["dashboard"], timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return json.load(answer) if answer.status == http.HTTPStatus.OK else None
    return None


def ready(node: Json, head: Json, token: str) -> bool:
    """Return whether the cluster counts the node among its living ones and the node's own agent answers."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", node["ports"]["dashboard_agent_listen"])) != 0:
            return False
    if node is head and ask(head, "/api/version", token) is None:
        return False
    answer = ask(head, "/nodes?view=summary", token) or {"data": {"summary": []}}
    raylets = [entry.get("raylet", {}) for entry in answer["data"]["summary"]]
    return any(
        raylet.get("instanceId") == node["start_id"] and raylet.get("state") == "ALIVE" for raylet in raylets
    )


def new_node(spec: Json) -> Json:
    """Return the record of a node that has its folder and ports, and no process yet."""
    role, _, index = spec["node"].partition("-")
    temp_dir, ports = claim_ports()
    return {
        "cluster": spec["cluster"],
        "index": int(index) if index else None,
        "node": spec["node"],
        "pid": None,
        "ports": {name: port for name, port in ports.items() if role == "head" or name not in HEAD_ONLY},
        "process_start": None,
        "role": role,
        # The dashboard goes on listing a node that has just ended, whose name and ports this one may have.
        "start_id": secrets.token_hex(8),
        "started_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "state": "starting",
        "temp_dir": temp_dir,
    }


def node_environment(run: Path, node: Json) -> dict[str, str]:
    """Return the environment of a node's processes: the way to the token, never the token itself."""
    ports = node["ports"]
    return child_environment(
        run,
        bin_dir=f"{node['temp_dir']}/venv/bin",
        # Ray has no flags for these two; a worker does not use them.
        AUTOSCALER_METRIC_PORT=str(ports.get("autoscaler_metric", 0)),
        DASHBOARD_METRIC_PORT=str(ports.get("dashboard_metric", 0)),
        # Jobs inherit it: Daft tells scarf.sh nothing, unless a job's own environment says otherwise.
        DAFT_ANALYTICS_ENABLED="0",
        DAFT_LOCAL_NODE=node["temp_dir"],
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=str(run / "token"),
        RAY_CLOUD_INSTANCE_ID=node["start_id"],
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1",
        RAY_USAGE_STATS_ENABLED="0",
        # Ray 2.59 still tells usage-stats.ray.io that it tells nothing. Nobody listens on discard.
        RAY_USAGE_STATS_REPORT_URL="http://127.0.0.1:9/",
    )


def launch(run: Path, folder: Path, node: Json, number_of_nodes: int) -> None:
    """Start a node and wait until it takes work. Raises Failure with the log's last lines when it does not."""
    head = node if node["role"] == "head" else read_node(run / "head")
    if head is None:
        raise Failure("the head node is not running, so that no worker can join it")
    if not (run / "venv/bin/python").exists():
        raise Failure(f"the cluster's environment, {run / 'venv'}, is gone; `daft up` builds it again")
    # Ray splits its own command lines at spaces, and a user's folder may have some in its name.
    Path(node["temp_dir"], "venv").symlink_to(run / "venv")
    token, log = make_token(run).read_text(), run / f"logs/{folder.name}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            ray_command(node, head, number_of_nodes),
            cwd=run,
            env=node_environment(run, node),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    node.update(pid=process.pid, process_start=process_start(process.pid))
    write_node(folder, node)
    ended_or_ready = wait_until(lambda: process.poll() is not None or ready(node, head, token), START_SECONDS)
    if ended_or_ready and process.poll() is None:
        write_node(folder, {**node, "state": "ready"})
        return
    ending = f"The end of its log, {log}:\n{last_lines(log)}"
    if process.poll() is not None:
        raise EarlyEnd(f"{folder.name}: `ray start` ended with exit code {process.returncode}.\n{ending}")
    raise Failure(f"{folder.name}: not ready after {START_SECONDS:.0f} s.\n{ending}")


def start(run: Path, spec: Json) -> None:
    """Start a node in place of whatever is left of an earlier one."""
    folder = run / spec["node"]
    with locked(run, folder.name):
        stop_node(folder)
        # A node keeps about two cores busy while it starts, and Ray gives up on one that takes over 30 s.
        slots = max(1, (os.cpu_count() or 1) // 2)
        with locked(run, f"start-{int(folder.name.partition('-')[2] or 0) % slots}", quiet=True):
            began = time.monotonic()
            start_patiently(run, folder, spec)
    say(f"started: {spec['cluster']}-{folder.name} in {time.monotonic() - began:.1f} s")


def start_patiently(run: Path, folder: Path, spec: Json) -> None:
    """Start a node, again when Ray ends by itself: a port was taken since we looked, or the machine was too busy."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with guarded(lambda: stop_node(folder)):
                node = new_node(spec)
                write_node(folder, node)
                launch(run, folder, node, spec["number_of_nodes"])
        except EarlyEnd as failure:
            if attempt == ATTEMPTS:
                raise
            say(f"retrying: {failure.args[0].splitlines()[0]}")
        else:
            return


def stop(run: Path, spec: Json) -> None:
    """Stop a node."""
    with locked(run, spec["node"]):
        stop_node(run / spec["node"])
    say(f"stopped: {spec['node']}")


def remove(run: Path, _spec: Json) -> None:
    """Stop every node that is left and remove the cluster's folder."""
    with locked(run, "environment"):
        for record in run.glob("*/node.json"):
            stop_node(record.parent)
        stop_steps(run)
        shutil.rmtree(run)


def main() -> int:
    """Run one command and return its exit status."""
    commands = {"environment": make_environment, "start": start, "stop": stop, "remove": remove}
    try:
        commands[sys.argv[1]](
            Path(os.environ["DAFT_LOCAL_RUN"]).resolve(), json.loads(os.environ.get("DAFT_LOCAL_SPEC", "{}"))
        )
    except (Failure, OSError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
