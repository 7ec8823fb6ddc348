"""Where this machine keeps Terraform's AWS provider, for what cannot or must not ask the registry."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "DAFT_TERRAFORM_PLUGIN_DIR"
#: Lets the provider start with a quarter less work, which else goes into collecting garbage, for 30 MB.
QUICK_START = {"GOGC": "400"}
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


def link_mirror(mirror: Path, folder: Path) -> Path:
    """Make a mirror in a folder in which each provider is a script that becomes the one of another mirror.

    Terraform checks the sum of what it starts each time, and of a script of a line that takes no half a second.
    """
    for provider in mirror.glob(f"{_REGISTRY}/hashicorp/aws/*/*/terraform-provider-aws*"):
        script = folder / provider.relative_to(mirror)
        script.parent.mkdir(parents=True)
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(provider))} "$@"\n')
        script.chmod(0o755)
    return folder


def make_mirror(folder: Path) -> Path:
    """Return a mirror that Terraform has fetched from its registry into a folder, unless that was done before."""
    if not (folder / _REGISTRY / "hashicorp" / "aws").is_dir():
        print(f"fetching the AWS provider for the lab into {folder}", file=sys.stderr)
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        subprocess.run(["terraform", f"-chdir={_MODULE}", "providers", "mirror", partial], check=True)
        partial.rename(folder)
    return folder
