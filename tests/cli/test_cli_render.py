"""`daft render` and `daft render --check`, as a pipeline uses them."""

from __future__ import annotations

import pytest
from clikit import AWS, LOCAL, Desk, Seen

LOCAL_FILES = [
    ".gitignore",
    "backend.tf",
    "cluster.json",
    "main.tf",
    "modules/local/environment.py",
    "modules/local/main.tf",
    "modules/local/node.py",
    "modules/local/outputs.tf",
    "modules/local/processes.py",
    "modules/local/variables.tf",
    "modules/local/versions.tf",
]


def _files(desk: Desk, folder: str) -> list[str]:
    root = desk.project / folder
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_render_writes_the_root_and_nothing_else(desk: Desk):
    desk.write(".daft.toml", LOCAL)
    assert desk.daft("render") == Seen(0, err=".daft/demo.local: 11 of 11 files written\n")
    assert _files(desk, ".") == sorted([".daft.toml", *(f".daft/demo.local/{name}" for name in LOCAL_FILES)])
    with desk.unchanged():
        assert desk.daft("render") == Seen(0, err=".daft/demo.local: 0 of 11 files written\n")


@pytest.mark.parametrize(
    ("args", "environ", "folder"),
    [
        ([], {}, ".daft/demo"),
        (["--out", "hcl"], {}, "hcl"),
        (["--state-dir", "state"], {}, "state/demo"),
        ([], {"DAFT_STATE_DIR": "fromenv"}, "fromenv/demo"),
        (["--state-dir", "state"], {"DAFT_STATE_DIR": "fromenv"}, "state/demo"),
        (["--provider", "local"], {}, ".daft/demo.local"),
    ],
)
def test_where_it_writes(desk: Desk, args: list[str], environ: dict[str, str], folder: str):
    desk.write(".daft.toml", AWS)
    desk.environ |= environ
    seen = desk.daft("render", *args)
    count = len(_files(desk, folder))
    assert seen == Seen(0, err=f"{folder}: {count} of {count} files written\n")
    assert {"main.tf", "backend.tf", "cluster.json"} <= set(_files(desk, folder))


def test_the_bytes_do_not_depend_on_where_and_when(desk: Desk):
    desk.write(".daft.toml", AWS)
    desk.write("deep/er/.daft.toml", AWS)
    desk.daft("render", "--out", "one")
    desk.environ |= {"TZ": "Asia/Tokyo", "LC_ALL": "C", "USER": "bob"}
    desk.daft("render", "--out", "two", "-c", "deep/er/.daft.toml")
    one, two = (
        {name: desk.project.joinpath(at, name).read_bytes() for name in _files(desk, at)}
        for at in ("one", "two")
    )
    assert one == two
    assert not any(str(desk.root).encode() in content for content in one.values())


def test_the_bytes_do_not_depend_on_who_runs_it_and_how(desk: Desk):
    desk.write(".daft.toml", AWS.replace("[aws]", 'tags = { b = "日本", a = "é" }\n[aws]\nspot = true'))
    others = {
        "plain": ({}, 0o022),
        "seed": ({"PYTHONHASHSEED": "1"}, 0o077),
        "locale": ({"PYTHONHASHSEED": "2", "LC_ALL": "C", "PYTHONUTF8": "0"}, 0o002),
        "home": ({"HOME": "/nonexistent", "USER": "bob", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "3"}, 0o022),
    }
    plain = dict(desk.environ)
    made = {}
    for name, (environ, umask) in others.items():
        desk.environ = plain | environ
        assert desk.program("render", "--out", name, umask=umask).status == 0
        made[name] = {path: (desk.project / name / path).read_bytes() for path in _files(desk, name)}
        assert not any((desk.project / name / path).stat().st_mode & 0o111 for path in made[name])
    assert [name for name in others if made[name] != made["plain"]] == []
    assert list(desk.home.iterdir()) == []


def test_check_says_what_it_can_where_the_locale_has_no_character_for_it(desk: Desk):
    desk.environ |= {"LC_ALL": "C", "PYTHONUTF8": "0"}
    desk.write(".daft.toml", LOCAL + 'dependencies = ["é"]\n')
    seen = desk.program("render", "--check")
    assert (seen.status, seen.err) == (1, "")
    assert '\n+    "\\xe9",\n' in seen.out


def test_setup_commands_stay_with_their_provider(desk: Desk):
    desk.write(".daft.toml", AWS + '[run]\nsetup_commands = ["echo a", "echo b"]\n')
    assert desk.daft("render", "--provider", "local") == Seen(
        0,
        err="left out on this machine: 2 setup command(s) written for aws\n"
        ".daft/demo.local: 11 of 11 files written\n",
    )
    assert "echo a" not in (desk.project / ".daft/demo.local/main.tf").read_text()


@pytest.mark.parametrize(
    ("text", "words"), [(AWS, ["--provider", "local"]), (LOCAL, [])], ids=["moved here", "of here"]
)
def test_nothing_ends_by_itself_on_this_machine(desk: Desk, text: str, words: list[str]):
    desk.write(".daft.toml", text.replace("[setup]", '[setup]\nidle_timeout = "30m"\nmax-lifetime = "8h"'))
    assert desk.daft("render", *words) == Seen(
        0,
        err="left out on this machine, where nothing bills: max_lifetime, idle_timeout\n"
        ".daft/demo.local: 11 of 11 files written\n",
    )
    assert "8h" not in (desk.project / ".daft/demo.local/main.tf").read_text()


def test_check_of_what_is_there(desk: Desk):
    desk.write(".daft.toml", LOCAL)
    desk.daft("render")
    with desk.unchanged():
        assert desk.daft("render", "--check") == Seen(0)


def test_check_of_an_edited_configuration(desk: Desk):
    desk.write(".daft.toml", LOCAL)
    desk.daft("render")
    desk.write(".daft.toml", LOCAL + "number_of_workers = 5\n")
    with desk.unchanged():
        seen = desk.daft("render", "--check")
    lines = seen.out.splitlines()
    assert lines[:2] == ["--- .daft/demo.local/main.tf", "+++ main.tf (would be written)"]
    assert [line for line in lines[2:] if line[0] in "+-"] == [
        "-  number_of_workers = 2",
        "+  number_of_workers = 5",
    ]
    assert (seen.status, seen.err) == (1, "")
    assert desk.daft("render") == Seen(0, err=".daft/demo.local: 1 of 11 files written\n")
    assert desk.daft("render", "--check") == Seen(0)


def test_check_of_an_edited_file(desk: Desk):
    desk.write(".daft.toml", LOCAL)
    desk.daft("render", "--out", "hcl")
    main = desk.project / "hcl/main.tf"
    main.write_text(main.read_text() + "# by hand\n")
    with desk.unchanged():
        seen = desk.daft("render", "--check", "--out", "hcl")
    assert (seen.status, seen.err) == (1, "")
    assert seen.out.startswith("--- hcl/main.tf\n+++ main.tf (would be written)\n@@")
    assert seen.out.endswith("\n-# by hand\n")


def test_check_of_nothing(desk: Desk):
    desk.write(".daft.toml", LOCAL)
    with desk.unchanged():
        seen = desk.daft("render", "--check")
    assert (seen.status, seen.err) == (1, "")
    headers = [line for line in seen.out.splitlines() if line.startswith("+++ ")]
    assert headers == [f"+++ {name} (would be written)" for name in LOCAL_FILES]
    assert not [line for line in seen.out.splitlines() if line.startswith("-") and not line.startswith("---")]


def test_check_of_a_file_that_is_no_longer_generated(desk: Desk):
    desk.write(".daft.toml", LOCAL)
    desk.daft("render")
    desk.write(".daft/demo.local/old.tf", "# Generated by daft-launcher; an earlier one\n")
    desk.write(".daft/demo.local/mine.tf", "# mine\n")
    with desk.unchanged():
        seen = desk.daft("render", "--check")
    expected = """\
--- .daft/demo.local/old.tf
+++ old.tf (would be written)
@@ -1 +0,0 @@
-# Generated by daft-launcher; an earlier one
"""
    assert seen == Seen(1, out=expected)
    desk.daft("render")
    assert (desk.project / ".daft/demo.local/mine.tf").exists()
    assert not (desk.project / ".daft/demo.local/old.tf").exists()
