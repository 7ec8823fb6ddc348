"""Where in a TOML text a key stands; TOML parsers drop that, and an error without a line is a search."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_TOKEN = re.compile(
    r'''(?P<string>"""(?:\\.|[^\\])*?"{3,5}|\'{3}.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')'''
    r"""|(?P<comment>\#[^\n]*)|(?P<newline>\n)|(?P<open>[\[{])|(?P<close>[\]}])|(?P<assign>=)"""
    r"""|(?P<word>[^\s"'\#\[\]{}=.,]+)|(?P<other>.)""",
    re.DOTALL,
)


class LineIndex:
    """On which line each table and key of a TOML text stands; `text` is valid TOML."""

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, ...], int] = {}
        for line, key in _keys(text):
            self._lines.setdefault(key, line)

    def find(self, path: Sequence[str | int]) -> int | None:
        """Return the 1-based line of the longest prefix of `path` that stands in the text, None when none does.

        Keys are compared with `-` and `_` taken as equal; list indexes in `path` end the comparison, and so does a
        table that is written inline.
        """
        wanted = tuple(_normal(part) for part in _names(path))
        prefixes = (wanted[:length] for length in range(len(wanted), 0, -1))
        return next((self._lines[prefix] for prefix in prefixes if prefix in self._lines), None)


def _names(path: Sequence[str | int]) -> Iterator[str]:
    for part in path:
        if isinstance(part, int):
            return
        yield part


def _keys(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield each table and each key outside of values with its line."""
    table: tuple[str, ...] = ()
    parts: list[str] = []
    in_value, depth, line = False, 0, 1
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "newline" and depth == 0:
            parts, in_value = [], False
        elif in_value:
            depth += (kind == "open") - (kind == "close")
        elif kind in ("string", "word"):
            parts.append(_normal(_unquoted(token[0])))
        elif kind == "assign":
            in_value = True
            yield line, (*table, *parts)
        elif kind == "close" and parts:
            table, parts = tuple(parts), []
            yield line, table
        line += token[0].count("\n")


def _unquoted(part: str) -> str:
    import tomli

    return str(tomli.loads(f"_ = {part}")["_"]) if part[0] in "\"'" else part


def _normal(part: str) -> str:
    return part.replace("-", "_")
