"""What ends a forgotten cluster: the watch of the head's script, run for real against a cloud of our own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from bootstrap_cloud import METADATA, FakeCloud
from bootstrap_node import SCRIPT, STUB, Node

ME = METADATA["instance-id"]
JOBS = "/8265/api/jobs/"
NO_WORKERS = "UpdateAutoScalingGroup daft-demo-workers 0 0 0"
HEADINGS = "  sl  local_address rem_address   st tx_queue rx_queue\n"
SESSION = "   0: 0100007F:0016 0100007F:C350 01 00000000:00000000\n"
# One who listens, a session of ours with another machine, and one that is over.
NO_SESSION = """\
   0: 00000000:0016 00000000:0000 0A
   1: 0100007F:C350 0200007F:0016 01
   2: 0100007F:0016 0100007F:C350 06
"""
BUSY = ["a job that runs", "a job that waits", "ssh", "ssh over IPv6", "a bootstrap", "a hung Ray"]


class Head:
    """A machine that is a directory, with a /proc of its own, and the watch on it. Its init started 50 seconds ago."""

    def __init__(self, root: Path, cloud: FakeCloud) -> None:
        self.root, self.cloud = root, cloud
        self.etc, self.proc = root / "etc/daft", root / "proc"
        for folder in ("etc/daft", "opt/daft", "stubs", "var/log", "proc/1", "proc/net", "proc/sys/net/ipv4"):
            (root / folder).mkdir(parents=True)
        (root / "stubs/shutdown").write_bytes(STUB.read_bytes())
        (root / "stubs/shutdown").chmod(0o755)
        (root / "answers").write_text("{}")
        embedded = SCRIPT.read_text().split("<<'PYTHON'\n")[1].split("\nPYTHON\n")[0]
        (root / "opt/daft/node.py").write_text(embedded)
        settings = {"cluster": "demo", "role": "head", "region": "us-west-2", "secret_name": "/daft/demo/ray"}
        (self.etc / "settings.json").write_text(json.dumps({**settings, "ssh_user": "nobody"}))
        ticks = int(9950 * os.sysconf("SC_CLK_TCK"))
        (self.proc / "uptime").write_text("10000.00 9000.00\n")
        (self.proc / "1/stat").write_text(f"1 (an (init)) S {' '.join(['0'] * 18)} {ticks} 0 0\n")
        self.sessions()
        self.watch: subprocess.Popen[bytes] | None = None
        cloud.files[JOBS] = b"[]"

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    def born(self, *, ago: float, instance: str = ME) -> float:
        birth = int(time.time() - ago)
        (self.etc / "born").write_text(f"{instance} {birth}")
        return birth

    def sessions(self, tcp: str = "", tcp6: str = "") -> None:
        (self.proc / "net/tcp").write_text(HEADINGS + NO_SESSION + tcp)
        (self.proc / "net/tcp6").write_text(HEADINGS + tcp6)

    def process(self, pid: int, name: str) -> None:
        (self.proc / str(pid)).mkdir()
        (self.proc / str(pid) / "comm").write_text(f"{name}\n")

    def jobs(self, *jobs: dict[str, object]) -> None:
        self.cloud.files[JOBS] = json.dumps(jobs).encode()

    def start(self, **extra: str) -> None:
        environ = {
            "PATH": f"{self.root}/stubs:{os.environ['PATH']}",
            "DAFT_ROOT": str(self.root),
            "DAFT_HEALTH": self.cloud.url + "/",
            "DAFT_PERIOD": "0.1",
            "AWS_ENDPOINT_URL": self.cloud.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.cloud.url,
        } | extra
        words = [sys.executable, "-IS", str(self.root / "opt/daft/node.py"), "watch"]
        with (self.root / "log").open("ab") as log:
            self.watch = subprocess.Popen(
                words, env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def stop(self) -> None:
        if self.watch:
            self.watch.kill()
            self.watch.wait(10)

    def wait_for(self, what: Callable[[], object], *, timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < deadline, f"{self.cloud.ends}\n{self.cloud.done}\n{self.log}"
            time.sleep(0.02)

    def looks(self, times: int = 3) -> None:
        """Wait until the watch has looked some times more."""
        before = self.cloud.asked.count("GetParameter")
        self.wait_for(lambda: self.cloud.asked.count("GetParameter") >= before + times)

    def ended(self, why: str) -> list[str]:
        """Wait for the end, and return it: workers first, the reason, the head."""
        self.wait_for(lambda: len(self.cloud.done) >= 3)
        assert self.cloud.done[:3] == [NO_WORKERS, f"ended: {why}", f"TerminateInstances {ME}"]
        return self.cloud.done


@pytest.fixture
def cloud() -> Iterator[FakeCloud]:
    with FakeCloud() as cloud:
        yield cloud


@pytest.fixture
def head(tmp_path: Path, cloud: FakeCloud) -> Iterator[Head]:
    head = Head(tmp_path / "head", cloud)
    yield head
    head.stop()
    assert cloud.refused == []


def at(limit: str, moment: float) -> str:
    return f"{limit} {datetime.fromtimestamp(moment, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def test_life_is_over(head: Head, cloud: FakeCloud) -> None:
    birth = head.born(ago=100)
    cloud.limits = {"max_lifetime": 103}
    head.start()

    head.wait_for(lambda: cloud.done)
    assert time.time() >= birth + 103
    head.ended("max_lifetime of 1 min is over")
    assert cloud.ends == [at("max_lifetime", birth + 103)]


def test_busy_cluster_ends_too_when_its_life_is_over(head: Head, cloud: FakeCloud) -> None:
    head.jobs({"status": "RUNNING"})
    head.sessions(SESSION, SESSION)
    head.born(ago=7200)
    cloud.limits = {"idle_timeout": 1, "max_lifetime": 7200}
    head.start()

    head.ended("max_lifetime of 120 min is over")


def test_first_boot_is_the_birth_and_later_ones_are_not(head: Head, cloud: FakeCloud) -> None:
    cloud.limits = {"max_lifetime": 1000}
    before = int(time.time())
    head.start()
    head.wait_for(lambda: cloud.ends)
    instance, birth = (head.etc / "born").read_text().split()
    assert (instance, before <= int(birth) <= time.time()) == (ME, True)
    head.stop()
    (head.etc / "born").write_text(f"{ME} {int(birth) - 500}")
    head.start()
    head.wait_for(lambda: len(cloud.ends) == 2)

    assert cloud.ends == [at("max_lifetime", int(birth) + left) for left in (1000, 500)]


def test_image_made_of_a_head_is_born_anew(head: Head, cloud: FakeCloud) -> None:
    head.born(ago=5000, instance="i-0fedcba9876543210")
    cloud.limits = {"max_lifetime": 1000}
    head.start()
    head.wait_for(lambda: cloud.ends)
    head.looks()

    assert ((head.etc / "born").read_text().split()[0], cloud.done) == (ME, [])


def test_head_without_limits_says_that_it_watches_and_lives_on(head: Head, cloud: FakeCloud) -> None:
    head.born(ago=10**6)
    head.start()
    head.wait_for(lambda: cloud.ends)
    head.looks(5)

    assert (cloud.ends, cloud.done, head.log) == ([""], [], "")


@pytest.mark.parametrize("busy", BUSY)
def test_work_keeps_an_idle_limit_away_until_it_is_over(head: Head, cloud: FakeCloud, busy: str) -> None:
    head.born(ago=1000)
    cloud.limits = {"idle_timeout": 1}
    work: dict[str, Callable[[], object]] = {
        "a job that runs": lambda: head.jobs(
            {"status": "SUCCEEDED"}, {"status": "RUNNING", "type": "DRIVER"}
        ),
        "a job that waits": lambda: head.jobs({"status": "PENDING"}),
        "ssh": lambda: head.sessions(SESSION),
        "ssh over IPv6": lambda: head.sessions("", SESSION),
        "a bootstrap": lambda: (head.etc / "status").write_text("setup"),
        "a hung Ray": lambda: (cloud.files.pop(JOBS), head.process(78, "raylet")),
    }
    (head.etc / "ray-token").write_text("secret")
    work[busy]()
    head.start()
    head.wait_for(lambda: cloud.ends)
    head.looks(20)
    assert (cloud.ends, cloud.done) == ([""], [])

    head.jobs()
    head.sessions()
    shutil.rmtree(head.proc / "78", ignore_errors=True)
    (head.etc / "status").write_text("ready")
    over = time.time()
    head.ended("idle_timeout of 0 min is over")
    assert time.time() >= over + 1 - 0.2
    (ends,) = cloud.ends[1:]
    assert re.fullmatch(r"idle_timeout \S+Z", ends)


def test_idle_machine_counts_from_its_boot(head: Head, cloud: FakeCloud) -> None:
    """No Ray runs: a bootstrap that failed, or one that has not come that far."""
    head.born(ago=1000)
    del cloud.files[JOBS]
    cloud.limits = {"idle_timeout": 1000}
    head.start()
    head.wait_for(lambda: cloud.ends)

    (ends,) = cloud.ends
    expected = time.time() - 50 + 1000
    assert ends in [at("idle_timeout", expected + off) for off in range(-3, 3)]


def test_bootstrap_that_hangs_is_no_work_for_ever(head: Head, cloud: FakeCloud) -> None:
    head.born(ago=1000)
    (head.etc / "status").write_text("installing")
    cloud.limits = {"idle_timeout": 40}
    head.start(DAFT_PATIENCE="20")

    head.ended("idle_timeout of 0 min is over")


def test_short_job_between_two_looks_is_work(head: Head, cloud: FakeCloud) -> None:
    head.born(ago=1000)
    (head.etc / "ray-token").write_text("secret")
    ended = int(time.time() - 5)
    head.jobs({"status": "FAILED", "end_time": ended * 1000}, {"status": "SUCCEEDED", "end_time": None})
    cloud.limits = {"idle_timeout": 600}
    head.start()
    head.wait_for(lambda: cloud.ends)

    assert cloud.ends == [at("idle_timeout", ended + 600)]


def test_idleness_begins_with_the_look_that_finds_it(head: Head, cloud: FakeCloud) -> None:
    """Not with the last one that found work: as much as a minute of that work came after it."""
    head.born(ago=1000)
    head.sessions(SESSION)
    cloud.limits = {"idle_timeout": 600}
    head.start(DAFT_PERIOD="3")
    head.wait_for(lambda: cloud.ends)
    head.sessions()
    over = time.time()
    head.wait_for(lambda: len(cloud.ends) > 1)

    assert cloud.ends[1] in [at("idle_timeout", over + late + 600) for late in range(2, 9)]


def test_idleness_outlives_a_restart_of_the_watch(head: Head, cloud: FakeCloud) -> None:
    head.born(ago=1000)
    since = int(time.time() - 30)
    (head.etc / "idle-since").write_text(str(since))
    cloud.limits = {"idle_timeout": 600}
    head.start()
    head.wait_for(lambda: cloud.ends)

    assert cloud.ends == [at("idle_timeout", since + 600)]


def test_limits_change_on_a_living_head(head: Head, cloud: FakeCloud) -> None:
    birth = head.born(ago=100)
    head.start()
    head.wait_for(lambda: cloud.ends == [""])
    for limits in ({"max_lifetime": 500}, {"max_lifetime": 900}, None):
        cloud.limits, told = limits, len(cloud.ends)
        head.wait_for(lambda told=told: len(cloud.ends) > told)
    head.looks()

    assert cloud.ends == ["", at("max_lifetime", birth + 500), at("max_lifetime", birth + 900), ""]
    assert cloud.done == []


def test_idle_limit_that_is_added_counts_from_then(head: Head, cloud: FakeCloud) -> None:
    head.born(ago=5000)
    head.start()
    head.wait_for(lambda: cloud.ends == [""])
    now = int(time.time())
    cloud.limits = {"idle_timeout": 60, "max_lifetime": 9000}
    head.wait_for(lambda: len(cloud.ends) > 1)

    soonest, later = re.fullmatch(r"(idle_timeout \S+) (max_lifetime \S+)", cloud.ends[1]).groups()  # type: ignore[union-attr]
    assert soonest in [at("idle_timeout", now + 60 + off) for off in range(-1, 4)]
    assert later == at("max_lifetime", int((head.etc / "born").read_text().split()[1]) + 9000)


def test_workers_that_may_not_be_ended_are_tried_again_and_then_left(head: Head, cloud: FakeCloud) -> None:
    head.born(ago=100)
    cloud.limits = {"max_lifetime": 60}
    cloud.denied["UpdateAutoScalingGroup"] = "AccessDenied"
    head.start(DAFT_PATIENCE="1")
    head.wait_for(lambda: any(done.startswith("Terminate") for done in cloud.done), timeout=100)

    problem = "HTTP Error 400: Bad Request AccessDenied"
    still = f"still: max_lifetime of 1 min is over, but its workers cannot be ended: {problem}"
    ended = f"ended: max_lifetime of 1 min is over, and its workers could not be ended: {problem}"
    first = cloud.done.index(ended)
    assert (set(cloud.done[:first]), cloud.done[first + 1]) == ({still}, f"TerminateInstances {ME}")


def test_raising_the_limit_saves_a_cluster_whose_workers_could_not_be_ended(
    head: Head, cloud: FakeCloud
) -> None:
    head.born(ago=100)
    cloud.limits = {"max_lifetime": 60}
    cloud.denied["UpdateAutoScalingGroup"] = "AccessDenied"
    head.start()
    head.wait_for(lambda: cloud.done, timeout=60)
    cloud.limits = {"max_lifetime": 6000}
    head.wait_for(lambda: cloud.ends, timeout=60)

    assert (cloud.done[-1], [done for done in cloud.done if not done.startswith("still: ")]) == (
        "still: ",
        [],
    )


def test_group_that_is_gone_keeps_no_head_alive(head: Head, cloud: FakeCloud) -> None:
    head.born(ago=100)
    cloud.limits = {"max_lifetime": 60}
    cloud.denied["UpdateAutoScalingGroup"] = "ValidationError AutoScalingGroup name not found"
    head.start()
    head.wait_for(lambda: len(cloud.done) >= 2, timeout=60)

    assert cloud.done[:2] == ["ended: max_lifetime of 1 min is over", f"TerminateInstances {ME}"]


def test_head_that_may_not_terminate_itself_shuts_down(head: Head, cloud: FakeCloud) -> None:
    head.born(ago=100)
    cloud.limits = {"max_lifetime": 60}
    cloud.denied["TerminateInstances"] = "UnauthorizedOperation"
    head.start()
    head.wait_for(lambda: (head.root / "calls").exists(), timeout=100)

    call = json.loads((head.root / "calls").read_text().splitlines()[0])
    assert (call["name"], call["argv"]) == ("shutdown", ["-h", "now"])
    assert cloud.done[:2] == [NO_WORKERS, "ended: max_lifetime of 1 min is over"]


def test_limits_that_may_not_be_read_leave_the_head_silent(head: Head, cloud: FakeCloud) -> None:
    """So that `up` can tell that nothing obeys them."""
    cloud.denied["GetParameter"] = "AccessDeniedException"
    head.start()
    head.looks()

    assert (cloud.ends, cloud.done) == ([], [])
    assert "the watch goes on after: HTTPError: HTTP Error 400: Bad Request AccessDeniedException" in head.log


def test_what_was_read_holds_while_aws_does_not_answer(head: Head, cloud: FakeCloud) -> None:
    birth = head.born(ago=100)
    cloud.limits = {"max_lifetime": 102}
    head.start()
    head.wait_for(lambda: cloud.ends)
    cloud.denied["GetParameter"] = "ThrottlingException"
    head.wait_for(lambda: cloud.done)

    assert time.time() >= birth + 102
    head.ended("max_lifetime of 1 min is over")


def test_connections_of_lost_peers_end_within_five_minutes(head: Head, cloud: FakeCloud) -> None:
    head.start()
    head.wait_for(lambda: cloud.ends)

    settings = head.proc / "sys/net/ipv4"
    found = {path.name: int(path.read_text()) for path in settings.iterdir()}
    assert found == {"tcp_keepalive_time": 120, "tcp_keepalive_intvl": 30, "tcp_keepalive_probes": 6}
    assert 120 + 30 * 6 == 300


@pytest.mark.parametrize(
    ("there", "published"),
    [
        (None, True),
        ({"address": "127.0.0.1", "token": "of an earlier day"}, True),
        ({"address": "127.0.0.1", "token": "secret"}, False),
        ({"address": "10.0.0.9", "token": "of another head"}, False),
    ],
)
def test_secret_that_was_set_back_is_written_again(
    head: Head, cloud: FakeCloud, there: dict[str, str] | None, published: bool
) -> None:
    (head.etc / "ray-token").write_text("secret")
    if there:
        cloud.secrets["/daft/demo/ray"] = there
    head.start()
    head.wait_for(lambda: cloud.ends)
    head.looks(6)

    mine = {"address": "127.0.0.1", "token": "secret"}
    assert cloud.secrets == {"/daft/demo/ray": mine if published else there}
    assert cloud.asked.count("PutParameter") == int(published)


def test_head_that_has_no_token_yet_writes_nothing(head: Head, cloud: FakeCloud) -> None:
    head.start()
    head.wait_for(lambda: cloud.ends)
    head.looks(6)

    assert (cloud.secrets, cloud.asked.count("PutParameter")) == ({}, 0)


@pytest.fixture
def node(cloud: FakeCloud) -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="daft-node-", ignore_cleanup_errors=True) as root:
        Path(root).chmod(0o755)
        node = Node(Path(root), cloud)
        shutil.rmtree(node.root / "run")
        yield node
        node.stop()


def test_watch_is_there_before_anything_can_hang_and_after_a_reboot(node: Node, cloud: FakeCloud) -> None:
    """Without systemd; with it, systemd starts its unit again by itself."""
    cloud.limits = {"max_lifetime": 10**6}
    node.answer({"uv": {"venv": ("The network is gone", 1)}})
    assert node.boot().returncode == 1
    node.wait_for(lambda: cloud.ends)
    (node.etc / "idle-since").unlink(missing_ok=True)
    node.stop()
    node.boot_again()
    node.wait_for(lambda: len(cloud.ends) == 2)

    assert cloud.ends[0] == cloud.ends[1]


def test_worker_has_no_watch(node: Node, cloud: FakeCloud) -> None:
    node.boot(role="worker", extra={"DAFT_PATIENCE": "1"})
    node.wait_for(lambda: cloud.statuses[-1][0] == "failed")

    assert (cloud.ends, (node.etc / "watch.pid").exists()) == ([], False)
