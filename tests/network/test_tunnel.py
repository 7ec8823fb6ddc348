"""Real tunnels over a network that stalls, drops and turns bits over, with a Ray behind them that does its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from daft_launcher import ssh
from daft_launcher.providers.aws_reach import kept_open
from tests.adapters import ray_api_server
from tests.adapters.ray_api_server import Answer, RayApiServer, Stream
from tests.adapters.sshd import USER, Sshd
from tests.cli.clikit import Seen, failed
from tests.network.answers import BODIES, BREAKS, ENDLESS, NOT_RAY, NOT_RAY_HINT, STATUSES, Case
from tests.network.head import SUBMIT, WAYS, Head
from tests.network.peers import Relay

pytestmark = pytest.mark.real


@pytest.fixture
def relay(head: Head, sshd: Sshd) -> Iterator[Relay]:
    with Relay(sshd.port) as relay:
        head.reach = replace(head.reach, ssh_port=relay.port)
        yield relay


CASES = {
    name: group[name]
    for group, names in [
        (STATUSES, ["401", "500", "503, nothing"]),
        (
            BREAKS,
            ["closed at once", "closed in the body", "garbage", "silence", "a byte now and then, header"],
        ),
        (BODIES, ["html", "half a json", "empty"]),
        ({"endless": ENDLESS}, ["endless"]),
    ]
    for name in names
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_comes_through_a_tunnel(head: Head, ray: RayApiServer, case: Case):
    ray.prepare("GET /api/jobs/", case.answer)
    deadline = {"ray_answer": 0.6} if case.waits else {}
    assert head.daft("jobs", **deadline) == failed(
        case.message.replace("{request}", "GET /api/jobs/"), case.hint
    )


@pytest.mark.parametrize("status", [302, 307])
def test_the_token_is_sent_to_no_other_host(head: Head, ray: RayApiServer, status: int):
    with ray_api_server.serve() as (other, api):
        ray.prepare("GET /api/jobs/", Answer(status=status, headers={"Location": f"{api.url}/api/jobs/"}))
        message = NOT_RAY.replace("{request}", "GET /api/jobs/")
        assert head.daft("jobs") == failed(message, NOT_RAY_HINT)
        assert other.asked() == []


def test_all_goes_well(head: Head, ray: RayApiServer, relay: Relay):
    assert head.daft(*SUBMIT) == Seen(7, out="job-1\none\n")


def streaming(ray: RayApiServer, *after: Answer | Stream) -> threading.Event:
    """Let the first stream bring `one` and no more, and say when it was asked for."""
    ray.prepare("GET /api/jobs/job-1/logs/tail", Stream(pieces=("one\n",), ending="silence"), *after)
    asked = threading.Event()
    next_answer = ray.next_answer

    def note(request: str):
        if request.endswith("/logs/tail"):
            asked.set()
        return next_answer(request)

    ray.next_answer = note
    return asked


@pytest.mark.parametrize("kind", ["drop", "stall", "flip"])
def test_a_tunnel_that_breaks_once(head: Head, ray: RayApiServer, relay: Relay, kind: str):
    """It is opened again at the same port, and the log goes on where it was."""
    ray.prepare_job("job-1", "RUNNING")
    asked = streaming(ray, Stream(pieces=("one\n", "two\n"), ending="silence"))
    seen: list[Seen] = []
    # What is stalled is noticed when an answer is late.
    deadlines = {"ray_answer": 2, "ray_connect": 2, "ssh_timeout": 5}
    command = threading.Thread(target=lambda: seen.append(head.daft(*SUBMIT, within=60, **deadlines)))
    command.start()
    assert asked.wait(30)
    connections = relay.connections
    time.sleep(0.3)
    relay.harm(kind, for_good=False)
    wait_for(lambda: relay.connections > connections)
    ray.prepare_job("job-1", "FAILED", driver_exit_code=7)
    ray.prepare("GET /api/jobs/job-1/logs", Answer(body={"logs": "one\ntwo\n"}))
    command.join(60)
    assert seen == [Seen(7, out="job-1\none\ntwo\n")]


@pytest.mark.parametrize("kind", ["drop", "stall", "flip"])
def test_a_tunnel_that_breaks_for_good(head: Head, ray: RayApiServer, relay: Relay, kind: str):
    """A lost connection is no success, the job goes on, and the end does not wait for the tunnel."""
    ray.prepare_job("job-1", "RUNNING")
    asked = streaming(ray)
    seen: list[Seen] = []
    deadlines = {"ray_answer": 1, "ray_connect": 1, "ray_reconnect": 1}
    command = threading.Thread(target=lambda: seen.append(head.daft(*SUBMIT, within=60, **deadlines)))
    command.start()
    assert asked.wait(30)
    time.sleep(0.3)
    relay.harm(kind, for_good=True)
    start = time.monotonic()
    command.join(60)
    assert time.monotonic() - start < 15
    reasons = [
        f"contact lost for 1 s: Ray at RAY does not answer: {reason}"
        for reason in ("the connection broke off", "it is silent")
    ]
    outcomes = [
        replace(failed(reason, f"the job goes on without this program; {WAYS}"), out="job-1\none\n")
        for reason in reasons
    ]
    assert len(seen) == 1
    assert seen[0] in outcomes
    assert not any(request.endswith("/stop") for request in ray.asked())


def test_the_end_does_not_wait_for_a_tunnel_that_is_being_opened_again(
    head: Head, ray: RayApiServer, relay: Relay
):
    """Opening may take the deadlines of three steps."""
    tunnel = ssh.open_tunnel(
        host="127.0.0.1",
        port=relay.port,
        user=USER,
        identity=head.key,
        host_key=head.host_key,
        remote_port=head.reach.ray_port,
        timeout=10,
    )
    with tunnel, kept_open(tunnel, every=0.05):
        connections = relay.connections
        relay.harm("stall", for_good=True)
        relay.drop()  # so that the keeper is at its handshake with a network that is silent
        wait_for(lambda: relay.connections > connections)
        start = time.monotonic()
    assert time.monotonic() - start < 3


def wait_for(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
