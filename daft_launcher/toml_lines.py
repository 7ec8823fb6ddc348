"""Where in a TOML text a key stands; TOML parsers drop that, and an error without a line is a search."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_HEADER = re.compile(r"^\s*\[\[?\s*(?P<path>[^\]]+?)\s*\]")
_KEY = re.compile(r"""^\s*(?P<path>(?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_MULTILINE = ('"""', "'''")


def find_line(text: str, path: Sequence[str | int]) -> int | None:
    """Return the 1-based line of the longest prefix of `path` that stands in `text`, None when none does.

    Keys are compared with `-` and `_` taken as equal; list indexes in `path` end the comparison.
    """
    wanted = tuple(_normal(part) for part in _names(path))
    best: tuple[int, int] | None = None
    for line, found in _keys(text):
        depth = len(found)
        if found == wanted[:depth] and (best is None or depth > best[0]):
            best = (depth, line)
    return best[1] if best else None


def _names(path: Sequence[str | int]) -> Iterator[str]:
    for part in path:
        if isinstance(part, int):
            return
        yield part


def _keys(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    table: tuple[str, ...] = ()
    closing: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if closing is not None:
            closing = None if closing in line else closing
            continue
        if header := _HEADER.match(line):
            table = _parts(header["path"])
            yield number, table
        elif key := _KEY.match(line):
            yield number, table + _parts(key["path"])
            closing = next((mark for mark in _MULTILINE if line.count(mark) % 2), None)


def _parts(path: str) -> tuple[str, ...]:
    return tuple(_normal(part.strip("\"'")) for part in _PART.findall(path))


def _normal(part: str) -> str:
    return part.replace("-", "_")
