"""What every JSON of a plan that a test produces has to be: as the schema says that ships."""

from __future__ import annotations

import json
from collections.abc import Sequence

import jsonschema

from daft_launcher.assets import plan_schema_text


def check_plan_json(arguments: Sequence[str], out: str) -> None:
    """Fail unless what `daft up --plan --json` wrote fits its schema; other commands are passed over."""
    if {"--plan", "--json"} <= set(arguments) and out:
        jsonschema.validate(json.loads(out), json.loads(plan_schema_text()))
