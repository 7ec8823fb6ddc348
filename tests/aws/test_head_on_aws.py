"""Waiting for the head node: each way in which it can fail to become ready, and the way out."""

from __future__ import annotations

import pytest
from awskit import GO_ON, NEXT, Project, Seen, done, failed

pytestmark = pytest.mark.real

SILENT = "  waiting for the head to say something (N s)\n"
LOG = "its log: `aws ec2 get-console-output --latest --output text --instance-id i-1 --region us-west-2`"
EXIST = "these exist: head i-1, worker i-1, worker i-1"
HEAD = "the head node of `demo` (i-1)"


def test_a_head_that_fails_ends_the_wait_with_its_own_words(demo: Project) -> None:
    demo.forget()
    up = demo.start("up")
    up.await_words("waiting for the head to say something")
    demo.say(demo.head(), "installing", "daft 0.7.26")
    up.await_words("the head is installing: daft 0.7.26")
    demo.say(demo.head(), "failed", "setup: `pip install nonsense` ended with 1")
    message = f"{HEAD} failed: setup: `pip install nonsense` ended with 1\n{EXIST}"
    before = SILENT + "  the head is installing: daft 0.7.26 (N s)\n"
    assert up.end() == failed(message, f"{LOG}; then {GO_ON}", before=before)


def test_a_head_that_has_failed_is_replaced_by_the_next_up(demo: Project) -> None:
    dead, workers = demo.head(), demo.nodes("worker")
    demo.say(dead, "failed", "no space left on device")
    assert demo.up() == Seen(
        0,
        "demo: head i-1 at 1.2.3.4, 2 workers asked for\n",
        " replace 1 aws_instance\n"
        + done("created", ["aws_instance.head"])
        + done("removed", ["aws_instance.head"])
        + f"  the head is ready (N s)\n{NEXT}",
    )
    assert (dead.state, demo.head().state) == ("terminated", "running")
    assert [node.id for node in demo.nodes("worker")] == [node.id for node in workers]


def test_a_head_that_says_nothing_is_given_up_after_the_deadline(demo: Project) -> None:
    demo.forget()
    message = f"{HEAD} has said nothing for N s\n{EXIST}"
    hint = f"does its subnet reach the internet, and its image run user data? {LOG}; then {GO_ON}"
    assert demo.daft("up", "--step-timeout", "3") == failed(message, hint, before=SILENT)


def test_a_head_that_stays_in_a_step_is_given_up_after_the_deadline(demo: Project) -> None:
    demo.say(demo.head(), "installing", "ray")
    message = f"{HEAD} has been at `installing` (ray) for N s\n{EXIST}"
    before = "  the head is installing: ray (N s)\n"
    assert demo.daft("up", "--step-timeout", "3") == failed(message, f"{LOG}; then {GO_ON}", before=before)


def test_ctrl_c_while_waiting_says_what_exists_and_up_goes_on(demo: Project) -> None:
    demo.forget()
    state = demo.state()
    up = demo.start("up")
    up.await_words("waiting for the head to say something")
    up.interrupt()
    hint = "go on with `daft up`, remove it with `daft down`"
    assert up.end() == failed(f"interrupted; {EXIST}", hint, status=130, before=SILENT)
    assert demo.state() == state
    assert demo.up().status == 0


def test_a_head_that_is_terminated_ends_the_wait_and_is_made_anew(demo: Project) -> None:
    demo.forget()
    gone = demo.head()
    up = demo.start("up")
    up.await_words("waiting for the head to say something")
    demo.aws.client("ec2").terminate_instances(InstanceIds=[gone.id])
    why = "Client.UserInitiatedShutdown: User initiated shutdown"
    message = f"{HEAD} is terminated: {why}\nthese exist: worker i-1, worker i-1"
    assert up.end() == failed(message, f"`daft up` makes a new one; then {GO_ON}", before=SILENT)
    assert demo.up() == Seen(
        0,
        "demo: head i-1 at 1.2.3.4, 2 workers asked for\n",
        "  create 1 aws_instance\n"
        + done("created", ["aws_instance.head"])
        + f"  the head is ready (N s)\n{NEXT}",
    )
    assert demo.head().id != gone.id
