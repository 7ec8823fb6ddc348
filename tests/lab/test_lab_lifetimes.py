"""Clusters that are forgotten: their heads end them, workers first, while no laptop is there."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import pytest
from moto.ec2.models.instances import Instance

from tests.lab.cloud import tags_of
from tests.lab.lab import Lab, Project, Running
from tests.lab.machine import wait_for

ENDED = {"shutting-down", "terminated"}


@dataclass
class Fading:
    """A cluster that comes up with limits of its own, beside the other."""

    project: Project
    up: Running
    nodes: list[Instance] = field(default_factory=list)

    def await_up(self) -> str:
        """Wait until the head and its worker take jobs, and return what `daft up` said of the limits."""
        seen = self.up.end(600)
        assert seen.status == 0, f"{seen.out}{seen.err}\n{self.project.lab.logs()}"
        self.nodes = [self.project.instance(), *self.project.lab.cloud.find(self.project.name, "worker")]
        return "".join(re.findall(r"^.*by itself.*\n", seen.err, re.MULTILINE))

    def limit(self, **limits: str) -> None:
        """Write other limits into `.daft.toml`, and let `daft up` take them to the head that is there."""
        config = self.project.root / ".daft.toml"
        lines = [
            line for line in config.read_text().splitlines() if not re.match("(max_life|idle_time)", line)
        ]
        lines[1:1] = [f'{key} = "{span}"' for key, span in limits.items()]
        config.write_text("\n".join(lines) + "\n")
        head = self.project.instance().id
        seen = self.project.daft("up")
        assert (seen.status, self.project.instance().id) == (0, head), seen

    def ends(self) -> dict[str, float]:
        """Return what the head has said of its end, by limit in seconds since the epoch."""
        words = tags_of(self.nodes[0]).get("daft:ends", "").split()
        moments = [
            datetime.strptime(w, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc) for w in words[1::2]
        ]
        return dict(zip(words[::2], (moment.timestamp() for moment in moments), strict=True))

    def line(self) -> str:
        """Return the head's line of `daft list`."""
        return self.project.daft("list", self.project.name).out.splitlines()[1]

    def await_end(self, *, timeout: float) -> tuple[float, float]:
        """Wait until the workers, and then the head, have been told to end; return when, since the epoch."""
        head, *workers = self.nodes
        wait_for(lambda: all(w.state in ENDED for w in workers), "end of the workers", timeout=timeout)
        workers_gone = time.time()
        wait_for(lambda: head.state in ENDED, "end of the head", timeout=60)
        return workers_gone, time.time()

    def assert_all_off(self) -> None:
        """See that no machine of it is on, and none follows."""
        lab, name = self.project.lab, self.project.name
        wait_for(lambda: not any(lab.machines[node.id].on for node in self.nodes), "machines that are off")
        (group,) = lab.cloud.client("autoscaling").describe_auto_scaling_groups(
            AutoScalingGroupNames=[f"daft-{name}-workers"]
        )["AutoScalingGroups"]
        assert [group[key] for key in ("MinSize", "MaxSize", "DesiredCapacity", "Instances")] == [0, 0, 0, []]
        assert lab.cloud.find(name, "head") + lab.cloud.find(name, "worker") == []


@pytest.fixture(scope="module")
def fading(lab: Lab, new_project: Callable[..., Project]) -> Iterator[dict[str, Fading]]:
    """Two clusters of a head and a worker: `brief` with a life of its own, `quiet` with little patience."""
    limits = {"brief": {"max_lifetime": "29m"}, "quiet": {"idle_timeout": "1m", "max_lifetime": "2h"}}
    projects = {name: new_project(name, setup={"number_of_workers": 1, **limits[name]}) for name in limits}
    both = {name: Fading(project, project.start("up")) for name, project in projects.items()}
    try:
        yield both
    finally:
        for cluster in both.values():
            cluster.up.kill()
        downs = [(cluster.project, cluster.project.start("down", "--wait")) for cluster in both.values()]
        for project, down in downs:
            assert down.end(300).status == 0
            assert project.lab.cloud.tagged(project.name) == []


def test_idle_cluster_ends_once_job_and_session_are_over(fading: dict[str, Fading], tmp_path: Path) -> None:
    quiet = fading["quiet"]
    told = quiet.await_up()
    assert (
        told
        == "quiet ends by itself: 2h after its head was made or after 1m without a job and an SSH session\n"
    )
    head, job = quiet.project.head(), tmp_path / "job"
    session = quiet.project.start("ssh", "--", "sleep", "600")
    head.run("sh", "-c", "echo DAFT_PERIOD=2 >>/etc/daft/environment; systemctl restart daft-watch")
    job.mkdir()
    (job / "main.py").write_text(
        "import pathlib, time\nwhile not pathlib.Path('/tmp/go').exists(): time.sleep(.2)\n"
    )

    wait_for(lambda: list(quiet.ends()) == ["max_lifetime"], "head that is not idle", timeout=60)
    sent = quiet.project.daft("submit", "-w", str(job), "--no-wait", "--job-id", "holds")
    assert (sent.status, sent.err) == (0, ""), sent
    assert re.search(r", ends in 1 h \d+ min$", quiet.line())
    session.kill()
    wait_for(lambda: head.cut_ssh() == 0, "end of the session")
    held = time.time()
    wait_for(lambda: time.time() > held + 8, "some looks at the job alone")
    assert list(quiet.ends()) == ["max_lifetime"]

    quiet.limit(idle_timeout="2m", max_lifetime="2h")
    head.run("touch", "/tmp/go")
    wait_for(lambda: "idle_timeout" in quiet.ends(), "idle head", timeout=60)
    idle_from, ends_at = time.time(), quiet.ends()["idle_timeout"]
    assert idle_from + 100 < ends_at < idle_from + 125
    assert re.search(r", ends in (1|2) min$", quiet.line())
    workers_gone, head_gone = quiet.await_end(timeout=180)

    _report("idle_timeout", ends_at, workers_gone, head_gone)
    assert ends_at <= workers_gone <= head_gone
    quiet.assert_all_off()
    assert "ended idle_timeout of 2 min is over" in _told(quiet)


def test_life_that_was_cut_short_ends_and_up_makes_the_cluster_whole(
    fading: dict[str, Fading], tmp_path: Path
) -> None:
    brief = fading["brief"]
    assert brief.await_up() == "brief ends by itself: 29m after its head was made\n"
    head = brief.project.head()
    birth = float(head.read("/etc/daft/born").split()[1])
    assert brief.ends() == {"max_lifetime": birth + 29 * 60}
    (tmp_path / "main.py").touch()
    submitted = brief.project.daft("submit", "-w", str(tmp_path), "--no-wait")
    assert re.fullmatch(
        r"warning: brief ends in \d+ min, at \d\d:\d\d UTC, and its jobs with it, because of max_lifetime; .*\n",
        submitted.err,
    )
    minutes = int((time.time() - birth) // 60) + 3
    brief.limit(max_lifetime=f"{minutes}m")
    ends_at = birth + 60 * minutes
    wait_for(lambda: brief.ends() == {"max_lifetime": ends_at}, "head that knows", timeout=70)
    workers_gone, head_gone = brief.await_end(timeout=200)

    _report("max_lifetime", ends_at, workers_gone, head_gone)
    assert ends_at <= workers_gone <= head_gone
    brief.assert_all_off()
    assert f"ended max_lifetime of {minutes} min is over" in _told(brief)

    brief.up = brief.project.start("up")
    gone = {node.id for node in brief.nodes}
    brief.await_up()
    assert (len(brief.nodes), gone & {node.id for node in brief.nodes}) == (2, set())


def _told(cluster: Fading) -> str:
    """Return what `daft list` says of the head's end."""
    nodes = json.loads(cluster.project.daft("list", cluster.project.name, "--json").out)
    (head,) = (node for node in nodes if node["role"] == "head")
    assert head["ends_at"] is None
    return f"{head['status']} {head['detail']}"


def _report(limit: str, ends_at: float, workers_gone: float, head_gone: float) -> None:
    print(f"{limit}: workers {workers_gone - ends_at:.1f} s after it, head {head_gone - ends_at:.1f} s")
