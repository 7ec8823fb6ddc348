"""Terraform states as values: read from wherever they lie, written elsewhere, and told apart."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daft_launcher.backend import BACKEND_FILE, Backend
from daft_launcher.errors import StateError
from daft_launcher.lock import lock_cluster
from daft_launcher.render import render_backend
from daft_launcher.rendered import RenderedCluster
from daft_launcher.state_dir import made_directory, write_rendered
from daft_launcher.tools import Terraform, Tools


@dataclass(frozen=True, kw_only=True)
class State:
    """One state; `lineage` stays the same for as long as it lives, `serial` grows with each change of it."""

    lineage: str = ""
    serial: int = 0
    resources: list[Any] = field(default_factory=list)
    outputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether it describes nothing that exists."""
        return not self.resources

    @property
    def is_of_a_cluster(self) -> bool:
        """Whether it was made by a root of ours."""
        return any(resource.get("module") == "module.cluster" for resource in self.resources)

    @property
    def cluster(self) -> str | None:
        """The cluster whose state it is; None when it says nothing of one."""
        return self._output("name") or next(iter(self._names()), None)

    @property
    def region(self) -> str | None:
        """The region of its cluster; None when that was not made whole."""
        return self._output("region")

    def is_same(self, other: State) -> bool:
        """Return whether both describe the very same things.

        Terraform gives a state another lineage when it writes it where there was none.
        """
        return (self.resources, self.outputs) == (other.resources, other.outputs)

    def _output(self, name: str) -> str | None:
        value = self.outputs.get("cluster", {}).get("value")
        return value.get(name) if isinstance(value, dict) else None

    def _names(self) -> Iterator[str]:
        for resource in self.resources:
            for instance in resource.get("instances", []):
                tags = (instance.get("attributes") or {}).get("tags")
                if isinstance(tags, dict) and "daft:cluster" in tags:
                    yield tags["daft:cluster"]


def to_state(document: Mapping[str, Any]) -> State:
    """Return the state of a state file."""
    return State(
        lineage=document.get("lineage") or "",
        serial=document.get("serial") or 0,
        resources=document.get("resources") or [],
        outputs=document.get("outputs") or {},
    )


def pull_state(backend: Backend, directory: Path, tools: Tools) -> State:
    """Return what lies at a backend of the root `directory`, an empty state where nothing does."""
    return to_state(pull_document(backend, directory, tools))


def pull_document(backend: Backend, directory: Path, tools: Tools) -> Mapping[str, Any]:
    """Return the same as Terraform writes it. Raises StateError when it cannot be read."""
    if backend.remote:
        with opened(backend, directory, tools) as terraform:
            return terraform.pull_state()
    path = backend.local_path(directory)
    try:
        text = path.read_text(encoding="utf-8")
        document: Mapping[str, Any] = json.loads(text or "{}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StateError(f"the state {path} cannot be read: {error}") from None
    return document


@contextlib.contextmanager
def opened(backend: Backend, directory: Path, tools: Tools) -> Iterator[Terraform]:
    """Yield a Terraform that sees a backend and nothing else, in a folder of the user's cache."""
    if not backend.remote:
        path = str(backend.local_path(directory.resolve()))
        backend = Backend(type="local", settings={"path": path})
    text = render_backend(backend)
    name = hashlib.sha256(f"{directory.resolve()}\n{text}".encode()).hexdigest()[:16]
    scratch = tools.cache / "states" / name
    with (
        made_directory(scratch, instead="XDG_CACHE_HOME"),
        lock_cluster(scratch, command="daft") as lock,
    ):
        write_rendered(RenderedCluster(files={BACKEND_FILE: text}), scratch, instead="XDG_CACHE_HOME")
        terraform = tools.open_terraform(scratch, lock)
        terraform.init(reconfigure=True)
        yield terraform
