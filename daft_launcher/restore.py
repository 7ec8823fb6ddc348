"""The Terraform root of a cluster that has none on this machine, written anew so that the cluster can be removed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from daft_launcher.backend import BACKEND_FILE, Backend
from daft_launcher.errors import NoBucketError
from daft_launcher.remote_state import State, pull_state
from daft_launcher.render import backend_of, render_backend, render_cluster
from daft_launcher.state_dir import made_directory, write_rendered
from daft_launcher.tools import Tools

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig, ClusterReference


def restore_root(reference: ClusterReference, tools: Tools) -> bool:
    """Write the root of a cluster that exists, where this machine has none.

    That is one whose state lies in the bucket that its file names, or of which something carries the tags. Returns
    False, with nothing written, where there is a root, and where there is no cluster. The root is good for removing
    the cluster: of its configuration it knows no more than its place.
    """
    directory = tools.state_dir.root_of(reference.name, reference.provider)
    if (directory / "main.tf").exists() or reference.provider == "local":
        return False
    config = reference.bare_config()
    tools.provider.check_access()
    backend = _existing_backend(config, tools)
    state = pull_state(backend, directory, tools) if backend.remote else State()
    if state.cluster not in (None, reference.name):
        return False
    if state.empty and not tools.provider.leftovers(reference.name):
        return False
    # The file may say another region by now; the cluster is where it was made.
    setup = config.setup.model_copy(update={"region": state.region or config.setup.region})
    rendered = render_cluster(config.model_copy(update={"setup": setup}))
    files = {**rendered.files, BACKEND_FILE: render_backend(backend)}
    with made_directory(directory):
        write_rendered(replace(rendered, files=files), directory)
    found = f"its state is at {backend.describe(directory)}" if not state.empty else "it is found by its tags"
    tools.reporter.note(f"this machine has no Terraform root of `{reference.name}`; {found}")
    return True


def _existing_backend(config: ClusterConfig, tools: Tools) -> Backend:
    """Return the backend that a file names; the local one where its bucket is gone, which held the state."""
    backend = backend_of(config)
    if backend.remote:
        try:
            tools.open_bucket(backend).check()
        except NoBucketError:
            return Backend(type="local", settings={})
    return backend
