"""Whatever lies in `.daft.toml`: an answer in words, and where it is refused, no file changed."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import example
from hypothesis import strategies as st

from daft_launcher.config import load_config
from tests.cli.clikit import LOCAL
from tests.property.config_files import RIGHT, files, keys_of, right_tables, to_file, to_toml
from tests.property.desks import check, new_desk
from tests.property.examples import bounded, count, inputs

#: Every command that reads the file; what comes after reading is other tests' matter.
READERS = [
    ["render"],
    ["render", "--check"],
    ["up"],
    ["up", "--plan"],
    ["up", "--provider", "local"],
    ["down"],
    ["backend", "create"],
    ["submit", "-w", "job"],
    ["jobs"],
    ["logs", "job-1"],
    ["logs", "--bootstrap"],
    ["dashboard", "--no-open"],
    ["ssh"],
    ["stop-job", "job-1"],
]


def test_every_key_is_generated() -> None:
    assert {table: set(keys) for table, keys in RIGHT.items()} == {table: keys_of(table) for table in RIGHT}


@inputs(150, file=files(), words=st.sampled_from(READERS))
@example(file=LOCAL.encode() + b"number_of_workers = 0x" + b"f" * 5000, words=["render"])
def test_every_file_gets_an_answer(file: bytes, words: list[str]) -> None:
    with new_desk() as desk:
        desk.write(".daft.toml", file)
        desk.write("job/main.py", "print(1)\n")
        before = desk.tree()
        seen = desk.daft(*words)
        check(seen)
        if seen.status == 2:
            assert desk.tree() == before
            assert seen.out == ""


@inputs(60, tables=right_tables())
def test_what_is_right_is_read_as_it_was_written(tables: dict[str, dict[str, object]]) -> None:
    with new_desk() as desk:
        file = {table: {key: to_toml(value) for key, value in keys.items()} for table, keys in tables.items()}
        read = load_config(desk.write(".daft.toml", to_file(file))).model_dump(mode="json")
        assert _as_in(tables, read) == tables
        seen = desk.daft("render")
        check(seen)
        assert seen.status == 0
        assert desk.daft("render", "--check").out == ""


def _as_in(written: Any, read: Any) -> Any:
    """Return of what was read as much as was written."""
    if isinstance(written, dict):
        return {key: _as_in(value, read[key]) for key, value in written.items()}
    return read


MIB = 1 << 20
MANY = 10_000
HUGE = {
    "a name of 1 MiB": LOCAL.replace("demo", "d" * MIB),
    "a dependency of 1 MiB": f'{LOCAL}dependencies = ["{"d" * MIB}"]\n',
    "a command of 1 MiB": f'{LOCAL}[run]\ncommand = "{"é" * MIB}"\n',
    "10,000 dependencies": LOCAL + "dependencies = [" + '"x",' * MANY + "]\n",
    "10,000 wrong dependencies": f"{LOCAL}dependencies = [{'1,' * MANY}]\n",
    "10,000 tags": LOCAL + "[setup.tags]\n" + "".join(f'k{n} = "v"\n' for n in range(MANY)),
    "10,000 wrong tags": LOCAL + "[setup.tags]\n" + "".join(f"k{n} = 1\n" for n in range(MANY)),
    "10,000 unknown keys": LOCAL + "".join(f"k{n} = 1\n" for n in range(MANY)),
    "10,000 unknown tables": LOCAL + "".join(f"[k{n}]\n" for n in range(MANY)),
    "10,000 wrong prices": LOCAL + "[prices.spot_hour]\n" + "".join(f'"x{n}" = "y"\n' for n in range(MANY)),
    "10,000 networks": LOCAL + "[aws]\nssh_allowed_cidrs = [" + '"10.0.0.0/8",' * MANY + "]\n",
    "an unknown key of 1 MiB": f"{LOCAL}{'k' * MIB} = 1\n",
    "a value of 1 MiB for an unknown key": f'{LOCAL}k = "{"v" * MIB}"\n',
    "a number of 1 MiB": f"{LOCAL}number_of_workers = {'9' * MIB}\n",
    "a hexadecimal number of 1 MiB": f"{LOCAL}number_of_workers = 0x{'f' * MIB}\n",
    "a comment of 1 MiB": f"{LOCAL}# {'x' * MIB}\n",
    "1 MiB of brackets": f"{LOCAL}x = {'[' * MIB}",
    "a key of 10,000 parts": f"{LOCAL}{'.'.join(['a'] * MANY)} = 1\n",
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_file_gets_its_answer_soon(name: str) -> None:
    count()
    with new_desk() as desk, bounded(20):
        desk.write(".daft.toml", HUGE[name])
        before = desk.tree()
        began = time.process_time()
        seen = desk.daft("up", "--plan")
        took = time.process_time() - began
        check(seen)
        if name != "a comment of 1 MiB":
            assert (seen.status, seen.out) == (2, "")
        assert len(seen.err) < 10_000
        assert took < 10
        assert desk.tree() == before
