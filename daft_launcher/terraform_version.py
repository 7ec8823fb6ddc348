"""What a Terraform or OpenTofu binary says of itself, and whether that will do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from daft_launcher.errors import TerraformError

FLOOR = (1, 11)

Product = Literal["terraform", "tofu"]


def read_version(path: Path, *, environ: Mapping[str, str], timeout: float) -> tuple[Product, str]:
    """Return a binary's product and version. Raises TerraformError when it is too old or does not say."""
    # Asked anew each time: it costs 35 ms, and a version manager's shim answers by the folder it runs in.
    output = _version_output(path, environ=environ, timeout=timeout)
    match = re.search(r'"terraform_version":\s*"([^"]+)"', output)
    match = match or re.search(r"^(?:Terraform|OpenTofu) v(\S+)", output, re.MULTILINE)
    parts = re.match(r"(\d+)\.(\d+)", match[1]) if match else None
    if match is None or parts is None:
        last_line = "".join(output.strip().splitlines()[-1:]) or "nothing"
        raise TerraformError(f"`{path}` did not tell its version, but said: {last_line:.200}")
    product: Product = "tofu" if "tofu" in path.name or "tofu" in path.resolve().name else "terraform"
    if (int(parts[1]), int(parts[2])) < FLOOR:
        title = {"terraform": "Terraform", "tofu": "OpenTofu"}[product]
        raise TerraformError(f"`{path}` is {title} {match[1]}, and 1.11 or newer is needed")
    return product, match[1]


def _version_output(path: Path, *, environ: Mapping[str, str], timeout: float) -> str:
    """Return all that `version -json` prints. Raises TerraformError when it cannot be run or hangs."""
    # The user's CLI arguments and configuration may be broken, and a look for newer releases may wait for a
    # network that is not there: none of that says anything about the binary.
    env = {name: value for name, value in environ.items() if not name.startswith(("TF_CLI_ARGS", "TF_LOG"))}
    env |= {"CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": os.devnull}
    try:
        process = subprocess.Popen(
            [path, "version", "-json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
    except OSError as error:
        raise TerraformError(f"`{path}` cannot be run: {error.strerror}") from error
    with process:
        try:
            return process.communicate(timeout=timeout)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            raise TerraformError(f"`{path}` did not tell its version within {timeout:g} seconds") from None
        finally:
            if process.poll() is None:
                # The whole group: in a shim it is the child that hangs, and it would live on.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
