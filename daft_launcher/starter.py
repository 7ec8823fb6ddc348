"""The use case behind `init-config`: the file from which every user starts."""

from __future__ import annotations

import json
import re
from pathlib import Path

from daft_launcher.config import config_schema
from daft_launcher.config_types import NAME_PATTERN
from daft_launcher.errors import StateError, UsageError
from daft_launcher.models import ProviderName
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
            opened.write(render_starter_config(provider=provider, name=name))
        schema = file.parent / SCHEMA_FILE
        schema.parent.mkdir(exist_ok=True)
        schema.write_text(json.dumps(config_schema(), indent=2) + "\n", encoding="utf-8")
    except FileExistsError:
        raise StateError(
            f"{file} exists already, and is never overwritten",
            hint="edit it, move it away, or name another file: `daft init-config FILE`",
        ) from None
    except OSError as error:
        raise StateError(f"{error.filename or file} cannot be written: {error.strerror}") from None
