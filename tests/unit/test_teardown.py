"""`down`: what it asks of whom, when it returns, and what it says is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import World, config, instance

from daft_launcher import teardown
from daft_launcher.config import ClusterReference
from daft_launcher.errors import AWSError, Interrupted, ProviderError, StateError, TerraformError
from daft_launcher.instances import InstanceState
from daft_launcher.lock import lock_cluster
from daft_launcher.render import render_cluster
from daft_launcher.state_dir import write_rendered
from daft_launcher.teardown import DownResult
from daft_launcher.terraform_lock import StateLock, StateLockedError

EMPTY = json.dumps({"version": 4, "resources": []})
STATE = json.dumps({"version": 4, "resources": [{"type": "aws_instance"}]})
LEFT = ["instance i-head", "security group sg-1"]
NAMED = "  instance i-head\n  security group sg-1"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def existing(world: World, provider: str = "aws", state: str | None = STATE) -> Path:
    directory = world.state_dir.root_of("demo", provider)
    directory.mkdir(parents=True)
    write_rendered(render_cluster(config(provider)), directory)
    if state is not None:
        (directory / "terraform.tfstate").write_text(state)
    return directory


def down(
    world: World, *, provider: str = "aws", wait: bool = False, deadline: float = 100.0, **more: float
) -> DownResult:
    reference = ClusterReference(name="demo", provider=provider)
    return teardown.down(reference, world.tools(), wait=wait, deadline=deadline, **more)


def names(world: World) -> list[str]:
    return [call if isinstance(call, str) else call[0] for call in world.calls]


def test_a_cluster_that_is_not_there(world: World) -> None:
    assert down(world) == DownResult(existed=False, gone=True)
    assert world.calls == ["check_access"]
    assert not world.state_dir.path.exists()


def test_a_root_whose_state_is_empty(world: World) -> None:
    existing(world, state=EMPTY)
    assert down(world) == DownResult(existed=False, gone=True)
    assert names(world) == ["check_access", "open_terraform", "leftovers"]


def test_a_root_that_was_never_applied(world: World) -> None:
    existing(world, state=None)
    assert down(world) == DownResult(existed=False, gone=True)


def test_no_access_changes_nothing(world: World) -> None:
    existing(world)
    world.fails["check_access"] = AWSError("expired")
    with pytest.raises(AWSError, match="expired"):
        down(world)
    assert world.calls == ["check_access"]


def test_down_returns_when_every_instance_is_shutting_down(world: World) -> None:
    directory = existing(world)
    world.destroy_seconds = 1000.0
    world.clock.at.append((5.0, lambda: setattr(world, "shutting_down", True)))
    assert down(world) == DownResult(existed=True, gone=False, log=directory / "logs" / "destroy.jsonl")
    assert names(world)[:5] == ["check_access", "open_terraform", "init", "tagged", "start_destroy"]
    assert set(names(world)[5:]) == {"all_shutting_down"}
    assert len(names(world)[5:]) == 4  # at 0, 2, 4 and 6 seconds: an API is not asked ten times a second
    assert 5.0 <= world.clock.now() <= 6.5


def test_down_says_gone_when_terraform_ends_first(world: World) -> None:
    existing(world)
    world.destroy_seconds = 3.0
    assert down(world) == DownResult(existed=True, gone=True)
    assert names(world)[-2:] == ["wait", "leftovers"]
    assert world.clock.now() < 4


def test_with_wait_down_stays_until_nothing_is_left(world: World) -> None:
    existing(world)
    world.left = LEFT
    world.shutting_down = True
    world.clock.at.append((20.0, lambda: setattr(world, "left", [])))
    assert down(world, wait=True) == DownResult(existed=True, gone=True)
    assert names(world) == [
        *["check_access", "open_terraform", "init", "tagged", "start_destroy", "wait"],
        *["leftovers"] * 10,
    ]
    assert 20.0 <= world.clock.now() <= 22.0


def test_a_local_cluster_is_always_waited_for(world: World) -> None:
    world.provider_name = "local"
    existing(world, "local")
    world.shutting_down = True
    assert down(world, provider="local") == DownResult(existed=True, gone=True)
    assert "all_shutting_down" not in names(world)


@pytest.mark.parametrize("wait", [True, False])
def test_what_is_left_after_the_deadline_is_named(world: World, wait: bool) -> None:
    existing(world)
    world.left = LEFT
    world.destroy_seconds = 3.0 if wait else 1000.0
    with pytest.raises(ProviderError) as caught:
        down(world, wait=wait, deadline=60.0)
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (
        f"cluster `demo` could not be removed in time; left are:\n{NAMED}",
        "run `daft down --wait` again; what Terraform said stands in the `logs` of its root",
        1,
    )
    assert 60.0 <= world.clock.now() <= 62.0


def test_a_lost_state_is_still_asked_about(world: World) -> None:
    existing(world, state=None)
    world.left = LEFT
    with pytest.raises(ProviderError, match="could not be removed in time"):
        down(world, wait=True, deadline=10.0)
    assert "start_destroy" in names(world)


AGAIN = "run `daft down --wait` again"


@pytest.mark.parametrize(
    ("left", "hint", "said"),
    [
        ([], None, ("it broke", AGAIN)),
        (LEFT, "log in", (f"it broke\nleft are:\n{NAMED}", f"log in; then {AGAIN}")),
    ],
)
@pytest.mark.parametrize("wait", [True, False])
def test_a_destroy_that_fails_says_what_is_left(
    world: World, wait: bool, left: list[str], hint: str | None, said: tuple[str, str]
) -> None:
    existing(world)
    world.left = left
    world.destroy_fails = TerraformError("it broke", hint=hint)
    with pytest.raises(TerraformError) as caught:
        down(world, wait=wait)
    assert (caught.value.message, caught.value.hint) == said
    assert names(world)[-2:] == ["wait", "leftovers"]


def test_on_this_machine_what_a_lost_state_forgot_is_removed(world: World) -> None:
    world.provider_name = "local"
    directory = existing(world, "local", state=None)
    world.left = LEFT
    assert down(world, provider="local") == DownResult(existed=True, gone=True)
    assert world.calls[-4:] == [
        "wait",
        ("leftovers", "demo"),
        ("remove_leftovers", directory),
        ("leftovers", "demo"),
    ]


def test_on_aws_nothing_is_removed_past_terraform(world: World) -> None:
    existing(world, state=None)
    world.left = LEFT
    with pytest.raises(ProviderError):
        down(world, wait=True, deadline=10.0)
    assert "remove_leftovers" not in names(world)


@pytest.mark.parametrize("where", ["all_shutting_down", "wait", "leftovers"])
def test_ctrl_c_says_how_to_finish(world: World, where: str) -> None:
    existing(world)
    world.fails[where] = KeyboardInterrupt()
    with pytest.raises(Interrupted) as caught:
        down(world, wait=where != "all_shutting_down")
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (
        "interrupted while removing `demo`; some of it may exist still",
        "finish with `daft down`",
        130,
    )


def test_a_second_down_returns_with_the_first_one_when_all_is_shutting_down(world: World) -> None:
    directory = existing(world)
    world.clock.at.append((5.0, lambda: setattr(world, "shutting_down", True)))
    with lock_cluster(directory, command="daft down"):
        assert down(world) == DownResult(existed=True, gone=False, log=directory / "logs" / "destroy.jsonl")
    assert names(world) == ["check_access", *["all_shutting_down"] * 4]


def test_a_second_down_finishes_what_the_first_one_left(world: World) -> None:
    directory = existing(world)
    other = lock_cluster(directory, command="daft down")
    other.__enter__()
    world.clock.at.append((5.0, lambda: other.__exit__(None, None, None)))
    assert down(world, wait=True) == DownResult(existed=True, gone=True)
    asked = ["check_access", "open_terraform", "init", "tagged", "start_destroy", "wait", "leftovers"]
    assert names(world) == asked


def test_what_the_first_down_has_removed_was_there_for_the_second(world: World) -> None:
    directory = existing(world)
    other = lock_cluster(directory, command="daft down")
    other.__enter__()

    def finish() -> None:
        (directory / "terraform.tfstate").write_text(EMPTY)
        other.__exit__(None, None, None)

    world.clock.at.append((5.0, finish))
    assert down(world) == DownResult(existed=True, gone=True)
    assert "start_destroy" not in names(world)


def test_a_second_down_does_not_wait_for_ever(world: World) -> None:
    directory = existing(world)
    world.left = LEFT
    with (
        lock_cluster(directory, command="daft down"),
        pytest.raises(ProviderError, match="could not be removed in time; left are:\n  instance i-head"),
    ):
        down(world, wait=True, deadline=30.0)
    assert "start_destroy" not in names(world)


@pytest.mark.parametrize("command", ["daft up", "daft down"])
def test_down_fails_at_once_when_told_to(world: World, command: str) -> None:
    directory = existing(world)
    with lock_cluster(directory, command=command), pytest.raises(StateError) as caught:
        down(world, lock_timeout=0)
    assert caught.value.message.startswith(f"{directory} is locked by `{command}` of ")
    assert names(world) == ["check_access"]


def test_down_waits_for_an_up_and_not_for_ever(world: World) -> None:
    directory = existing(world)
    with lock_cluster(directory, command="daft up"), pytest.raises(StateError) as caught:
        down(world, lock_timeout=50)
    assert caught.value.message.startswith(f"{directory} is locked by `daft up` of ")
    assert (names(world), world.clock.now()) == (["check_access", "note"], 50)


def test_down_removes_what_an_up_has_made_meanwhile(world: World) -> None:
    directory = existing(world)
    other = lock_cluster(directory, command="daft up")
    other.__enter__()
    world.clock.at.append((7.0, lambda: other.__exit__(None, None, None)))
    assert down(world) == DownResult(existed=True, gone=True)
    assert names(world)[:4] == ["check_access", "note", "open_terraform", "init"]


def test_down_waits_for_another_machine_that_has_locked_the_state(world: World) -> None:
    existing(world)
    lock = StateLock(lock_id="1", path="p", who="ann@laptop", operation="apply", created=None)
    world.destroy_fails = StateLockedError(lock)
    world.clock.at.append((10.0, lambda: setattr(world, "destroy_fails", None)))
    assert down(world) == DownResult(existed=True, gone=True)
    assert [call for call in world.calls if call[0] == "note"] == [
        ("note", "waiting for ann@laptop (apply) to unlock the state; Ctrl-C gives up")
    ]


def test_down_breaks_a_lock_that_was_taken_here(world: World) -> None:
    existing(world)
    world.own_locks = {"1"}
    lock = StateLock(lock_id="1", path="p", who="ann@laptop", operation="apply", created=None)
    world.destroy_fails = StateLockedError(lock)
    world.on_break = lambda: setattr(world, "destroy_fails", None)
    assert down(world, wait=True, lock_timeout=0) == DownResult(existed=True, gone=True)
    assert (names(world).count("start_destroy"), world.calls.count(("break_own_lock", "1"))) == (2, 1)


def test_down_does_not_wait_for_another_machine_when_told_so(world: World) -> None:
    existing(world)
    world.left = LEFT
    lock = StateLock(lock_id="1", path="p", who="ann@laptop", operation="apply", created=None)
    world.destroy_fails = StateLockedError(lock)
    with pytest.raises(StateLockedError) as caught:
        down(world, lock_timeout=0)
    assert caught.value.message == "Terraform's state p is locked by ann@laptop (apply)"
    assert caught.value.hint.endswith("force-unlock 1`")


def test_a_lock_whose_holder_says_nothing_is_heeded(world: World) -> None:
    directory = existing(world)
    with lock_cluster(directory, command="daft down"):
        (directory / "daft.lock").write_text("{")
        with pytest.raises(StateError) as caught:
            down(world)
    assert caught.value.message == f"{directory} is locked by another process"


# Jobs that still run


def agree(world: World, *, yes: bool = False) -> None:
    teardown.agree_to_end_jobs(ClusterReference(name="demo", provider="aws"), world.tools(), yes=yes)


def test_nobody_is_asked_who_cannot_answer_or_has_agreed(world: World) -> None:
    agree(world)
    world.interactive = True
    agree(world, yes=True)
    assert world.calls == []


def test_a_cluster_without_a_head_has_no_jobs(world: World) -> None:
    world.interactive = True
    world.instances = [instance(state=InstanceState.TERMINATED)]
    agree(world)
    assert world.calls == [("list_instances", "demo")]


def test_a_cluster_that_cannot_be_asked_is_not_protected_by_its_jobs(world: World) -> None:
    world.interactive = True
    world.instances = AWSError("no way")
    agree(world)
    assert world.calls == [("list_instances", "demo")]
