"""A person at a terminal: colour, questions, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
from clikit import AWS, CREDENTIALS, LOCAL, Desk, Seen, failed, without_escapes
from fake_aws import serving

STOPPING = "  Waiting for Terraform to stop in order\n"
QUESTION = "This replaces the head node and ends every job that runs on it. Go on? [y/N] "
NOT_AGREED = (
    "error: the head node would be replaced and its running jobs ended; nothing was changed\n"
    "hint: agree with `daft up --yes`, or look at it first with `daft up --plan`\n"
)
#: A Terraform that would replace the head, and that must never be asked to.
REPLACES_HEAD = """case "$1" in
version) echo '{"terraform_version": "1.11.4"}' ;;
init) ;;
plan) echo '{"@message": "replace", "type": "planned_change", "change": {"action": "replace",
  "resource": {"addr": "module.cluster.terraform_data.head", "resource_type": "terraform_data"}}}' | tr -d '\\n' ;;
*) : > "$DAFT_TEST_APPLIED" ;;
esac"""
COLOR = re.compile(r"\x1b\[(?:\d+;)*[349]\d")


@pytest.fixture
def at_risk(desk: Desk) -> Desk:
    """A cluster whose head `up` would replace."""
    desk.write(".daft.toml", LOCAL)
    desk.script("terraform", REPLACES_HEAD)
    desk.environ |= {
        "PATH": f"{desk.bin}:/usr/bin:/bin",
        "DAFT_TEST_APPLIED": str(desk.root / "applied"),
        "TERM": "xterm",
    }
    return desk


def test_an_error_is_red(desk: Desk):
    seen = desk.terminal("up")
    assert seen.status == 2
    assert COLOR.search(seen.out)
    assert without_escapes(seen.out) == (
        "error: there is no .daft.toml\n"
        "hint: write one with `daft init-config`, or name yours with `--config FILE`\n"
    )


@pytest.mark.parametrize(
    ("environ", "args"), [({"NO_COLOR": "1"}, []), ({}, ["--no-color"]), ({"TERM": "dumb"}, [])]
)
def test_no_colour(desk: Desk, environ: dict[str, str], args: list[str]):
    desk.environ |= environ
    seen = desk.terminal(*args, "up")
    assert seen.status == 2
    assert not COLOR.search(seen.out)
    assert "error: there is no .daft.toml" in seen.out


def test_a_table_is_the_default_on_a_terminal(desk: Desk):
    desk.local_node("head")
    seen = desk.terminal("list", "--provider", "local")
    lines = without_escapes(seen.out).splitlines()
    assert (seen.status, [line.split()[0] for line in lines]) == (0, ["CLUSTER", "demo"])
    assert desk.terminal("list", "--provider", "local", "--format", "text") == Seen(
        0, out="Running:\r\n  - demo, head, demo-head, 127.0.0.1\r\n"
    )


@pytest.mark.parametrize(
    ("answer", "echo"), [("n\n", "n\n"), ("\n", "\n"), ("yes please\n", "yes please\n"), ("\x04", "\n")]
)
def test_a_head_is_not_replaced_unless_the_answer_is_yes(at_risk: Desk, answer: str, echo: str):
    with at_risk.unchanged():
        seen = at_risk.terminal("up", answers={"[y/N] ": answer})
    assert (seen.status, without_escapes(seen.out).partition(QUESTION)[2]) == (1, echo + NOT_AGREED)


def test_ctrl_c_at_the_question(at_risk: Desk):
    with at_risk.unchanged():
        seen = at_risk.terminal("up", answers={"[y/N] ": "\x03"})
    assert (seen.status, without_escapes(seen.out).partition(QUESTION)[2]) == (
        130,
        "^C\nerror: interrupted\n",
    )


def test_yes_goes_on(at_risk: Desk):
    at_risk.terminal("up", answers={"[y/N] ": "y\n"})
    assert (at_risk.root / "applied").exists()


@pytest.mark.parametrize("stdin", ["", "y\n"])
def test_nobody_is_asked_without_a_terminal(at_risk: Desk, stdin: str):
    with at_risk.unchanged():
        assert at_risk.daft("up", stdin=stdin) == Seen(1, err=f" replace 1 terraform_data\n{NOT_AGREED}")


@pytest.mark.parametrize(
    "args",
    [
        ["up"],
        ["up", "--plan"],
        ["down"],
        ["list", "--region", "us-west-2", "--region", "us-east-1"],
        ["submit", "-w", "job", "--", "x"],
        ["dashboard"],
    ],
)
def test_ctrl_c_while_aws_is_silent(desk: Desk, args: list[str]):
    planning = "--plan" in args  # Terraform begins while AWS is asked
    desk.write(".daft.toml", AWS)
    desk.write("job/main.py", "")
    desk.patient_terraform()
    with serving() as aws, desk.unchanged():
        aws.silent = True
        desk.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": aws.url}
        with desk.command(*args, start_new_session=True) as process:
            while not aws.asked.wait(0.1) or (planning and not (desk.root / "at-work").exists()):
                assert process.poll() is None, desk.end(process)
            os.killpg(process.pid, signal.SIGINT)
            assert desk.end(process) == failed("interrupted", status=130, before=STOPPING if planning else "")


@pytest.mark.parametrize("args", [["up"], ["up", "--plan"]])
def test_ctrl_c_while_terraform_works(desk: Desk, args: list[str]):
    """Terraform gets the one Ctrl-C through us, and is waited for."""
    desk.write(".daft.toml", LOCAL)
    desk.patient_terraform()
    before = desk.tree()
    with desk.command(*args, start_new_session=True) as process:
        while not (desk.root / "at-work").exists():
            assert process.poll() is None, desk.end(process)
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        assert desk.end(process) == failed("interrupted", status=130, before=STOPPING)
    assert (desk.root / "stopped").exists()
    assert desk.tree() == before
