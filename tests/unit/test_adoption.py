"""What carries a cluster's tags and is not in its state: what `up` and `down` make of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import AWS_HEAD, HEAD_CREATED, HEAD_REPLACED, HEAD_UPDATED, OUTPUT, World, config

from daft_launcher import launcher, review, teardown
from daft_launcher.config import ClusterReference
from daft_launcher.errors import StateError, TerraformError
from daft_launcher.models import Plan, ResourceChange, TaggedResource
from daft_launcher.render import render_cluster
from daft_launcher.state_dir import write_rendered

TRAITS = {
    "image_id": "ami-1",
    "instance_type": "m7g.medium",
    "root_device_name": "/dev/xvda",
    "subnet_id": "subnet-1",
    "vpc_id": "vpc-1",
}
HEAD = TaggedResource(
    name="instance i-9 (running)", type="aws_instance", id="i-9", address=AWS_HEAD, traits=TRAITS
)
ROLE_ADDRESS = 'module.cluster.aws_iam_role.node["head"]'
ROLE = TaggedResource(name="IAM role r", type="aws_iam_role", id="r", address=ROLE_ADDRESS)
SECRET = TaggedResource(name="SSM parameter /daft/demo/ray", type="aws_ssm_parameter", id="/daft/demo/ray")
PORT = TaggedResource(
    name="security group rule sgr-1 (203.0.113.9/32)",
    type="aws_vpc_security_group_ingress_rule",
    id="sgr-1",
    address='module.cluster.aws_vpc_security_group_ingress_rule.ssh["203.0.113.9/32"]',
)
ENDING = TaggedResource(name="instance i-8 (shutting-down)")
ROLE_CREATED = ResourceChange(address=ROLE_ADDRESS, resource_type="aws_iam_role", action="create")
ADOPTING = Plan(changes=(HEAD_UPDATED,), imports=("i-9", "r"))
TAKING_IN = (
    "note",
    "taking in what exists of `demo` and is not in its state:\n  instance i-9 (running)\n  IAM role r",
)
KEY = ("note", "the key of `demo` was made elsewhere: log in with `-i KEY`, its private half")


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, tagged=[HEAD, ROLE, SECRET, PORT, ENDING])
    world.plans = [Plan(changes=(HEAD_CREATED, ROLE_CREATED))]
    world.plan = ADOPTING
    return world


@pytest.fixture
def files(world: World) -> list[dict[str, str]]:
    """What a root had besides its usual files, at each plan."""
    seen: list[dict[str, str]] = []

    def look(root: Path) -> None:
        names = ("imports.tf", "imports_override.tf", "adopted.tf")
        seen.append({name: (root / name).read_text() for name in names if (root / name).exists()})

    world.on_plan = look
    return seen


def up(world: World, **more: Any) -> launcher.UpResult:
    return launcher.up(config(), world.tools(), **({"yes": False, "step_timeout": 9.0} | more))


def standing(world: World, *resources: dict[str, Any]) -> Path:
    """Lay down a root whose state has these resources."""
    world.directory.mkdir(parents=True)
    write_rendered(render_cluster(config()), world.directory)
    state = json.dumps({"version": 4, "resources": list(resources)})
    (world.directory / "terraform.tfstate").write_text(state)
    return world.directory


def in_state(kind: str, name: str, key: str | None = None, **attributes: str) -> dict[str, Any]:
    instance = {"attributes": attributes, **({"index_key": key} if key else {})}
    return {
        "module": "module.cluster",
        "mode": "managed",
        "type": kind,
        "name": name,
        "instances": [instance],
    }


def after(world: World, name: str) -> list[Any]:
    """What was asked from the first time that something was asked."""
    names = [call if isinstance(call, str) else call[0] for call in world.calls]
    return world.calls[names.index(name) :]


def test_up_takes_in_what_exists_and_clears_what_no_state_may_have(
    world: World, files: list[dict[str, str]]
) -> None:
    assert up(world).changed
    assert after(world, "tagged")[:9] == [
        ("tagged", "demo"),
        TAKING_IN,
        ("operator_variables", world.directory, "shared"),
        ("plan", [], True),
        KEY,
        "planned",
        ("remove_strays", "/daft/demo/ray", "sgr-1"),
        "apply",
        "output",
    ]
    first, second = files
    assert (first, sorted(second)) == ({}, ["imports.tf", "imports_override.tf"])
    assert second["imports.tf"].split("\n", 3)[3] == (
        f'import {{\n  to = {AWS_HEAD}\n  id = "i-9"\n}}\n\nimport {{\n  to = {ROLE_ADDRESS}\n  id = "r"\n}}\n'
    )
    assert second["imports_override.tf"].split("\n", 3)[3] == (
        'module "cluster" {\n'
        "  held = {\n"
        '    image_id         = "ami-1"\n'
        '    instance_type    = "m7g.medium"\n'
        '    root_device_name = "/dev/xvda"\n'
        '    subnet_id        = "subnet-1"\n'
        '    vpc_id           = "vpc-1"\n'
        "  }\n"
        "}\n"
    )
    assert not [path for path in world.tree() if "import" in path or "adopted" in path]


def test_a_key_that_was_made_for_a_new_head_goes_with_the_thought_of_it(world: World) -> None:
    world.former_operator = {"ssh_public_key": "ssh-ed25519 AAAA"}
    world.plans = [Plan(changes=(HEAD_CREATED,))]
    keys: list[bool] = []
    world.on_apply = lambda: keys.append((world.directory / "id_ed25519").exists())

    def make_key_then_look(root: Path) -> None:
        if world.plans:
            (root / "id_ed25519").write_text("new")

    world.on_plan = make_key_then_look
    up(world)
    written = json.loads((world.directory / "operator.auto.tfvars.json").read_text())
    assert (keys, written, KEY in world.calls) == ([False], world.former_operator, True)
    world.calls.clear()
    world.plan = Plan()
    up(world)
    review.plan(config(), world.tools())
    asked = [call[2] for call in world.calls if call[0] == "operator_variables"]
    assert (asked, json.loads((world.directory / "operator.auto.tfvars.json").read_text())) == (
        ["shared", "shared"],
        world.former_operator,
    )


def test_what_the_state_knows_is_left_alone(world: World) -> None:
    standing(
        world,
        in_state("aws_ssm_parameter", "ray", id="/daft/demo/ray"),
        in_state("aws_vpc_security_group_ingress_rule", "ssh", "203.0.113.9/32", id="sgr-1"),
    )
    up(world)
    assert not [call for call in world.calls if call[0] == "remove_strays"]


def test_nothing_is_looked_for_when_nothing_would_be_made(world: World) -> None:
    world.plans, world.plan = [], Plan(changes=(HEAD_UPDATED,))
    up(world)
    assert ("tagged", "demo") not in world.calls


def test_an_older_state_first_forgets_what_is_gone(world: World) -> None:
    standing(
        world,
        in_state("aws_instance", "head", id="i-1"),
        in_state("aws_iam_role", "node", "head", id="q"),
        in_state("terraform_data", "image", id="1"),
        in_state("terraform_data", "region", id="2"),
    )
    up(world)
    assert after(world, "tagged")[:4] == [
        ("tagged", "demo"),
        TAKING_IN,
        ("forget", [AWS_HEAD, ROLE_ADDRESS, "module.cluster.terraform_data.image"]),
        ("operator_variables", world.directory, "shared"),
    ]


@pytest.mark.parametrize(("now", "replaced"), [("b", True), ("a", False)])
def test_a_head_that_was_set_up_otherwise_is_replaced_after_a_question(
    world: World, now: str, replaced: bool
) -> None:
    world.tagged[0] = replace(HEAD, traits={**TRAITS, "generation": "a"})
    tags = {"before": {"tags": {"daft:generation": "a"}}, "after": {"tags": {"daft:generation": now}}}
    change = {"address": AWS_HEAD, "type": "aws_instance", "change": {"actions": ["update"], **tags}}
    world.plan_json = {"resource_changes": [change]}
    world.plans += [ADOPTING, Plan(changes=(HEAD_REPLACED,), imports=("i-9", "r"))]
    if replaced:
        with pytest.raises(StateError, match="the head node would be replaced"):
            up(world)
        assert "apply" not in world.calls
    else:
        up(world)
    planned = [call for call in world.calls if call[0] == "plan"]
    assert planned == [("plan", [], True)] * 2 + [("plan", [AWS_HEAD], True)] * replaced


def test_a_review_forgets_in_the_copy_alone(world: World, files: list[dict[str, str]]) -> None:
    root = standing(world, in_state("aws_instance", "head", id="i-1"))
    before = world.tree()
    report = review.plan(config(), world.tools())
    assert (report.plan, world.tree()) == (ADOPTING, before)
    assert [sorted(seen) for seen in files] == [[], ["imports.tf", "imports_override.tf"]]
    assert ("forget", [AWS_HEAD]) in world.calls
    assert not [call for call in world.calls if call[0] == "remove_strays"]
    assert (root / "terraform.tfstate").exists()


def down(world: World) -> teardown.DownResult:
    reference = ClusterReference(name="demo", provider="aws")
    return teardown.down(reference, world.tools(), wait=True, deadline=100.0)


def test_down_takes_in_all_that_its_state_does_not_know(world: World, files: list[dict[str, str]]) -> None:
    standing(world, in_state("aws_iam_role", "node", "head", id="r"))
    world.plans, world.plan = [], Plan(imports=("i-9",))
    assert down(world).gone
    assert after(world, "tagged")[:6] == [
        ("tagged", "demo"),
        ("remove_strays", "/daft/demo/ray"),
        ("note", "taking in what exists of `demo` and is not in its state:\n  instance i-9 (running)"),
        ("plan", ["aws_instance.adopted_1"]),
        "apply",
        "start_destroy",
    ]
    (seen,) = files
    assert seen["adopted.tf"].split("\n", 3)[3] == (
        'import {\n  to = aws_instance.adopted_1\n  id = "i-9"\n}\n\n'
        'resource "aws_instance" "adopted_1" {\n  ami = "none"\n  instance_type = "none"\n\n'
        "  lifecycle {\n    ignore_changes = all\n  }\n\n  depends_on = [\n  ]\n}\n"
    )
    assert not (world.directory / "adopted.tf").exists()


def test_what_goes_while_down_takes_it_in_is_let_go(world: World) -> None:
    standing(world, in_state("aws_iam_role", "node", "head", id="r"))
    world.plans, world.plan = [], Plan(imports=("i-9",))
    world.tagged = [HEAD]

    def vanish(_: object) -> None:
        world.tagged = []
        raise TerraformError("no such instance")

    world.on_plan = vanish
    assert down(world).gone


def test_what_cannot_be_taken_in_is_said(world: World) -> None:
    standing(world, in_state("aws_iam_role", "node", "head", id="r"))
    world.fails["plan"] = TerraformError("not authorized")
    with pytest.raises(TerraformError, match="not authorized"):
        down(world)
    assert "start_destroy" not in world.calls


def test_a_whole_state_is_destroyed_as_it_is(world: World) -> None:
    attachment = in_state(
        "aws_iam_role_policy_attachment", "node", "head arn", id="r-1", role="r", policy_arn="arn"
    )
    policy = TaggedResource(name="policy", type="aws_iam_role_policy_attachment", id="r/arn")
    standing(world, in_state("aws_iam_role", "node", "head", id="r"), attachment)
    world.tagged = [ROLE, policy, PORT, ENDING]
    world.plan = Plan()
    assert down(world).gone
    assert after(world, "tagged")[:2] == [("tagged", "demo"), "start_destroy"]


def test_the_cluster_of_the_outputs_is_the_adopted_one(world: World) -> None:
    assert up(world).cluster.head_id == OUTPUT["head_id"]
