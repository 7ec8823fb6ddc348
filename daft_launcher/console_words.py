"""How things are said: an event, a step, an instance, a span of time, each as plain text."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import asdict
from datetime import datetime, timedelta

from daft_launcher.instances import Instance
from daft_launcher.models import HeadStatus, TerraformEvent

# Control, format (bidi among them), surrogate, line and paragraph separator.
_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # Persian and emoji are written with them
_DONE = {"create": "created", "update": "changed", "delete": "removed", "replace": "replaced"}
_SAYS_NOTHING = "local-exec: Executing"  # how the provisioner announces a command that it keeps to itself
_STEPS = {
    "silent": "waiting for the head to say something",
    "booting": "the head is booting",
    "installing": "the head is installing",
    "setup": "the head runs the setup commands",
    "ready": "the head is ready",
    "failed": "the head has failed",
    "ended": "the head ends the cluster",
}


def to_document(instance: Instance) -> dict[str, object]:
    """Return an instance as `daft list --json` shows it."""
    document = {**asdict(instance), "state": instance.state.value, "ends_at": instance.ends_at}
    del document["ends"]
    return {
        key: value.isoformat() if isinstance(value, datetime) else value for key, value in document.items()
    }


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


def table_cells(node: Instance, now: datetime, *, with_ends: bool) -> tuple[str, ...]:
    """Return a row of the table of `daft list`; `with_ends` adds when the cluster ends by itself."""
    ends = (describe_ends(node, now) or "-",) if with_ends else ()
    return (
        node.cluster,
        node.role,
        node.state.value,
        " ".join(part for part in (node.status, node.detail) if part) or "-",
        node.instance_id,
        node.address or "-",
        node.instance_type or "-",
        node.zone or node.region,
        describe_span(now - node.launched_at) if node.launched_at else "-",
        *ends,
    )


def describe_ends(node: Instance, now: datetime) -> str:
    """Return in how long a head ends its cluster, in words; empty when nothing ends it."""
    if node.ends_at is None:
        return ""
    left = node.ends_at - now
    return f"in {describe_span(left)}" if left >= timedelta(minutes=1) else "in less than a minute"


def first_line(text: str) -> str:
    """Return the first line of a text, which may be empty."""
    return text.splitlines()[0] if text else ""


def clean(text: str) -> str:
    """Show the characters that a terminal obeys: much of what is printed comes from elsewhere.

    Besides control characters these are the ones that put what follows out of sight or into another order.
    """
    return _escaped(text, kept="\n\t")


def one_line(text: str) -> str:
    """Return a text as a part of a line, which it can neither end nor feign another of."""
    return _escaped(text, kept="")


def to_json(value: object) -> str:
    """Return a value as one JSON document, in which no string holds a character that a terminal obeys."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(json.dumps(char)[1:-1] if obeyed(char) and char != "\n" else char for char in text)


def obeyed(character: str) -> bool:
    """Whether a character is not shown by a terminal but acted on."""
    if character.isprintable() or character in _JOINERS:
        return False
    return unicodedata.category(character) in _OBEYED


def _escaped(text: str, *, kept: str) -> str:
    if text.isprintable():
        return text
    return "".join(_escape(char) if char not in kept and obeyed(char) else char for char in text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def describe_span(span: timedelta) -> str:
    """Return a span of time in words, in minutes, hours or days as it is long."""
    minutes = max(0, int(span.total_seconds() // 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d"
