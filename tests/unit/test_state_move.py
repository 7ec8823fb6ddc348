"""A state where the configuration wants it: when it moves, when it does not, and that it is never lost."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from fakes import HEAD_CREATED, OUTPUT, World, config

from daft_launcher import launcher, restore, review, teardown
from daft_launcher.backend import find_declared
from daft_launcher.config import ClusterConfig, ClusterReference
from daft_launcher.errors import NoBucketError, StateError
from daft_launcher.models import Plan
from daft_launcher.render import backend_of, render_cluster
from daft_launcher.state_dir import write_rendered
from daft_launcher.teardown import DownResult
from daft_launcher.terraform_lock import StalePlanError

PLACE = "s3://states/daft/demo/terraform.tfstate"
OTHER = "s3://states/other"
HEAD = {"module": "module.cluster", "type": "aws_instance", "instances": [{"attributes": {"id": "i-head"}}]}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def s3_config(**more: Any) -> ClusterConfig:
    setup = more.pop("setup", {})
    backend = {"type": "s3", "bucket": "states", **more}
    data = {"setup": {"name": "demo", "provider": "aws", **setup}, "backend": backend}
    return ClusterConfig.model_validate(data)


def state(lineage: str = "line", serial: int = 3, **more: Any) -> dict[str, Any]:
    cluster = {**OUTPUT, **more.pop("cluster", {})}
    return {
        "version": 4,
        "lineage": lineage,
        "serial": serial,
        "resources": [HEAD],
        "outputs": {"cluster": {"value": cluster}},
        **more,
    }


def standing(world: World, where: ClusterConfig, *, recorded: bool = False) -> Path:
    """Lay down a root as an earlier `up` left it, with or without what Terraform notes of it."""
    world.directory.mkdir(parents=True, exist_ok=True)
    write_rendered(render_cluster(where), world.directory)
    (world.directory / "daft.lock").write_text("")
    if recorded:
        record(world, where)
    return world.directory


def record(world: World, where: ClusterConfig) -> None:
    backend = backend_of(where)
    note = world.directory / ".terraform" / "terraform.tfstate"
    note.parent.mkdir(exist_ok=True)
    note.write_text(json.dumps({"backend": {"type": backend.type, "config": dict(backend.settings)}}))


def at_home(world: World, document: dict[str, Any]) -> Path:
    path = world.directory / "terraform.tfstate"
    path.write_text(json.dumps(document))
    return path


def up(world: World, configuration: ClusterConfig, *, yes: bool = True) -> None:
    launcher.up(configuration, world.tools(), yes=yes, step_timeout=9.0)


def asked(world: World, *names: str) -> list[Any]:
    return [call for call in world.calls if (call if isinstance(call, str) else call[0]) in names]


def said(world: World) -> list[str]:
    return [call[1] for call in asked(world, "note", "warn")]


def test_a_new_cluster_looks_whether_its_place_is_free_and_moves_nothing(world: World) -> None:
    up(world, s3_config(), yes=False)
    assert asked(world, "check_bucket", "pull_state", "push_state", "operator_variables") == [
        ("check_bucket", "states"),
        ("pull_state", PLACE),
        ("operator_variables", world.directory, "shared"),
    ]


def test_where_terraform_worked_before_nobody_looks_again(world: World) -> None:
    standing(world, s3_config(), recorded=True)
    up(world, s3_config(kms_key_id="other"), yes=False)
    assert asked(world, "check_bucket", "pull_state") == [("check_bucket", "states")]
    assert 'kms_key_id   = "other"' in (world.directory / "backend.tf").read_text()


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "declared"])
def test_from_home_to_a_bucket(world: World, recorded: bool) -> None:
    standing(world, config(), recorded=recorded)
    home = at_home(world, state())
    up(world, s3_config())
    assert asked(world, "try_lock", "push_state") == [
        ("try_lock", str(home)),
        ("push_state", PLACE, False),
        ("push_state", PLACE, True),
    ]
    assert world.states[PLACE] == state()
    (backup,) = world.directory.glob("terraform.tfstate*")
    assert (json.loads(backup.read_text()), backup.stat().st_mode & 0o777) == (state(), 0o600)
    assert said(world) == [f"moved the state from {home} to {PLACE}; {backup} keeps it as it was"]
    assert find_declared(world.directory) == backend_of(s3_config())


def test_what_an_apply_has_changed_before_it_let_go_of_the_lock_moves_too(world: World) -> None:
    standing(world, s3_config(), recorded=True)
    world.states[PLACE] = state()
    newer = state(serial=4, resources=[HEAD, HEAD])
    world.on_lock = lambda: world.states.update({PLACE: newer})
    up(world, s3_config(key="other"))
    assert world.states == {PLACE: newer, OTHER: newer}


def test_a_state_that_is_changed_while_it_moves_is_moved_the_next_time(world: World) -> None:
    standing(world, s3_config(), recorded=True)
    world.states[PLACE] = state()
    newer = state(serial=4, resources=[HEAD, HEAD])
    world.on_push = lambda: world.states.update({PLACE: newer})
    with pytest.raises(StateError) as caught:
        up(world, s3_config(key="other"))
    (backup,) = world.directory.glob("*.backup")
    assert (caught.value.message, caught.value.hint) == (
        f"somebody else changed the state while it moved from {PLACE} to {OTHER}",
        f"run the command again; {backup} keeps it as it was",
    )
    assert find_declared(world.directory) == backend_of(s3_config())
    up(world, s3_config(key="other"))
    assert world.states[OTHER] == newer


def test_from_a_bucket_to_another_place_in_it(world: World) -> None:
    standing(world, s3_config(), recorded=True)
    world.states[PLACE] = state()
    up(world, s3_config(key="other"))
    assert world.states == {PLACE: state(), OTHER: state()}
    moved, warned = said(world)
    assert moved.startswith(f"moved the state from {PLACE} to {OTHER}; ")
    assert warned == (
        f"what lies at {PLACE} is out of date from now on: whoever has the old [backend] must take the new one"
    )


@pytest.mark.parametrize("answer", [True, False])
def test_a_move_is_asked_for(world: World, answer: bool) -> None:
    standing(world, config())
    home = at_home(world, state())
    before = world.tree()
    world.answer = answer
    if answer:
        up(world, s3_config(), yes=False)
    else:
        with pytest.raises(StateError) as caught:
            up(world, s3_config(), yes=False)
        assert (caught.value.message, caught.value.hint) == (
            f"the state of `demo` would move from {home} to {PLACE}; nothing was changed",
            "agree to it with `daft up --yes`, or put back the [backend] that it had",
        )
        assert (world.tree(), world.states) == (before, {})
    assert asked(world, "confirm") == [
        ("confirm", f"The state of `demo` moves from {home} to {PLACE}. Go on?")
    ]


@pytest.mark.parametrize(
    "target",
    [state(serial=3), state(serial=9, resources=[HEAD, HEAD])],
    ids=["just moved", "gone on since"],
)
def test_what_somebody_has_moved_already_is_taken_as_it_is(world: World, target: dict[str, Any]) -> None:
    standing(world, s3_config(), recorded=True)
    world.states |= {PLACE: state(), OTHER: target}
    up(world, s3_config(key="other"), yes=False)
    assert (asked(world, "push_state"), world.states[OTHER]) == ([], target)
    assert find_declared(world.directory) == backend_of(s3_config(key="other"))


@pytest.mark.parametrize(
    ("target", "force"),
    [(state(serial=2, resources=[HEAD, HEAD]), False), (state("new at other", 1), True)],
    ids=["an older one", "cut short"],
)
def test_what_was_left_half_way_is_moved_again(world: World, target: dict[str, Any], force: bool) -> None:
    standing(world, s3_config(), recorded=True)
    world.states |= {PLACE: state(), OTHER: target}
    up(world, s3_config(key="other"))
    assert (asked(world, "push_state"), world.states[OTHER]) == ([("push_state", OTHER, force)], state())


@pytest.mark.parametrize(
    ("target", "whose"),
    [
        (state(cluster={"name": "finance"}), "cluster `finance` in us-west-2"),
        (state(cluster={"region": "eu-west-1"}), "cluster `demo` in eu-west-1"),
        (
            state(
                outputs={},
                resources=[{**HEAD, "instances": [{"attributes": {"tags": {"daft:cluster": "x"}}}]}],
            ),
            "cluster `x`",
        ),
        (state(outputs={}, resources=[{"type": "aws_vpc", "instances": []}]), "something that is no cluster"),
    ],
)
@pytest.mark.parametrize("new", [True, False], ids=["new", "moving"])
def test_another_clusters_state_is_left_alone(
    world: World, target: dict[str, Any], whose: str, new: bool
) -> None:
    if not new:
        standing(world, config())
        at_home(world, state())
    before = world.tree()
    world.states[PLACE] = target
    for run in (up, lambda *arguments: review.plan(arguments[1], world.tools())):
        with pytest.raises(StateError) as caught:
            run(world, s3_config())
        assert (caught.value.message, caught.value.hint) == (
            f"{PLACE} holds the state of {whose}, and not of `demo` in us-west-2",
            "give this cluster a `key` of its own in [backend]",
        )
    assert (world.tree(), world.states) == (before, {PLACE: target})


def test_a_cluster_that_was_never_whole_is_still_its_own(world: World) -> None:
    world.states[PLACE] = state(outputs={})
    up(world, s3_config(), yes=False)
    assert asked(world, "push_state") == []


def test_two_states_of_one_cluster_are_not_merged(world: World) -> None:
    standing(world, config())
    home = at_home(world, state())
    world.states[PLACE] = state("another", resources=[HEAD, HEAD])
    with pytest.raises(StateError) as caught:
        up(world, s3_config())
    assert (caught.value.message, caught.value.hint) == (
        f"{PLACE} holds another state than {home}, and one of the two would be lost",
        "give this cluster a `key` of its own in [backend], or put back the [backend] that it had",
    )


def test_a_state_that_cannot_be_read_is_not_given_up(world: World) -> None:
    standing(world, config())
    (world.directory / "terraform.tfstate").write_text("{")
    up(world, s3_config())
    (aside,) = world.directory.glob("terraform.tfstate*")
    assert (aside.suffix, aside.read_text()) == (".damaged", "{")
    assert asked(world, "warn") == [
        (
            "warn",
            (
                f"the state {world.directory}/terraform.tfstate is damaged, and lies in {aside} now; "
                "what exists is found by its tags"
            ),
        )
    ]


def test_a_state_that_this_user_may_not_read_stays_where_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing(world, config())
    path = world.directory / "terraform.tfstate"
    path.write_text("{")
    before = world.tree()
    reading = Path.read_text

    def read(this: Path, **options: Any) -> str:
        if this == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return reading(this, **options)

    monkeypatch.setattr(Path, "read_text", read)
    with pytest.raises(StateError) as caught:
        up(world, config())
    monkeypatch.undo()
    assert (caught.value.message, caught.value.hint) == (
        f"the state {path} cannot be read: Permission denied",
        "let this user read it, and run the command again",
    )
    assert world.tree() == before


# up --plan


def test_a_plan_reads_the_state_where_it_is_and_moves_nothing(world: World) -> None:
    standing(world, config())
    home = at_home(world, state())
    before = world.tree()
    review.plan(s3_config(), world.tools())
    (scratch,) = (world.root / "cache" / "plans").iterdir()
    assert 'backend "local"' in (scratch / "backend.tf").read_text()
    assert json.loads((scratch / "terraform.tfstate").read_text()) == state()
    assert said(world) == [f"`daft up` would move the state from {home} to {PLACE}"]
    assert (world.tree(), world.states) == (before, {})


def test_no_plan_is_saved_as_long_as_the_state_has_to_move(world: World) -> None:
    standing(world, config())
    at_home(world, state())
    before = world.tree()
    with pytest.raises(StateError) as caught:
        review.plan(s3_config(), world.tools(), out=world.root / "demo.tfplan")
    assert (caught.value.message, caught.value.hint) == (
        "no plan is saved: the state moves first, and a plan is for the place where the state lies",
        "move it with `daft up`, then save the plan",
    )
    assert (world.tree(), world.states) == (before, {})


def test_a_plan_says_what_is_unwise_about_the_bucket(world: World) -> None:
    world.unwise = ["it is open"]
    review.plan(s3_config(), world.tools())
    assert asked(world, "warn") == [("warn", "it is open")]


# down


def down(world: World, reference: ClusterReference | None = None) -> DownResult:
    reference = reference or ClusterReference(name="demo", provider="aws")
    return teardown.down(reference, world.tools(), wait=False, deadline=100.0)


def test_down_of_a_state_in_a_bucket(world: World) -> None:
    standing(world, s3_config(), recorded=True)
    world.states[PLACE] = state()
    assert down(world) == DownResult(existed=True, gone=True)
    assert asked(world, "check_bucket", "init", "start_destroy") == [
        ("check_bucket", "states"),
        ("init", "reconfigure"),
        "start_destroy",
    ]


def test_down_of_an_empty_state_in_a_bucket(world: World) -> None:
    standing(world, s3_config(), recorded=True)
    world.states[PLACE] = state(resources=[])
    assert down(world) == DownResult(existed=False, gone=True)


@pytest.mark.parametrize(
    ("target", "place"),
    [({}, PLACE), (state(serial=9), OTHER)],
    ids=["not moved yet", "moved by somebody"],
)
def test_down_goes_to_where_the_state_is(world: World, target: dict[str, Any], place: str) -> None:
    standing(world, s3_config(key="other"))
    record(world, s3_config())
    world.states |= {PLACE: state(), **({OTHER: target} if target else {})}
    down(world)
    assert find_declared(world.directory).describe(world.directory) == place


REFERENCE = ClusterReference(name="demo", provider="aws", backend={"type": "s3", "bucket": "states"})


def test_a_root_is_written_anew_from_the_state(world: World) -> None:
    world.states[PLACE] = state(cluster={"region": "eu-west-1"})
    assert restore.restore_root(REFERENCE, world.tools())
    assert 'region = "eu-west-1"' in (world.directory / "main.tf").read_text()
    # The bucket is where it was.
    assert 'region       = "us-west-2"' in (world.directory / "backend.tf").read_text()
    assert said(world) == [f"this machine has no Terraform root of `demo`; its state is at {PLACE}"]
    assert not restore.restore_root(REFERENCE, world.tools())


@pytest.mark.parametrize("there", [{}, state(resources=[]), state(cluster={"name": "finance"})])
def test_no_root_is_written_without_a_state_of_the_cluster(world: World, there: dict[str, Any]) -> None:
    world.states[PLACE] = there
    assert not restore.restore_root(REFERENCE, world.tools())
    assert not world.state_dir.path.exists()


def test_no_root_is_written_without_a_bucket(world: World) -> None:
    world.fails["check_bucket"] = NoBucketError("no")
    assert not restore.restore_root(REFERENCE, world.tools())
    assert not restore.restore_root(REFERENCE.on("local"), world.tools())
    assert not restore.restore_root(ClusterReference(name="demo", provider="aws"), world.tools())
    assert asked(world, "pull_state") == []


@pytest.mark.parametrize("bucket", [True, False])
def test_a_root_is_written_for_what_carries_the_tags(world: World, bucket: bool) -> None:
    world.left = ["instance i-head (running)"]
    world.states[PLACE] = {}
    if not bucket:
        world.fails["check_bucket"] = NoBucketError("no")
    assert restore.restore_root(REFERENCE, world.tools())
    assert find_declared(world.directory).type == ("s3" if bucket else "local")
    assert said(world) == ["this machine has no Terraform root of `demo`; it is found by its tags"]


# Two at once


def test_a_plan_that_somebody_overtook_is_made_again(world: World) -> None:
    world.fails["apply"] = StalePlanError("stale")
    world.on_apply = lambda: "apply" in world.calls and world.fails.clear()
    world.plan = Plan(changes=(HEAD_CREATED,))
    up(world, config())
    assert (len(asked(world, "plan")), world.calls.count("apply")) == (2, 2)
    assert said(world) == ["somebody else has changed the cluster meanwhile; planning again"]


def test_somebody_who_is_always_quicker_ends_it(world: World) -> None:
    world.plan = Plan(changes=(HEAD_CREATED,))
    world.fails["apply"] = StalePlanError("stale")
    with pytest.raises(StalePlanError):
        up(world, config())
    assert world.calls.count("apply") == 3
