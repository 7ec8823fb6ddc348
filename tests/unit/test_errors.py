"""What an error says to do next."""

from __future__ import annotations

import pytest

from daft_launcher.errors import DaftLauncherError


@pytest.mark.parametrize(
    ("hint", "whole"),
    [
        (None, "go on"),
        ("ask for it", "ask for it; then go on"),
        ("run the command again", "go on"),
        ("make room and run the command again", "make room; then go on"),
        ("log in, as with `x`, and run the command again", "log in, as with `x`; then go on"),
        ("wait: run the command again later", "wait: run the command again later; then go on"),
    ],
)
def test_how_to_go_on_is_said_once(hint: str | None, whole: str) -> None:
    error = DaftLauncherError("no", hint=hint)
    error.go_on("go on")
    assert error.hint == whole
