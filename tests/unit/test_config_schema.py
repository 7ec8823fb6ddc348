"""The JSON Schema that editors use takes what the program takes, and refuses what it refuses."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import tomli

from daft_launcher.config import ClusterConfig, config_schema, load_config

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*/daft.toml"))
BASE = '[setup]\nname = "demo"\nprovider = "aws"\n'


def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(config_schema())
    return jsonschema.Draft202012Validator(config_schema())


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.parent.name)
def test_it_takes_every_golden_configuration(file: Path) -> None:
    load_config(file)
    assert list(validator().iter_errors(tomli.loads(file.read_text()))) == []


def test_the_golden_configurations_use_every_key() -> None:
    used: dict[str, set[str]] = {}
    for file in GOLDEN:
        for table, values in tomli.loads(file.read_text()).items():
            used.setdefault(table, set()).update(values)
    fields = {
        table: set(ClusterConfig.model_fields[table].annotation.model_fields)
        for table in ("setup", "run", "aws", "prices")
    }
    assert {table: used[table] for table in fields} == fields
    assert used["backend"] >= {"type", "path", "bucket", "region", "profile", "kms_key_id", "encrypt"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", []),
        ("[setup]\nname = 'demo'\n", ["setup"]),
        (BASE.replace("demo", "Demo"), ["setup", "name"]),
        (BASE.replace("demo", "CHANGE-ME"), ["setup", "name"]),
        (BASE.replace("aws", "gcp"), ["setup", "provider"]),
        (f"{BASE}regions = 'us-west-2'\n", ["setup"]),
        (f"{BASE}region = 'Oregon'\n", ["setup", "region"]),
        (f"{BASE}number_of_workers = -1\n", ["setup", "number_of_workers"]),
        (f"{BASE}number_of_workers = 5001\n", ["setup", "number_of_workers"]),
        (f"{BASE}number_of_workers = '2'\n", ["setup", "number_of_workers"]),
        (f"{BASE}disk_size_gb = 7\n", ["setup", "disk_size_gb"]),
        (f"{BASE}dependencies = 'x'\n", ["setup", "dependencies"]),
        (f"{BASE}dependencies = [1]\n", ["setup", "dependencies", 0]),
        (f"{BASE}tags = {{ a = 1 }}\n", ["setup", "tags", "a"]),
        (f"{BASE}image_id = 'ami-1'\n", ["setup", "image_id"]),
        (f"{BASE}[run]\ncommand = 1\n", ["run", "command"]),
        (f"{BASE}[aws]\nspot = 'yes'\n", ["aws", "spot"]),
        (f"{BASE}[aws]\niam_policy_arns = ['x']\n", ["aws", "iam_policy_arns", 0]),
        (f"{BASE}[backend]\n", ["backend"]),
        (f"{BASE}[backend]\ntype = 's3'\n", ["backend"]),
        (f"{BASE}[backend]\ntype = 'local'\nbucket = 'abc'\n", ["backend"]),
        (f"{BASE}[prices]\ngp3_gb_month = -1\n", ["prices", "gp3_gb_month"]),
        (f"{BASE}[prices]\ngp3 = 1\n", ["prices"]),
        (f"{BASE}[prices]\ninstance_hour = {{ large = 1 }}\n", ["prices", "instance_hour"]),
        (f"{BASE}[prices]\nspot_hour = {{ 'm7g.large' = 'x' }}\n", ["prices", "spot_hour", "m7g.large"]),
        (f"{BASE}[nothing]\n", []),
    ],
)
def test_it_refuses_what_the_program_refuses(text: str, path: list[str | int], tmp_path: Path) -> None:
    errors = list(validator().iter_errors(tomli.loads(text)))
    assert [list(error.absolute_path) for error in errors] == [path]
    file = tmp_path / ".daft.toml"
    file.write_text(text)
    with pytest.raises(Exception, match="has a problem"):
        load_config(file)


def test_every_key_is_explained() -> None:
    schema = config_schema()
    silent = [
        f"{name}.{key}"
        for name in ("Setup", "Run", "Aws", "Prices")
        for key, about in schema["$defs"][name]["properties"].items()
        if not about.get("description")
    ]
    assert (silent, schema["title"]) == ([], ".daft.toml")
