"""`up` and `up --plan`: what they ask of whom, in which order, and what stays as it was when they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from fakes import (
    AWS_HEAD,
    HEAD_CREATED,
    HEAD_REPLACED,
    HEAD_UPDATED,
    OUTPUT,
    WORKERS_UPDATED,
    World,
    config,
    instance,
)

from daft_launcher import launcher, review
from daft_launcher.drift import Drift, DriftedAttribute
from daft_launcher.errors import (
    AWSError,
    DaftLauncherError,
    HeadFailedError,
    Interrupted,
    ProviderError,
    StateError,
    TerraformError,
    TunnelError,
)
from daft_launcher.instances import InstanceState
from daft_launcher.launcher import UpResult
from daft_launcher.lock import lock_cluster
from daft_launcher.models import Cluster, HeadStatus, Offer, Plan, Rate, ResourceChange
from daft_launcher.prices import PriceReport
from daft_launcher.render import render_cluster
from daft_launcher.review import NO_CHANGES, PlanReport
from daft_launcher.state_dir import StateDir, write_operator_variables, write_rendered

QUESTION = "This replaces the head node and ends every job that runs on it. Go on?"
HEAD_REMOVED = ResourceChange(address=AWS_HEAD, resource_type="aws_instance", action="delete")
DEMO = {"cluster": "demo", "provider": "aws"}
INSTANCES = Offer(kind="on-demand", type="m7g.medium", region="us-west-2")
VOLUMES = Offer(kind="volume", type="gp3", region="us-west-2")
UNKNOWN = Rate(reason="nobody knows")
READY = [(30.0, HeadStatus(step="booting")), (60.5, HeadStatus(step="ready"))]
STATE = json.dumps({"version": 4, "resources": [{"type": "aws_instance"}]})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def cluster(world: World) -> Cluster:
    return Cluster(directory=world.directory, **OUTPUT)


def up(world: World, **more: object) -> UpResult:
    options = {"yes": False, "step_timeout": 99.0, "config": config(), **more}
    return launcher.up(options.pop("config"), world.tools(), **options)


def refusal(world: World, kind: type[DaftLauncherError], **more: object) -> tuple[str, str | None]:
    with pytest.raises(kind) as caught:
        up(world, **more)
    return caught.value.message, caught.value.hint


def existing(world: World, **setup: object) -> dict[str, str]:
    """Lay down a root as an earlier `up` left it, and return it."""
    world.directory.mkdir(parents=True)
    write_rendered(render_cluster(config(**setup)), world.directory)
    write_operator_variables(world.directory, world.operator)
    (world.directory / "terraform.tfstate").write_text(STATE)
    (world.directory / "daft.lock").write_text("")
    return world.tree()


BEFORE_APPLY = [
    "check_access",
    "open_terraform",
    "operator_variables",
    "dead_resources",
    "init",
    "plan",
    "planned",
]


def before_apply(*changes: ResourceChange) -> list[str]:
    """What an `up` asks before an apply; of what would be made, whether it exists."""
    asked = [*BEFORE_APPLY]
    asked[-1:-1] = ["tagged"] * any(change.action == "create" for change in changes)
    return asked


def names(world: World) -> list[str]:
    return [call if isinstance(call, str) else call[0] for call in world.calls]


# up


def test_up_asks_in_order_and_writes_the_root(world: World) -> None:
    world.plan = Plan(changes=(HEAD_CREATED, WORKERS_UPDATED))
    world.statuses = READY
    seen = up(world, settled=lambda: world.calls.append("settled"))
    assert seen == UpResult(cluster=cluster(world), changed=True)
    assert world.calls == [
        "check_access",
        ("open_terraform", world.directory),
        ("operator_variables", world.directory),
        ("dead_resources", world.directory),
        ("init", "reconfigure"),
        ("plan", [], True),
        ("tagged", "demo"),
        "planned",
        "apply",
        "output",
        ("watch_head", cluster(world), 99.0),
        ("head_status", "booting", 30.0),
        ("head_status", "ready", 60.5),
        "settled",
    ]
    rendered = {f".daft/demo/{name}": text for name, text in render_cluster(config()).files.items()}
    operator = json.dumps(world.operator, indent=2) + "\n"
    assert world.tree() == {
        **rendered,
        ".daft/demo/operator.auto.tfvars.json": operator,
        ".daft/demo/logs/apply.jsonl": "",
        ".daft/demo/daft.lock": "",
    }


def test_up_holds_the_lock_while_it_works_and_not_after(world: World) -> None:
    world.plan = Plan(changes=(HEAD_CREATED,))
    held: list[str] = []

    def look() -> None:
        with pytest.raises(StateError) as caught, lock_cluster(world.directory, command="other"):
            pass
        held.append(caught.value.message)

    world.on_apply = look
    up(world)
    assert len(held) == 1
    assert held[0].startswith(f"{world.directory} is locked by `daft up` of ")
    with lock_cluster(world.directory, command="other"):
        pass


def test_a_cluster_that_matches_is_not_applied_but_its_head_is_waited_for(world: World) -> None:
    before = existing(world)
    world.statuses = [(1.0, HeadStatus(step="ready"))]
    assert up(world) == UpResult(cluster=cluster(world), changed=False)
    assert names(world) == [*BEFORE_APPLY, "output", "watch_head", "head_status"]
    assert world.tree() == before


def test_outputs_alone_are_a_change(world: World) -> None:
    world.plan = Plan(outputs_change=True)
    assert up(world).changed
    assert "apply" in names(world)


def test_what_died_is_made_anew(world: World) -> None:
    world.dead = ["module.cluster.terraform_data.worker[1]"]
    up(world)
    assert ("plan", world.dead, True) in world.calls


@pytest.mark.parametrize("change", [HEAD_UPDATED, WORKERS_UPDATED, HEAD_CREATED])
def test_a_change_that_keeps_the_head_asks_nothing(world: World, change: ResourceChange) -> None:
    world.plan = Plan(changes=(change,))
    up(world)
    assert names(world) == [*before_apply(change), "apply", "output", "watch_head"]


def test_what_an_apply_has_left_out_is_made_by_another(world: World) -> None:
    world.plans = [Plan(changes=(HEAD_CREATED,)), Plan(changes=(HEAD_UPDATED,))]
    world.missing = [["its volume has no tags"]]
    assert up(world).changed
    again = ["note", *BEFORE_APPLY[BEFORE_APPLY.index("operator_variables") :]]
    assert names(world) == [*before_apply(HEAD_CREATED), "apply", *again, "apply", "output", "watch_head"]
    assert ("note", "its volume has no tags; planning again") in world.calls


def test_what_every_apply_leaves_out_is_a_warning(world: World) -> None:
    world.plan = Plan(changes=(HEAD_UPDATED,))
    world.missing = [["its volume has no tags"]] * 9
    assert up(world).changed
    assert (world.calls.count("apply"), world.calls.count(("warn", "its volume has no tags"))) == (3, 1)


@pytest.mark.parametrize("change", [HEAD_REPLACED, HEAD_REMOVED])
@pytest.mark.parametrize("new", [True, False], ids=["new", "existing"])
def test_a_head_is_not_replaced_without_a_yes(world: World, change: ResourceChange, new: bool) -> None:
    before = {} if new else existing(world, number_of_workers=1)
    world.plan = Plan(changes=(WORKERS_UPDATED, change))
    assert refusal(world, StateError) == (
        "the head node would be replaced and its running jobs ended; nothing was changed",
        "agree with `daft up --yes`, or look at it first with `daft up --plan`",
    )
    assert world.calls[-1] == ("confirm", QUESTION)
    assert names(world) == [*BEFORE_APPLY, "confirm"]
    assert (world.tree(), world.state_dir.path.exists()) == (before, not new)


@pytest.mark.parametrize("change", [HEAD_REPLACED, HEAD_REMOVED])
def test_a_yes_beforehand_is_enough(world: World, change: ResourceChange) -> None:
    world.plan = Plan(changes=(change,))
    up(world, yes=True)
    assert names(world) == [*BEFORE_APPLY, "apply", "output", "watch_head"]


def test_a_yes_at_the_terminal_is_enough(world: World) -> None:
    world.plan = Plan(changes=(HEAD_REPLACED,))
    world.answer = True
    up(world)
    assert names(world) == [*BEFORE_APPLY, "confirm", "apply", "output", "watch_head"]


def test_a_head_that_is_dead_anyhow_is_replaced_without_a_question(world: World) -> None:
    world.dead = [AWS_HEAD]
    world.plan = Plan(changes=(HEAD_REPLACED,))
    up(world)
    assert names(world) == [*BEFORE_APPLY, "apply", "output", "watch_head"]


def test_a_dead_worker_is_no_reason_to_replace_the_head(world: World) -> None:
    world.dead = ["module.cluster.terraform_data.worker[0]"]
    world.plan = Plan(changes=(HEAD_REPLACED,))
    refusal(world, StateError)
    assert names(world)[-1] == "confirm"


# What up refuses before anything is changed


@pytest.mark.parametrize("step", ["check_access", "operator_variables", "dead_resources", "init", "plan"])
@pytest.mark.parametrize(
    "failure", [ProviderError("no", hint="do"), KeyboardInterrupt()], ids=["error", "Ctrl-C"]
)
@pytest.mark.parametrize("new", [True, False], ids=["new", "existing"])
def test_a_failure_before_the_apply_leaves_everything(
    world: World, step: str, failure: BaseException, new: bool
) -> None:
    before = {} if new else existing(world, number_of_workers=1)
    world.fails[step] = failure
    with pytest.raises(type(failure)) as caught:
        up(world)
    assert caught.value is failure
    assert str(failure) in ("no", "")
    assert names(world) == BEFORE_APPLY[: BEFORE_APPLY.index(step) + 1]
    assert (world.tree(), world.state_dir.path.exists()) == (before, not new)


def test_a_cluster_cannot_move_to_another_region(world: World) -> None:
    before = existing(world)
    assert refusal(world, StateError, config=config(region="eu-west-1")) == (
        "cluster `demo` was made in us-west-2, and the configuration now says eu-west-1: a cluster cannot move",
        "run `daft down` first (it goes by where the cluster is), or give the new one another name",
    )
    assert (world.calls, world.tree()) == ([], before)


def test_what_holds_nothing_may_move(world: World) -> None:
    existing(world)
    (world.directory / "terraform.tfstate").write_text('{"resources": []}')
    up(world, config=config(region="eu-west-1"))
    assert 'region = "eu-west-1"' in (world.directory / "main.tf").read_text()


def test_a_local_cluster_knows_no_region(world: World) -> None:
    world.provider_name = "local"
    directory = world.state_dir.path / "demo.local"
    directory.mkdir(parents=True)
    write_rendered(render_cluster(config("local")), directory)
    (directory / "terraform.tfstate").write_text(STATE)
    up(world, config=config("local", region="eu-west-1"))
    assert ("open_terraform", directory) in world.calls


def test_a_foreign_file_is_never_overwritten(world: World) -> None:
    world.directory.mkdir(parents=True)
    main = world.directory / "main.tf"
    main.write_text("# mine\n")
    assert refusal(world, StateError) == (
        f"{main} is in the way: it was not generated here, and is never overwritten",
        "move it away, or name another place with `--state-dir` or DAFT_STATE_DIR",
    )
    assert (names(world), world.tree()) == (
        [],
        {".daft/demo/main.tf": "# mine\n"},
    )


def test_a_state_directory_that_cannot_be_made(world: World) -> None:
    world.state_dir.path.write_text("a file")
    assert refusal(world, StateError) == (
        f"{world.directory} cannot be made: Not a directory",
        "name another place with `--state-dir` or DAFT_STATE_DIR",
    )
    assert world.state_dir.path.read_text() == "a file"


@pytest.mark.parametrize("command", ["daft up", "daft down"])
def test_a_cluster_on_which_somebody_else_works_is_left_alone(world: World, command: str) -> None:
    before = existing(world)
    with lock_cluster(world.directory, command=command):
        message, hint = refusal(world, StateError, lock_timeout=0)
    assert message.startswith(f"{world.directory} is locked by `{command}` of ")
    assert hint == f"wait for it to end; what it does stands in {world.directory}/logs/"
    assert (world.calls, world.tree()) == (["check_access"], before)


@pytest.mark.parametrize("command", ["daft up", "daft down"])
def test_up_waits_for_somebody_else_to_end(world: World, command: str) -> None:
    existing(world)
    other = lock_cluster(world.directory, command=command)
    other.__enter__()
    world.clock.at.append((7.0, lambda: other.__exit__(None, None, None)))
    up(world)
    (note,) = [call[1] for call in world.calls if call[0] == "note"]
    assert (note.startswith(f"waiting for `{command}` of "), note.endswith("; Ctrl-C gives up")) == (
        True,
        True,
    )
    assert (world.clock.now(), names(world)[-2:]) == (7.0, ["output", "watch_head"])


def test_up_does_not_wait_for_ever(world: World) -> None:
    existing(world)
    with lock_cluster(world.directory, command="daft down"):
        message, _ = refusal(world, StateError, lock_timeout=60)
    assert message.startswith(f"{world.directory} is locked by `daft down` of ")
    assert (names(world), world.clock.now()) == (["check_access", "note"], 60)


# What up says when it fails part of the way


WAYS = "go on with `daft up`, or remove what exists with `daft down`"
HEAD = instance()
WORKER = instance("worker", "i-worker")
GONE = instance("worker", "i-gone", InstanceState.TERMINATED)
GOING = instance("worker", "i-going", InstanceState.SHUTTING_DOWN)
PENDING = instance("worker", "i-pending", InstanceState.PENDING)


@pytest.mark.parametrize(
    ("instances", "said"),
    [
        ([HEAD, WORKER, GONE, GOING, PENDING], "these exist: head i-head, worker i-worker, worker i-pending"),
        ([GONE], "no instance of `demo` exists; other resources of it may"),
        ([], "no instance of `demo` exists; other resources of it may"),
        (AWSError("no way"), "what exists of `demo` could not be listed: no way"),
    ],
)
@pytest.mark.parametrize("hint", ["do this", None])
def test_a_failed_apply_says_what_exists(world: World, instances: list, said: str, hint: str | None) -> None:
    world.plan = Plan(changes=(HEAD_CREATED,))
    world.instances = instances
    world.fails["apply"] = TerraformError("it broke", hint=hint)
    assert refusal(world, TerraformError) == (f"it broke\n{said}", f"{hint}; then {WAYS}" if hint else WAYS)
    assert names(world) == [*before_apply(HEAD_CREATED), "apply", "list_instances"]
    assert (world.directory / "main.tf").exists()
    assert not list(world.directory.glob("*.tfplan"))


def test_a_head_that_fails_is_said_with_what_exists(world: World) -> None:
    world.instances = [HEAD]
    world.statuses = [(5.0, HeadStatus(step="setup")), (9.0, ProviderError("`x` ended with 1"))]
    assert refusal(world, ProviderError) == ("`x` ended with 1\nthese exist: head i-head", WAYS)
    assert names(world)[-3:] == ["watch_head", "head_status", "list_instances"]


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "\n".join(f"line {number}\n" for number in range(40)),
            [f"line {number}" for number in range(25, 40)],
        ),
        ("", []),
        (TunnelError("no way"), []),
    ],
    ids=["a log", "an empty log", "no log"],
)
def test_a_head_that_says_it_failed_shows_the_end_of_its_log(world: World, log, said: list[str]) -> None:
    world.instances = [HEAD]
    world.statuses = [(9.0, HeadFailedError("`x` ended with 1"))]
    world.log = log
    end = ["the end of its log:", *(f"  {line}" for line in said)] if said else []
    message = "\n".join(["`x` ended with 1", *end, "these exist: head i-head"])
    assert refusal(world, HeadFailedError) == (message, WAYS)


@pytest.mark.parametrize("where", ["apply", "head"])
def test_ctrl_c_says_what_exists_and_ends_with_130(world: World, where: str) -> None:
    world.plan = Plan(changes=(HEAD_CREATED,))
    world.instances = [HEAD]
    if where == "apply":
        world.fails["apply"] = KeyboardInterrupt()
    else:
        world.statuses = [(1.0, KeyboardInterrupt())]
    with pytest.raises(Interrupted) as caught:
        up(world)
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (
        "interrupted; these exist: head i-head",
        "go on with `daft up`, remove it with `daft down`",
        130,
    )
    assert (world.directory / "main.tf").exists()


@pytest.mark.parametrize("outputs", [{}, {"cluster": None}, {"cluster": {"name": "demo"}}, {"cluster": "x"}])
def test_a_state_without_a_whole_cluster(world: World, outputs: dict[str, object]) -> None:
    world.outputs = outputs
    message, hint = refusal(world, StateError)
    assert message == (
        f"Terraform's state in {world.directory} does not describe a whole cluster\n"
        "no instance of `demo` exists; other resources of it may"
    )
    assert hint == f"finish it with `daft up`, or remove what there is with `daft down`; then {WAYS}"


# up --plan


def plan(world: World, **setup: object) -> PlanReport:
    return review.plan(config(**setup), world.tools())


def scratch(world: World) -> Path:
    (found,) = (world.root / "cache" / "plans").iterdir()
    return found


def test_a_plan_without_a_cluster_touches_nothing(world: World) -> None:
    world.plan = Plan(changes=(HEAD_CREATED,))
    world.rates["gp3"] = Rate(usd=Decimal("0.08"), source="a list", day=date(2026, 1, 2))
    assert plan(world) == PlanReport(
        **DEMO,
        plan=world.plan,
        text="Terraform's own text\n",
        files=tuple(sorted(render_cluster(config()).files)),
        head="created",
        price=PriceReport(
            before={},
            after={INSTANCES: 3, VOLUMES: 150},
            rates={INSTANCES: UNKNOWN, VOLUMES: world.rates["gp3"]},
        ),
    )
    assert sorted(world.asked_for) == [
        ("on-demand", "m7g.medium", "us-west-2", "demo"),
        ("volume", "gp3", "us-west-2", "demo"),
    ]
    assert not world.state_dir.path.exists()
    place = scratch(world)
    # The provider is asked while Terraform plans, so that only the order within each of the two is certain.
    asked = ["check_access", ("dead_resources", world.directory)]
    assert [call for call in world.calls if call in asked] == asked
    assert [call for call in world.calls if call not in asked] == [
        ("operator_variables", place),
        ("open_terraform", place),
        ("init", "reconfigure"),
        ("plan", [], False),
        ("tagged", "demo"),
        "show",
    ]
    assert not list(place.glob("*.tfplan"))


def test_a_provider_that_refuses_ends_the_plan_and_is_heard_before_terraform(world: World) -> None:
    before = existing(world)
    world.plans_until_stopped = True
    world.fails["check_access"] = AWSError("expired", hint="log in")
    with pytest.raises(AWSError) as caught:
        plan(world)
    assert (caught.value.message, caught.value.hint) == ("expired", "log in")
    assert (names(world).count("stop"), world.tree()) == (1, before)
    assert "dead_resources" not in names(world)


def test_a_provider_that_refuses_is_heard_though_terraform_could_plan(world: World) -> None:
    world.fails["dead_resources"] = ProviderError("no way")
    with pytest.raises(ProviderError, match="no way"):
        plan(world)
    assert sorted(world.root.rglob("*")) == []


def test_a_plan_of_a_cluster_reads_a_copy_of_its_state(world: World) -> None:
    before = existing(world, number_of_workers=1)
    (world.directory / "id_ed25519").write_text("a key")
    before[".daft/demo/id_ed25519"] = "a key"
    world.dead = [AWS_HEAD]
    world.plan = Plan(changes=(HEAD_REPLACED,))
    group, was, found = WORKERS_UPDATED.address, {"max_size": 1}, {"max_size": 9}
    head = {"address": AWS_HEAD, "values": {"instance_state": "running", "instance_type": "m7g.medium"}}
    world.plan_json = {
        "resource_drift": [
            {
                "address": group,
                "type": WORKERS_UPDATED.resource_type,
                "change": {"actions": ["update"], "before": was, "after": found},
            }
        ],
        "resource_changes": [
            {"address": group, "change": {"actions": ["update"], "before": found, "after": {"max_size": 3}}}
        ],
        "prior_state": {"values": {"root_module": {"child_modules": [{"resources": [head]}]}}},
    }
    assert plan(world, number_of_workers=3) == PlanReport(
        **DEMO,
        plan=world.plan,
        text="Terraform's own text\n",
        files=("main.tf",),
        head="replaced",
        drift=(
            Drift(
                address=group,
                resource_type=WORKERS_UPDATED.resource_type,
                action="update",
                attributes=(DriftedAttribute(path="max_size", before=1, after=9),),
            ),
        ),
        price=PriceReport(
            before={INSTANCES: 1},
            after={INSTANCES: 4, VOLUMES: 200},
            rates={INSTANCES: UNKNOWN, VOLUMES: UNKNOWN},
        ),
    )
    assert world.tree() == before
    copy = scratch(world) / "terraform.tfstate"
    assert (copy.read_text(), copy.stat().st_mode & 0o777) == (STATE, 0o600)
    assert ("operator_variables", world.directory) in world.calls
    assert [call for call in world.calls if call[0] == "plan"] == [
        ("plan", [], False),
        ("plan", [AWS_HEAD], False),
    ]


@pytest.mark.parametrize(
    ("change", "head"),
    [
        ((), "kept"),
        ((WORKERS_UPDATED,), "kept"),
        ((HEAD_UPDATED,), "updated"),
        ((WORKERS_UPDATED, HEAD_REMOVED), "removed"),
        (
            (
                ResourceChange(
                    address="module.cluster.terraform_data.head",
                    resource_type="terraform_data",
                    action="replace",
                ),
            ),
            "replaced",
        ),
    ],
)
def test_the_fate_of_the_head(world: World, change: tuple[ResourceChange, ...], head: str) -> None:
    world.plan = Plan(changes=change)
    assert plan(world).head == head


def test_nothing_to_do_needs_no_text_of_terraforms(world: World) -> None:
    existing(world)
    fleet = {INSTANCES: 3, VOLUMES: 150}
    price = PriceReport(before=fleet, after=fleet, rates={INSTANCES: UNKNOWN, VOLUMES: UNKNOWN})
    assert plan(world) == PlanReport(**DEMO, plan=Plan(), text=NO_CHANGES, files=(), head="kept", price=price)
    assert "show" not in names(world)


def test_a_plan_on_this_machine_has_no_price(world: World) -> None:
    world.provider_name = "local"
    world.plan = Plan(changes=(HEAD_CREATED,))
    assert review.plan(config("local"), world.tools()).price is None
    assert world.asked_for == []


def test_no_price_is_asked_for_when_the_provider_refuses(world: World) -> None:
    world.fails["check_access"] = AWSError("expired")
    with pytest.raises(AWSError):
        plan(world)
    assert world.asked_for == []


def test_a_second_plan_forgets_a_state_that_is_gone(world: World) -> None:
    existing(world)
    plan(world)
    (world.directory / "terraform.tfstate").unlink()
    plan(world)
    assert not (scratch(world) / "terraform.tfstate").exists()


def test_a_state_at_another_path_is_copied_and_planned_where_it_can_do_no_harm(world: World) -> None:
    elsewhere = world.root / "elsewhere" / "my ${state}.json"
    elsewhere.parent.mkdir()
    elsewhere.write_text(STATE)
    moved = config().model_copy(
        update={"backend": config().backend.model_copy(update={"path": str(elsewhere)})}
    )
    world.directory.mkdir(parents=True)
    write_rendered(render_cluster(moved), world.directory)
    review.plan(moved, world.tools())
    place = scratch(world)
    assert (place / "placed.tfstate").read_text() == STATE
    assert world.planned_on == place / "placed.tfstate"
    # Of a state there `init` would ask whether to move it to the path.
    assert not (place / "terraform.tfstate").exists()
    assert (place / "backend.tf").read_text() == (world.directory / "backend.tf").read_text()


def test_a_failed_plan_leaves_nothing_where_there_was_nothing(world: World) -> None:
    world.fails["plan"] = TerraformError("no")
    with pytest.raises(TerraformError):
        plan(world)
    assert sorted(world.root.rglob("*")) == []


def test_a_failed_plan_keeps_the_cluster_and_what_was_initialised_for_it(world: World) -> None:
    before = existing(world)
    plan(world)
    world.fails["plan"] = TerraformError("no")
    with pytest.raises(TerraformError):
        plan(world)
    assert (world.tree(), (scratch(world) / "main.tf").exists()) == (before, True)


def test_two_state_directories_are_planned_in_two_places(world: World) -> None:
    plan(world)
    other = World(world.root / "other", calls=world.calls)
    tools = other.tools()
    review.plan(config(), replace(tools, cache=world.root / "cache"))
    assert len(list((world.root / "cache" / "plans").iterdir())) == 2


def test_a_plan_of_a_moved_region_is_refused_too(world: World) -> None:
    before = existing(world)
    with pytest.raises(StateError, match="a cluster cannot move"):
        plan(world, region="eu-west-1")
    assert (world.calls, world.tree()) == ([], before)


def test_roots_lie_side_by_side(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    assert [state_dir.root_of("a", "aws"), state_dir.root_of("a", "local")] == [
        tmp_path / "a",
        tmp_path / "a.local",
    ]
