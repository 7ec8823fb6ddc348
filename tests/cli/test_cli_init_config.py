"""`daft init-config` and `daft config-schema`: the file from which every user starts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import tomli
from clikit import Desk, Seen, failed

from daft_launcher.config import Run, Setup, load_config

NEXT = "Next: `daft up --plan`, then `daft up`"
STARTED = Seen(0, err=f"wrote .daft.toml; give the cluster a name in it. {NEXT}\n")


@pytest.fixture
def starter(desk: Desk) -> Path:
    assert desk.daft("init-config") == STARTED
    return desk.project / ".daft.toml"


def test_the_keys_that_are_set(starter: Path):
    assert tomli.loads(starter.read_text()) == {
        "setup": {
            "name": "CHANGE-ME",
            "provider": "aws",
            "region": "us-west-2",
            "ssh_user": "ec2-user",
            "number_of_workers": 2,
            "instance_type": "m7g.medium",
            "dependencies": [],
        },
        "run": {"setup_commands": []},
    }


def test_the_keys_that_are_not_set_may_be(starter: Path):
    """With every `# key = value` line turned on, each key of [setup] and [run] stands there, and all of it is valid."""
    text = re.sub(r"^# (\w+ = )", r"\1", starter.read_text(), flags=re.MULTILINE)
    starter.write_text(text.replace("CHANGE-ME", "demo"))
    assert load_config(starter).setup.name == "demo"
    tables = tomli.loads(starter.read_text())
    assert (set(tables["setup"]), set(tables["run"])) == (set(Setup.model_fields), set(Run.model_fields))


def test_each_key_has_a_comment_that_says_whether_it_is_needed(starter: Path):
    blocks = [block for block in starter.read_text().split("\n\n") if re.search(r"^(# )?\w+ = ", block, re.M)]
    assert len(blocks) >= 12
    for block in blocks:
        comment = block.removeprefix("[setup]\n").removeprefix("[run]\n")
        assert re.match(r"# (Required\.|Optional, default )", comment), block


def test_the_defaults_that_it_names_are_the_defaults(starter: Path):
    starter.write_text(starter.read_text().replace("CHANGE-ME", "demo"))
    least = starter.with_name("least.toml")
    least.write_text('[setup]\nname = "demo"\nprovider = "aws"\n')
    assert load_config(starter) == load_config(least)


def test_its_first_line_names_a_schema_that_is_there(desk: Desk, starter: Path):
    first = starter.read_text().splitlines()[0]
    assert first == "#:schema .daft/schema.json"
    schema = json.loads((desk.project / ".daft/schema.json").read_text())
    assert schema == json.loads(desk.daft("config-schema").out)
    jsonschema.validate(tomli.loads(starter.read_text().replace("CHANGE-ME", "demo")), schema)


@pytest.mark.parametrize("command", ["up", "up --plan", "down", "render"])
def test_unedited_it_says_what_has_to_be_filled_in(desk: Desk, starter: Path, command: str):
    line = starter.read_text().splitlines().index('name = "CHANGE-ME"') + 1
    with desk.unchanged():
        assert desk.daft(*command.split()) == failed(
            f".daft.toml has a problem:\n  .daft.toml:{line}: `setup.name` is still the placeholder 'CHANGE-ME': "
            "give your cluster a name, like 'demo'",
            "`daft init-config` writes a file that names every key",
            status=2,
        )


@pytest.mark.parametrize("provider", ["aws", "local"])
def test_provider_and_name(desk: Desk, provider: str):
    seen = desk.daft("init-config", "--provider", provider, "--name", "demo-1")
    assert seen == Seen(0, err=f"wrote .daft.toml. {NEXT}\n")
    setup = load_config(desk.project / ".daft.toml").setup
    assert (setup.name, setup.provider) == ("demo-1", provider)


def test_another_file(desk: Desk):
    (desk.project / "my clusters").mkdir()
    assert desk.daft("init-config", "my clusters/a.toml", "--name", "a") == Seen(
        0,
        err="wrote my clusters/a.toml. Next: `daft up -c 'my clusters/a.toml' --plan`, "
        "then `daft up -c 'my clusters/a.toml'`\n",
    )
    assert sorted(path.name for path in (desk.project / "my clusters").iterdir()) == [".daft", "a.toml"]
    assert not (desk.project / ".daft").exists()


def test_a_second_file_in_the_same_folder(desk: Desk, starter: Path):
    schema = (desk.project / ".daft/schema.json").read_text()
    assert desk.daft("init-config", "b.toml", "--name", "b").status == 0
    assert (desk.project / ".daft/schema.json").read_text() == schema


PLACES = {
    "a file": (lambda desk: desk.write(".daft.toml", "mine"), ".daft.toml", "never"),
    "a folder": (lambda desk: (desk.project / ".daft.toml").mkdir(), ".daft.toml", "never"),
    "a dangling link": (lambda desk: (desk.project / ".daft.toml").symlink_to("gone"), ".daft.toml", "never"),
    "its own file": (lambda desk: desk.daft("init-config"), ".daft.toml", "never"),
}
WHAT_IS_THERE = "edit it, move it away, or name another file: `daft init-config FILE`"
ELSEWHERE = "name another place: `daft init-config FILE`"
AWAY = "move it away, or write to another folder"


@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_overwritten(desk: Desk, place: str):
    PLACES[place][0](desk)
    with desk.unchanged():
        assert desk.daft("init-config") == failed(
            ".daft.toml exists already, and is never overwritten", WHAT_IS_THERE
        )


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["no/where.toml"], failed("no/where.toml cannot be written: No such file or directory", ELSEWHERE)),
        (["file/x.toml"], failed("file/x.toml cannot be written: Not a directory", ELSEWHERE)),
        ([""], failed(". exists already, and is never overwritten", WHAT_IS_THERE)),
    ],
)
def test_a_place_that_does_not_go(desk: Desk, args: list[str], expected: Seen):
    desk.write("file", "mine")
    with desk.unchanged():
        assert desk.daft("init-config", *args) == expected


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (".daft", ".daft is in the way: it is not a folder"),
        (
            ".daft/schema.json",
            ".daft/schema.json is in the way: it was not generated here, and is never overwritten",
        ),
    ],
)
@pytest.mark.parametrize("content", ["mine\n", '{"title": "mine"}\n', "[]\n"])
def test_a_foreign_file_where_the_schema_goes(desk: Desk, what: str, message: str, content: str):
    desk.write(what, content)
    with desk.unchanged():
        assert desk.daft("init-config") == failed(message, AWAY)


@pytest.mark.parametrize(
    "name", ["Demo", "", "my cluster", "-x", "x-", "a" * 31, "démo", "$(x)", "CHANGE-ME"]
)
def test_a_name_that_cannot_be_one(desk: Desk, name: str):
    with desk.unchanged():
        assert desk.daft("init-config", "--name", name) == failed(
            f"{name!r} cannot be the name of a cluster",
            "1 to 30 lower-case letters, digits, `-` or `_`; the first a letter, the last no `-` or `_`",
            status=2,
        )


def test_config_schema(desk: Desk):
    seen = desk.daft("config-schema")
    assert (seen.status, seen.err) == (0, "")
    schema = json.loads(seen.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = {"setup": {"name": "demo", "provider": "aws"}}
    assert validator.is_valid(good)
    for bad in (
        {},
        {"setup": {"name": "Demo", "provider": "aws"}},
        {**good, "jobs": {}},
        {"setup": {"name": "demo"}},
    ):
        assert not validator.is_valid(bad), bad
