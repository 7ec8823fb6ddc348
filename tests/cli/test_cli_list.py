"""`daft list`: every state, every form, several regions, and what it says when there is nothing to show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from clikit import CREDENTIALS, Desk, Seen, failed
from fake_aws import FakeAws, Page, Refusal, instance, serving

LOGIN = "run `aws sso login`, or `aws configure`"
STARTED = "2026-01-02T03:04:05+00:00"
DENIED = Refusal("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
NOT_ALLOWED = (
    "these AWS credentials may not do `ec2:DescribeInstances` (UnauthorizedOperation)\n"
    "hint: ask for the IAM permission `ec2:DescribeInstances`; who you are: aws sts get-caller-identity\n"
)
WHO = "the IAM permission `ec2:DescribeInstances`; who you are: aws sts get-caller-identity"

#: As EC2 may answer: in no order at all.
EVERY_STATE = Page(
    (
        instance("gone", "head", "i-00c340dc39d54772f", "terminated"),
        instance("zeta", "worker", "i-00000000000000002", "running", "192.0.2.2"),
        instance("new-cluster", "head", "i-0be0db9803bd06652", "shutting-down", "35.86.200.101"),
        instance("daft-demo", "worker", "i-00c340dc39d54772d", "running", "44.234.112.173"),
        instance("halted", "head", "i-00000000000000005", "stopped"),
        instance("zeta", "head", "i-00000000000000009", "running", "192.0.2.9"),
        instance("daft-demo", "head", "i-053f9d4856d92ea3d", "running", "35.94.91.91", status="ready"),
        instance("halting", "head", "i-00000000000000006", "stopping", "192.0.2.6"),
        instance("daft-demo", "worker", "i-00000000000000001", "pending"),
    )
)
AS_TEXT = """\
Running:
  - daft-demo, head, i-053f9d4856d92ea3d, 35.94.91.91
  - daft-demo, worker, i-00c340dc39d54772d, 44.234.112.173
  - zeta, head, i-00000000000000009, 192.0.2.9
  - zeta, worker, i-00000000000000002, 192.0.2.2
Pending:
  - daft-demo, worker, i-00000000000000001, -
Stopping:
  - halting, head, i-00000000000000006, 192.0.2.6
Stopped:
  - halted, head, i-00000000000000005, -
Shutting-down:
  - new-cluster, head, i-0be0db9803bd06652, 35.86.200.101
Terminated:
  - gone, head, i-00c340dc39d54772f, -
"""


@pytest.fixture
def aws(desk: Desk) -> Iterator[FakeAws]:
    with serving() as aws:
        desk.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": aws.url}
        yield aws


def one(name: str, number: int) -> Page:
    return Page((instance(name, "head", f"i-{number}", "running", f"192.0.2.{number}"),))


@pytest.mark.parametrize("args", [[], ["--format", "text"]])
def test_every_state_as_text(desk: Desk, aws: FakeAws, args: list[str]):
    aws.pages = {"us-west-2": [EVERY_STATE]}
    with desk.unchanged():
        assert desk.daft("list", *args) == Seen(0, out=AS_TEXT)


def test_the_server_filters_by_tag(desk: Desk, aws: FakeAws):
    desk.daft("list")
    desk.daft("list", "demo")
    asked = [
        {value for key, value in call.parameters.items() if key.startswith("Filter.")} for call in aws.calls
    ]
    managed = {"tag:daft:managed-by", "daft-launcher"}
    assert asked == [managed, managed | {"tag:daft:cluster", "demo"}]


def test_pages(desk: Desk, aws: FakeAws):
    aws.pages = {"us-west-2": [one("b", 2), Page(), one("a", 1), one("c", 3)]}
    assert desk.daft("list") == Seen(
        0,
        out="Running:\n  - a, head, i-1, 192.0.2.1\n  - b, head, i-2, 192.0.2.2\n  - c, head, i-3, 192.0.2.3\n",
    )
    assert len(aws.calls) == 4


def test_table(desk: Desk, aws: FakeAws):
    aws.pages = {
        "us-west-2": [
            Page(
                (
                    instance(
                        "demo", "head", "i-1", "running", "192.0.2.1", status="setup", detail="pip install"
                    ),
                    instance("demo", "worker", "i-2", "pending"),
                )
            )
        ]
    }
    seen = desk.daft("list", "--format", "table")
    assert (seen.status, seen.err) == (0, "")
    assert [re.split(r"\s{2,}", line.strip()) for line in _without_age(seen.out)] == [
        ["CLUSTER", "ROLE", "STATE", "STATUS", "INSTANCE", "ADDRESS", "TYPE", "ZONE", "AGE"],
        ["demo", "head", "Running", "setup pip install", "i-1", "192.0.2.1", "m7g.medium", "us-west-2a", "#"],
        ["demo", "worker", "Pending", "-", "i-2", "-", "m7g.medium", "us-west-2a", "#"],
    ]


def test_what_is_left_of_a_cluster_that_ends_by_itself(desk: Desk, aws: FakeAws):
    now = datetime.now(timezone.utc)
    soon, later = ((now + timedelta(hours=hours, seconds=30)) for hours in (2.1, 5))
    form = "%Y-%m-%dT%H:%M:%SZ"
    ends = f"idle_timeout {soon:{form}} max_lifetime {later:{form}}"
    aws.pages = {
        "us-west-2": [
            Page(
                (
                    instance("demo", "head", "i-1", "running", "192.0.2.1", ends=ends),
                    instance("demo", "worker", "i-2", "running", "192.0.2.2"),
                    instance("endless", "head", "i-3", "running", "192.0.2.3", ends=""),
                    instance("gone", "head", "i-4", "terminated", ends=ends),
                )
            )
        ]
    }
    assert desk.daft("list") == Seen(
        0,
        out="Running:\n  - demo, head, i-1, 192.0.2.1, ends in 2 h 6 min\n  - demo, worker, i-2, 192.0.2.2\n"
        "  - endless, head, i-3, 192.0.2.3\nTerminated:\n  - gone, head, i-4, -\n",
    )
    rows = [
        re.split(r"\s{2,}", row.strip()) for row in desk.daft("list", "--format", "table").out.splitlines()
    ]
    assert [(row[0], row[-1]) for row in rows] == [
        ("CLUSTER", "ENDS"),
        ("demo", "in 2 h 6 min"),
        ("demo", "-"),
        ("endless", "-"),
        ("gone", "-"),
    ]
    documents = json.loads(desk.daft("list", "--json").out)
    assert [node["ends_at"] for node in documents] == [
        soon.replace(microsecond=0).isoformat(),
        None,
        None,
        None,
    ]


def test_a_table_is_not_folded_in_a_pipe(desk: Desk, aws: FakeAws):
    detail = "installing " + "x" * 90
    aws.pages = {"us-west-2": [Page((instance("demo", "head", "i-1", "running", detail=detail),))]}
    assert detail in desk.daft("list", "--format", "table").out


@pytest.mark.parametrize("args", [["--json"], ["--format", "json"]])
def test_json(desk: Desk, aws: FakeAws, args: list[str]):
    aws.pages = {
        "us-west-2": [Page((instance("demo", "head", "i-1", "running", "192.0.2.1", status="ready"),))]
    }
    desk.local_node("worker-0")
    seen = desk.daft("list", *args)
    assert (seen.status, seen.err) == (0, "")
    assert json.loads(seen.out) == [
        {
            "cluster": "demo",
            "role": "head",
            "instance_id": "i-1",
            "state": "Running",
            "provider": "aws",
            "region": "us-west-2",
            "address": "192.0.2.1",
            "private_address": "10.0.0.4",
            "instance_type": "m7g.medium",
            "zone": "us-west-2a",
            "launched_at": STARTED,
            "status": "ready",
            "detail": None,
            "ends_at": None,
        },
        {
            "cluster": "demo",
            "role": "worker",
            "instance_id": "demo-worker-0",
            "state": "Running",
            "provider": "local",
            "region": "local",
            "address": "127.0.0.1",
            "private_address": "127.0.0.1",
            "instance_type": None,
            "zone": None,
            "launched_at": STARTED,
            "status": "ready",
            "detail": None,
            "ends_at": None,
        },
    ]


@pytest.mark.parametrize(("args", "out"), [([], ""), (["--format", "table"], ""), (["--json"], "[]\n")])
def test_nothing_running(desk: Desk, aws: FakeAws, args: list[str], out: str):
    with desk.unchanged():
        assert desk.daft("list", *args) == Seen(0, out=out, err="no cluster is running\n")
        assert desk.daft("list", "demo", *args) == Seen(0, out=out, err="there is no cluster demo\n")


@pytest.mark.parametrize(
    ("environ", "args", "regions"),
    [
        ({}, [], ["us-west-2"]),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, [], ["eu-west-1"]),
        ({"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-west-2"}, [], ["eu-west-2"]),
        ({"AWS_REGION": "eu-west-2"}, ["--region", "us-east-1"], ["us-east-1"]),
        ({}, ["--region", "us-east-1", "--region", "us-east-2"], ["us-east-1", "us-east-2"]),
        ({}, ["--region", "us-east-1", "--region", "us-east-1"], ["us-east-1"]),
        ({}, ["--all-regions"], ["ap-east-1", "eu-west-1"]),
    ],
)
def test_which_regions_are_asked(
    desk: Desk, aws: FakeAws, environ: dict[str, str], args: list[str], regions: list[str]
):
    desk.environ |= environ
    aws.pages = {"ap-east-1": [Page()], "eu-west-1": [Page()]}
    desk.daft("list", *args)
    assert sorted(call.region for call in aws.calls if call.action == "DescribeInstances") == regions


def test_a_region_that_fails_is_a_warning(desk: Desk, aws: FakeAws):
    aws.pages = {"us-west-2": [one("a", 1)], "eu-west-1": DENIED, "us-east-1": [one("b", 2)]}
    assert desk.daft("list", "--all-regions") == Seen(
        1,
        out="Running:\n  - a, head, i-1, 192.0.2.1\n  - b, head, i-2, 192.0.2.2\n",
        err=f"warning: could not list the instances in eu-west-1: {NOT_ALLOWED}",
    )


def test_when_all_regions_fail_nothing_is_said_of_clusters(desk: Desk, aws: FakeAws):
    aws.pages = {"us-west-2": DENIED, "eu-west-1": DENIED}
    assert desk.daft("list", "--region", "eu-west-1", "--region", "us-west-2", "--json") == Seen(
        1,
        out="[]\n",
        err=f"warning: could not list the instances in eu-west-1: {NOT_ALLOWED}"
        f"warning: could not list the instances in us-west-2: {NOT_ALLOWED}",
    )


def test_when_the_regions_cannot_be_known(desk: Desk, aws: FakeAws):
    aws.refusal = Refusal("ExpiredToken")
    assert desk.daft("list", "--all-regions") == failed(
        "could not list the regions in us-west-2: the AWS credentials have expired (ExpiredToken)", LOGIN
    )


def test_local_clusters_stand_beside_those_on_aws(desk: Desk, aws: FakeAws):
    aws.pages = {"us-west-2": [one("demo", 1)]}
    desk.local_node("head")
    desk.local_node("worker-0", state="starting")
    desk.local_node("worker-1", alive=False)
    assert desk.daft("list") == Seen(
        0,
        out="""\
Running:
  - demo, head, i-1, 192.0.2.1
  - demo, head, demo-head, 127.0.0.1
Pending:
  - demo, worker, demo-worker-0, 127.0.0.1
Terminated:
  - demo, worker, demo-worker-1, 127.0.0.1
""",
    )
    assert desk.daft("list", "--provider", "aws") == Seen(0, out="Running:\n  - demo, head, i-1, 192.0.2.1\n")


def test_the_local_provider_alone_asks_nobody(desk: Desk, aws: FakeAws):
    desk.local_node("head")
    desk.local_node("head", cluster="other")
    running = "Running:\n  - demo, head, demo-head, 127.0.0.1\n"
    assert desk.daft("list", "--provider", "local") == Seen(
        0, out=f"{running}  - other, head, other-head, 127.0.0.1\n"
    )
    assert desk.daft("list", "demo", "--provider", "local") == Seen(0, out=running)
    assert desk.daft("list", "nope", "--provider", "local") == Seen(0, err="there is no cluster nope\n")
    assert aws.calls == []


def test_without_credentials_local_clusters_are_shown(desk: Desk):
    desk.local_node("head")
    assert desk.daft("list") == Seen(
        0,
        out="Running:\n  - demo, head, demo-head, 127.0.0.1\n",
        err="AWS was not asked: this machine has no AWS credentials\n",
    )
    for args in (["--provider", "aws"], ["other"]):
        assert desk.daft("list", *args) == failed(
            "could not list the instances in us-west-2: this machine has no AWS credentials", LOGIN
        )


def test_expired_credentials_do_not_hide_local_clusters(desk: Desk, aws: FakeAws):
    desk.local_node("head")
    aws.refusal = Refusal("ExpiredToken")
    assert desk.daft("list") == Seen(
        1,
        out="Running:\n  - demo, head, demo-head, 127.0.0.1\n",
        err="warning: could not list the instances in us-west-2: the AWS credentials have expired (ExpiredToken)\n"
        f"hint: {LOGIN}\n",
    )


def test_a_broken_record_of_a_local_node_does_not_hide_aws(desk: Desk, aws: FakeAws):
    aws.pages = {"us-west-2": [one("demo", 1)]}
    desk.write(".daft/bad.local/run/head/node.json", "{}")
    assert desk.daft("list") == Seen(
        1,
        out="Running:\n  - demo, head, i-1, 192.0.2.1\n",
        err="warning: .daft/bad.local/run/head/node.json cannot be read: KeyError: 'cluster'\n"
        "hint: another version of the program may have written it; that one's `daft down` removes the cluster\n",
    )


def test_what_others_wrote_is_shown_and_not_obeyed(desk: Desk, aws: FakeAws):
    """A tag is whatever somebody put there: no escape code of it may reach the terminal."""
    aws.pages = {
        "us-west-2": [
            Page(
                (
                    instance(
                        "demo",
                        "head",
                        "i-1",
                        "running",
                        status="[red]ready\N{CONTROL SEQUENCE INTRODUCER}31m",
                    ),
                )
            )
        ]
    }
    seen = desk.daft("list", "--format", "table")
    assert (seen.status, "[red]ready\\x9b31m" in seen.out) == (0, True)


def _without_age(table: str) -> list[str]:
    return [re.sub(r"\d+ (min|d|h \d+ min)\s*$", "#", line) for line in table.splitlines()]
