"""Where Terraform keeps a cluster's state: read from what was generated, and from Terraform's own record."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daft_launcher.rendered import from_hcl

BACKEND_FILE = "backend.tf"
DEFAULT_PATH = "terraform.tfstate"
_RECORD = Path(".terraform", "terraform.tfstate")


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A backend of Terraform's, with its own settings by their own names."""

    type: str
    settings: Mapping[str, Any]

    @property
    def remote(self) -> bool:
        """Whether the state lies in a bucket, and not on this machine."""
        return self.type == "s3"

    def is_where(self, other: Backend) -> bool:
        """Return whether both mean the same state, whatever else they say of how to reach it."""
        return self._place() == other._place()

    def local_path(self, directory: Path) -> Path:
        """Return the file of a local state whose root is `directory`."""
        return directory / (self.settings.get("path") or DEFAULT_PATH)

    def describe(self, directory: Path) -> str:
        """Return where the state of the root `directory` lies, in words."""
        if self.remote:
            return f"s3://{self.settings['bucket']}/{self.settings['key']}"
        return str(self.local_path(directory))

    def _place(self) -> tuple[object, ...]:
        if not self.remote:
            return (self.type, self.settings.get("path") or DEFAULT_PATH)
        endpoint = (self.settings.get("endpoints") or {}).get("s3")
        return (self.type, self.settings["bucket"], self.settings["key"], endpoint)


def parse_backend(text: str) -> Backend:
    """Return the backend that a generated `backend.tf` describes."""
    kind = re.search(r'^  backend "(\w+)" \{$', text, re.MULTILINE)
    settings: dict[str, Any] = {}
    table: dict[str, Any] = settings
    for line in text.splitlines():
        if opened := re.match(r"^    (\w+)\s*= \{$", line):
            table = settings[opened[1]] = {}
        elif line == "    }":
            table = settings
        elif value := re.match(r"^ {4,6}(\w+)\s*= (.+)$", line):
            table[value[1]] = from_hcl(value[2])
    return Backend(type=kind[1] if kind else "local", settings=settings)


def find_declared(directory: Path) -> Backend | None:
    """Return the backend that a root's files name, None where there is no root."""
    try:
        return parse_backend((directory / BACKEND_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def find_recorded(directory: Path) -> Backend | None:
    """Return the backend that Terraform was last initialised with in a root, None where it never was."""
    try:
        record = json.loads((directory / _RECORD).read_text(encoding="utf-8"))["backend"]
        found = Backend(type=record["type"], settings=_without_nulls(record["config"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    complete = found.type == "local" or {"bucket", "key", "region"} <= set(found.settings)
    return found if complete else None


def _without_nulls(config: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in sorted(config.items()):
        plain = _without_nulls(value) if isinstance(value, dict) else value
        if plain not in (None, {}, []):
            kept[name] = plain
    return kept
