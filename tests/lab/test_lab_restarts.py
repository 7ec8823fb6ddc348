"""Machines that end in the middle of their work: rebooted, stopped and started, crashed, with and without systemd."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.lab import Lab, Project
from tests.lab.machine import Machine, wait_for

TOKEN = "/etc/daft/ray-token"
READY = "daft: status ready"
COUNT_NODES = """\
import ray, time
ray.init()
for _ in range(90):
    alive = sum(node["Alive"] for node in ray.nodes())
    if alive == 2:
        break
    time.sleep(1)
print("nodes", alive)
"""


@pytest.fixture(scope="module")
def pair(new_project: Callable[..., Project]) -> Iterator[Project]:
    """A cluster with one worker."""
    with new_project("pair", setup={"number_of_workers": 1}).brought_up() as cluster:
        yield cluster


@pytest.fixture
def job(tmp_path: Path) -> str:
    (tmp_path / "main.py").write_text(COUNT_NODES)
    return str(tmp_path)


def test_rebooted_worker_joins_again(pair: Project, job: str) -> None:
    _reboot(pair.workers()[0])

    assert _count_nodes(pair, job) == "nodes 2"


def test_rebooted_head_takes_jobs_again_and_has_its_workers(pair: Project, job: str) -> None:
    head = pair.head()
    token, address = head.read(TOKEN), head.facts.public
    _reboot(head)

    assert _count_nodes(pair, job) == "nodes 2"
    assert (head.read(TOKEN), head.facts.public) == (token, address)
    assert head.log().count("daft: uv pip install") == 1


def test_stopped_head_is_told_and_comes_back_with_its_disk(lab: Lab, pair: Project, job: str) -> None:
    head, instance = pair.head(), pair.instance()
    before, ready = head.facts.public, head.log().count(READY)
    lab.stop(instance)
    submitted, upped = pair.daft("submit", "-w", job), pair.daft("up")

    no_head = "error: no head of cluster `pair` is running in us-west-2 (one is stopped)"
    assert (submitted.status, submitted.out, submitted.err) == (
        1,
        "",
        f"{no_head}\nhint: `daft up` names the command that starts it\n",
    )
    assert upped.status == 1
    assert f"error: the head node of `pair` ({instance.id}) is stopped: " in upped.err
    assert (
        f"start it with `aws ec2 start-instances --instance-ids {instance.id} --region us-west-2`"
        in upped.err
    )

    lab.start(instance)
    _wait_ready(head, times=ready + 1)
    back = pair.daft("up")
    assert back.status == 0, back
    assert instance.id in back.out
    assert str(instance.public_ip) in back.out
    assert instance.public_ip != before
    assert _count_nodes(pair, job) == "nodes 2"


def test_machine_that_never_boots_ends_up(lab: Lab, new_project: Callable[..., Project]) -> None:
    image = lab.cloud.add_image("that never boots")
    project = new_project("dead", setup={"number_of_workers": 0, "image_id": image})
    with project.starting() as up:
        seen = up.end(120)

    assert (seen.status, seen.out) == (1, "")
    assert re.search(
        r"error: the head node of `dead` \(i-\w+\) fails EC2's checks: instance reachability\n", seen.err
    )
    assert "aws ec2 get-console-output" in seen.err


def test_image_without_systemd_has_the_scripts_own_supervisor(
    lab: Lab, new_project: Callable[..., Project]
) -> None:
    image = lab.cloud.add_image("without systemd")
    with new_project("plain", setup={"number_of_workers": 0, "image_id": image}).brought_up() as cluster:
        head, instance = cluster.head(), cluster.instance()
        assert head.run("test", "-d", "/run/systemd/system").returncode == 1
        assert head.run("pkill", "-KILL", "-x", "gcs_server").returncode == 0
        _wait_ready(head, times=2)
        lab.stop(instance)
        lab.start(instance)
        _wait_ready(head, times=3)
        seen = cluster.daft("submit", "-w", str(cluster.root), "--", "echo", "at work")

    assert (seen.status, seen.out.splitlines()[-1]) == (0, "at work")


def _reboot(machine: Machine) -> None:
    times = machine.log().count(READY)
    machine.run("systemctl", "reboot")
    _wait_ready(machine, times=times + 1)


def _wait_ready(machine: Machine, *, times: int) -> None:
    wait_for(lambda: machine.log().count(READY) == times, "Ray that is back", timeout=200)


def _count_nodes(cluster: Project, job: str) -> str:
    seen = cluster.daft("submit", "-w", job, timeout=200)
    assert seen.status == 0, seen
    return seen.out.splitlines()[-1]
