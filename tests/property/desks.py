"""A desk for each input, with a Terraform, an AWS and a Ray of our own, and what must hold of every answer."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.clikit import CREDENTIALS, Desk, Seen
from tests.property.hostile import unsafe

STATUSES = {0, 1, 2, 130}
#: Says its version and nothing else.
TERRAFORM = """case "$1" in
version) echo '{"terraform_version": "1.11.4"}' ;;
*) echo 'no' >&2; exit 1 ;;
esac"""


@contextlib.contextmanager
def new_desk() -> Iterator[Desk]:
    """Keep a desk while the context is open."""
    with tempfile.TemporaryDirectory(prefix="daft-desk-") as folder, pytest.MonkeyPatch.context() as patch:
        desk = Desk(Path(folder), patch)
        desk.environ["DAFT_CHECKIP_URL"] = "http://127.0.0.1:1/"  # where nobody listens
        desk.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1/"
        desk.environ["AWS_MAX_ATTEMPTS"] = "1"
        desk.environ |= CREDENTIALS
        desk.script("terraform", TERRAFORM)
        yield desk


def check(seen: Seen) -> None:
    """Fail unless this is how a command may end: a known status, words that a person reads, and nothing obeyed."""
    said = seen.out + seen.err
    assert seen.status in STATUSES, seen
    assert "Traceback" not in said, seen
    assert "daft-launcher has a fault" not in said, seen
    assert not unsafe(said), seen
    if seen.status not in (0, 130):
        assert seen.err or seen.out, seen
