"""The root that `up --plan` plans in: a copy in the user's cache of what `up` would write, with a copy of the state."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from daft_launcher.backend import BACKEND_FILE, DEFAULT_PATH, Backend, parse_backend
from daft_launcher.render import render_backend
from daft_launcher.rendered import RenderedCluster
from daft_launcher.saved_plan import LOCK_FILE, provider_versions
from daft_launcher.state_dir import PRIVATE_KEY, write_operator_variables, write_rendered
from daft_launcher.tools import Tools


def copy_root(
    rendered: RenderedCluster, directory: Path, scratch: Path, backend: Backend, tools: Tools
) -> Mapping[str, object]:
    """Make the root in `scratch`, on the backend where the state lies, and return this machine's variables in it."""
    if not backend.is_where(parse_backend(rendered.files[BACKEND_FILE])):
        rendered = replace(rendered, files={**rendered.files, BACKEND_FILE: render_backend(backend)})
    write_rendered(rendered, scratch, instead="XDG_CACHE_HOME")
    # A key pair that `up` made is the cluster's; where there is none yet, the one planned with never leaves here.
    owner = directory if (directory / PRIVATE_KEY).exists() else scratch
    operator = tools.provider.operator_variables(owner, shared=backend.remote)
    write_operator_variables(scratch, operator)
    _copy_lock_file(directory / LOCK_FILE, scratch / LOCK_FILE)
    return operator


def copy_state(backend: Backend, directory: Path, scratch: Path) -> Path | None:
    """Copy a local state, if there is one, and return where Terraform has to be told that it lies."""
    copy = scratch / DEFAULT_PATH
    copy.unlink(missing_ok=True)
    if backend.remote:
        return None
    source = backend.local_path(directory)
    if source.exists():
        shutil.copyfile(source, copy)
        copy.chmod(0o600)
    return copy if "path" in backend.settings else None


def _copy_lock_file(source: Path, copy: Path) -> None:
    """Plan with the providers that `up` would apply with; `init` may have added hashes of them to the copy."""
    if source.exists():
        selected = source.read_text(encoding="utf-8")
        if not copy.exists() or provider_versions(copy.read_text(encoding="utf-8")) != provider_versions(
            selected
        ):
            copy.write_text(selected, encoding="utf-8")
