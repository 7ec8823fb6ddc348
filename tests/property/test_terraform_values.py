"""Every value of every key that a configuration takes comes out of Terraform as it was written."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from daft_launcher.config import ClusterConfig
from daft_launcher.render import render_cluster
from daft_launcher.terraform_binary import TerraformBinary
from tests.property.config_files import right_tables
from tests.property.examples import count, profile
from tests.property.hostile import unsafe

#: What the module decides by itself, or what differs from machine to machine.
_NOT_ARGUMENTS = ("source", "operator_cidrs", "ssh_public_key", "python")


def _configurations(number: int) -> list[ClusterConfig]:
    found: list[ClusterConfig] = []

    @profile(number)
    @given(right_tables())
    def collect(tables: dict[str, Any]) -> None:
        found.append(ClusterConfig.model_validate(tables))

    collect()
    count(len(found))
    return found


def _arguments(main: str) -> str:
    """Return the arguments of the root's one module as an object, in the very words of the file."""
    block = re.search(r'^module "cluster" \{\n(.*?)^\}$', main, re.MULTILINE | re.DOTALL)
    assert block
    lines = block[1].splitlines()
    kept = [line for line in lines if not re.match(rf"  ({'|'.join(_NOT_ARGUMENTS)}) +?=", line)]
    return "{\n" + "\n".join(kept) + "\n}"


def _wanted(config: ClusterConfig) -> dict[str, Any]:
    """Return what the module is to be told: each key of the file that is not null or empty there."""
    setup = config.setup.model_dump(mode="json", exclude={"provider"})
    values = setup | config.aws.model_dump(mode="json", exclude={"profile"})
    if config.setup.provider == "local":
        aws_only = {
            *config.aws.model_dump(),
            "region",
            "ssh_user",
            "instance_type",
            "image_id",
            "disk_size_gb",
            "tags",
            "max_lifetime",
            "idle_timeout",
        }
        values = {key: value for key, value in values.items() if key not in aws_only}
    values["setup_commands"] = list(config.run.setup_commands)
    return {key: value for key, value in values.items() if value not in (None, [], {})}


@pytest.mark.real
def test_every_value_survives_terraform(tmp_path: Path, real_terraform: TerraformBinary) -> None:
    configs = _configurations(80)
    outputs = []
    for number, config in enumerate(configs):
        main = render_cluster(config).files["main.tf"]
        assert not {char for char in unsafe(main) if char <= "\uffff"}
        outputs.append(f'output "o{number}" {{\n  value = {_arguments(main)}\n}}\n')
    (tmp_path / "main.tf").write_text("".join(outputs), encoding="utf-8")
    for words in (["init"], ["apply", "-auto-approve"]):
        command = [real_terraform.path, *words, "-no-color", "-input=false"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    command = [real_terraform.path, "output", "-json"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    seen = {name: output["value"] for name, output in json.loads(said).items()}
    assert seen == {f"o{number}": _wanted(config) for number, config in enumerate(configs)}
