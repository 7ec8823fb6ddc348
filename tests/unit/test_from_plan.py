"""`up --from-plan`: a saved plan held against the present, every reason to refuse it, and what is left as it was."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from fakes import AWS_HEAD, HEAD_CREATED, HEAD_REPLACED, OUTPUT, WORKERS_UPDATED, World, config

from daft_launcher import launcher, review
from daft_launcher.errors import StateError
from daft_launcher.from_plan import KEY_STAYS, planning_place
from daft_launcher.launcher import UpResult
from daft_launcher.models import Cluster, HeadStatus, Plan
from daft_launcher.render import render_cluster
from daft_launcher.saved_plan import SavedPlan, read_saved_plan
from daft_launcher.ssh_keys import make_key_pair, public_key_of
from daft_launcher.state_dir import OPERATOR_FILE, PRIVATE_KEY
from daft_launcher.terraform_lock import StalePlanError

AWS = "registry.terraform.io/hashicorp/aws"
LOCK = f'provider "{AWS}" {{\n  version = "5.100.0"\n  hashes = [\n    "h1:abc=",\n  ]\n}}\n'
CHANGED = Plan(changes=(WORKERS_UPDATED,))


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, plan=CHANGED, statuses=[(1.0, HeadStatus(step="ready"))])
    on_state(world, lineage="", serial=0)
    return world


def on_state(world: World, *, lineage: str, serial: int) -> None:
    """Let Terraform plan on a state that is this one from now on."""
    world.state = {"lineage": lineage, "serial": serial} if lineage else {}
    parts = {"tfplan": "a plan", "tfstate": json.dumps({"lineage": lineage, "serial": serial})}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as plan:
        for name, text in {**parts, ".terraform.lock.hcl": LOCK}.items():
            plan.writestr(name, text)
    world.plan_bytes = file.getvalue()


def save(world: World, **setup: Any) -> SavedPlan:
    out = world.root / "demo.tfplan"
    review.plan(config(**setup), world.tools(), out=out)
    world.calls.clear()
    return read_saved_plan(out)


def apply(world: World, saved: SavedPlan, *, yes: bool = False, **setup: Any) -> UpResult:
    return launcher.up(config(**setup), world.tools(), yes=yes, step_timeout=9.0, saved=saved)


def refusal(world: World, saved: SavedPlan, **setup: Any) -> tuple[str, str | None]:
    """Return why a plan is not applied, after making sure that nothing has changed."""
    before = world.tree()
    with pytest.raises(StateError) as caught:
        apply(world, saved, **setup)
    assert (world.tree(), "apply" in world.calls) == (before, False)
    return caught.value.message.removeprefix(f"{saved.path} is not applied: "), caught.value.hint


def again(saved: SavedPlan) -> str:
    return f"make a new one with `daft up --plan --out {saved.path}`"


def test_a_plan_is_applied_as_it_was_saved(world: World) -> None:
    saved = save(world)
    world.operator = {"operator_cidrs": ["198.51.100.9/32"]}
    cluster = Cluster(directory=world.directory, **OUTPUT)
    assert apply(world, saved) == UpResult(cluster=cluster, changed=True)
    assert world.calls == [
        "check_access",
        ("open_terraform", world.directory),
        ("dead_resources", world.directory),
        ("init", "reconfigure"),
        ("pull_state", str(world.directory / "terraform.tfstate")),
        "planned",
        "apply",
        "output",
        ("watch_head", cluster, 9.0),
        ("head_status", "ready", 1.0),
    ]
    rendered = {f".daft/demo/{name}": text for name, text in render_cluster(config()).files.items()}
    assert world.tree() == {
        **rendered,
        f".daft/demo/{OPERATOR_FILE}": '{\n  "operator_cidrs": [\n    "203.0.113.7/32"\n  ]\n}\n',
        ".daft/demo/.terraform.lock.hcl": LOCK,
        ".daft/demo/logs/apply.jsonl": "",
        ".daft/demo/daft.lock": "",
    }


def test_a_saved_plan_that_somebody_overtook_is_not_made_anew(world: World) -> None:
    saved = save(world)
    world.fails["apply"] = StalePlanError("somebody was quicker")
    with pytest.raises(StalePlanError) as caught:
        apply(world, saved)
    assert caught.value.hint.startswith("save a new plan with `daft up --plan --out FILE`; then go on with")
    assert [call for call in world.calls if call == "apply" or call[0] == "plan"] == ["apply"]


def test_what_a_saved_plan_has_left_out_is_a_warning(world: World) -> None:
    saved = save(world)
    world.missing = [["its volume has no tags"]]
    apply(world, saved)
    assert [call for call in world.calls if call == "apply" or call[0] in ("plan", "warn", "note")] == [
        "apply",
        ("warn", "its volume has no tags"),
    ]


def test_a_plan_of_no_change_is_saved_and_does_nothing(world: World) -> None:
    world.plan = Plan()
    saved = save(world)
    assert not apply(world, saved).changed
    assert "apply" not in world.calls


@pytest.mark.parametrize(
    ("now", "described"),
    [
        ({"name": "prod"}, "`prod` on aws in us-west-2"),
        ({"region": "eu-west-1"}, "`demo` on aws in eu-west-1"),
        ({"provider": "local"}, "`demo` on this machine"),
    ],
)
def test_a_plan_of_another_cluster(world: World, now: dict[str, str], described: str) -> None:
    assert refusal(world, save(world), **now) == (
        f"it is a plan of `demo` on aws in us-west-2, and the configuration says {described}",
        "name the file of that cluster with `-c`",
    )


def test_a_plan_for_another_account(world: World) -> None:
    saved = save(world)
    world.account = "AWS account 999999999999"
    assert refusal(world, saved) == (
        "it was made for AWS account 123456789012, and this is AWS account 999999999999",
        f"apply it for AWS account 123456789012, or {again(saved)}",
    )


def test_a_plan_of_another_configuration(world: World) -> None:
    saved = save(world)
    assert refusal(world, saved, number_of_workers=9) == (
        "the configuration has changed since, in main.tf",
        again(saved),
    )
    files = {
        name: digest for name, digest in saved.origin.files.items() if name not in ("main.tf", "backend.tf")
    }
    other = replace(saved, origin=replace(saved.origin, files={**files, "old.tf": "00"}, launcher="0.1"))
    files_of_old = "the configuration has changed since, in backend.tf, main.tf, old.tf"
    launchers = f"daft-launcher 0.1 saved it, and this is {version('daft-launcher')}"
    assert refusal(world, other) == (f"{files_of_old}; {launchers}", again(saved))
    names = list(render_cluster(config()).files)
    none = replace(saved, origin=replace(saved.origin, files={}))
    assert refusal(world, none)[0] == (
        f"the configuration has changed since, in {', '.join(names[:5])} and {len(names) - 5} more"
    )


def test_a_plan_of_another_terraform(world: World) -> None:
    saved = save(world)
    world.version = "OpenTofu 1.10.0"
    assert refusal(world, saved) == (
        "Terraform 1.11.4 made it, and this is OpenTofu 1.10.0",
        f"let DAFT_TERRAFORM name Terraform 1.11.4, or {again(saved)}",
    )


@pytest.mark.parametrize(
    ("planned_on", "now", "reason"),
    [
        (("", 0), ("abc", 3), "there was no state when it was made, and now there is one, at serial 3"),
        (("abc", 3), ("", 0), "it was made on serial 3 of a state that is not here"),
        (("abc", 3), ("abc", 4), "the state has moved since, from serial 3 to 4"),
        (("abc", 3), ("xyz", 3), "it was made on the state of another cluster of that name"),
    ],
)
def test_a_plan_on_another_state(
    world: World, planned_on: tuple[str, int], now: tuple[str, int], reason: str
) -> None:
    on_state(world, lineage=planned_on[0], serial=planned_on[1])
    saved = save(world)
    world.state = {"lineage": now[0], "serial": now[1]} if now[0] else {}
    assert refusal(world, saved) == (reason, again(saved))
    assert not world.directory.exists()


def test_a_root_that_is_there_is_put_back_as_it_was(world: World) -> None:
    apply(world, save(world))
    world.operator = {"operator_cidrs": ["198.51.100.9/32"]}
    lock = world.directory / ".terraform.lock.hcl"
    lock.write_text(LOCK.replace("h1:abc=", "h1:def="))
    saved = save(world, number_of_workers=9)
    world.state = {"lineage": "abc", "serial": 4}
    assert refusal(world, saved, number_of_workers=9)[1] == again(saved)


@pytest.mark.parametrize(
    ("selected", "named"), [(LOCK.replace("5.100.0", "5.101.0"), "5.101.0"), ("# empty\n", "not at all")]
)
def test_a_plan_with_other_providers(world: World, selected: str, named: str) -> None:
    saved = save(world)
    world.directory.mkdir(parents=True)
    lock = world.directory / ".terraform.lock.hcl"
    lock.write_text(selected)
    assert refusal(world, saved) == (
        f"{lock} selects {AWS} {named}, and it was made with 5.100.0",
        again(saved),
    )


def test_a_plan_with_providers_of_another_platform(world: World) -> None:
    saved = save(world)
    lock = world.directory / ".terraform.lock.hcl"
    world.on_init = lambda: lock.write_text(LOCK.replace("h1:abc=", 'h1:abc=",\n    "h1:of-this-platform='))
    reason, hint = refusal(world, saved)
    assert (
        reason == "it was made with providers of other checksums than this machine's, as for another platform"
    )
    assert hint == (
        f"name all platforms with `terraform -chdir={world.directory} providers lock -platform=…`, keep the lock "
        "file in git, and make a new plan"
    )


def test_what_init_learns_of_other_platforms_is_no_other_provider(world: World) -> None:
    saved = save(world)
    lock = world.directory / ".terraform.lock.hcl"
    world.on_init = lambda: lock.write_text(LOCK.replace("h1:abc=", 'h1:abc=",\n    "zh:00ff'))
    assert apply(world, saved).changed
    assert lock.read_text() == LOCK


def test_the_plans_are_made_with_the_providers_of_the_root(world: World) -> None:
    world.directory.mkdir(parents=True)
    lock = world.directory / ".terraform.lock.hcl"
    place = planning_place(world.directory, world.root / "cache")
    for selected, copied in (
        (LOCK, LOCK),
        (LOCK.replace("5.100.0", "5.101.0"), LOCK.replace("5.100.0", "5.101.0")),
        # What `init` has added to the copy is not thrown away for the same versions.
        (LOCK.replace("5.100.0", "5.101.0").replace("abc", "def"), LOCK.replace("5.100.0", "5.101.0")),
    ):
        lock.write_text(selected)
        save(world)
        assert (place / ".terraform.lock.hcl").read_text() == copied


# the key


def with_own_key(world: World) -> SavedPlan:
    """Plan as on a machine that makes the key."""
    place = planning_place(world.directory, world.root / "cache")
    place.mkdir(parents=True)
    world.operator = {"ssh_public_key": make_key_pair(place / PRIVATE_KEY)}
    review.plan(config(), world.tools(), out=world.root / "demo.tfplan")
    assert world.calls[-1] == ("note", KEY_STAYS)
    return save(world)


def test_the_key_that_was_planned_with_becomes_the_clusters(world: World) -> None:
    saved = with_own_key(world)
    apply(world, saved)
    key = world.directory / PRIVATE_KEY
    assert (public_key_of(key), oct(key.stat().st_mode)) == (
        saved.origin.operator["ssh_public_key"],
        "0o100600",
    )
    assert key.read_text().splitlines()[1] not in saved.path.read_bytes().decode(errors="replace")


def test_a_key_that_the_cluster_has_is_no_plans_own(world: World) -> None:
    apply(world, with_own_key(world))
    place = planning_place(world.directory, world.root / "cache")
    assert public_key_of(place / PRIVATE_KEY) == public_key_of(world.directory / PRIVATE_KEY)
    assert not save(world).origin.own_key


def test_the_key_goes_when_the_plan_is_not_applied(world: World) -> None:
    saved = with_own_key(world)
    world.state = {"lineage": "abc", "serial": 1}
    assert refusal(world, saved)[1] == again(saved)
    assert not world.directory.exists()


def test_a_key_that_lies_elsewhere_would_let_nobody_in(world: World) -> None:
    saved = with_own_key(world)
    (planning_place(world.directory, world.root / "cache") / PRIVATE_KEY).unlink()
    assert refusal(world, saved) == (
        "the SSH key that it lets in was made for it, and lies where it was made; nobody here could log in",
        "apply it there, or plan with `-i KEY` or with `ssh_key_name` under `[aws]`, which all machines know",
    )


def test_a_key_that_the_cluster_got_since_is_kept(world: World) -> None:
    saved = with_own_key(world)
    world.directory.mkdir(parents=True)
    make_key_pair(world.directory / PRIVATE_KEY)
    assert refusal(world, saved) == (
        f"it lets in another SSH key than {world.directory / PRIVATE_KEY}, which was made since",
        again(saved),
    )


def test_a_key_that_was_named_need_not_be_here(world: World) -> None:
    world.operator = {"ssh_public_key": "ssh-ed25519 AAAA"}
    saved = save(world)
    assert not saved.origin.own_key
    assert apply(world, saved).changed


# replacing the head


def test_a_saved_plan_that_replaces_the_head_asks_too(world: World) -> None:
    world.plan = Plan(changes=(HEAD_REPLACED,))
    saved = save(world)
    assert refusal(world, saved) == (
        "the head node would be replaced and its running jobs ended; nothing was changed",
        f"agree with `daft up --from-plan {saved.path} --yes`, or look at it first with `daft up --plan`",
    )
    world.answer = True
    assert apply(world, saved).changed
    world.answer = False
    assert apply(world, saved, yes=True).changed


def test_a_head_that_has_failed_is_replaced_without_a_question(world: World) -> None:
    world.plan, world.dead = Plan(changes=(HEAD_REPLACED,)), [AWS_HEAD]
    assert apply(world, save(world)).changed


# --out


def test_out_is_looked_at_before_anything_is_asked(world: World) -> None:
    (world.root / "letter").write_text("Dear Ann")
    with pytest.raises(StateError, match="is in the way"):
        review.plan(config(), world.tools(), out=world.root / "letter")
    assert world.calls == []


def test_a_plan_that_fails_is_not_saved(world: World) -> None:
    world.plan, world.fails["show"] = Plan(changes=(HEAD_CREATED,)), StateError("no")
    with pytest.raises(StateError):
        save(world)
    assert not (world.root / "demo.tfplan").exists()
