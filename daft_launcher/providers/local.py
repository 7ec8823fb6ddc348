"""Clusters on this machine: what the run folders say of their nodes, and whether those still live."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from daft_launcher.errors import ProviderError, UsageError
from daft_launcher.instances import Instance, InstanceState, ProviderName, Role
from daft_launcher.models import Cluster, HeadStatus, Offer, Rate, RayApi, SshLogin, TaggedResource

_ADDRESS = "127.0.0.1"
_LOG_CHARACTERS = 1 << 19
_UP = "start it with `daft up`"


@dataclass(frozen=True, kw_only=True)
class _Node:
    """What terraform/local/node.py wrote of a node when it started it."""

    cluster: str
    role: Role
    name: str
    index: int | None
    pid: int | None
    process_start: str | None
    ready: bool
    started_at: datetime
    ports: Mapping[str, int]
    temp_dir: Path

    @property
    def instance_id(self) -> str:
        return f"{self.cluster}-{self.name}"

    @property
    def alive(self) -> bool:
        """Whether its first process is still the one that was started, and not another with its number."""
        started = _process_start(self.pid) if self.pid is not None else None
        return started is not None and started == self.process_start

    @property
    def state(self) -> InstanceState:
        if not self.alive:
            return InstanceState.TERMINATED
        return InstanceState.RUNNING if self.ready else InstanceState.PENDING


class LocalProvider:
    """The `local` provider, for the clusters whose folders lie in `state_dir`."""

    name: ProviderName = "local"

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def check_access(self) -> None:
        """Return: this machine may always be used."""

    def account(self) -> str:
        """Return the name of this machine, which its clusters never leave."""
        return f"the machine {socket.gethostname()}"

    def operator_variables(self, directory: Path, *, shared: bool = False) -> Mapping[str, object]:  # noqa: ARG002 - the port's signature
        """Return the interpreter that starts and stops the nodes."""
        return {"python": sys.executable}

    def list_instances(self, cluster: str | None = None) -> list[Instance]:
        """Return the nodes that were started and not stopped, living or dead; by cluster, the head first."""
        return [_instance(node) for node in self._nodes(cluster)]

    def dead_resources(self, directory: Path) -> list[str]:
        """Return the Terraform addresses of what is dead or lost; what hangs on them is replaced with them."""
        run = directory / "run"
        if not run.exists() and not (directory / "terraform.tfstate").exists():
            return []
        environment, head = "module.cluster.terraform_data.environment", "module.cluster.terraform_data.head"
        if not (run / "venv/bin/python").exists():
            return [environment, head]
        nodes = _read_nodes(directory)
        if not any(node.role == "head" and node.alive for node in nodes):
            return [head]
        return [f"module.cluster.terraform_data.worker[{node.index}]" for node in nodes if not node.alive]

    def watch_head(self, cluster: Cluster, *, step_timeout: float) -> Iterator[HeadStatus]:
        """Yield `booting` unless the head takes jobs already, then `ready`."""
        deadline = time.monotonic() + step_timeout
        token = _read_token(cluster)
        waiting = False
        while not _answers(head := _living_head(cluster), token):
            if time.monotonic() > deadline:
                raise ProviderError(
                    f"{head.instance_id} runs, but has not answered at {_url(head)} for {step_timeout:.0f} s",
                    hint=f"its log is {cluster.directory / 'run/logs/head.log'}",
                )
            if not waiting:
                yield HeadStatus(step="booting", detail=f"waiting for Ray at {_url(head)}")
            waiting = True
            time.sleep(0.2)
        yield HeadStatus(step="ready")

    def all_shutting_down(self, cluster: str) -> bool:
        """Return whether no node lives; a process that was asked to end is waited for, unlike a machine."""
        return not any(node.alive for node in self._nodes(cluster))

    def leftovers(self, cluster: str) -> list[str]:
        """Return the processes, ports and folders that are left of a cluster."""
        run = self._state_dir / f"{cluster}.local" / "run"
        left = [line for node in self._nodes(cluster) for line in _leftovers(node)]
        return [*left, f"folder {run}"] if run.exists() else left

    def remove_leftovers(self, directory: Path) -> None:
        """Stop what is left of a cluster whose Terraform state is lost, and remove its run folder."""
        if not (directory / "run").exists():
            return
        program = directory / "modules/local/node.py"
        done = subprocess.run(
            [sys.executable, "-EB", str(program), "remove"],
            env={**os.environ, "DAFT_LOCAL_RUN": str(directory / "run")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ProviderError(f"{directory / 'run'} could not be cleared: {done.stdout.strip()}")

    def tagged(self, cluster: str) -> list[TaggedResource]:  # noqa: ARG002 - the port's signature
        """Return nothing: processes have no tags, and Terraform's state lies beside them."""
        return []

    def remove_strays(self, strays: Sequence[TaggedResource]) -> None:
        """Do nothing: there are none."""

    @contextlib.contextmanager
    def open_ray_api(
        self,
        cluster: Cluster,
        *,
        identity_file: Path | None = None,  # noqa: ARG002 - the port's signature
        local_port: int | None = None,
    ) -> Iterator[RayApi]:
        """Yield where the head's job API and dashboard answer, at `local_port` when one is given."""
        head, token = _living_head(cluster), _read_token(cluster)
        if local_port is None:
            yield RayApi(url=_url(head), token=token)
            return
        from daft_launcher.forward import forward_port  # asyncio is slow to import, and few commands need it

        with forward_port(local_port, _ADDRESS, head.ports["dashboard"]):
            yield RayApi(url=f"http://{_ADDRESS}:{local_port}", token=token)

    def _nodes(self, cluster: str | None) -> list[_Node]:
        folders = sorted(self._state_dir.glob("*.local"))
        return [node for folder in folders for node in _read_nodes(folder) if cluster in (None, node.cluster)]

    def get_login(self, cluster: Cluster, *, identity_file: Path | None = None) -> SshLogin:  # noqa: ARG002
        """Raise UsageError: nobody logs in to the machine that they sit at."""
        raise UsageError(
            f"the head of `{cluster.name}` is this machine",
            hint=f"its Python is {cluster.directory / 'run/venv/bin/python'}",
        )

    def read_bootstrap_log(self, cluster: Cluster, *, identity_file: Path | None = None) -> str:  # noqa: ARG002
        """Return the end of what the installation and the head's Ray wrote."""
        logs = (cluster.directory / "run/logs" / name for name in ("environment.log", "head.log"))
        return "".join(log.read_text(errors="replace")[-_LOG_CHARACTERS:] for log in logs if log.exists())

    def find_rate(self, offer: Offer, *, cluster: str) -> Rate:  # noqa: ARG002
        """Return no price: nothing here is for sale."""
        return Rate(reason="this machine has no price list")


def _read_nodes(directory: Path) -> list[_Node]:
    nodes = []
    for record in directory.glob("run/*/node.json"):
        with contextlib.suppress(FileNotFoundError):  # stopped at this very moment
            nodes.append(_read_node(record))
    return sorted(nodes, key=lambda node: (node.cluster, -1 if node.index is None else node.index))


def _read_node(record: Path) -> _Node:
    try:
        value: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        return _Node(
            cluster=value["cluster"],
            role=value["role"],
            name=value["node"],
            index=value["index"],
            pid=value["pid"],
            process_start=value["process_start"],
            ready=value["state"] == "ready",
            started_at=datetime.fromisoformat(value["started_at"]),
            ports=value["ports"],
            temp_dir=Path(value["temp_dir"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ProviderError(
            f"{record} cannot be read: {type(error).__name__}: {error}",
            hint="another version of the program may have written it; that one's `daft down` removes the cluster",
        ) from error


def _instance(node: _Node) -> Instance:
    state = node.state
    return Instance(
        cluster=node.cluster,
        role=node.role,
        instance_id=node.instance_id,
        state=state,
        provider="local",
        region="local",
        address=_ADDRESS,
        private_address=_ADDRESS,
        launched_at=node.started_at,
        status={InstanceState.RUNNING: "ready", InstanceState.PENDING: "booting"}.get(state, "failed"),
    )


def _process_start(pid: int) -> str | None:
    """Return when a process started, in the form in which terraform/local/processes.py records it."""
    proc = Path("/proc")
    if (proc / "self/stat").exists():
        with contextlib.suppress(OSError):
            fields = (proc / f"{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
            return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"
        return None
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = done.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None


def _living_head(cluster: Cluster) -> _Node:
    head = next((node for node in _read_nodes(cluster.directory) if node.role == "head"), None)
    if head is None:
        raise ProviderError(f"the head node of {cluster.name} is not running", hint=_UP)
    if not head.alive:
        raise ProviderError(
            f"the head node of {cluster.name} has died",
            hint=f"{_UP}; its log is {cluster.directory / 'run/logs/head.log'}",
        )
    return head


def _read_token(cluster: Cluster) -> str:
    try:
        return (cluster.directory / "run/token").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ProviderError(
            f"the token of {cluster.name} cannot be read from {error.filename}: {error.strerror}", hint=_UP
        ) from error


def _url(head: _Node) -> str:
    return f"http://{_ADDRESS}:{head.ports['dashboard']}"


def _answers(head: _Node, token: str) -> bool:
    connection = http.client.HTTPConnection(_ADDRESS, head.ports["dashboard"], timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/api/version", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status == http.HTTPStatus.OK
    return False


def _leftovers(node: _Node) -> Iterator[str]:
    if node.alive:
        yield f"process {node.pid} ({node.instance_id})"
    for port in node.ports.values():
        with socket.socket() as probe:
            if probe.connect_ex((_ADDRESS, port)) == 0:
                yield f"port {port} of {_ADDRESS} ({node.instance_id})"
    if node.temp_dir.exists():
        yield f"folder {node.temp_dir} ({node.instance_id})"
