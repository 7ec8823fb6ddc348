"""What a user reads: data on stdout, the rest on stderr, and nothing that commands the terminal."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from datetime import datetime, timedelta, timezone

import pytest
from fakes import HEAD_CREATED, HEAD_REPLACED, OUTPUT, WORKERS_UPDATED, instance

from daft_launcher.console import Console
from daft_launcher.errors import AWSError, DaftLauncherError, StateError
from daft_launcher.instances import InstanceState
from daft_launcher.inventory import Listing
from daft_launcher.launcher import UpResult
from daft_launcher.models import Cluster, Diagnostic, HeadStatus, Plan, RayApi, ResourceChange, TerraformEvent
from daft_launcher.plan_document import to_document
from daft_launcher.plan_words import plan_text
from daft_launcher.review import PlanReport
from daft_launcher.teardown import DownResult

EVIL = "\x1b[31mred\x07\r\x00\x9b1m\x7f\u202e\u2028\U000e0041\udcff👩\u200d👧"
HARMLESS = "\\x1b[31mred\\x07\\x0d\\x00\\x9b1m\\x7f\\u202e\\u2028\\U000e0041\\udcff👩\u200d👧"
LONG = "x" * 500
MARKUP = "[bold]x[/bold] [/] :smile: [red"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def event(kind: str, message: str = "m", **more: object) -> TerraformEvent:
    return TerraformEvent(kind=kind, message=message, **more)


# Nothing is obeyed, cut or coloured


@pytest.mark.parametrize(
    ("say", "seen"),
    [
        (lambda console, text: console.note(text), "{}\n"),
        (lambda console, text: console.warn(text), "warning: {}\n"),
        (lambda console, text: console.error(DaftLauncherError(text)), "error: {}\n"),
        (lambda console, text: console.error(DaftLauncherError("m", hint=text)), "error: m\nhint: {}\n"),
        (
            lambda console, text: console.head_status(HeadStatus(step="setup", detail=text), seconds=2.4),
            "  the head runs the setup commands: {} (2 s)\n",
        ),
        (
            lambda console, text: console.head_status(HeadStatus(step=text), seconds=0),
            "  {} (0 s)\n",
        ),
        (lambda console, text: console.event(event("provision_progress", text)), "  {}\n"),
        (
            lambda console, text: console.event(
                event("diagnostic", diagnostic=Diagnostic(severity="warning", summary=text))
            ),
            "warning: Terraform: {}\n",
        ),
        (
            lambda console, text: console.planned(
                Plan(changes=(ResourceChange(address="a", resource_type=text, action="create"),))
            ),
            "  create 1 {}\n",
        ),
    ],
    ids=["note", "warn", "error", "hint", "detail", "step", "progress", "diagnostic", "planned"],
)
@pytest.mark.parametrize("live", [False, True], ids=["piped", "terminal"])
def test_what_comes_from_elsewhere_is_shown_and_not_obeyed(
    say, seen: str, live: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stderr = Terminal() if live else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "dumb")
    console = Console(color=False)
    say(console, f"{EVIL} {MARKUP} {LONG}")
    console.settle()
    text = stderr.getvalue()
    wanted = seen.format(f"{HARMLESS} {MARKUP} {LONG}")
    if live:
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", text)
        assert wanted in text
    else:
        assert text == wanted
    assert capsys.readouterr().out == ""


def test_a_table_shows_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    Console().listing(Listing(instances=(instance(status="setup", detail=EVIL),)), form="table")
    seen = capsys.readouterr()
    assert HARMLESS in seen.out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", seen.out)


def test_data_is_written_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\x1b[31mred\x07\r\x00\x9b1m\x7f\u202e" + MARKUP
    Console().data(text)
    assert tuple(capsys.readouterr()) == (text, "")


def test_a_document_is_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    Console().document({"a": EVIL, "é": [1]})
    seen = capsys.readouterr()
    assert (json.loads(seen.out), seen.err) == ({"a": EVIL, "é": [1]}, "")
    assert seen.out == (
        '{\n  "a": "\\u001b[31mred\\u0007\\r\\u0000\\u009b1m\\u007f\\u202e\\u2028\\udb40\\udc41\\udcff👩\u200d👧",\n'
        '  "é": [\n    1\n  ]\n}\n'
    )


def test_words_on_stdout_command_nothing_either(capsys: pytest.CaptureFixture[str]) -> None:
    Console().text(f"{EVIL}\n{MARKUP}\n")
    assert tuple(capsys.readouterr()) == (f"{HARMLESS}\n{MARKUP}\n", "")


def test_no_field_feigns_a_line_of_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    node = instance(cluster="a\n  - b", address="\n")
    Console().listing(Listing(instances=(node,)), form="text")
    assert capsys.readouterr().out == f"Running:\n  - a\\x0a  - b, head, {node.instance_id}, \\x0a\n"


# Terraform's events


@pytest.mark.parametrize(
    ("shown", "line"),
    [
        (
            event("apply_complete", address="module.cluster.a.b", action="create", elapsed_seconds=12.6),
            "  created a.b (13 s)\n",
        ),
        (
            event("apply_complete", address="a.b", action="delete", elapsed_seconds=None),
            "  removed a.b (0 s)\n",
        ),
        (event("apply_complete", address="a.b", action="update", elapsed_seconds=1), "  changed a.b (1 s)\n"),
        (event("apply_complete", address="a.b", action="read"), ""),
        (event("apply_errored", address="a.b", elapsed_seconds=9), "  a.b failed after 9 s\n"),
        (event("apply_start", address="a.b", action="create"), ""),
        (event("provision_progress", "  installing ray \n"), "  installing ray\n"),
        (event("provision_progress", 'local-exec: Executing: ["/bin/sh"]'), ""),
        (event("provision_progress", ""), ""),
        (event("interrupted", "Waiting for Terraform"), "  Waiting for Terraform\n"),
        (event("version"), ""),
        (event("diagnostic", diagnostic=Diagnostic(severity="error", summary="said at the end")), ""),
    ],
)
def test_an_event_is_worth_a_line_or_none(
    shown: TerraformEvent, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Console().event(shown)
    assert tuple(capsys.readouterr()) == ("", line)


def test_what_is_planned_is_one_line_a_kind(capsys: pytest.CaptureFixture[str]) -> None:
    rule = ResourceChange(address="r", resource_type="aws_rule", action="create")
    gone = ResourceChange(address="g", resource_type="aws_instance", action="delete")
    Console().planned(Plan(changes=(WORKERS_UPDATED, rule, rule, HEAD_CREATED, HEAD_REPLACED, gone)))
    assert tuple(capsys.readouterr()) == (
        "",
        (
            "  create 1 aws_instance\n"
            "  create 2 aws_rule\n"
            "  remove 1 aws_instance\n"
            " replace 1 aws_instance\n"
            "  change 1 aws_autoscaling_group\n"
        ),
    )


# up, plan, down


def test_a_plan_goes_to_stdout_in_words_or_as_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    report = PlanReport(
        cluster="demo", provider="local", plan=Plan(), text="No changes.", files=("main.tf",), head="kept"
    )
    Console().plan(report, as_json=False)
    assert tuple(capsys.readouterr()) == (plan_text(report), "")
    Console().plan(report, as_json=True)
    seen = capsys.readouterr()
    assert (json.loads(seen.out), seen.err) == (to_document(report), "")


@pytest.mark.parametrize("changed", [True, False])
def test_where_the_cluster_is(changed: bool, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    Console().up(UpResult(cluster=Cluster(directory=tmp_path, **OUTPUT), changed=changed))
    seen = capsys.readouterr()
    assert seen.out == "demo: head i-head at 198.51.100.7, 2 workers asked for\n"
    if changed:
        assert [
            command for command in ("daft list", "daft submit", "daft down") if command not in seen.err
        ] == []
    else:
        assert seen.err == "demo is as the configuration says\n"


def test_what_is_left_of_the_cluster(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.down("demo", DownResult(existed=False, gone=True))
    console.down("demo", DownResult(existed=True, gone=True))
    console.down("demo", DownResult(existed=True, gone=False, log=tmp_path / "x.jsonl"))
    assert tuple(capsys.readouterr()) == (
        "",
        (
            "there is no cluster demo\n"
            "demo is gone\n"
            "every instance of demo is shutting down; "
            f"Terraform removes the rest and writes {tmp_path}/x.jsonl\n"
        ),
    )


# list

NODE = instance(
    address="198.51.100.7",
    private_address="10.0.0.1",
    instance_type="m7g.medium",
    zone="us-west-2a",
    status="ready",
    launched_at=datetime(2026, 1, 1, 12, tzinfo=timezone.utc),
)
BARE = instance("worker", "i-bare", InstanceState.PENDING)


def test_a_list_is_text_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    Console().listing(Listing(instances=(NODE, BARE)), form=None)
    text = "Running:\n  - demo, head, i-head, 198.51.100.7\nPending:\n  - demo, worker, i-bare, -\n"
    assert tuple(capsys.readouterr()) == (text, "")


def test_a_list_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    Console().listing(Listing(instances=(NODE, BARE)), form="json")
    seen = capsys.readouterr()
    bare = dict.fromkeys(
        ["address", "private_address", "instance_type", "zone", "launched_at", "status", "detail", "ends_at"]
    )
    assert (json.loads(seen.out), seen.err) == (
        [
            {
                "cluster": "demo",
                "role": "head",
                "instance_id": "i-head",
                "state": "Running",
                "provider": "aws",
                "region": "us-west-2",
                "address": "198.51.100.7",
                "private_address": "10.0.0.1",
                "instance_type": "m7g.medium",
                "zone": "us-west-2a",
                "launched_at": "2026-01-01T12:00:00+00:00",
                "status": "ready",
                "detail": None,
                "ends_at": None,
            },
            {
                "cluster": "demo",
                "role": "worker",
                "instance_id": "i-bare",
                "state": "Pending",
                "provider": "aws",
                "region": "us-west-2",
                **bare,
            },
        ],
        "",
    )


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (timedelta(seconds=-30), "0 min"),
        (timedelta(minutes=59.5), "59 min"),
        (timedelta(minutes=61), "1 h 1 min"),
        (timedelta(hours=47.99), "47 h 59 min"),
        (timedelta(hours=49), "2 d"),
    ],
)
def test_a_list_as_a_table(age: timedelta, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    node = instance(
        address="198.51.100.7",
        instance_type="m7g.medium",
        zone="us-west-2a",
        status="setup",
        detail="step 1",
        launched_at=datetime.now(timezone.utc) - age,
    )
    Console().listing(Listing(instances=(node, BARE)), form="table")
    seen = capsys.readouterr()
    assert [re.split(r" {2,}", line.strip()) for line in seen.out.splitlines()] == [
        ["CLUSTER", "ROLE", "STATE", "STATUS", "INSTANCE", "ADDRESS", "TYPE", "ZONE", "AGE"],
        [
            "demo",
            "head",
            "Running",
            "setup step 1",
            "i-head",
            "198.51.100.7",
            "m7g.medium",
            "us-west-2a",
            said,
        ],
        ["demo", "worker", "Pending", "-", "i-bare", "-", "-", "us-west-2", "-"],
    ]
    assert seen.err == ""


@pytest.mark.parametrize(("form", "out"), [("text", ""), ("table", ""), ("json", "[]\n")])
def test_nothing_is_said_on_stderr(form: str, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    Console().listing(Listing(instances=()), form=form)
    assert tuple(capsys.readouterr()) == (out, "no cluster is running\n")


def test_a_region_that_failed_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    failures = {"eu-west-1": AWSError("no way", hint="log in"), "us-west-2": AWSError("us-west-2 is down")}
    Console().listing(Listing(instances=(BARE,), failures=failures, unasked="no credentials"), form="text")
    assert tuple(capsys.readouterr()) == (
        "Pending:\n  - demo, worker, i-bare, -\n",
        (
            "AWS was not asked: no credentials\n"
            "warning: eu-west-1: no way\nhint: log in\nwarning: us-west-2 is down\n"
        ),
    )


# People and terminals


def test_nobody_can_answer_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    assert (console.interactive, console.live, console.confirm("Go on?")) == (False, False, False)
    assert tuple(capsys.readouterr()) == ("", "")


@pytest.mark.parametrize(
    ("typed", "agreed"),
    [("y\n", True), (" YES \n", True), ("n\n", False), ("\n", False), ("", False), ("yeah\n", False)],
)
def test_only_a_yes_is_a_yes(typed: str, agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin, stderr = Terminal(typed), Terminal()
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert Console(color=False).confirm("[/] Go on?") is agreed
    # What was typed ends the line itself; without any, as after Ctrl-D, we do.
    assert stderr.getvalue() == "[/] Go on? [y/N] " + ("" if typed else "\n")


@pytest.mark.parametrize(
    ("color", "environ", "coloured"),
    [(None, {}, True), (False, {}, False), (None, {"NO_COLOR": "1"}, False)],
)
def test_colour_is_for_terminals_that_want_it(
    color: bool | None, environ: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    Console(color=color).error(StateError("no"))
    assert ("\x1b[1;31m" in stderr.getvalue()) is coloured
    assert "error: no" in stderr.getvalue()


def test_the_dashboards_token_is_not_data(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    class Enough(Exception):
        pass

    def wait(self: object, timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("threading.Event.wait", wait)
    Console().dashboard(RayApi(url="http://127.0.0.1:8265", token="s3cret"), open_browser=True)
    seen = capsys.readouterr()
    assert (seen.out, "s3cret" in seen.err) == ("http://127.0.0.1:8265\n", True)


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, os.strerror(28))

        def fileno(self) -> int:
            return self.descriptor

    full = Full()
    full.descriptor = os.open(os.devnull, os.O_WRONLY)
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(DaftLauncherError) as caught:
        Console().data("x")
    os.close(full.descriptor)
    assert (caught.value.message, caught.value.exit_code) == (
        "the output cannot be written: No space left on device",
        1,
    )
