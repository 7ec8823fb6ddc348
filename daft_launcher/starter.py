"""The use case behind `init-config`: the file from which every user starts."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path

from daft_launcher.assets import find_asset
from daft_launcher.errors import StateError, UsageError
from daft_launcher.instances import ProviderName
from daft_launcher.models import NAME_PATTERN
from daft_launcher.render import render_starter_config

SCHEMA_FILE = Path(".daft") / "schema.json"


def write_starter_config(file: Path, *, provider: ProviderName, name: str | None) -> None:
    """Write a commented configuration and, for editors, the schema that its first line names.

    Raises StateError when the file exists or cannot be written, UsageError when the name cannot be one.
    """
    if name is not None and not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(
            f"{name!r} cannot be the name of a cluster",
            hint="1 to 30 lower-case letters, digits, `-` or `_`; the first a letter, the last no `-` or `_`",
        )
    try:
        with file.open("x", encoding="utf-8") as opened:
            try:
                opened.write(render_starter_config(provider=provider, name=name))
                opened.flush()
                _write_schema(file.parent / SCHEMA_FILE)
            except BaseException:
                file.unlink()
                raise
    except FileExistsError:
        raise StateError(
            f"{file} exists already, and is never overwritten",
            hint="edit it, move it away, or name another file: `daft init-config FILE`",
        ) from None
    except OSError as error:
        raise StateError(
            f"{error.filename or file} cannot be written: {error.strerror}",
            hint="name another place: `daft init-config FILE`",
        ) from None


def schema_text() -> str:
    """Return the JSON Schema of `.daft.toml` as it ships: building it from the models takes a tenth of a second."""
    return (find_asset("templates") / "config-schema.json").read_text(encoding="utf-8")


def _write_schema(path: Path) -> None:
    _refuse_foreign(path)
    text = schema_text()
    with contextlib.ExitStack() as undo:
        if not path.parent.exists():
            path.parent.mkdir()
            undo.callback(shutil.rmtree, path.parent, ignore_errors=True)
        path.write_text(text, encoding="utf-8")
        undo.pop_all()


def _refuse_foreign(path: Path) -> None:
    if path.parent.exists() and not path.parent.is_dir():
        raise _in_the_way(path.parent, "is not a folder")
    if path.exists() and not _is_schema(path):
        raise _in_the_way(path, "was not generated here, and is never overwritten")


def _in_the_way(path: Path, why: str) -> StateError:
    return StateError(f"{path} is in the way: it {why}", hint="move it away, or write to another folder")


def _is_schema(path: Path) -> bool:
    try:
        return bool(
            json.loads(path.read_text(encoding="utf-8"))["title"] == json.loads(schema_text())["title"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False
