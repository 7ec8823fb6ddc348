"""The whole way with machines that really boot: `up`, `submit`, `dashboard`, a lost worker, `down`.

The last of the lab's tests, because it takes the shared cluster down.
"""

from __future__ import annotations

import re
from pathlib import Path

import requests

from tests.lab.lab import Lab, Project, Seen
from tests.lab.machine import wait_for

QUERY = """\
import daft
from daft import DataType, col

@daft.func(return_dtype=DataType.string())
def node_of(number: int) -> str:
    import ray
    return ray.get_runtime_context().get_node_id()

daft.set_runner_ray()
numbers = daft.range(900, partitions=9).select(col("id"), node_of(col("id")).alias("node"))
print("sum", numbers.sum("id").to_pydict()["id"][0])
print("nodes", len(numbers.select("node").distinct().to_pydict()["node"]))
"""


def test_up_tells_each_step_until_the_head_takes_jobs(demo: Project, came_up: Seen) -> None:
    head = demo.head()
    assert came_up.out == (
        f"demo: head {head.facts.instance_id} at {head.facts.public}, 2 workers asked for\n"
    )
    told = [line.strip() for line in came_up.err.splitlines() if line.startswith("  the head ")]
    assert re.fullmatch(r"the head is ready: Ray answers \(\d+ s\)", told[-1])
    assert any(
        line.startswith("the head is installing: daft[ray]>=0.7 ray[default]>=2.54 humanize") for line in told
    )
    assert re.findall("^daft: status (.*)", head.log(), re.MULTILINE) == [
        "booting: instance is up",
        f"installing: uv, Python {_python(demo)}, 3 packages",
        f"installing: Python {_python(demo)}",
        "installing: daft[ray]>=0.7 ray[default]>=2.54 humanize",
        "setup: command 1 of 1: echo hello from the head",
        "setup: starting Ray",
        "ready: Ray answers",
    ]
    assert "hello from the head" in head.log()


def test_workers_join(cluster: Project) -> None:
    cluster.wait_ready()

    assert {worker.private for worker in (m.facts for m in cluster.workers())} < set(_ray_nodes(cluster))
    assert len(_ray_nodes(cluster)) == 3


def test_job_is_computed_on_all_nodes(cluster: Project, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(QUERY)
    wait_for(lambda: len(_ray_nodes(cluster)) == 3, "three nodes of Ray", timeout=120, pause=1)
    seen = cluster.daft("submit", "-w", str(tmp_path), "--env", "DAFT_PROGRESS_BAR=0")

    assert seen.status == 0, seen
    assert "sum 404550\nnodes 3\n" in seen.out


def test_submit_ends_as_the_job_ends(cluster: Project, tmp_path: Path) -> None:
    (tmp_path / "data.txt").touch()
    words = ("sh", "-c", 'echo "$GREETING to stdout"; echo to stderr >&2; exit 7')
    seen = cluster.daft(
        "submit", "-w", str(tmp_path), "--env", "GREETING=hi", "--job-id", "seven", "--", *words
    )

    assert (seen.status, seen.out, seen.err) == (7, "seven\nhi to stdout\nto stderr\n", "")


def test_lost_worker_is_replaced(lab: Lab, cluster: Project) -> None:
    lost, kept = cluster.workers()
    lab.terminate(lab.cloud.backend().get_instance(lost.facts.instance_id))
    wait_for(lambda: not lost.on, "machine that is off")
    cluster.wait_ready()

    new = {worker.facts.private for worker in cluster.workers()} - {kept.facts.private}
    expected = sorted({cluster.head().facts.private, kept.facts.private, *new})
    assert len(expected) == 3
    wait_for(lambda: sorted(_ray_nodes(cluster)) == expected, "new node in Ray", timeout=90, pause=1)


def test_down_leaves_nothing(lab: Lab, cluster: Project) -> None:
    machines = [cluster.head(), *cluster.workers()]
    seen = cluster.daft("down", "--wait", timeout=300)

    assert (seen.status, seen.err.splitlines()[-1]) == (0, "demo is gone"), seen
    assert lab.cloud.tagged("demo") == []
    assert not any(machine.on for machine in machines)
    assert not {machine.name for machine in machines} & {path.name for path in Path("/run/netns").iterdir()}
    signs = ["/opt/daft/", *(machine.facts.instance_id for machine in machines)]
    assert [line for line in _command_lines() if any(sign in line for sign in signs)] == []
    assert cluster.statuses() == []


def _python(project: Project) -> str:
    return str(re.findall('python_version = "(.*)"', (project.root / ".daft.toml").read_text())[0])


def _ray_nodes(cluster: Project) -> list[str]:
    """Return the addresses of Ray's living nodes, asked through `daft dashboard`."""
    dashboard = cluster.start("dashboard", "--no-open")
    try:
        dashboard.says("Ctrl-C ends it\n")
        token = re.findall("authentication token.*: (.*)", dashboard.err)[0]
        headers = {"Authorization": f"Bearer {token}"}
        answer = requests.get(f"{dashboard.out.strip()}/nodes?view=summary", headers=headers, timeout=20)
    finally:
        dashboard.interrupt()
    assert (dashboard.end().status, answer.status_code) == (0, 200), answer.text
    nodes = answer.json()["data"]["summary"]
    return [node["ip"] for node in nodes if node["raylet"]["state"] == "ALIVE"]


def _command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found
