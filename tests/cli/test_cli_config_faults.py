"""Every way in which a `.daft.toml` can be no use, for every command that reads one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from clikit import COMMANDS, LOCAL, Desk, Seen, failed

EVERY_KEY = "`daft init-config` writes a file that names every key"


def _text(text: str | bytes) -> Callable[[Desk], object]:
    return lambda desk: desk.write(".daft.toml", text)


#: What lies there instead of a good file, and what each command says of it.
FAULTS: dict[str, tuple[Callable[[Desk], object], Seen]] = {
    "no file": (
        lambda desk: None,
        failed(
            "there is no .daft.toml",
            "write one with `daft init-config`, or name yours with `--config FILE`",
            status=2,
        ),
    ),
    "a directory": (
        lambda desk: (desk.project / ".daft.toml").mkdir(),
        failed(".daft.toml is a directory, not a file", "did you mean `.daft.toml/.daft.toml`?", status=2),
    ),
    "a link to itself": (
        lambda desk: (desk.project / ".daft.toml").symlink_to(".daft.toml"),
        failed(".daft.toml cannot be read: Too many levels of symbolic links", status=2),
    ),
    "a file where a folder should be": (
        lambda desk: (desk.write("folder", ""), (desk.project / ".daft.toml").symlink_to("folder/x.toml")),
        failed(".daft.toml cannot be read: Not a directory", status=2),
    ),
    "broken TOML": (
        _text('[setup\nname = "demo"\n'),
        failed(
            ".daft.toml is not valid TOML: Expected ']' at the end of a table declaration (at line 1, column 7)",
            "https://toml.io has the rules",
            status=2,
        ),
    ),
    "a key twice": (
        _text(LOCAL + 'name = "other"\n'),
        failed(
            ".daft.toml is not valid TOML: Cannot overwrite a value (at line 4, column 15)",
            "https://toml.io has the rules",
            status=2,
        ),
    ),
    "no UTF-8": (
        _text(b'[setup]\nname = "d\xe9mo"\n'),
        failed(
            ".daft.toml is not UTF-8 text: invalid continuation byte at byte 17", "save it as UTF-8", status=2
        ),
    ),
    "an empty file": (
        _text(""),
        failed(
            ".daft.toml has a problem:\n  .daft.toml:1: `setup` is required and missing", EVERY_KEY, status=2
        ),
    ),
    "the placeholder for a name": (
        _text(LOCAL.replace("demo", "CHANGE-ME")),
        failed(
            ".daft.toml has a problem:\n  .daft.toml:2: `setup.name` is still the placeholder 'CHANGE-ME': "
            "give your cluster a name, like 'demo'",
            EVERY_KEY,
            status=2,
        ),
    ),
    "a name that AWS would not take": (
        _text(LOCAL.replace("demo", "My Cluster")),
        failed(
            ".daft.toml has a problem:\n  .daft.toml:2: `setup.name` must be 1 to 30 lower-case letters, digits, "
            "`-` or `_`, start with a letter and end with a letter or a digit, not 'My Cluster'",
            EVERY_KEY,
            status=2,
        ),
    ),
    "wrong types in what names the cluster": (
        _text('[setup]\nname = 7\nprovider = "gcp"\n'),
        failed(
            ".daft.toml has 2 problems:\n  .daft.toml:2: `setup.name` must be a string, not 7\n"
            "  .daft.toml:3: `setup.provider` must be 'aws' or 'local', not 'gcp'",
            EVERY_KEY,
            status=2,
        ),
    ),
}

#: What is wrong beside the cluster's name must not keep `down` from removing it.
FAULTS_BUT_FOR_DOWN: dict[str, tuple[str, Seen]] = {
    "wrong types": (
        LOCAL
        + 'number_of_workers = "two"\ndependencies = "numpy"\ndisk_size_gb = 1.5\n[run]\ncommand = true\n',
        failed(
            ".daft.toml has 4 problems:\n"
            "  .daft.toml:4: `setup.number_of_workers` must be a whole number, not 'two'\n"
            "  .daft.toml:5: `setup.dependencies` must be a list, not 'numpy'\n"
            "  .daft.toml:6: `setup.disk_size_gb` must be a whole number, not 1.5\n"
            "  .daft.toml:8: `run.command` must be a string, not true",
            EVERY_KEY,
            status=2,
        ),
    ),
    "unknown keys": (
        LOCAL + 'instance-typ = "m7g.medium"\nspot = true\n[jobs]\ncommand = "x"\n',
        failed(
            ".daft.toml has 3 problems:\n"
            "  .daft.toml:4: `setup.instance_typ` is not a key that is known here; did you mean `instance_type`?\n"
            "  .daft.toml:5: `setup.spot` is not a key that is known here; `spot` belongs to [aws]\n"
            "  .daft.toml:6: `jobs` is not a key that is known here; known: aws, backend, prices, run, setup",
            EVERY_KEY,
            status=2,
        ),
    ),
}


READERS = {**COMMANDS, "backend create": ["backend", "create"]}


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_usable_file(desk: Desk, command: str, fault: str):
    prepare, expected = FAULTS[fault]
    prepare(desk)
    with desk.unchanged():
        assert desk.daft(*READERS[command]) == expected


@pytest.mark.parametrize("command", [command for command in READERS if command != "down"])
@pytest.mark.parametrize("fault", FAULTS_BUT_FOR_DOWN)
def test_a_file_with_mistakes(desk: Desk, command: str, fault: str):
    text, expected = FAULTS_BUT_FOR_DOWN[fault]
    desk.write(".daft.toml", text)
    with desk.unchanged():
        assert desk.daft(*READERS[command]) == expected


@pytest.mark.parametrize("fault", FAULTS_BUT_FOR_DOWN)
def test_down_needs_no_more_than_the_name(desk: Desk, fault: str):
    desk.write(".daft.toml", FAULTS_BUT_FOR_DOWN[fault][0])
    with desk.unchanged():
        assert desk.daft("down") == Seen(0, err="there is no cluster demo\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_named_with_c(desk: Desk, command: str):
    expected = failed(
        "elsewhere/other.toml has a problem:\n  elsewhere/other.toml:1: `setup` is required and missing",
        EVERY_KEY,
        status=2,
    )
    desk.write("elsewhere/other.toml", "")
    with desk.unchanged():
        args = COMMANDS[command]
        assert desk.daft(args[0], "-c", "elsewhere/other.toml", *args[1:]) == expected


def test_the_state_lies_beside_a_file_in_another_folder(desk: Desk):
    desk.write("elsewhere/other.toml", LOCAL)
    assert desk.daft("render", "-c", "elsewhere/other.toml") == Seen(
        0, err="elsewhere/.daft/demo.local: 11 of 11 files written\n"
    )
    assert (desk.project / "elsewhere/.daft/demo.local/main.tf").is_file()
    assert not (desk.project / ".daft").exists()


def test_a_file_that_may_not_be_read(desk: Desk, tmp_path: Path):
    """Modes do not bind root, so the file is one that nobody can read: a process's own memory map, unmapped."""
    with desk.unchanged():
        assert desk.daft("up", "-c", "/proc/self/mem") == failed(
            "/proc/self/mem cannot be read: Input/output error", status=2
        )
