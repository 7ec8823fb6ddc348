"""The Terraform root of a cluster that another machine made, written anew from the state that a team shares."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from daft_launcher.backend import BACKEND_FILE
from daft_launcher.errors import NoBucketError
from daft_launcher.remote_state import pull_state
from daft_launcher.render import backend_of, render_backend, render_cluster
from daft_launcher.state_dir import made_directory, write_rendered
from daft_launcher.tools import Tools

if TYPE_CHECKING:
    from daft_launcher.config import ClusterReference


def restore_root(reference: ClusterReference, tools: Tools) -> bool:
    """Write the root of a cluster whose state lies in the bucket that its file names, where there is no root yet.

    Returns False, with nothing written, where there is one, and where no state is found. The root is good for
    removing the cluster: of its configuration it knows no more than its place.
    """
    directory = tools.state_dir.root_of(reference.name, reference.provider)
    if (directory / "main.tf").exists() or reference.provider == "local":
        return False
    config = reference.bare_config()
    backend = backend_of(config)
    if not backend.remote:
        return False
    tools.provider.check_access()
    try:
        tools.open_bucket(backend).check()
    except NoBucketError:
        return False
    state = pull_state(backend, directory, tools)
    if state.empty or state.cluster not in (None, reference.name):
        return False
    # The file may say another region by now; the cluster is where it was made.
    setup = config.setup.model_copy(update={"region": state.region or config.setup.region})
    rendered = render_cluster(config.model_copy(update={"setup": setup}))
    files = {**rendered.files, BACKEND_FILE: render_backend(backend)}
    with made_directory(directory):
        write_rendered(replace(rendered, files=files), directory)
    tools.reporter.note(
        f"this machine has no Terraform root of `{reference.name}`; its state is at {backend.describe(directory)}"
    )
    return True
