"""What is read out of Terraform's event stream; `recorded/` is what Terraform 1.11.4 wrote."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from daft_launcher.errors import TerraformError
from daft_launcher.models import Diagnostic, Plan, ResourceChange, TerraformEvent
from daft_launcher.terraform_events import describe_diagnostic, parse_event, plan_in, to_plan

RECORDED = Path(__file__).parent / "recorded"
A = {"address": "terraform_data.a", "resource_type": "terraform_data"}
B = {"address": "terraform_data.b", "resource_type": "terraform_data"}


def recorded(name: str) -> list[TerraformEvent]:
    events = [parse_event(line) for line in (RECORDED / f"{name}.jsonl").read_text().splitlines()]
    assert None not in events
    return events


def change(action: str, address: str = "x.y", resource_type: str = "x", kind: str = "planned_change") -> str:
    resource = {"addr": address, "resource_type": resource_type}
    return json.dumps({"@message": "", "type": kind, "change": {"resource": resource, "action": action}})


def plan_of(*lines: str) -> Plan:
    return to_plan(event for line in lines if (event := parse_event(line)))


def test_a_plan_is_what_would_change() -> None:
    assert to_plan(recorded("plan")) == Plan(
        changes=(ResourceChange(action="update", **B), ResourceChange(action="replace", **A)),
        outputs_change=True,
    )


def test_a_plan_in_which_nothing_changes_is_empty() -> None:
    plan = to_plan(recorded("noop"))
    assert (plan, plan.empty) == (Plan(), True)


def test_a_plan_to_destroy() -> None:
    plan = to_plan(recorded("destroy"))
    assert plan.changes == (ResourceChange(action="delete", **A), ResourceChange(action="delete", **B))
    assert [plan.count(action) for action in ("create", "update", "replace", "delete")] == [0, 0, 0, 2]


def test_what_is_no_change_is_left_out_and_drift_is_none() -> None:
    plan = plan_of(
        *[change(action) for action in ("noop", "read", "move", "create", "remove")],
        change("update", "d.e", "d", kind="resource_drift"),
    )
    assert plan == Plan(
        changes=(
            ResourceChange(address="x.y", resource_type="x", action="create"),
            ResourceChange(address="x.y", resource_type="x", action="delete"),
        ),
    )
    assert not plan.empty
    assert plan_of(change("update", kind="resource_drift")).empty


def test_the_events_of_an_apply_that_fails() -> None:
    events = recorded("failed-apply")
    wanted = ("apply_start", "apply_complete", "apply_errored", "provision_progress", "diagnostic")
    assert [event for event in events if event.kind in wanted] == [
        TerraformEvent(
            kind="apply_start",
            message="terraform_data.b: Modifying... [id=836778f3-4397-98b2-a416-a988d253fd21]",
            action="update",
            **B,
        ),
        TerraformEvent(
            kind="apply_complete",
            message="terraform_data.b: Modifications complete after 0s [id=836778f3-4397-98b2-a416-a988d253fd21]",
            action="update",
            elapsed_seconds=0,
            **B,
        ),
        TerraformEvent(
            kind="apply_start",
            message="terraform_data.a: Destroying... [id=d88b6538-b0b4-04d4-6a94-c76cde34bd09]",
            action="delete",
            **A,
        ),
        TerraformEvent(
            kind="apply_complete",
            message="terraform_data.a: Destruction complete after 0s",
            action="delete",
            elapsed_seconds=0,
            **A,
        ),
        TerraformEvent(kind="apply_start", message="terraform_data.a: Creating...", action="create", **A),
        TerraformEvent(kind="provision_progress", message='Executing: ["/bin/sh" "-c" "exit 3"]', **A),
        TerraformEvent(
            kind="apply_errored",
            message="terraform_data.a: Creation errored after 0s",
            action="create",
            elapsed_seconds=0,
            **A,
        ),
        TerraformEvent(
            kind="diagnostic",
            message="Warning: Check block assertion failed",
            diagnostic=Diagnostic(
                severity="warning",
                summary="Check block assertion failed",
                detail="too many",
                file="main.tf",
                line=12,
            ),
        ),
        TerraformEvent(
            kind="diagnostic",
            message="Error: local-exec provisioner error",
            diagnostic=Diagnostic(
                severity="error",
                summary="local-exec provisioner error",
                detail="Error running command 'exit 3': exit status 3. Output: ",
                address="terraform_data.a",
                file="main.tf",
                line=5,
            ),
        ),
    ]


def test_every_line_keeps_its_kind() -> None:
    assert Counter(event.kind for event in recorded("plan")) == {
        "version": 1,
        "refresh_start": 2,
        "refresh_complete": 2,
        "planned_change": 2,
        "change_summary": 1,
        "outputs": 1,
        "diagnostic": 1,
    }


@pytest.mark.parametrize(
    ("name", "index", "said"),
    [
        (
            "broken",
            -1,
            'Unsupported argument (main.tf:16)\n  An argument named "foo" is not expected here.',
        ),
        (
            "failed-apply",
            -1,
            (
                "local-exec provisioner error (terraform_data.a, main.tf:5)\n"
                "  Error running command 'exit 3': exit status 3. Output: "
            ),
        ),
        ("failed-apply", -2, "Check block assertion failed (main.tf:12)\n  too many"),
    ],
)
def test_a_diagnostic_is_said_whole(name: str, index: int, said: str) -> None:
    diagnostic = recorded(name)[index].diagnostic
    assert diagnostic is not None
    assert describe_diagnostic(diagnostic) == said


@pytest.mark.parametrize(
    ("diagnostic", "said"),
    [
        (Diagnostic(severity="error", summary="No"), "No"),
        (Diagnostic(severity="error", summary="No", address="a.b"), "No (a.b)"),
        (Diagnostic(severity="error", summary="No", detail="one\n\n  two\n"), "No\n  one\n    two"),
    ],
)
def test_a_diagnostic_may_say_little(diagnostic: Diagnostic, said: str) -> None:
    assert describe_diagnostic(diagnostic) == said


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        "Error: something in plain text",
        "{",
        "3",
        "null",
        "[]",
        "{}",
        '"text"',
        '{"type": "version"}',
        '{"@message": "no type"}',
        "╷",
    ],
)
def test_what_is_no_event_is_none(line: str) -> None:
    assert parse_event(line) is None


def test_a_plan_in_json_has_what_its_events_have() -> None:
    def change(*actions: str, address: str = "x.y", **more: str) -> dict[str, object]:
        return {"address": address, "type": "x", "change": {"actions": actions}, **more}

    def planned(action: str, address: str = "x.y") -> ResourceChange:
        return ResourceChange(address=address, resource_type="x", action=action)

    document = {
        "resource_changes": [
            change("create"),
            change("update"),
            change("delete"),
            change("delete", "create", address="x.tainted", action_reason="replace_because_tainted"),
            change("create", "delete", action_reason="replace_by_request"),
            change("no-op"),
            change("read"),
            change("forget"),
        ],
        "resource_drift": [change("update", address="x.drift")],
        "output_changes": {"same": {"actions": ["no-op"]}},
    }
    expected = Plan(
        changes=(
            *map(planned, ("create", "update", "delete")),
            planned("replace", "x.tainted"),
            planned("replace"),
        ),
        tainted=("x.tainted",),
    )
    assert plan_in(document) == expected
    document["output_changes"] = {"same": {"actions": ["no-op"]}, "new": {"actions": ["create"]}}
    assert plan_in(document) == replace(expected, outputs_change=True)
    assert plan_in({}) == Plan()


@pytest.mark.parametrize("changes", [[{}], [1], 1])
def test_what_describes_no_plan(changes: object) -> None:
    with pytest.raises(TerraformError, match="cannot be read"):
        plan_in({"resource_changes": changes})


def test_a_diagnostic_with_nothing_in_it_is_an_error() -> None:
    event = parse_event('{"@message": "m", "type": "diagnostic", "diagnostic": {}}')
    assert event == TerraformEvent(
        kind="diagnostic", message="m", diagnostic=Diagnostic(severity="error", summary="")
    )


def test_parts_that_are_null_are_as_if_they_were_not_there() -> None:
    line = '{"@message": "m", "type": "t", "hook": null, "change": {"resource": null}, "outputs": null}'
    assert parse_event(line) == TerraformEvent(kind="t", message="m")
