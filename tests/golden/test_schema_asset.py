"""The JSON Schema that ships is the one of the models."""

import json
import os
from pathlib import Path

from daft_launcher.config import config_schema

UPDATE = "DAFT_UPDATE_GOLDEN" in os.environ
SHIPPED = Path(__file__).parents[2] / "templates" / "config-schema.json"


def test_the_schema_that_ships_is_the_one_of_the_models():
    wanted = json.dumps(config_schema(), indent=2) + "\n"
    shipped = SHIPPED.read_text()
    if UPDATE:
        SHIPPED.write_text(wanted)
    assert shipped == wanted
