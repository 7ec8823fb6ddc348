"""docs/security.md: each claim names tests, and the tests are there; and no page links to what is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs/security.md"
PAGES = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")])


def claims() -> Iterator[tuple[str, str]]:
    """Yield the first and the last cell of each row of the page's tables."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("|") and not line.startswith(("|---", "| door |", "| what |", "| … |", "| who |")):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            yield cells[0], cells[-1]


def named_tests() -> list[str]:
    return re.findall(r"`(tests/[\w/]+\.py::\w+)`", PAGE.read_text(encoding="utf-8"))


def test_the_page_makes_its_claims() -> None:
    assert len(list(claims())) == 33
    assert len(set(named_tests())) > 30


@pytest.mark.parametrize("claim", list(claims()), ids=lambda claim: claim[0][:40])
def test_each_claim_names_a_test_or_says_why_there_is_none(claim: tuple[str, str]) -> None:
    _, shown = claim
    tests = r"`tests/[\w/]+\.py::test_\w+`"
    assert re.fullmatch(rf"{tests}(, {tests})*|no test: [^|]+", shown), shown


@pytest.mark.parametrize("name", sorted(set(named_tests())))
def test_each_named_test_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((CHECKOUT / path).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_each_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    gone = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert gone == []


def test_the_readme_leads_to_it() -> None:
    assert "(docs/security.md)" in (CHECKOUT / "README.md").read_text(encoding="utf-8")
