"""Where this machine keeps Terraform's AWS provider, for what cannot or must not ask the registry."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "DAFT_TERRAFORM_PLUGIN_DIR"
_REGISTRY = "registry.terraform.io"
_ADD_ONS = ("/opt", "/usr/share", "/usr/local/share", "~/.terraform.d")
_MODULE = Path(__file__).parents[1] / "terraform" / "aws"


def find_mirror(environ: Mapping[str, str]) -> Path | None:
    """Return the folder that the environment names or that add-on software brought; None where there is none."""
    named = environ.get(VARIABLE)
    for prefix in (*([named] if named else []), *_ADD_ONS):
        folder = Path(prefix.replace("~", environ.get("HOME", "~"), 1))
        for pattern in (_REGISTRY, f"*/{_REGISTRY}", f"*/*/{_REGISTRY}"):
            for found in sorted(folder.glob(pattern)):
                if (found / "hashicorp" / "aws").is_dir():
                    return found.parent
    return None


def make_mirror(folder: Path) -> Path:
    """Return a mirror that Terraform has fetched from its registry into a folder, unless that was done before."""
    if not (folder / _REGISTRY / "hashicorp" / "aws").is_dir():
        print(f"fetching the AWS provider for the lab into {folder}", file=sys.stderr)
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        subprocess.run(["terraform", f"-chdir={_MODULE}", "providers", "mirror", partial], check=True)
        partial.rename(folder)
    return folder
