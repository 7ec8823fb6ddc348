"""Waiting for a head node that is ready, failed, silent, gone, sick, slow, or hidden by AWS for a while."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from scripted_aws import FakeClock, instance, reservations, script

from daft_launcher.errors import AWSError, ProviderError
from daft_launcher.models import Cluster, HeadStatus
from daft_launcher.providers.aws import AWSProvider

CLUSTER = Cluster(
    name="demo",
    provider="aws",
    region="us-west-2",
    directory=Path("/nowhere"),
    head_id="i-head",
    head_address="203.0.113.5",
    number_of_workers=2,
)
LOG = (
    "its log: `aws ec2 get-console-output --latest --output text --instance-id i-head --region us-west-2"
    " --profile dev`"
)
HEALTHY = {
    "InstanceStatuses": [{"InstanceStatus": {"Status": "ok"}, "SystemStatus": {"Status": "initializing"}}]
}


def failure(code: str, operation: str = "DescribeInstances") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": f"AWS says {code}"}}, operation)


class Head:
    """A head whose look changes with the seconds since the watch began; an exception is what AWS answers."""

    def __init__(self, *looks, health=HEALTHY) -> None:
        self.looks = looks  # (from this second on, what is seen)
        self.health = health
        self.clock = FakeClock()
        self.provider = AWSProvider(
            region="us-west-2", profile="dev", ssh_allowed_cidrs=(), ssh_key_name=None, clock=self.clock
        )
        self.calls = script(self.provider._access, "ec2", "us-west-2", self.answer)

    @property
    def elapsed(self) -> float:
        return self.clock.time - 1000

    def answer(self, operation, params):
        if operation == "DescribeInstanceStatus":
            assert params == {"InstanceIds": ["i-head"]}
            if isinstance(self.health, Exception):
                raise self.health
            return self.health
        assert params["Filters"] == [{"Name": "instance-id", "Values": ["i-head"]}]
        now = [look for second, look in self.looks if second <= self.elapsed][-1]
        if isinstance(now, Exception):
            raise now
        return reservations(*([now] if now else []))

    def watch(self, step_timeout=600):
        return self.provider.watch_head(CLUSTER, step_timeout=step_timeout)

    def refusal(self, step_timeout=600):
        with pytest.raises(ProviderError) as caught:
            list(self.watch(step_timeout))
        return caught.value.message, caught.value.hint, self.elapsed


def test_each_step_is_told_once_and_ready_ends_the_watch():
    head = Head(
        (0, instance(state="pending")),
        (10, instance(daft_status="booting")),
        (20, instance(daft_status="installing", daft_detail="ray")),
        (30, instance(daft_status="installing", daft_detail="torch")),
        (40, instance(daft_status="ready")),
    )
    assert list(head.watch()) == [
        HeadStatus(step="silent"),
        HeadStatus(step="booting"),
        HeadStatus(step="installing", detail="ray"),
        HeadStatus(step="installing", detail="torch"),
        HeadStatus(step="ready"),
    ]
    assert head.elapsed == 40
    polls = [operation for operation, _ in head.calls]
    assert (polls.count("DescribeInstances"), polls.count("DescribeInstanceStatus")) == (21, 3)


def test_a_head_that_was_ready_already_is_ready_at_once():
    head = Head((0, instance(daft_status="ready")))
    assert (list(head.watch()), head.elapsed) == ([HeadStatus(step="ready")], 0)


def test_a_failed_head_ends_the_watch_with_its_own_words():
    head = Head(
        (0, instance(daft_status="setup")),
        (6, instance(daft_status="failed", daft_detail="`make x`: exit 2")),
    )
    assert head.refusal() == ("the head node of `demo` (i-head) failed: `make x`: exit 2", LOG, 6)


@pytest.mark.parametrize("state", ["shutting-down", "terminated"])
def test_a_terminated_head_is_named_with_the_reason_of_aws(state):
    reason = "Client.VolumeLimitExceeded: Volume limit exceeded"
    head = Head((0, instance()), (4, instance(state=state, reason=reason, daft_status="ready")))
    expected = f"the head node of `demo` (i-head) is {state}: {reason}"
    assert head.refusal() == (expected, "`daft up` makes a new one", 4)


@pytest.mark.parametrize("state", ["stopping", "stopped"])
def test_a_stopped_head_is_not_ready_whatever_its_tag_says(state):
    hint = (
        "start it with `aws ec2 start-instances --instance-ids i-head --region us-west-2 --profile dev`,"
        " then `daft up`"
    )
    head = Head((0, instance(state=state, daft_status="ready")))
    assert head.refusal() == (f"the head node of `demo` (i-head) is {state}: AWS gives no reason", hint, 0)


def test_a_silent_head_is_given_up_at_the_deadline():
    hint = f"does its subnet reach the internet, and its image run user data? {LOG}"
    expected = "the head node of `demo` (i-head) has said nothing for 5 min 2 s"
    assert Head((0, instance())).refusal(step_timeout=300) == (expected, hint, 302)


def test_the_deadline_is_for_each_step():
    head = Head(
        (0, instance(daft_status="booting")),
        (50, instance(daft_status="installing", daft_detail="torch")),
    )
    expected = "the head node of `demo` (i-head) has been at `installing` (torch) for 1 min 2 s"
    assert head.refusal(step_timeout=60) == (expected, LOG, 112)


def test_a_step_without_detail_is_named_alone():
    expected = "the head node of `demo` (i-head) has been at `booting` for 32 s"
    assert Head((0, instance(daft_status="booting"))).refusal(step_timeout=30) == (expected, LOG, 32)


def test_a_head_that_fails_the_checks_of_ec2_is_refused():
    failed = [{"Name": "reachability", "Status": "failed"}]
    health = {
        "InstanceStatuses": [
            {
                "InstanceStatus": {"Status": "impaired", "Details": failed},
                "SystemStatus": {"Status": "impaired"},
            }
        ]
    }
    head = Head((0, instance(daft_status="ready")), health=health)
    expected = "the head node of `demo` (i-head) fails EC2's checks: instance reachability, system status"
    assert head.refusal() == (expected, LOG, 0)


def test_checks_that_cannot_be_read_do_not_stop_the_watch():
    head = Head((0, instance(daft_status="ready")), health=failure("UnauthorizedOperation"))
    assert list(head.watch()) == [HeadStatus(step="ready")]


def test_a_new_head_may_be_unknown_to_ec2_for_a_minute():
    head = Head((0, None), (58, instance(daft_status="ready")))
    assert list(head.watch()) == [HeadStatus(step="silent"), HeadStatus(step="ready")]


def test_a_head_that_stays_unknown_does_not_exist():
    expected = "the head node of `demo` (i-head) does not exist"
    assert Head((0, None)).refusal() == (expected, "`daft up` makes a new one", 62)


@pytest.mark.parametrize(
    "trouble",
    [
        failure("RequestLimitExceeded"),
        ClientError(
            {"Error": {"Code": "Unavailable"}, "ResponseMetadata": {"HTTPStatusCode": 503}},
            "DescribeInstances",
        ),
        EndpointConnectionError(endpoint_url="https://ec2.us-west-2.amazonaws.com/"),
    ],
)
def test_trouble_on_the_way_to_aws_passes(trouble):
    head = Head((0, instance(daft_status="booting")), (10, trouble), (100, instance(daft_status="ready")))
    assert list(head.watch()) == [HeadStatus(step="booting"), HeadStatus(step="ready")]


def test_trouble_that_stays_is_reported_after_two_minutes():
    head = Head((0, instance(daft_status="booting")), (10, failure("RequestLimitExceeded")))
    expected = "could not watch the head node of `demo` in us-west-2: AWS asks for fewer calls (RequestLimitExceeded)"
    assert head.refusal() == (expected, "wait a minute and try again", 130)


def test_credentials_that_expire_end_the_watch_at_once():
    head = Head((0, instance(daft_status="booting")), (10, failure("ExpiredToken")))
    with pytest.raises(AWSError) as caught:
        list(head.watch())
    assert caught.value.message == (
        "could not watch the head node of `demo` in us-west-2: the AWS credentials have expired (ExpiredToken)"
    )
    assert head.elapsed == 10
