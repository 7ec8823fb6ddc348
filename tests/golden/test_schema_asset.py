"""The JSON Schemas that ship are the ones of the models."""

import json
import os
from pathlib import Path

import pytest

from daft_launcher.config import config_schema
from daft_launcher.plan_document import plan_schema

UPDATE = "DAFT_UPDATE_GOLDEN" in os.environ
TEMPLATES = Path(__file__).parents[2] / "templates"
SCHEMAS = {"config-schema.json": config_schema, "plan-schema.json": plan_schema}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_that_ships_is_the_one_of_the_models(name: str):
    wanted = json.dumps(SCHEMAS[name](), indent=2) + "\n"
    shipped = (TEMPLATES / name).read_text()
    if UPDATE:
        (TEMPLATES / name).write_text(wanted)
    assert shipped == wanted
