"""`daft up` cut short in the midst of an apply: what is said, what exists, and that the next one converges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from awskit import (
    ADDRESSES,
    NEXT,
    PLANNED,
    Project,
    Running,
    Seen,
    done,
    failed,
    is_free,
    wait_until,
)

pytestmark = pytest.mark.real

MADE_ONCE = (
    "autoscaling CreateAutoScalingGroup",
    "ec2 CreateLaunchTemplate",
    "ec2 CreateSecurityGroup",
    "ec2 ImportKeyPair",
    "ec2 RunInstances",
    "ssm PutParameter",
)
EXIST = "these exist: head i-1, worker i-1, worker i-1"


def await_head_alone(up: Running) -> None:
    """Wait until everything but the head is there; Terraform gives EC2 ten seconds before it looks at that."""
    up.await_words("created aws_autoscaling_group.workers")
    assert not up.has_said("created aws_instance.head"), up.words()


def test_ctrl_c_lets_terraform_save_its_state_and_up_converges(new_project: Callable[..., Project]) -> None:
    project = new_project("halted", region="us-east-2")
    up = project.start("up")
    await_head_alone(up)
    broken_off = project.head()
    up.interrupt()
    hint = "go on with `daft up`, remove it with `daft down`"
    rest = done("created", set(ADDRESSES) - {"aws_instance.head"})
    stopping = "  Waiting for Terraform to stop in order\n  aws_instance.head failed after N s\n"
    assert up.end() == failed(f"interrupted; {EXIST}", hint, status=130, before=f"{PLANNED}{rest}{stopping}")
    assert heads(project) == [(broken_off.id, "tainted")]
    out = "halted: head i-1 at 1.2.3.4, 2 workers asked for\n"
    anew = done("created", ["aws_instance.head"]) + done("removed", ["aws_instance.head"])
    ready = f"  the head is ready (N s)\n{NEXT}"
    assert project.up() == Seen(0, out, f" replace 1 aws_instance\n{anew}{ready}")
    assert heads(project) == [(project.head().id, None)]
    assert broken_off.state == "terminated"
    made = Counter(project.changes_asked())
    assert {call: made[call] for call in MADE_ONCE} == dict.fromkeys(MADE_ONCE, 1) | {"ec2 RunInstances": 2}


def test_terraform_finishes_by_itself_when_daft_is_killed(new_project: Callable[..., Project]) -> None:
    project = new_project("killed", region="eu-central-1")
    up = project.start("up")
    wait_until(lambda: project.find_head() is not None or up.process.poll() is not None)
    assert project.find_head(), up.end()
    up.kill()
    locked = ".daft/killed is locked by `daft up` of WHO (process N), since THEN"
    hint = "wait for it to end; what it does stands in .daft/killed/logs/"
    assert project.daft("up", "--no-wait-lock") == failed(locked, hint)
    wait_until(lambda: is_free(project.terraform_root / "daft.lock"))
    assert heads(project) == [(project.head().id, None)]
    out = "killed: head i-1 at 1.2.3.4, 2 workers asked for\n"
    assert project.up() == Seen(0, out, "  the head is ready (N s)\nkilled is as the configuration says\n")
    made = Counter(project.changes_asked())
    assert {call: made[call] for call in MADE_ONCE} == dict.fromkeys(MADE_ONCE, 1)
    assert [len(project.nodes(role)) for role in ("head", "worker")] == [1, 2]


def heads(project: Project) -> list[tuple[str, str | None]]:
    """Return the heads in Terraform's state, each with what is wrong with it."""
    return [
        (instance["attributes"]["id"], instance.get("status"))
        for resource in project.state()["resources"]
        if resource["type"] == "aws_instance"
        for instance in resource["instances"]
    ]
