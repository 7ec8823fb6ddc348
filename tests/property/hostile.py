"""Strings that something along the way may take for more than text."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

#: What terminals, shells, Jinja, Terraform, TOML and Ray give a meaning to.
PIECES = [
    *("${HOME}", "$HOME", "$${x}", "${", "%{ if true }", "%%{", "{{ 7*7 }}", "{% raw %}", "{#", "}}", "~}"),
    *('"', "'", "\\", '"""', "'''", "\\n", "\\u0041", "\\x1b", "<<EOT\nx\nEOT\n", "#", "//", "/*", "*/"),
    *(
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned",
        "| touch pwned",
        "&& x",
        "\n",
        "\t",
        " ",
        "!!",
        "*",
    ),
    *(
        "~",
        "../",
        "/",
        "-",
        "--",
        "-oProxyCommand=touch pwned",
        "=",
        ",",
        "%h",
        "%s",
        "{0}",
        "[bold]",
        ":smile:",
    ),
    *("é", "日本", "🎉", "👩\u200d👧", "\u2028", "\ufeff", "\u200d", "\u00a0", "\U0010ffff", "ﬀ", "İ", "ß"),
    *("\u202e", "\u2066", "\u2069", "\u200f", "\u061c", "\u200b", "\u00ad", "\U000e0041"),  # bidi and hidden
    *("demo", "1", "0", "nan", "inf", "1e400", "null", "true", "aws:x", "us-west-2", "python", "main.py"),
]
#: What no text of ours may hold, and what a file or a command line may.
CONTROLS = ["\x1b[31m", "\x1b]0;x\x07", "\x00", "\r", "\x08", "\x7f", "\x9b1m", "\x85", "\x0b", "\x0c"]
#: How Python gives a byte of an argument or a file name that is not UTF-8.
NO_UTF8 = ["\udcff", "\udc80"]

_CHARACTERS = st.characters(exclude_categories=("Cs",))


def texts(*more: str, longest: int = 8) -> st.SearchStrategy[str]:
    """Return strings of these pieces, with any characters between them."""
    piece = st.sampled_from([*PIECES, *more]) | st.text(_CHARACTERS, max_size=4)
    return st.lists(piece, max_size=longest).map("".join)


def accepted_texts(*, controls: str = "") -> st.SearchStrategy[str]:
    """Return those that a configuration takes: composed, not empty, and without control characters."""

    def is_accepted(text: str) -> bool:
        plain = all(unicodedata.category(char) != "Cc" or char in controls for char in text)
        return plain and bool(text.strip()) and unicodedata.is_normalized("NFC", text)

    pieces = [
        piece for piece in PIECES if all(c in controls or unicodedata.category(c) != "Cc" for c in piece)
    ]
    some = st.sampled_from(pieces) | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=4)
    return st.lists(some, min_size=1, max_size=8).map("".join).filter(is_accepted)


def unsafe(text: str) -> set[str]:
    """Return the characters that a terminal would obey, or that would hide what follows."""
    return {
        char
        for char in set(text)
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in "\n\t\u200c\u200d"
    }
