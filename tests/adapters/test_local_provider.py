"""The `local` provider against run folders as terraform/local/node.py leaves them, with real processes and sockets."""

from __future__ import annotations

import http.server
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from daft_launcher.errors import ProviderError, TunnelError
from daft_launcher.instances import Instance, InstanceState
from daft_launcher.models import Cluster, HeadStatus, Offer, Rate, RayApi
from daft_launcher.providers.local import LocalProvider

MODULE = Path(__file__).parents[2] / "terraform/local"
TOKEN = "0123456789abcdef"
STARTED = "2026-01-02T03:04:05+00:00"


@pytest.fixture(scope="module")
def processes() -> ModuleType:
    """terraform/local/processes.py, which writes what the provider reads."""
    spec = importlib.util.spec_from_file_location("processes", MODULE / "processes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def living() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


class FakeHead(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        allowed = self.headers["Authorization"] == f"Bearer {TOKEN}"
        body = self.path.encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):  # noqa: A002
        pass


@pytest.fixture
def dashboard() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHead) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Folder:
    """The Terraform root of a local cluster."""

    def __init__(self, state_dir: Path, processes: ModuleType, name: str = "demo") -> None:
        self.name, self.processes = name, processes
        self.path = state_dir / f"{name}.local"
        (self.path / "run/venv/bin").mkdir(parents=True)
        (self.path / "run/venv/bin/python").touch()
        (self.path / "run/token").write_text(TOKEN)
        self.provider = LocalProvider(state_dir)
        self.cluster = Cluster(
            name=name,
            provider="local",
            region="local",
            directory=self.path,
            head_id=f"{name}-head",
            head_address="127.0.0.1",
            number_of_workers=2,
        )

    def add(self, node: str, process: subprocess.Popen[bytes] | None, **changes: Any) -> None:
        role, _, index = node.partition("-")
        pid = process.pid if process else None
        record = {
            "cluster": self.name,
            "node": node,
            "role": role,
            "index": int(index) if index else None,
            "pid": pid,
            "process_start": self.processes.process_start(pid) if pid else None,
            "ports": {},
            "state": "ready",
            "started_at": STARTED,
            "temp_dir": str(self.path / f"tmp-{node}"),
            **changes,
        }
        self.processes.write_node(self.path / "run" / node, record)


@pytest.fixture
def demo(tmp_path: Path, processes: ModuleType) -> Folder:
    return Folder(tmp_path, processes)


def dead_process() -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process


def instance(name: str, role: str, state: InstanceState, status: str, cluster: str = "demo") -> Instance:
    return Instance(
        cluster=cluster,
        role=role,  # type: ignore[arg-type]
        instance_id=f"{cluster}-{name}",
        state=state,
        provider="local",
        region="local",
        address="127.0.0.1",
        private_address="127.0.0.1",
        launched_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        status=status,
    )


def test_every_machine_may_be_used_and_starts_nodes_with_this_python(demo):
    demo.provider.check_access()
    assert demo.provider.operator_variables(demo.path) == {"python": sys.executable}
    assert demo.provider.account() == f"the machine {socket.gethostname()}"


def test_an_empty_or_missing_state_directory_lists_nothing(tmp_path):
    assert LocalProvider(tmp_path).list_instances() == []
    assert LocalProvider(tmp_path / "missing").list_instances() == []


def test_list_shows_the_head_first_and_the_state_of_each_node(demo, living):
    demo.add("worker-10", living, state="starting")
    demo.add("worker-2", dead_process())
    demo.add("head", living)
    assert demo.provider.list_instances() == [
        instance("head", "head", InstanceState.RUNNING, "ready"),
        instance("worker-2", "worker", InstanceState.TERMINATED, "failed"),
        instance("worker-10", "worker", InstanceState.PENDING, "booting"),
    ]


def test_list_of_one_cluster_leaves_the_others_out(tmp_path, processes, living):
    for name in ("beta", "alpha"):
        Folder(tmp_path, processes, name).add("head", living)
    provider = LocalProvider(tmp_path)
    assert [node.cluster for node in provider.list_instances()] == ["alpha", "beta"]
    assert provider.list_instances("beta") == [
        instance("head", "head", InstanceState.RUNNING, "ready", cluster="beta")
    ]


def test_another_process_with_the_number_of_a_dead_node_is_not_that_node(demo, living, processes):
    stranger = processes.process_start(living.pid)
    demo.add("head", living, process_start=f"{stranger}0")
    assert [node.state for node in demo.provider.list_instances()] == [InstanceState.TERMINATED]
    assert demo.provider.dead_resources(demo.path) == ["module.cluster.terraform_data.head"]


def test_a_process_that_nobody_has_waited_for_is_dead(demo, processes):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    demo.add("head", process)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert demo.provider.dead_resources(demo.path) == ["module.cluster.terraform_data.head"]
    process.wait()


def test_the_launcher_and_the_node_script_agree_without_proc(demo, living, processes, monkeypatch):
    """What macOS does: both ask `ps`."""
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: not path.is_relative_to("/proc") and exists(path))
    demo.add("head", living)
    record = json.loads((demo.path / "run/head/node.json").read_text())
    assert str(datetime.now().year) in record["process_start"]
    assert [node.state for node in demo.provider.list_instances()] == [InstanceState.RUNNING]
    living.kill()
    living.wait()
    assert [node.state for node in demo.provider.list_instances()] == [InstanceState.TERMINATED]


def test_dead_workers_are_named_one_by_one(demo, living):
    demo.add("head", living)
    demo.add("worker-0", dead_process())
    demo.add("worker-1", living)
    demo.add("worker-3", None)
    assert demo.provider.dead_resources(demo.path) == [
        "module.cluster.terraform_data.worker[0]",
        "module.cluster.terraform_data.worker[3]",
    ]


def test_a_dead_head_stands_for_all(demo):
    demo.add("head", dead_process())
    demo.add("worker-0", dead_process())
    assert demo.provider.dead_resources(demo.path) == ["module.cluster.terraform_data.head"]


def test_nothing_is_dead_where_nothing_was_started(demo):
    assert demo.provider.dead_resources(demo.path / "missing") == []


def test_a_run_folder_that_somebody_removed_is_built_again(demo, living):
    (demo.path / "terraform.tfstate").touch()
    assert demo.provider.dead_resources(demo.path) == ["module.cluster.terraform_data.head"]
    demo.add("head", living)
    assert demo.provider.dead_resources(demo.path) == []
    shutil.rmtree(demo.path / "run")
    assert demo.provider.dead_resources(demo.path) == [
        "module.cluster.terraform_data.environment",
        "module.cluster.terraform_data.head",
    ]


def test_a_record_of_another_version_is_named(demo):
    (demo.path / "run/head").mkdir()
    record = demo.path / "run/head/node.json"
    record.write_text('{"cluster": "demo"}')
    with pytest.raises(ProviderError) as caught:
        demo.provider.list_instances()
    assert caught.value.message == f"{record} cannot be read: KeyError: 'role'"


def test_watch_head_ends_at_once_when_it_takes_jobs(demo, living, dashboard):
    demo.add("head", living, ports={"dashboard": dashboard})
    assert list(demo.provider.watch_head(demo.cluster, step_timeout=5)) == [HeadStatus(step="ready")]


def test_watch_head_waits_and_says_for_what(demo, living, dashboard):
    late = free_port()
    demo.add("head", living, ports={"dashboard": late})
    statuses = demo.provider.watch_head(demo.cluster, step_timeout=5)
    assert next(statuses) == HeadStatus(step="booting", detail=f"waiting for Ray at http://127.0.0.1:{late}")
    demo.add("head", living, ports={"dashboard": dashboard})
    assert list(statuses) == [HeadStatus(step="ready")]


def test_watch_head_gives_up_after_its_time(demo, living):
    port = free_port()
    demo.add("head", living, ports={"dashboard": port})
    with pytest.raises(ProviderError) as caught:
        list(demo.provider.watch_head(demo.cluster, step_timeout=0.1))
    assert caught.value.message == f"demo-head runs, but has not answered at http://127.0.0.1:{port} for 0 s"
    assert caught.value.hint == f"its log is {demo.path}/run/logs/head.log"


def test_watch_head_notices_that_it_dies(demo, living):
    demo.add("head", living, ports={"dashboard": free_port()})
    statuses = demo.provider.watch_head(demo.cluster, step_timeout=5)
    next(statuses)
    living.send_signal(signal.SIGKILL)
    living.wait()
    with pytest.raises(ProviderError, match="the head node of demo has died"):
        next(statuses)


def test_no_head_and_no_token_say_how_to_get_them(demo, living):
    with pytest.raises(ProviderError) as caught, demo.provider.open_ray_api(demo.cluster):
        pass
    assert (caught.value.message, caught.value.hint) == (
        "the head node of demo is not running",
        "start it with `daft up`",
    )
    demo.add("head", living, ports={"dashboard": 1})
    (demo.path / "run/token").unlink()
    with pytest.raises(ProviderError) as caught, demo.provider.open_ray_api(demo.cluster):
        pass
    assert caught.value.message == (
        f"the token of demo cannot be read from {demo.path}/run/token: No such file or directory"
    )


def test_the_api_is_the_dashboard_itself_unless_a_port_is_wanted(demo, living, dashboard):
    demo.add("head", living, ports={"dashboard": dashboard})
    with demo.provider.open_ray_api(demo.cluster) as api:
        assert api == RayApi(url=f"http://127.0.0.1:{dashboard}", token=TOKEN)


def test_the_api_answers_at_the_wanted_port_until_the_context_ends(demo, living, dashboard):
    demo.add("head", living, ports={"dashboard": dashboard})
    wanted = free_port()
    with demo.provider.open_ray_api(demo.cluster, local_port=wanted) as api:
        assert api == RayApi(url=f"http://127.0.0.1:{wanted}", token=TOKEN)
        connection = http.client.HTTPConnection("127.0.0.1", wanted)
        connection.request("GET", "/hello", headers={"Authorization": f"Bearer {TOKEN}"})
        assert connection.getresponse().read() == b"/hello"
        connection.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", wanted)) != 0


def test_a_busy_port_is_named(demo, living, dashboard):
    demo.add("head", living, ports={"dashboard": dashboard})
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(TunnelError) as caught, demo.provider.open_ray_api(demo.cluster, local_port=port):
            pass
    assert caught.value.message == f"port {port} of this machine is in use"
    assert caught.value.hint == "end what uses it, or choose another one with --port"


def test_leftovers_are_processes_ports_and_folders(demo, living, dashboard):
    demo.add("head", living, ports={"dashboard": dashboard, "gcs": free_port()})
    demo.add("worker-0", dead_process())
    (demo.path / "tmp-worker-0").mkdir()
    assert demo.provider.leftovers("demo") == [
        f"process {living.pid} (demo-head)",
        f"port {dashboard} of 127.0.0.1 (demo-head)",
        f"folder {demo.path}/tmp-worker-0 (demo-worker-0)",
        f"folder {demo.path}/run",
    ]
    assert demo.provider.leftovers("other") == []


def test_a_cluster_is_shutting_down_when_no_node_lives(demo, living):
    demo.add("worker-0", dead_process())
    assert demo.provider.all_shutting_down("demo")
    demo.add("head", living)
    assert not demo.provider.all_shutting_down("demo")


def test_leftovers_of_a_lost_state_are_removed(demo):
    (demo.path / "modules").mkdir()
    (demo.path / "modules/local").symlink_to(MODULE)
    node = str(demo.path / "tmp-head")
    (demo.path / "tmp-head").mkdir()
    # Two processes as Ray's: the node's first, and one in a session of its own as a job's driver is.
    environment = {**os.environ, "DAFT_LOCAL_NODE": node}
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    first = subprocess.Popen(sleep, env=environment, start_new_session=True)
    driver = subprocess.Popen(sleep, env=environment, start_new_session=True)
    demo.add("head", first)
    demo.provider.remove_leftovers(demo.path)
    assert (first.wait(5), driver.wait(5)) == (-signal.SIGTERM, -signal.SIGKILL)
    assert not (demo.path / "run").exists()
    assert not (demo.path / "tmp-head").exists()
    assert demo.provider.leftovers("demo") == []
    demo.provider.remove_leftovers(demo.path)


def test_nothing_of_this_machine_is_for_sale(tmp_path: Path) -> None:
    offer = Offer(kind="on-demand", type="m7g.medium", region="us-west-2")
    reason = "this machine has no price list"
    assert LocalProvider(tmp_path).find_rate(offer, cluster="demo") == Rate(reason=reason)
