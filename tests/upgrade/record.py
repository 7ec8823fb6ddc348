"""`make upgrade-fixture`: keep what this version makes of a cluster, for later versions to take over.

Writes VERSION/daft.toml, VERSION/root as it is rendered and VERSION/terraform.tfstate as Terraform left it on moto.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import tomli

from daft_launcher.assets import find_asset
from daft_launcher.config import load_config
from daft_launcher.render import render_cluster
from daft_launcher.state_dir import write_operator_variables, write_rendered
from daft_launcher.terraform_binary import find_terraform
from tests.moto.server import MotoServer

HERE = Path(__file__).parent
STATE = "terraform.tfstate"
# A key like any other; its private half was thrown away.
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC0bue7U49DX8DCQ0BIuhma6zxcdgTY+nw7kL49ueo6y"


def main() -> None:
    folder = HERE / program_version()
    if folder.exists():
        sys.exit(f"{folder} exists already: a version is recorded once, when it is released")
    rendered = render_cluster(load_config(HERE / "daft.toml"))
    with tempfile.TemporaryDirectory() as place, MotoServer() as aws:
        root = Path(place)
        write_rendered(rendered, root)
        write_operator_variables(root, {"operator_cidrs": [], "ssh_public_key": PUBLIC_KEY})
        apply(root, aws.environment())
        write_rendered(rendered, folder / "root")
        shutil.copyfile(HERE / "daft.toml", folder / "daft.toml")
        shutil.copyfile(root / STATE, folder / STATE)
    print(f"{folder} is written: look at it, and commit it")


def recorded_versions() -> list[Path]:
    """Return the folder of each recorded version, oldest first."""
    folders = [path.parent for path in HERE.glob(f"*/{STATE}")]
    return sorted(folders, key=lambda folder: [int(part) for part in folder.name.split(".")])


def program_version() -> str:
    """Return the version that pyproject.toml names; what is installed may lag behind."""
    project = (find_asset("templates").parent / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomli.loads(project)["project"]["version"])


def apply(root: Path, environ: Mapping[str, str]) -> None:
    """Make a root's cluster with Terraform alone, as a pipeline does."""
    terraform = str(find_terraform(progress=print).path)
    mirror = os.environ.get("DAFT_TERRAFORM_PLUGIN_DIR")
    options = [f"-plugin-dir={mirror}"] if mirror else []
    for words in (["init", *options], ["apply", "-auto-approve"]):
        command = [terraform, *words, "-input=false", "-no-color"]
        done = subprocess.run(
            command, cwd=root, env=dict(environ), capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{json.dumps(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
