"""Every command and option with hostile values: an answer in words, whatever stands on the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from hypothesis import strategies as st

from daft_launcher.cli import app
from tests.cli.clikit import LOCAL, Desk
from tests.cli.fake_aws import FakeAws, Page, Refusal, instance, serving
from tests.property.desks import check, new_desk
from tests.property.examples import inputs
from tests.property.hostile import CONTROLS, NO_UTF8, texts

# The kernel ends an argument at a NUL, so that no program ever sees one.
_ARGUMENTS = texts(*(text for text in CONTROLS if "\0" not in text), *NO_UTF8).map(
    lambda t: t.replace("\0", "")
)
_NUMBERS = st.sampled_from(
    [
        "-1",
        "0",
        "1",
        "65535",
        "65536",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1.5",
        "",
        "٣",
        "1_0",
        "9" * 400,
        "9" * 5000,
    ]
)
#: The first two write the settings of a shell, and the last is there to show tracebacks.
_LEFT_OUT = {"--install-completion", "--show-completion", "--debug"}


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))


#: All of the program, as Typer knows it: what is added there is tested here.
COMMANDS = dict(_commands(typer.main.get_command(app)))


#: What goes through, so that the values beside it are looked at; what is not named here has to do without.
_GOOD = {
    "config": [".daft.toml"],
    "working_dir": ["job"],
    "out": ["out", "plan"],
    "env": ["A=1", "A="],
    "job_id": ["job-1"],
    "submission_id": ["job-1"],
    "region": ["us-west-2", "eu-north-1"],
    "port": ["8265"],
    "step_timeout": ["1", "600"],
    "timeout": ["1", "600"],
    "lock_timeout": ["0", "600"],
    "provider": ["aws", "local"],
    "format_": ["text", "table", "json"],
    "name": ["demo"],
    "command": ["python", "main.py"],
    "state_dir": [".daft", "other"],
}
_PLAUSIBLE = st.sampled_from([".daft.toml", "job", ".", "/", "", "/dev/null", "/proc/self/mem", "demo"])
_HOSTILE = st.one_of(_ARGUMENTS, _NUMBERS, _PLAUSIBLE, st.integers().map(str))


@st.composite
def _words(draw: st.DrawFn, path: tuple[str, ...]) -> list[str]:
    """Draw a command line for one command: some of its options and arguments, and now and then one too many."""
    words, arguments = [], []
    for parameter in COMMANDS[path].params:
        is_argument = not parameter.opts[0].startswith("-")
        if _LEFT_OUT & set(parameter.opts) or draw(st.integers(0, 9)) < (1 if parameter.required else 6):
            continue
        good = _GOOD.get(parameter.name)
        value = draw(st.sampled_from(good) if good and draw(st.booleans()) else _HOSTILE)
        if is_argument:
            arguments.append(value)
        else:
            words.append(draw(st.sampled_from(parameter.opts)))
            words += [] if parameter.is_flag else [value]
    words += ["--"] * draw(st.booleans()) + arguments
    return words + draw(st.lists(_HOSTILE, max_size=1)) * (draw(st.integers(0, 9)) == 0)


@pytest.fixture(scope="module")
def aws() -> Iterator[FakeAws]:
    """An AWS with one cluster, whose owner likes escape sequences; it refuses whatever it does not know."""
    with serving() as aws:
        aws.pages = {"us-west-2": [Page((instance("x\u202e\x9b1m", "head", "i-1", "running", "127.0.0.1"),))]}
        known = aws.answer

        def answer(call: Any) -> Any:
            try:
                return known(call)
            except AssertionError:
                return Refusal("UnauthorizedOperation", "no \u202e\x9b31m")

        aws.answer = answer
        yield aws


def _furnish(desk: Desk, aws: FakeAws) -> None:
    desk.environ["AWS_ENDPOINT_URL"] = aws.url
    desk.write(".daft.toml", LOCAL)
    desk.write("job/main.py", "print(1)\n")


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "daft")
def test_every_command_line_gets_an_answer(path: tuple[str, ...], aws: FakeAws) -> None:
    @inputs(20, words=_words(path))
    def run(words: list[str]) -> None:
        with new_desk() as desk:
            _furnish(desk, aws)
            check(desk.daft(*path, *words))

    run()


def test_the_program_is_enumerated() -> None:
    assert {("up",), ("backend", "create"), ("stop-job",), ()} <= COMMANDS.keys()
    assert os.sep not in "".join(name for path in COMMANDS for name in path)
