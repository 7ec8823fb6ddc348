"""Terraform states as values: read from wherever they lie, written elsewhere, and told apart."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from daft_launcher.backend import BACKEND_FILE, Backend, find_declared
from daft_launcher.errors import StateError
from daft_launcher.lock import lock_cluster
from daft_launcher.models import Reporter
from daft_launcher.render import render_backend
from daft_launcher.rendered import RenderedCluster
from daft_launcher.state_dir import made_directory, write_rendered
from daft_launcher.tools import Terraform, Tools


class DamagedStateError(StateError):
    """A file has the place of a state, and is none."""


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
    def addresses(self) -> set[str]:
        """The addresses of everything in it."""
        return {
            f"{module + '.' if (module := resource.get('module')) else ''}{resource['type']}.{resource['name']}"
            + (f"[{json.dumps(key)}]" if (key := instance.get("index_key")) is not None else "")
            for resource, instance in self._instances()
        }

    @property
    def ids(self) -> set[tuple[str, str]]:
        """The type of each thing in it, with the id by which Terraform would import it."""
        return {
            (resource["type"], _import_id(resource["type"], instance.get("attributes") or {}))
            for resource, instance in self._instances()
        }

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
        for _, instance in self._instances():
            tags = (instance.get("attributes") or {}).get("tags")
            if isinstance(tags, dict) and "daft:cluster" in tags:
                yield tags["daft:cluster"]

    def _instances(self) -> Iterator[tuple[Any, Any]]:
        for resource in self.resources:
            if resource.get("mode", "managed") == "managed":
                yield from ((resource, instance) for instance in resource.get("instances", []))


def _import_id(kind: str, attributes: Mapping[str, Any]) -> str:
    # Terraform makes up an id for this one, and takes another.
    if kind == "aws_iam_role_policy_attachment":
        return f"{attributes.get('role')}/{attributes.get('policy_arn')}"
    return str(attributes.get("id"))


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
    return read_document(backend.local_path(directory))


def read_state(directory: Path, terraform: Terraform, *, copy: Path | None = None) -> State:
    """Return the state of an initialised root, or what a copy of it says."""
    backend = find_declared(directory) or Backend(type="local", settings={})
    if copy is None and backend.remote:
        return to_state(terraform.pull_state())
    return to_state(read_document(copy or backend.local_path(directory)))


def set_aside_damaged(directory: Path, reporter: Reporter) -> None:
    """Give a local state that is no state any more another name, so that what it described is found by its tags."""
    path = find_damaged(directory)
    if path is None:
        return
    aside = set_aside(path, "damaged")
    reporter.warn(f"the state {path} is damaged, and lies in {aside} now; what exists is found by its tags")


def set_aside(path: Path, why: str) -> Path:
    """Give a state file another name, which git ignores too, and return that. Raises StateError when it stays."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.{stamp}.{why}")
    try:
        path.replace(aside)
    except OSError as error:
        raise StateError(f"the state {path} cannot be set aside: {error.strerror}") from None
    return aside


def find_damaged(directory: Path) -> Path | None:
    """Return the file of a local state that is no state any more, None where there is none.

    Raises StateError where it cannot be told, as with a file that is closed to this user.
    """
    backend = find_declared(directory)
    if backend is None or backend.remote:
        return None
    path = backend.local_path(directory)
    try:
        read_document(path)
    except DamagedStateError:
        return path
    return None


def read_document(path: Path) -> Mapping[str, Any]:
    """Return what a state file says, nothing where there is none or where it is empty, as Terraform takes it.

    Raises DamagedStateError when it is no state, StateError when it cannot be read at all.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if not text:
            return {}
        document = json.loads(text)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StateError(
            f"the state {path} cannot be read: {error.strerror}",
            hint="let this user read it, and run the command again",
        ) from None
    except ValueError as error:
        raise DamagedStateError(f"the state {path} cannot be read: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("version"), int):
        raise DamagedStateError(f"the state {path} cannot be read: it is not in the form of one")
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
