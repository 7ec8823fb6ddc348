"""A cluster that an earlier version made, in the hands of this one.

tests/upgrade/VERSION holds what each version left behind.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from awskit import Project
from moto.ec2.models.instances import Instance

from daft_launcher.config import load_config
from daft_launcher.models import Cluster
from daft_launcher.render import render_cluster
from daft_launcher.ssh_keys import make_key_pair
from daft_launcher.state_dir import may_hold_resources, to_cluster, write_operator_variables, write_rendered
from daft_launcher.terraform import TerraformRoot
from daft_launcher.terraform_binary import TerraformBinary
from tests.upgrade.record import PUBLIC_KEY, STATE, recorded_versions

pytestmark = pytest.mark.real

YESTERDAY = "# as it was yesterday\n"
HEAD = "module.cluster.aws_instance.head"


@dataclass(frozen=True)
class Heirloom:
    """A cluster that Terraform made from the root of an earlier version."""

    project: Project
    head_id: str


@pytest.fixture(scope="module", params=recorded_versions(), ids=lambda folder: folder.name)
def version(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.param
    return folder


@pytest.fixture(scope="module")
def heirloom(version: Path, new_project: Callable[..., Project], plugin_dir: Path | None) -> Heirloom:
    project = new_project("heirloom")
    shutil.copyfile(version / "daft.toml", project.root / ".daft.toml")
    root = project.terraform_root
    shutil.copytree(version / "root", root)
    # Also where the present script is still that of the version: one that differs must not matter.
    script = root / "modules" / "aws" / "bootstrap.sh"
    script.write_text(script.read_text() + YESTERDAY)
    variables = {"operator_cidrs": [], "ssh_public_key": make_key_pair(root / "id_ed25519")}
    write_operator_variables(root, variables)
    init(root, plugin_dir, project.environ)
    terraform(root, project.environ, "apply", "-auto-approve")
    head = project.head()
    project.say(head, "ready")
    return Heirloom(project, head.id)


def test_each_released_version_is_recorded() -> None:
    assert [folder.name for folder in recorded_versions()] == ["0.1.0"]


def test_its_head_is_not_replaced(heirloom: Heirloom) -> None:
    plan = heirloom.project.daft("up", "--plan", "--json")
    shown = json.loads(plan.out)
    assert (plan.status, plan.err) == (0, "")
    assert shown["head"] in ("kept", "updated")
    assert [change for change in shown["changes"] if change["action"] in ("replace", "delete")] == []


def test_up_takes_it_over_and_the_head_lives_on(heirloom: Heirloom) -> None:
    project = heirloom.project
    project.aws.requests.clear()
    up = project.daft("up")
    assert (up.status, up.out) == (0, "heirloom: head i-1 at 1.2.3.4, 2 workers asked for\n")
    assert (project.head().id, project.head().state) == (heirloom.head_id, "running")
    assert "StopInstances" not in {request.action for request in project.aws.requests}
    again = project.daft("up", "--plan", "--detailed-exitcode")
    assert (again.status, again.err) == (0, "")
    assert again.out.startswith("No changes. Your infrastructure matches the configuration.\n")


def test_limits_that_its_head_cannot_know_are_told_and_replace_nothing(heirloom: Heirloom) -> None:
    project = heirloom.project
    config = project.root / ".daft.toml"
    before = config.read_text()
    config.write_text(before.replace("[setup]", '[setup]\nmax_lifetime = "8h"'))
    up = project.daft("up")
    config.write_text(before)
    assert (up.status, project.head().id) == (0, heirloom.head_id)
    assert (
        "warning: the head of heirloom does not obey max_lifetime: an earlier version made it, or" in up.err
    )
    assert project.daft("up").status == 0


def test_the_next_head_has_the_script_of_today(heirloom: Heirloom) -> None:
    project = heirloom.project
    assert YESTERDAY in script_of(project.head())
    project.daft("up")
    config = project.root / ".daft.toml"
    config.write_text(config.read_text().replace('"pandas>=2"', '"pandas>=2", "pyarrow"'))
    assert project.up("--yes").status == 0
    assert project.head().id != heirloom.head_id
    script = render_cluster(load_config(config)).files["modules/aws/bootstrap.sh"]
    before, after = re.sub("(?m)^ *# .*\n", "", script).split("@DAFT_SETTINGS@")
    assert script_of(project.head()).startswith(before)
    assert script_of(project.head()).endswith(after)


def test_it_is_removed_to_the_last_thing(heirloom: Heirloom) -> None:
    project = heirloom.project
    down = project.daft("down", "--wait")
    assert (down.status, down.err.splitlines()[-1], project.tagged()) == (0, "heirloom is gone", [])


def test_its_recorded_state_is_read(
    version: Path,
    tmp_path: Path,
    heirloom: Heirloom,
    plugin_dir: Path | None,
    real_terraform: TerraformBinary,
) -> None:
    """The state as that version's own Terraform wrote it, byte for byte, and not one made anew today."""
    shutil.copytree(version / "root", tmp_path, dirs_exist_ok=True)
    shutil.copyfile(version / STATE, tmp_path / STATE)
    state = json.loads((version / STATE).read_text())
    (head,) = (r["instances"][0]["attributes"] for r in state["resources"] if r["type"] == "aws_instance")
    init(tmp_path, plugin_dir, heirloom.project.environ)
    terraform_root = TerraformRoot(
        tmp_path, real_terraform, environ=heirloom.project.environ, on_event=lambda _: None
    )
    assert may_hold_resources(tmp_path)
    assert to_cluster(terraform_root.output()["cluster"], tmp_path) == Cluster(
        name="heirloom",
        provider="aws",
        region="us-west-2",
        directory=tmp_path,
        head_id=head["id"],
        head_address=head["public_ip"],
        number_of_workers=2,
        ssh_user="ec2-user",
    )


def test_its_recorded_state_plans_no_new_head(
    version: Path, tmp_path: Path, heirloom: Heirloom, plugin_dir: Path | None
) -> None:
    """What stands in that state is in no moto any more, so nothing is refreshed."""
    write_rendered(render_cluster(load_config(version / "daft.toml")), tmp_path)
    write_operator_variables(tmp_path, {"operator_cidrs": [], "ssh_public_key": PUBLIC_KEY})
    shutil.copyfile(version / STATE, tmp_path / STATE)
    init(tmp_path, plugin_dir, heirloom.project.environ)
    terraform(tmp_path, heirloom.project.environ, "plan", "-refresh=false", "-out=plan")
    plan = json.loads(terraform(tmp_path, heirloom.project.environ, "show", "-json", "plan"))
    actions = {change["address"]: change["change"]["actions"] for change in plan["resource_changes"]}
    assert actions[HEAD] in (["no-op"], ["update"])
    assert [address for address, action in actions.items() if "delete" in action] == []


def script_of(node: Instance) -> str:
    return gzip.decompress(base64.b64decode(str(node.user_data))).decode()


def init(root: Path, plugin_dir: Path | None, environ: Mapping[str, str]) -> None:
    terraform(root, environ, "init", *([f"-plugin-dir={plugin_dir}"] if plugin_dir else []))


def terraform(root: Path, environ: Mapping[str, str], verb: str, *options: str) -> str:
    options = options if verb == "show" else ("-input=false", *options)
    command = ["terraform", verb, "-no-color", *options]
    done = subprocess.run(command, cwd=root, env=dict(environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout
