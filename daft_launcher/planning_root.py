"""The root that `up --plan` plans in: a copy in the user's cache of what `up` would write, with a copy of the state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from daft_launcher.backend import BACKEND_FILE, DEFAULT_PATH, Backend, parse_backend
from daft_launcher.remote_state import find_damaged
from daft_launcher.render import render_backend
from daft_launcher.rendered import RenderedCluster
from daft_launcher.saved_plan import LOCK_FILE, provider_versions
from daft_launcher.state_dir import (
    PRIVATE_KEY,
    was_applied,
    write_operator_variables,
    write_private,
    write_rendered,
)
from daft_launcher.tools import Tools

_PLACED = "placed.tfstate"


def copy_root(
    rendered: RenderedCluster, directory: Path, scratch: Path, backend: Backend, tools: Tools
) -> Mapping[str, object]:
    """Make the root in `scratch`, on the backend where the state lies, and return this machine's variables in it."""
    if not backend.is_where(parse_backend(rendered.files[BACKEND_FILE])):
        rendered = replace(rendered, files={**rendered.files, BACKEND_FILE: render_backend(backend)})
    write_rendered(rendered, scratch, instead="XDG_CACHE_HOME")
    # A key pair that `up` made is the cluster's; where there is none yet, the one planned with never leaves here.
    owner = directory if (directory / PRIVATE_KEY).exists() else scratch
    operator = tools.provider.operator_variables(owner, shared=backend.remote or was_applied(directory))
    write_operator_variables(scratch, operator)
    _copy_lock_file(directory / LOCK_FILE, scratch / LOCK_FILE)
    return operator


def copy_state(backend: Backend, directory: Path, scratch: Path) -> Path | None:
    """Copy a local state, if there is one, and return where Terraform has to be told that it lies."""
    placed = "path" in backend.settings
    # Of one at the default path `init` would ask whether to move it to the path that is set.
    copy = scratch / (_PLACED if placed else DEFAULT_PATH)
    for name in (_PLACED, DEFAULT_PATH):
        (scratch / name).unlink(missing_ok=True)
    if backend.remote:
        return None
    source = backend.local_path(directory)
    if source.exists() and not find_damaged(directory):
        write_private(copy, source.read_bytes())
    return copy if placed else None


def _copy_lock_file(source: Path, copy: Path) -> None:
    """Plan with the providers that `up` would apply with; `init` may have added hashes of them to the copy."""
    if source.exists():
        selected = source.read_text(encoding="utf-8")
        if not copy.exists() or provider_versions(copy.read_text(encoding="utf-8")) != provider_versions(
            selected
        ):
            copy.write_text(selected, encoding="utf-8")
