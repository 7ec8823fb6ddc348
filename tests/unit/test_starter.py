"""`init-config`: the file from which every user starts."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import tomli

from daft_launcher.config import config_schema, load_config
from daft_launcher.errors import ConfigError, StateError, UsageError
from daft_launcher.starter import write_starter_config

DEFAULTS = {
    "region": "us-west-2",
    "ssh_user": "ec2-user",
    "number_of_workers": 2,
    "instance_type": "m7g.medium",
    "dependencies": [],
}


@pytest.mark.parametrize("provider", ["aws", "local"])
def test_the_file_says_what_its_defaults_are(tmp_path: Path, provider: str) -> None:
    file = tmp_path / ".daft.toml"
    write_starter_config(file, provider=provider, name="demo")
    text = file.read_text()
    assert tomli.loads(text) == {
        "setup": {"name": "demo", "provider": provider, **DEFAULTS},
        "run": {"setup_commands": []},
    }
    bare = tmp_path / "bare.toml"
    bare.write_text(f'[setup]\nname = "demo"\nprovider = "{provider}"\n')
    assert load_config(file) == load_config(bare)


def test_every_key_stands_in_it_and_says_whether_it_is_needed(tmp_path: Path) -> None:
    file = tmp_path / ".daft.toml"
    write_starter_config(file, provider="aws", name="demo")
    lines = file.read_text().splitlines()
    schema = config_schema()["$defs"]
    for table in ("Setup", "Run"):
        for key in schema[table]["properties"]:
            (position,) = [n for n, line in enumerate(lines) if line.lstrip("# ").startswith(f"{key} =")]
            while lines[position].lstrip("# ").partition(" = ")[0] in schema[table]["properties"]:
                position -= 1
            comment = []
            while lines[position].startswith("#"):
                comment.insert(0, lines[position])
                position -= 1
            wanted = "# Required." if key in schema[table].get("required", []) else "# Optional, default "
            assert comment[0].startswith(wanted), key


def test_what_is_commented_out_can_be_taken_in(tmp_path: Path) -> None:
    file = tmp_path / ".daft.toml"
    write_starter_config(file, provider="aws", name="demo")
    keys = [*config_schema()["$defs"]["Setup"]["properties"], "command"]
    lines = file.read_text().splitlines()
    taken = [line[2:] if line[2:].partition(" = ")[0] in keys else line for line in lines]
    file.write_text("\n".join(taken))
    config = load_config(file)
    assert (config.setup.image_id, config.setup.tags, config.run.command) == (
        "ami-01c3c55948a949a52",
        {"team": "data"},
        "python main.py",
    )


def test_without_a_name_the_file_asks_for_one(tmp_path: Path) -> None:
    file = tmp_path / ".daft.toml"
    write_starter_config(file, provider="aws", name=None)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert caught.value.message == (
        f"{file} has a problem:\n"
        f"  {file}:6: `setup.name` is still the placeholder 'CHANGE-ME': give your cluster a name, like 'demo'"
    )


def test_its_first_line_names_a_schema_that_accepts_it(tmp_path: Path) -> None:
    file = tmp_path / ".daft.toml"
    write_starter_config(file, provider="aws", name="demo")
    first = file.read_text().splitlines()[0]
    assert first == "#:schema .daft/schema.json"
    schema = json.loads((tmp_path / ".daft" / "schema.json").read_text())
    assert schema == config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tomli.loads(file.read_text()), schema, jsonschema.Draft202012Validator)


def tree(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / ".daft.toml"
    file.write_text("mine")
    with pytest.raises(StateError) as caught:
        write_starter_config(file, provider="aws", name="demo")
    assert (caught.value.message, caught.value.hint) == (
        f"{file} exists already, and is never overwritten",
        "edit it, move it away, or name another file: `daft init-config FILE`",
    )
    assert tree(tmp_path) == {".daft.toml": "mine"}


def test_a_link_that_leads_nowhere_is_not_written_through(tmp_path: Path) -> None:
    file = tmp_path / ".daft.toml"
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="exists already"):
        write_starter_config(file, provider="aws", name="demo")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["Demo", "", "a b", "-a", 'x"', "x\n", "CHANGE-ME", "a" * 31])
def test_a_name_that_cannot_be_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        write_starter_config(tmp_path / ".daft.toml", provider="aws", name=name)
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (
        f"{name!r} cannot be the name of a cluster",
        "1 to 30 lower-case letters, digits, `-` or `_`; the first a letter, the last no `-` or `_`",
        2,
    )
    assert tree(tmp_path) == {}


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "missing" / ".daft.toml"
    with pytest.raises(StateError) as caught:
        write_starter_config(file, provider="aws", name="demo")
    assert caught.value.message == f"{file} cannot be written: No such file or directory"


def test_a_file_where_the_schemas_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / ".daft").write_text("mine")
    with pytest.raises(StateError) as caught:
        write_starter_config(tmp_path / ".daft.toml", provider="aws", name="demo")
    assert (caught.value.message, caught.value.hint) == (
        f"{tmp_path}/.daft is in the way: it is not a folder",
        "move it away, or write to another folder",
    )
    assert tree(tmp_path) == {".daft": "mine"}


@pytest.mark.parametrize("text", [None, "mine", "{}", '{"title": "mine"}', "[]"])
def test_something_else_where_the_schema_should_be(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / ".daft" / "schema.json"
    if text is None:
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
        path.write_text(text)
    with pytest.raises(StateError) as caught:
        write_starter_config(tmp_path / ".daft.toml", provider="aws", name="demo")
    assert (caught.value.message, caught.value.hint) == (
        f"{path} is in the way: it was not generated here, and is never overwritten",
        "move it away, or write to another folder",
    )
    assert tree(tmp_path) == ({} if text is None else {"schema.json": text})


def test_the_schema_of_an_earlier_version_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / ".daft" / "schema.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"title": config_schema()["title"], "old": True}))
    write_starter_config(tmp_path / ".daft.toml", provider="aws", name="demo")
    assert json.loads(path.read_text()) == config_schema()
