"""What Terraform could not write to where the state lies: written by the next command, and lost by none."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fakes import OUTPUT, World
from fakes import config as local_config

from daft_launcher import launcher, review, teardown
from daft_launcher.backend import Backend
from daft_launcher.config import ClusterConfig, ClusterReference
from daft_launcher.errors import TerraformError
from daft_launcher.render import backend_of, render_cluster
from daft_launcher.state_dir import write_rendered
from daft_launcher.teardown import DownResult

PLACE = "s3://states/daft/demo/terraform.tfstate"
HEAD = {"module": "module.cluster", "type": "aws_instance", "instances": [{"attributes": {"id": "i-head"}}]}


def in_a_bucket() -> ClusterConfig:
    setup = {"name": "demo", "provider": "aws"}
    return ClusterConfig.model_validate({"setup": setup, "backend": {"type": "s3", "bucket": "states"}})


def state(serial: int, lineage: str = "line", **more: Any) -> dict[str, Any]:
    outputs = {"cluster": {"value": OUTPUT}}
    return {
        "version": 4,
        "lineage": lineage,
        "serial": serial,
        "resources": [HEAD],
        "outputs": outputs,
        **more,
    }


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.states[PLACE] = state(3)
    return world


def standing(world: World, config: ClusterConfig, errored: str) -> Path:
    """Lay down a root whose last command could not write its state, and return that state's file."""
    directory = world.directory
    directory.mkdir(parents=True)
    write_rendered(render_cluster(config), directory)
    note_backend(directory, backend_of(config))
    path = directory / "errored.tfstate"
    path.write_text(errored)
    return path


def note_backend(directory: Path, backend: Backend) -> None:
    record = directory / ".terraform" / "terraform.tfstate"
    record.parent.mkdir()
    record.write_text(json.dumps({"backend": {"type": backend.type, "config": dict(backend.settings)}}))


def up(world: World, config: ClusterConfig) -> None:
    launcher.up(config, world.tools(), yes=False, step_timeout=9.0)


def down(world: World) -> DownResult:
    reference = ClusterReference(name="demo", provider="aws")
    return teardown.down(reference, world.tools(), wait=True, deadline=100.0)


def asked(world: World, *names: str) -> list[Any]:
    return [call for call in world.calls if (call if isinstance(call, str) else call[0]) in names]


def aside(path: Path) -> Path:
    (found,) = path.parent.glob("errored.tfstate*")
    return found


def test_up_writes_it_before_it_plans(world: World) -> None:
    path = standing(world, in_a_bucket(), json.dumps(state(5)))
    up(world, in_a_bucket())
    kept = aside(path)
    assert (kept.suffix, json.loads(kept.read_text())) == (".backup", state(5))
    assert world.states == {PLACE: state(5)}
    assert asked(world, "init", "push_state", "note", "warn", "plan") == [
        ("init", "reconfigure"),
        ("push_state", PLACE, False),
        ("note", f"wrote the state that Terraform could not write before; {kept} keeps it as it was"),
        ("plan", [], True),
    ]


def test_what_it_is_called_then_stays_out_of_git(world: World) -> None:
    path = standing(world, in_a_bucket(), json.dumps(state(5)))
    up(world, in_a_bucket())
    subprocess.run(["git", "init", "--quiet", str(path.parent)], check=True)
    asked_of_git = subprocess.run(
        ["git", "check-ignore", "--quiet", aside(path).name], cwd=path.parent, check=False
    )
    assert asked_of_git.returncode == 0


def test_a_state_of_which_nothing_could_be_written_on_this_machine(world: World) -> None:
    path = standing(world, local_config(), json.dumps(state(2)))
    up(world, local_config())
    home = str(world.directory / "terraform.tfstate")
    assert (asked(world, "push_state"), aside(path).suffix) == ([("push_state", home, False)], ".backup")


@pytest.mark.parametrize(
    "errored",
    [state(2), state(3), state(5, "another")],
    ids=["older", "as old", "another line"],
)
def test_what_does_not_go_on_from_the_state_is_set_aside(world: World, errored: dict[str, Any]) -> None:
    path = standing(world, in_a_bucket(), json.dumps(errored))
    up(world, in_a_bucket())
    assert (asked(world, "push_state", "note", "warn"), aside(path).suffix) == ([], ".backup")
    assert json.loads(aside(path).read_text()) == errored


@pytest.mark.parametrize("text", ['{"version": 4, "serial"', "[]", "{}", "\0" * 9], ids=repr)
def test_one_that_is_damaged_is_set_aside_in_so_many_words(world: World, text: str) -> None:
    path = standing(world, in_a_bucket(), text)
    up(world, in_a_bucket())
    kept = aside(path)
    assert (kept.suffix, kept.read_text()) == (".damaged", text)
    said = f"{path}, the state that Terraform could not write, is damaged, and lies in {kept} now; "
    assert asked(world, "push_state", "warn") == [("warn", f"{said}what exists is found by its tags")]


def test_one_that_cannot_be_written_again_stays_where_it_is(world: World) -> None:
    path = standing(world, in_a_bucket(), json.dumps(state(5)))
    world.fails["push_state"] = TerraformError("no")
    for run in (lambda: up(world, in_a_bucket()), lambda: down(world)):
        with pytest.raises(TerraformError, match="no"):
            run()
        assert (aside(path), asked(world, "plan", "start_destroy")) == (path, [])


def test_down_removes_what_only_it_knows(world: World) -> None:
    world.states = {}
    path = standing(world, in_a_bucket(), json.dumps(state(5)))
    assert down(world) == DownResult(existed=True, gone=True)
    assert asked(world, "push_state", "start_destroy") == [("push_state", PLACE, False), "start_destroy"]
    assert aside(path).suffix == ".backup"


def test_down_on_this_machine_removes_what_only_it_knows(world: World) -> None:
    standing(world, local_config(), json.dumps(state(5)))
    assert down(world) == DownResult(existed=True, gone=True)
    home = str(world.directory / "terraform.tfstate")
    assert asked(world, "push_state", "start_destroy") == [("push_state", home, False), "start_destroy"]


@pytest.mark.parametrize("where", [in_a_bucket(), local_config()], ids=["in a bucket", "here"])
@pytest.mark.parametrize(("serial", "told"), [(5, True), (3, False)])
def test_a_plan_says_so_and_changes_nothing(
    world: World, where: ClusterConfig, serial: int, told: bool
) -> None:
    path = standing(world, where, json.dumps(state(serial)))
    if where == local_config():
        (world.directory / "terraform.tfstate").write_text(json.dumps(state(3)))
    before = world.tree()
    review.plan(where, world.tools())
    note = f"`daft up` would first write {path}, the state that Terraform could not write; this plan is made without it"
    assert asked(world, "push_state", "note", "warn") == ([("note", note)] if told else [])
    assert (world.tree(), world.states) == (before, {PLACE: state(3)})
