"""How things are said: an event, a step, an instance, a span of time, each as plain text."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta

from daft_launcher.models import HeadStatus, Instance, TerraformEvent

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}
_DONE = {"create": "created", "update": "changed", "delete": "removed", "replace": "replaced"}
_SAYS_NOTHING = "local-exec: Executing"  # how the provisioner announces a command that it keeps to itself
_STEPS = {
    "silent": "waiting for the head to say something",
    "booting": "the head is booting",
    "installing": "the head is installing",
    "setup": "the head runs the setup commands",
    "ready": "the head is ready",
    "failed": "the head has failed",
}


def to_document(instance: Instance) -> dict[str, object]:
    """Return an instance as `daft list --json` shows it."""
    launched = instance.launched_at.isoformat() if instance.launched_at else None
    return {**asdict(instance), "state": instance.state.value, "launched_at": launched}


def event_line(event: TerraformEvent) -> str | None:
    """Return the line that an event is worth, None for one that only passes by in the live line."""
    resource = (event.address or "").removeprefix("module.cluster.")
    if event.kind == "apply_complete" and event.action in _DONE:
        return f"{_DONE[event.action]} {resource} ({event.elapsed_seconds or 0:.0f} s)"
    if event.kind == "apply_errored":
        return f"{resource} failed after {event.elapsed_seconds or 0:.0f} s"
    if event.kind == "provision_progress" and not event.message.startswith(_SAYS_NOTHING):
        return event.message.strip() or None
    return event.message if event.kind == "interrupted" else None


def describe_step(status: HeadStatus) -> str:
    """Return what the head is doing, in words."""
    detail = f": {status.detail}" if status.detail else ""
    return f"{_STEPS.get(status.step, status.step)}{detail}"


def table_cells(node: Instance, now: datetime) -> tuple[str, ...]:
    """Return a row of the table of `daft list`."""
    return (
        node.cluster,
        node.role,
        node.state.value,
        " ".join(part for part in (node.status, node.detail) if part) or "-",
        node.instance_id,
        node.address or "-",
        node.instance_type or "-",
        node.zone or node.region,
        _age(now - node.launched_at) if node.launched_at else "-",
    )


def first_line(text: str) -> str:
    """Return the first line of a text, which may be empty."""
    return text.splitlines()[0] if text else ""


def clean(text: str) -> str:
    """Show control characters instead of obeying them: much of what is printed comes from elsewhere."""
    return text.translate(_CONTROLS)


def _age(age: timedelta) -> str:
    minutes = max(0, int(age.total_seconds() // 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d"
