"""`daft dashboard`, and Ray's page behind it in a real browser."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.browser import Browser, open_browser
from tests.lab.lab import Project, Running
from tests.lab.machine import wait_for

DIALOG = "[role=dialog]"
REJECTED = "Invalid authentication token. Please check and try again."


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with open_browser(tmp_path / "profile") as browser:
        yield browser


def test_page_shows_all_nodes_to_who_has_the_token_and_to_nobody_else(
    cluster: Project, browser: Browser
) -> None:
    addresses = {machine.facts.private for machine in (cluster.head(), *cluster.workers())}
    with _dashboard(cluster) as dashboard:
        url, token = dashboard.out.strip(), _token(cluster)
        browser.open(f"{url}/#/cluster")
        browser.await_text("Authentication Token Required", DIALOG)
        assert _nodes(browser) == set()

        _give(browser, token[::-1])
        browser.await_text(REJECTED, DIALOG)
        browser.reload()
        browser.await_text("Authentication Token Required", DIALOG)
        assert _nodes(browser) == set()

        # What stands last in the line that is about it, as a user copies it.
        _give(browser, dashboard.err.splitlines()[0].split()[-1])
        wait_for(lambda: _nodes(browser) == addresses, "page with all nodes", timeout=60)
        assert (len(addresses), browser.text(DIALOG)) == (3, None)

        assert cluster.head().cut_ssh() > 0
        wait_for(lambda: _shows_after_reload(browser, addresses), "page after the cut", timeout=60)
        assert _interrupt(dashboard) == _shown(url, token)


def test_dashboard_takes_the_next_port_when_the_usual_one_is_busy(cluster: Project) -> None:
    with _busy(8265), _dashboard(cluster) as dashboard:
        seen = _interrupt(dashboard)
    assert seen == _shown("http://127.0.0.1:8266", _token(cluster))
    _assert_free(8266)


def test_dashboard_is_where_it_was_asked_to_be(cluster: Project) -> None:
    with _dashboard(cluster, "--port", "9000") as dashboard:
        seen = _interrupt(dashboard)
    assert seen == _shown("http://127.0.0.1:9000", _token(cluster))
    _assert_free(9000)


def test_dashboard_takes_no_other_port_than_it_was_asked_to(cluster: Project) -> None:
    with _busy(9000):
        seen = cluster.daft("dashboard", "--no-open", "--port", "9000")
    words = "port 9000 of this machine is in use\nhint: end what uses it, or choose another one with --port"
    assert (seen.status, seen.out, seen.err) == (1, "", f"error: {words}\n")


@contextlib.contextmanager
def _dashboard(cluster: Project, *options: str) -> Iterator[Running]:
    dashboard = cluster.start("dashboard", "--no-open", *options)
    try:
        dashboard.says("Ctrl-C ends it\n")
        yield dashboard
    finally:
        dashboard.kill()


def _interrupt(dashboard: Running) -> tuple[int, str, str]:
    dashboard.interrupt()
    seen = dashboard.end()
    return seen.status, seen.out, seen.err


@contextlib.contextmanager
def _busy(port: int) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", port)):
        yield


def _assert_free(port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


def _shown(url: str, token: str) -> tuple[int, str, str]:
    """What `daft dashboard` says from its start to Ctrl-C."""
    words = f"when the page asks for an authentication token, paste this one and press Submit: {token}\n"
    return 0, f"{url}\n", f"{words}Ctrl-C ends it\n"


def _token(cluster: Project) -> str:
    return cluster.head().read("/etc/daft/ray-token")


def _give(browser: Browser, token: str) -> None:
    browser.paste(token, f"{DIALOG} input")
    browser.press("Submit")


def _nodes(browser: Browser) -> set[str]:
    """Return the addresses of the cluster's nodes that can be read anywhere on the page."""
    return set(re.findall(r"\b10\.77\.\d+\.\d+\b", browser.text() or ""))


def _shows_after_reload(browser: Browser, addresses: set[str]) -> bool:
    browser.reload()
    with contextlib.suppress(AssertionError):
        wait_for(lambda: _nodes(browser) == addresses, "page with all nodes", timeout=5)
        return True
    return False
