"""What a configuration takes reaches the node's programs as it was written: one argument or one command line each."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from daft_launcher.config_types import Command, Line
from daft_launcher.models import MAX_ARGUMENT_BYTES
from tests.adapters.bootstrap_cloud import FakeCloud
from tests.adapters.bootstrap_node import Node
from tests.property.examples import count, profile
from tests.property.hostile import accepted_texts


def _accepted(number: int, texts: st.SearchStrategy[str], shape: object) -> list[str]:
    found: list[str] = []

    @profile(number)
    @given(texts)
    @example("${HOME} $(touch pwned) `touch pwned` \u202e'\"\\")
    def collect(text: str) -> None:
        found.append(TypeAdapter(shape).validate_python(text))

    collect()
    count(len(found))
    return found


@pytest.fixture
def node() -> Iterator[Node]:
    # Not tmp_path: it is closed to the account that the script changes to.
    with FakeCloud() as cloud, tempfile.TemporaryDirectory(prefix="daft-node-") as root:
        Path(root).chmod(0o755)
        node = Node(Path(root), cloud)
        yield node
        node.stop()


def _saying(number: int, text: str) -> str:
    """Return a command that keeps what bash was given, with hostile text where a shell reads none of it."""
    quoted = shlex.quote(text)
    return f'printf "%s" "$BASH_EXECUTION_STRING" > "$DAFT_ROOT/opt/daft/venv/said.{number}"; : {quoted}'


def test_dependencies_and_setup_commands_arrive_one_by_one(node: Node) -> None:
    dependencies = _accepted(150, accepted_texts(), Line)
    texts = _accepted(25, accepted_texts(controls="\n\t"), Command)
    commands = [_saying(number, text) for number, text in enumerate(texts)]
    done = node.boot(dependencies=dependencies, setup_commands=commands, timeout=120)
    node.wait_ready()

    assert (done.returncode, done.stderr) == (0, "")
    assert node.argv("uv")[-1][-len(dependencies) :] == dependencies
    said = [(node.venv / f"said.{number}").read_text() for number in range(len(commands))]
    assert said == commands
    assert not list(node.root.rglob("pwned"))


def test_the_longest_values_arrive_too(node: Node) -> None:
    dependencies = [f"{number:04}" + "é" * 1000 for number in range(500)]
    command = TypeAdapter(Command).validate_python(_saying(0, "x" * (MAX_ARGUMENT_BYTES // 2)))
    count()
    done = node.boot(dependencies=dependencies, setup_commands=[command])
    node.wait_ready()

    assert (done.returncode, done.stderr) == (0, "")
    assert node.argv("uv")[-1][-len(dependencies) :] == dependencies
    assert (node.venv / "said.0").read_text() == command


def test_the_longest_values_are_named_when_they_fail(node: Node) -> None:
    dependencies = [f"{number:04}" + "x" * 1000 for number in range(500)]
    count()
    node.answer({"uv": {"pip": ("No solution found", 1)}})
    done = node.boot(dependencies=dependencies)

    status, detail = node.cloud.statuses[-1]
    assert (done.returncode, status) == (1, "failed")
    assert detail.startswith("installing: `uv pip install daft[ray]>=0.7 ray[default]>=2.54 0000xxx")
    assert detail.endswith("...` exited with 1: No solution found")
