"""Terraform's machine-readable output, line by line, as our own types.

The format: https://developer.hashicorp.com/terraform/internals/machine-readable-ui
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from daft_launcher.errors import TerraformError
from daft_launcher.models import Diagnostic, Plan, ResourceChange, TerraformEvent

#: The summary of what Terraform says of a `check` block whose condition does not hold.
CHECK_FAILED = "Check block assertion failed"
_NOT_CHANGES = ("noop", "read", "move", "import")


def parse_event(line: str) -> TerraformEvent | None:
    """Return the event of one line, None for what is not one: Terraform prints some warnings as plain text."""
    try:
        document: Any = json.loads(line)
        kind, message = document["type"], document["@message"]
    except (ValueError, KeyError, TypeError):
        return None
    hook = document.get("hook") or document.get("change") or {}
    resource = hook.get("resource") or {}
    action = hook.get("action")
    return TerraformEvent(
        kind=kind,
        message=hook["output"] if kind == "provision_progress" and "output" in hook else message,
        address=resource.get("addr") or None,
        resource_type=resource.get("resource_type") or None,
        action="delete" if action == "remove" else action,
        elapsed_seconds=hook.get("elapsed_seconds"),
        diagnostic=_diagnostic(document["diagnostic"]) if "diagnostic" in document else None,
        changed_outputs=_changed_outputs(document.get("outputs") or {}),
        tainted=hook.get("reason") == "tainted",
        import_id=(hook.get("importing") or {}).get("id"),
    )


def to_plan(events: Iterable[TerraformEvent]) -> Plan:
    """Return the plan that a stream of events describes."""
    events = list(events)
    return Plan(
        changes=_changes(events),
        outputs_change=any(event.changed_outputs for event in events),
        tainted=tuple(event.address for event in events if event.tainted and event.address),
        imports=tuple(
            event.import_id for event in events if event.kind == "planned_change" and event.import_id
        ),
    )


def failed_checks(events: Iterable[TerraformEvent]) -> list[str]:
    """Return what the checks of a root say that do not hold, each in its own words."""
    found = (event.diagnostic for event in events if event.diagnostic)
    return [diagnostic.detail for diagnostic in found if diagnostic.summary == CHECK_FAILED]


def plan_in(document: Mapping[str, Any]) -> Plan:
    """Return the plan that `terraform show -json` describes. Raises TerraformError when it describes none.

    The format: https://developer.hashicorp.com/terraform/internals/json-format
    """
    try:
        resources = document.get("resource_changes") or []
        outputs = document.get("output_changes") or {}
        return Plan(
            changes=_resource_changes(resources),
            outputs_change=any(output["actions"] != ["no-op"] for output in outputs.values()),
            tainted=tuple(
                resource["address"]
                for resource in resources
                if resource.get("action_reason") == "replace_because_tainted"
            ),
            imports=tuple(
                resource["change"]["importing"]["id"]
                for resource in resources
                if resource["change"].get("importing")
            ),
        )
    except (KeyError, TypeError, AttributeError):
        raise TerraformError("Terraform's description of the plan cannot be read") from None


def describe_diagnostic(diagnostic: Diagnostic) -> str:
    """Return a diagnostic whole: summary, detail, the resource and the place it is about."""
    place = f"{diagnostic.file}:{diagnostic.line}" if diagnostic.file else None
    about = ", ".join(part for part in (diagnostic.address, place) if part)
    lines = [diagnostic.summary + (f" ({about})" if about else "")]
    lines += [line for line in diagnostic.detail.splitlines() if line.strip()]
    return "\n  ".join(lines)


def _changes(events: Iterable[TerraformEvent]) -> tuple[ResourceChange, ...]:
    return tuple(
        ResourceChange(address=event.address, resource_type=event.resource_type or "", action=event.action)
        for event in events
        if event.kind == "planned_change"
        and event.address
        and event.action
        and event.action not in _NOT_CHANGES
    )


def _resource_changes(resources: Iterable[dict[str, Any]]) -> tuple[ResourceChange, ...]:
    actions = {"create": "create", "update": "update", "delete": "delete"}
    actions |= {"delete create": "replace", "create delete": "replace"}
    found = ((resource, actions.get(" ".join(resource["change"]["actions"]))) for resource in resources)
    return tuple(
        ResourceChange(address=resource["address"], resource_type=resource["type"], action=action)
        for resource, action in found
        if action
    )


def _changed_outputs(outputs: dict[str, Any]) -> tuple[str, ...]:
    return tuple(name for name, output in outputs.items() if output.get("action", "noop") != "noop")


def _diagnostic(document: dict[str, Any]) -> Diagnostic:
    place = document.get("range") or {}
    return Diagnostic(
        severity=document.get("severity", "error"),
        summary=document.get("summary", ""),
        detail=document.get("detail", ""),
        address=document.get("address") or None,
        file=place.get("filename"),
        line=(place.get("start") or {}).get("line"),
    )
