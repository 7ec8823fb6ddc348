"""`daft dashboard` on a real cluster of this machine."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from collections.abc import Iterator

import pytest
from localkit import Project, Running, Seen, ask, failed, free_port

pytestmark = pytest.mark.real


@contextlib.contextmanager
def busy(port: int) -> Iterator[None]:
    """Let a port be taken; whether by us or by somebody else already is the same."""
    with socket.socket() as listener:
        with contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            listener.listen()
        yield


def port_of(running: Running) -> int:
    running.await_words("Ctrl-C ends it")
    shown = re.fullmatch(r"http://127\.0\.0\.1:(\d+)\n", running.out)
    assert shown, running.out
    return int(shown[1])


def shown(demo: Project) -> Seen:
    token = f"when the page asks for an authentication token, paste this one and press Submit: {demo.token}\n"
    return Seen(0, "http://127.0.0.1:PORT\n", f"{token}Ctrl-C ends it\n")


def test_the_page_and_its_token_work_until_ctrl_c(demo: Project):
    port = free_port()
    running = demo.start("dashboard", "--no-open", "--port", str(port))
    assert port_of(running) == port
    status, page = ask(port, "/")
    assert (status, "<title>Ray Dashboard</title>" in page) == (200, True)
    assert ask(port, "/api/version")[0] == 401
    token = running.err.splitlines()[0].split()[-1]
    assert ask(port, "/api/version", token)[0] == 200
    assert ask(port, "/nodes?view=summary", token)[0] == 200
    # A browser keeps its connection.
    browser = http.client.HTTPConnection("127.0.0.1", port)
    browser.request("GET", "/")
    assert browser.getresponse().read().decode() == page
    assert running.interrupt() == shown(demo)
    browser.close()
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/")


def test_the_next_free_port_when_the_usual_one_is_busy(demo: Project):
    with busy(8265):
        running = demo.start("dashboard", "--no-open")
        port = port_of(running)
        assert 8265 < port < 8365
        assert ask(port, "/api/version", demo.token)[0] == 200
        assert running.interrupt() == shown(demo)


def test_a_busy_port_that_was_asked_for(demo: Project):
    port = free_port()
    with busy(port):
        assert demo.daft("dashboard", "--no-open", "--port", str(port)) == failed(
            f"port {port} of this machine is in use", "end what uses it, or choose another one with --port"
        )
