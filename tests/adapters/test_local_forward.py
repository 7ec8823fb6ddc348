"""The forwarder against real sockets."""

from __future__ import annotations

import errno
import gc
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from daft_launcher.errors import TunnelError
from daft_launcher.forward import forward_port, port_error


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets, and the count of bytes once the other side has said that it is done."""

    def handle(self):
        total = 0
        while data := self.request.recv(65536):
            total += len(data)
            self.request.sendall(data)
        self.request.sendall(f"<{total}>".encode())


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture
def echo() -> Iterator[int]:
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def read_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def test_bytes_pass_both_ways_and_each_side_may_end_first(echo, port):
    with forward_port(port, "127.0.0.1", echo), connect(port) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"<5>"


def test_much_passes_whole_on_several_connections_at_once(echo, port):
    payload = bytes(range(256)) * 8192
    answers = []

    def talk() -> None:
        with connect(port) as client:
            sender = threading.Thread(
                target=lambda: (client.sendall(payload), client.shutdown(socket.SHUT_WR))
            )
            sender.start()
            answers.append(read_all(client))
            sender.join()

    with forward_port(port, "127.0.0.1", echo):
        threads = [threading.Thread(target=talk) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [payload + b"<2097152>"] * 4


def test_a_target_that_is_not_there_closes_the_connection(port):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nobody = probe.getsockname()[1]
    with forward_port(port, "127.0.0.1", nobody), connect(port) as client:
        assert client.recv(1) == b""


def test_the_end_of_the_context_closes_open_connections_and_frees_the_port(echo, port):
    before = threading.active_count()
    with forward_port(port, "127.0.0.1", echo):
        client = connect(port)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    with client:
        assert client.recv(1) == b""
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("forward-")] == []
    assert threading.active_count() <= before + 1  # the echo's own thread may still be on its way out
    with forward_port(port, "127.0.0.1", echo), connect(port) as again:
        again.sendall(b"y")
        assert again.recv(1) == b"y"


def test_a_busy_port_is_an_error_that_names_it(echo):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        taken = busy.getsockname()[1]
        with pytest.raises(TunnelError) as caught, forward_port(taken, "127.0.0.1", echo):
            pass
    assert caught.value.message == f"port {taken} of this machine is in use"
    assert caught.value.hint == "end what uses it, or choose another one with --port"


def test_a_port_that_is_not_ours_to_take_is_an_error_that_says_so():
    error = port_error(80, PermissionError(errno.EACCES, "error while attempting to bind"))
    assert error.message == "port 80 of this machine cannot be opened: Permission denied"
    assert error.hint == "choose another one with --port"


def test_connections_that_end_in_any_way_are_nothing_to_talk_of(port, caplog):
    """One whose near side has gone while the far one stays, as a keep-alive does, and one that lives to the end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        forward_port(port, "127.0.0.1", silent.getsockname()[1]),
    ):
        with connect(port) as gone:
            gone.sendall(b"x")
            kept, _ = silent.accept()
            assert kept.recv(1) == b"x"
        assert kept.recv(1) == b""
        time.sleep(0.2)  # until the loop has let go of it
        gc.collect()
        living = connect(port)
        also_kept, _ = silent.accept()
    assert caplog.records == []
    for connection in (kept, living, also_kept):
        connection.close()
