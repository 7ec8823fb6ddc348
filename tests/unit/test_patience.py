"""Waiting for others: how Terraform's words about a lock are read, who is named, and when it is enough."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from fakes import FakeReporter, FakeTerraform, World

from daft_launcher.errors import TerraformError
from daft_launcher.patience import Patience
from daft_launcher.terraform_lock import StalePlanError, StateLock, StateLockedError, find_lock_error

ID = "b296add7-c154-562a-72b0-bb243c9723fc"
WORDS = f"""\
Error acquiring the state lock
  Error message: operation error S3: PutObject, https response error StatusCode: 412, api error PreconditionFailed
  Lock Info:
    ID:        {ID}
    Path:      states/daft/demo/terraform.tfstate
    Operation: OperationTypeApply
    Who:       ann@laptop
    Version:   1.11.4
    Created:   2026-11-27 05:49:03.732806445 +0000 UTC
    Info:
"""
LOCK = StateLock(
    lock_id=ID,
    path="states/daft/demo/terraform.tfstate",
    who="ann@laptop",
    operation="apply",
    created=datetime(2026, 11, 27, 5, 49, 3, tzinfo=timezone.utc),
)
BREAK = f"terraform -chdir={{}} force-unlock {ID}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def patience(world: World, seconds: float) -> Patience:
    return Patience(seconds, clock=world.clock, reporter=FakeReporter(world), directory=world.directory)


def insist(world: World, seconds: float, attempt: Callable[[], str]) -> str:
    return patience(world, seconds).insist(FakeTerraform(world, world.directory), attempt)


def locked(*, hours_ago: float = 0, **changes: object) -> StateLockedError:
    created = datetime.now(timezone.utc) - timedelta(hours=hours_ago)
    fields = {"lock_id": ID, "path": "p", "who": "ann@laptop", "operation": "apply", "created": created}
    return StateLockedError(StateLock(**{**fields, **changes}))


# What Terraform says


@pytest.mark.parametrize("frame", ["", "│ "], ids=["events", "a frame"])
def test_who_holds_a_state_is_read_from_terraforms_words(frame: str) -> None:
    error = find_lock_error("\n".join(frame + line for line in WORDS.splitlines()))
    assert isinstance(error, StateLockedError)
    assert error.lock == LOCK
    assert (error.message, error.hint) == (
        f"Terraform's state {LOCK.path} is locked by ann@laptop (apply), since 2026-11-27 05:49:03 UTC",
        "wait for them to end",
    )


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
def test_a_lock_that_went_before_it_could_be_read(code: str) -> None:
    error = find_lock_error(f"Error acquiring the state lock\nError message: api error {code}: no")
    assert isinstance(error, StateLockedError)
    assert (error.lock, error.message) == (None, "Terraform's state is locked by somebody else")


def test_a_lock_that_says_little() -> None:
    error = find_lock_error(f"Error locking state: Error acquiring the state lock\nLock Info:\n  ID: {ID}\n")
    assert isinstance(error, StateLockedError)
    assert error.lock == StateLock(lock_id=ID, path="", who="somebody", operation="terraform", created=None)
    assert error.message == "Terraform's state is locked by somebody (terraform)"


@pytest.mark.parametrize(
    "words",
    [
        "Error acquiring the state lock\nError message: api error AccessDenied: no",
        "Insufficient capacity",
        "the API said: PreconditionFailed",
        "",
    ],
)
def test_what_is_no_lock_of_somebody_else(words: str) -> None:
    assert find_lock_error(words) is None


def test_a_plan_that_is_too_old() -> None:
    error = find_lock_error("Saved plan is stale\n  The given plan file can no longer be applied")
    assert isinstance(error, StalePlanError)
    assert isinstance(error, TerraformError)


# How long is waited


def test_a_state_is_waited_for_and_its_holder_named_once(world: World) -> None:
    error = locked()
    attempts = iter([error, error, locked(who="bob@desk"), None])

    def attempt() -> str:
        if failure := next(attempts):
            raise failure
        return "done"

    assert insist(world, 60, attempt) == "done"
    notes = [note for _, note in world.calls]
    assert [note.partition(" (")[0] for note in notes] == ["waiting for ann@laptop", "waiting for bob@desk"]
    assert all(note.endswith(" to unlock the state; Ctrl-C gives up") for note in notes)
    assert world.clock.now() == 9.0
    assert error.hint == "wait for them to end"


def fail(error: StateLockedError) -> str:
    raise error


@pytest.mark.parametrize(("seconds", "notes"), [(0, 0), (10, 1)])
def test_patience_ends_with_how_to_break_the_lock(world: World, seconds: float, notes: int) -> None:
    (world.directory / ".terraform").mkdir(parents=True)
    error = locked(created=LOCK.created.replace(year=2999))
    with pytest.raises(StateLockedError) as caught:
        insist(world, seconds, lambda: fail(error))
    command = BREAK.format(world.directory)
    assert (
        caught.value.hint
        == f"wait for it to end. Only if its Terraform was killed, break the lock: `{command}`"
    )
    assert (len(world.calls), world.clock.now() >= seconds) == (notes, True)


def test_a_root_that_terraform_has_not_seen_is_made_ready_first(world: World) -> None:
    with pytest.raises(StateLockedError) as caught:
        insist(world, 0, lambda: fail(locked()))
    place = world.directory
    command = f"daft render && terraform -chdir={place} init && {BREAK.format(place)}"
    assert (
        caught.value.hint
        == f"wait for it to end. Only if its Terraform was killed, break the lock: `{command}`"
    )


def test_a_lock_older_than_anything_takes_is_not_waited_for(world: World) -> None:
    (world.directory / ".terraform").mkdir(parents=True)
    with pytest.raises(StateLockedError) as caught:
        insist(world, 60, lambda: fail(locked(hours_ago=7)))
    assert caught.value.hint == (
        "no command takes so long, so that its Terraform was likely killed. If it was: "
        f"`{BREAK.format(world.directory)}`"
    )
    assert (world.calls, world.clock.now()) == ([], 0.0)


def test_a_holder_that_cannot_be_named_is_waited_for_too(world: World) -> None:
    with pytest.raises(StateLockedError) as caught:
        insist(world, 5, lambda: fail(StateLockedError(None)))
    assert world.calls == [("note", "waiting for somebody else to unlock the state; Ctrl-C gives up")]
    assert caught.value.hint == "run the command again"


# Locks of one's own


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_lock_that_was_taken_here_is_broken_and_nobody_waited_for(world: World, seconds: float) -> None:
    world.own_locks = {ID}
    attempts = iter([locked(created=LOCK.created), None])

    def attempt() -> str:
        if failure := next(attempts):
            raise failure
        return "done"

    assert insist(world, seconds, attempt) == "done"
    note = "broke a lock on the state that was taken here and that nobody holds: "
    assert world.calls == [
        ("break_own_lock", ID),
        ("note", f"{note}ann@laptop (apply), since 2026-11-27 05:49:03 UTC"),
    ]
    assert world.clock.now() == 0.0


def test_a_lock_that_comes_back_is_not_broken_for_ever(world: World) -> None:
    world.own_locks = {ID}
    with pytest.raises(StateLockedError):
        insist(world, 0, lambda: fail(locked()))
    assert world.calls.count(("break_own_lock", ID)) == 3


def test_a_lock_that_does_not_break_says_so(world: World) -> None:
    world.own_locks = {ID}
    world.fails["break_own_lock"] = TerraformError("no")
    with pytest.raises(TerraformError, match="no"):
        insist(world, 60, lambda: fail(locked()))
