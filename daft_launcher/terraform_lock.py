"""Terraform's own lock on a state, as the error of whoever comes second describes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone

from daft_launcher.errors import TerraformError

# Over this, its holder has been killed: nothing that Terraform does here takes an hour.
STALE_SECONDS = 6 * 3600
# What S3 answers to the second of two who write the lock file, also where the first has removed it since.
_TAKEN = re.compile(r"Lock Info:|PreconditionFailed|ConditionalRequestConflict")


@dataclass(frozen=True, kw_only=True)
class StateLock:
    """Who has locked a state, for what, and since when; `lock_id` is what breaks the lock."""

    lock_id: str
    path: str
    who: str
    operation: str
    created: datetime | None

    def age(self, now: datetime) -> float:
        """Return for how many seconds it is held, 0 when that is not known."""
        return (now - self.created).total_seconds() if self.created else 0.0

    def __str__(self) -> str:
        since = f", since {self.created:%Y-%m-%d %H:%M:%S} UTC" if self.created else ""
        return f"{self.who} ({self.operation}){since}"


class StateLockedError(TerraformError):
    """Somebody else works on the state; `lock` says who, None where they had ended before they could be named."""

    def __init__(self, lock: StateLock | None) -> None:
        place = f"Terraform's state {lock.path}" if lock and lock.path else "Terraform's state"
        super().__init__(f"{place} is locked by {lock or 'somebody else'}", hint="wait for them to end")
        self.lock = lock


class StalePlanError(TerraformError):
    """The state was changed since the plan was made."""


def find_lock_error(text: str) -> TerraformError | None:
    """Return the error that Terraform's words stand for, where they are about a lock or a plan that is too old."""
    if "Saved plan is stale" in text:
        return StalePlanError(
            "the cluster was changed by somebody else since it was planned",
            hint="run the command again: it plans anew",
        )
    if re.search(r"acquiring the state lock|lock(ing)? state", text) and _TAKEN.search(text):
        return StateLockedError(_read_lock(text))
    return None


def _read_lock(text: str) -> StateLock | None:
    fields = dict(re.findall(r"^\W*(ID|Path|Operation|Who|Created):[ \t]*(.*?)\s*$", text, re.MULTILINE))
    if not fields.get("ID"):
        return None
    return StateLock(
        lock_id=fields["ID"],
        path=fields.get("Path", ""),
        who=fields.get("Who") or "somebody",
        operation=fields.get("Operation", "").removeprefix("OperationType").lower() or "terraform",
        created=_read_time(fields.get("Created", "")),
    )


def _read_time(text: str) -> datetime | None:
    """Return the time that Go wrote: `2026-11-27 05:49:03.732806445 +0000 UTC`."""
    match = re.match(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)", text)
    return datetime.fromisoformat(f"{match[1]}T{match[2]}").replace(tzinfo=timezone.utc) if match else None
