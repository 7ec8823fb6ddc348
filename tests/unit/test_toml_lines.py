"""On which line a key stands, however TOML lets it be written."""

from __future__ import annotations

import pytest

from daft_launcher.toml_lines import LineIndex

TEXT = '''\
# name = "not here"
top = 1  # """

[setup]
name = "demo"   # provider = "not here"
number-of-workers = 2
dependencies = [
  "polars",  # ]
  ["nested"],
  """
name = 1
[run]
]""",
  'a = "b"',
]
script = """
[aws]
spot = true \\
\\"""
"""
raw = \'\'\'
spot = true
"""
\'\'\'
"quoted key" = 1
"esc\\u0061ped" = 1
'literal.key' = 1
dotted . "deep-er" . key = 1
inline = { x = 1, "y]" = [1, { z = 2 }] }

  [ "run" . 'sub' ]  # [other]
command = "x"

[[fruits]]
name = "apple"
[[fruits]]
name = "pear"

[aws]
spot = 2
quotes = """a"""""
after = 1\
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("setup",), 4),
        (("setup", "name"), 5),
        (("setup", "number_of_workers"), 6),
        (("setup", "number-of-workers"), 6),
        (("setup", "dependencies"), 7),
        (("setup", "dependencies", 1, "deep"), 7),
        (("setup", "script"), 16),
        (("setup", "raw"), 21),
        (("setup", "quoted key"), 25),
        (("setup", "escaped"), 26),
        (("setup", "literal.key"), 27),
        (("setup", "dotted", "deep-er", "key"), 28),
        (("setup", "inline", "x"), 29),
        (("setup", "provider"), 4),
        (("run", "sub", "command"), 32),
        (("run", "sub", "missing"), 31),
        (("fruits", 1, "name"), 34),
        (("aws", "spot"), 40),
        (("aws", "after"), 42),
        (("backend",), None),
        ((), None),
    ],
)
def test_a_key_is_found_where_it_stands(path: tuple[str | int, ...], line: int | None) -> None:
    assert LineIndex(TEXT).find(path) == line


def test_only_newlines_end_a_line() -> None:
    text = "a = '\u2028\x85\x0c'\n# \u2029\nb = 1\n"
    assert LineIndex(text).find(["b"]) == 3


def test_a_key_in_front_of_all_tables_is_no_key_of_them() -> None:
    assert LineIndex("name = 1\n[setup]\n").find(["setup", "name"]) == 2


def test_a_long_string_takes_no_long_time() -> None:
    text = 'a = """' + "x = 1\n" * 200_000 + '"""\nb = 1\n'
    assert LineIndex(text).find(["b"]) == 200_002
