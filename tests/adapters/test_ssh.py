"""Keys, tunnels and remote files against a real sshd on 127.0.0.1."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import paramiko
import pytest
from sshd import USER, Sshd, fingerprint, free_port, make_key, running_sshd

from daft_launcher import ssh
from daft_launcher.errors import StateError, TunnelError

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="module")
def key(sshd: Sshd, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id_ed25519"
    sshd.authorize(ssh.make_key_pair(path))
    return path


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    """The port of an HTTP server that answers every path with itself."""
    with Web(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, and no agent."""
    path = tmp_path / "home"
    (path / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return path


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket's path is short
    process = subprocess.Popen(["ssh-agent", "-D", "-a", folder / "agent"], stdout=subprocess.DEVNULL)
    for _ in range(500):
        if (folder / "agent").exists():
            break
        time.sleep(0.01)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(folder / "agent"))
    yield
    process.terminate()
    process.wait()
    shutil.rmtree(folder)


class Web(ThreadingHTTPServer):
    def handle_error(self, *args: object) -> None:
        """Say nothing of connections that a test has cut."""


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.path)))
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def get(port: int, path: str = "/hello") -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


def login(sshd: Sshd, identity: Path | None, **changes) -> dict:
    given = {"host": "127.0.0.1", "port": sshd.port, "user": USER, "identity": identity}
    return {**given, "host_key": sshd.host_key, "timeout": 5.0, **changes}


def failure(sshd: Sshd, identity: Path | None, **changes) -> tuple[str, str | None]:
    """The message and the hint with which a tunnel fails to open."""
    tunnel = ssh.open_tunnel(**login(sshd, identity, **{"remote_port": free_port(), **changes}))
    with pytest.raises(TunnelError) as raised:
        tunnel.__enter__()
    return raised.value.message, raised.value.hint


@contextmanager
def listening(*, says: bytes = b"") -> Iterator[int]:
    """The port of something that takes connections, says what it is told to and nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        done = threading.Event()

        def answer() -> None:
            kept = []
            while not done.is_set():
                with suppress(TimeoutError):
                    kept.append(server.accept()[0])
                    kept[-1].sendall(says)
            for connection in kept:
                connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        done.set()
        thread.join()


class Relay:
    """Forwards TCP connections until it is told to swallow everything, as a network that drops packets does."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.swallows = threading.Event()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.sockets = [self.server]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            self.sockets += [near, far]
            swallows = self.swallows
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target, swallows), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, swallows: threading.Event) -> None:
        try:
            while data := source.recv(65536):
                if not swallows.is_set():
                    target.sendall(data)
        except OSError:
            pass

    def swallow(self) -> None:
        """Swallow what the present connections say; new ones work."""
        self.swallows.set()
        self.swallows = threading.Event()

    def close(self) -> None:
        # A socket that is closed while a thread waits in its accept goes on listening.
        with suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        for one in self.sockets:
            one.close()
        self._acceptor.join(5)
        assert not self._acceptor.is_alive()


# Tunnels


def test_a_tunnel_leads_to_a_port_of_the_heads_loopback(sshd, key, web, capfd):
    before = set(threading.enumerate())
    with ssh.open_tunnel(**login(sshd, key, remote_port=web)) as port:
        assert [get(port, f"/{n}") for n in range(3)] == ["/0", "/1", "/2"]
        started = set(threading.enumerate()) - before
        assert started
        assert all(thread.daemon for thread in started)
    settle(before)
    assert refused(port)
    assert capfd.readouterr() == ("", "")


def test_a_tunnel_listens_at_the_port_that_it_was_given_and_on_loopback_only(sshd, key, web):
    wanted = free_port()
    with ssh.open_tunnel(**login(sshd, key, remote_port=web, local_port=wanted)) as port:
        assert port == wanted
        assert get(wanted) == "/hello"
        for address in other_addresses():
            assert refused(wanted, address)


def test_many_connections_share_a_tunnel(sshd, key, web):
    answers: list[str] = []
    with ssh.open_tunnel(**login(sshd, key, remote_port=web)) as port:
        threads = [
            threading.Thread(target=lambda n=n: answers.append(get(port, "/" + str(n) * 100_0)))
            for n in range(9)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answers) == ["/" + str(n) * 1000 for n in range(9)]


def test_nothing_listens_at_the_remote_port(sshd, key, capfd):
    assert failure(sshd, key, remote_port=(port := free_port())) == (
        f"nothing listens at port {port} of 127.0.0.1:{sshd.port}: its Ray is not running",
        "`daft logs --bootstrap` shows how the head was set up, `daft ssh` opens a shell on it",
    )
    assert capfd.readouterr() == ("", "")


def test_nothing_is_printed_in_a_program_that_has_set_up_no_logging(sshd, key):
    script = """
import pathlib, socket, sys
from daft_launcher import ssh, errors
port, wrong_port, identity, user, host_key = sys.argv[1:]
given = dict(host="127.0.0.1", user=user, identity=pathlib.Path(identity), host_key=host_key, timeout=5)
with socket.create_server(("127.0.0.1", 0)) as ray:
    tunnel = ssh.open_tunnel(port=int(port), remote_port=ray.getsockname()[1], **given)
    local_port = tunnel.__enter__()
with socket.create_connection(("127.0.0.1", local_port)) as connection:
    assert connection.recv(1) == b""
tunnel.__exit__(None, None, None)
try:
    ssh.read_file(port=int(wrong_port), path="x", **given)
except errors.TunnelError as error:
    print(error)
"""
    with listening(says=b"SSH-2.0-x\r\n" + b"\xff" * 64) as wrong_port:
        words = [sshd.port, wrong_port, key, USER, sshd.host_key]
        run = subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == (HANDSHAKE[0].format(port=wrong_port) + "\n", "")


def test_a_wrong_host_key_is_refused_before_anything_is_sent(sshd, key, tmp_path):
    other = make_key(tmp_path / "other")
    said = len(sshd.log.read_text())
    assert failure(sshd, key, host_key=other) == (
        (
            f"the machine that answers at 127.0.0.1:{sshd.port} is not the head that tagged itself: its host key is "
            f"{fingerprint(sshd.folder / 'host_key.pub')}, the head's is {fingerprint(tmp_path / 'other.pub')}"
        ),
        (
            "nothing of yours was sent. The address may be another machine's by now, the head's host key may have been "
            "changed since it booted, or somebody sits in between. Compare the address with `daft list`; if it is the "
            "head's, `daft down` and `daft up` make a head whose key is known"
        ),
    )
    assert USER not in wait_for_log(sshd, said, "[preauth]")


def test_a_server_with_host_keys_of_another_type_is_another_machine(sshd, key, tmp_path):
    make_key(tmp_path / "other", "-t", "ecdsa")
    message, _ = failure(sshd, key, host_key=(tmp_path / "other.pub").read_text())
    assert message == (
        f"the machine that answers at 127.0.0.1:{sshd.port} is not the head that tagged itself: its host key is "
        f"{fingerprint(sshd.folder / 'host_key.pub')}, the head's is {fingerprint(tmp_path / 'other.pub')}"
    )


@pytest.mark.parametrize(
    "line", ["", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-ed25519 AAAA", "kind AAAA", "None"]
)
def test_a_tag_that_is_no_host_key(sshd, key, line):
    assert failure(sshd, key, host_key=line) == (
        f"the head's tag holds no OpenSSH public key: `{line}`",
        "`daft down` and `daft up` make a head that names its host key",
    )


def test_a_key_that_the_head_does_not_know(sshd, tmp_path):
    make_key(tmp_path / "stranger")
    assert failure(sshd, tmp_path / "stranger") == (
        f"cannot log in as {USER}@127.0.0.1:{sshd.port} with the key `{tmp_path}/stranger`",
        (
            "`-i KEY` names the key that the cluster was made with; `ssh_user` must be the image's login, ec2-user on "
            "Amazon Linux, ubuntu on Ubuntu"
        ),
    )


@pytest.mark.parametrize(
    "options", [("-t", "rsa", "-b", "1024"), ("-t", "ecdsa"), ("-t", "ecdsa", "-b", "521")]
)
def test_keys_of_other_kinds_and_formats_log_in(sshd, web, tmp_path, options):
    public = make_key(tmp_path / "other", *options)
    sshd.authorize(public)
    (tmp_path / "other.pub").unlink()
    for form in ("RFC4716", "PEM", "PKCS8"):
        convert = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "", "-m", form, "-f", tmp_path / "other"]
        subprocess.run(convert, check=True)
        assert ssh.public_key_of(tmp_path / "other") == public
        with ssh.open_tunnel(**login(sshd, tmp_path / "other", remote_port=web)) as port:
            assert get(port) == "/hello"


def test_a_busy_local_port(sshd, key):
    with listening() as busy:
        assert failure(sshd, key, local_port=busy) == (
            f"port {busy} of this machine is in use",
            "end what uses it, or choose another one with --port",
        )


def test_nothing_listens_at_the_ssh_port(sshd, key):
    port = free_port()
    assert failure(sshd, key, port=port) == (
        f"127.0.0.1:{port} refuses SSH connections",
        "it is there but has no SSH server yet, or no longer; `daft list` shows its state",
    )


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux drops connections that do not fit the backlog"
)
def test_a_host_that_does_not_answer_is_given_up(sshd, key):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        full = [socket.socket() for _ in range(3)]
        for one in full:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with at_most(2):
            assert failure(sshd, key, port=port, timeout=0.5) == (
                f"cannot reach 127.0.0.1:{port}: no answer within 0.5 seconds",
                (
                    "this machine's public address may have changed since `daft up`: run it again to let the new "
                    "one in; `daft list` shows the head's state and address"
                ),
            )
        for one in full:
            one.close()


def test_a_name_that_cannot_be_resolved(sshd, key):
    message, _ = failure(sshd, key, host="head.invalid")
    assert re.fullmatch(r"cannot reach head\.invalid:\d+: [A-Z].+", message)


HANDSHAKE = (
    "what answers at 127.0.0.1:{port} does not complete an SSH handshake",
    (
        "the head may be booting or overloaded, or something else may answer at its address; `daft list` shows its "
        "state and address"
    ),
)


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xfe\x00 nonsense\r\n" * 200,
        b"SSH-2.0-x\r\n",
        b"SSH-1.5-old\r\n",
        b"SSH-2.0-x\r\n" + b"\xff" * 64,
    ],
)
def test_what_is_no_ssh_server_is_given_up(sshd, key, says, capfd):
    with listening(says=says) as port, at_most(4):
        before = set(threading.enumerate())
        message, hint = failure(sshd, key, port=port, timeout=0.5)
        settle(before)
    assert (message, hint) == (HANDSHAKE[0].format(port=port), HANDSHAKE[1])
    assert capfd.readouterr() == ("", "")


def test_a_server_that_goes_silent_at_the_login_is_given_up(sshd, key):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=never_log_in, args=(server, sshd.folder / "host_key"), daemon=True).start()
        port = server.getsockname()[1]
        with at_most(3):
            message, _ = failure(sshd, key, port=port, timeout=1.0)
    assert message == f"127.0.0.1:{port} went silent during the login as {USER}"


def never_log_in(server: socket.socket, host_key: Path) -> None:
    class Slow(paramiko.ServerInterface):
        def get_allowed_auths(self, username: str) -> str:
            return "publickey"

        def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
            time.sleep(3)
            return paramiko.AUTH_SUCCESSFUL

    connection, _ = server.accept()
    transport = paramiko.Transport(connection)
    transport.add_server_key(paramiko.Ed25519Key(filename=str(host_key)))
    transport.start_server(server=Slow())


# Reconnecting


def test_a_server_killed_in_mid_connection_and_started_again(tmp_path, web, capfd):
    with running_sshd(tmp_path) as server:
        key = tmp_path / "id"
        server.authorize(ssh.make_key_pair(key))
        tunnel = ssh.open_tunnel(**login(server, key, remote_port=web))
        with tunnel as port:
            assert get(port) == "/hello"  # by now the server has forked all that it will
            with socket.create_connection(("127.0.0.1", port), timeout=5) as open_connection:
                open_connection.sendall(b"GET /half HTTP/1.1\r\n")
                server.kill()
                assert open_connection.recv(1) == b""
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                assert closed(connection)
            with pytest.raises(TunnelError) as raised:
                tunnel.ensure_open()
            assert raised.value.message == f"127.0.0.1:{server.port} refuses SSH connections"
            server.start()
            tunnel.ensure_open()
            assert get(port) == "/hello"
    assert capfd.readouterr() == ("", "")


def test_a_connection_gone_silent_is_noticed_and_made_anew(sshd, key, web):
    relay = Relay(sshd.port)
    tunnel = ssh.open_tunnel(**login(sshd, key, remote_port=web, port=relay.port, timeout=1.0))
    with tunnel as port:
        assert get(port) == "/hello"
        relay.swallow()
        with at_most(3):
            tunnel.ensure_open()
        assert get(port) == "/hello"
    relay.close()


def test_ensure_open_leaves_a_living_tunnel_alone(sshd, key, web):
    tunnel = ssh.open_tunnel(**login(sshd, key, remote_port=web))
    with tunnel as port:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/first")
        assert connection.getresponse().read() == b"/first"
        for _ in range(30):
            tunnel.ensure_open()
        connection.request("GET", "/second")
        assert connection.getresponse().read() == b"/second"
        connection.close()


def test_a_head_that_refuses_a_question_has_answered(web, tmp_path):
    """Else its tunnel, which forwards, would be cut and made anew without end."""
    server = Sshd(tmp_path)
    with (tmp_path / "sshd_config").open("a") as config:
        config.write("MaxSessions 0\n")
    server.authorize(ssh.make_key_pair(tmp_path / "id"))
    server.start()
    tunnel = ssh.open_tunnel(**login(server, tmp_path / "id", remote_port=web))
    with tunnel as port, socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        tunnel.ensure_open()
        connection.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
        assert connection.recv(8) == b"HTTP/1.0"
    server.kill()


def test_a_tunnel_ends_with_its_context_whatever_happened_in_it(sshd, key, web):
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt), ssh.open_tunnel(**login(sshd, key, remote_port=web)) as port:
        raise KeyboardInterrupt
    settle(before)
    assert refused(port)


# Remote files


@pytest.mark.parametrize("name", ["it's a $(false) `name`\n", "-é"])
def test_a_remote_file_is_read(sshd, key, tmp_path, name):
    content = bytes(range(256)) * 1000
    (tmp_path / name).write_bytes(content)
    assert ssh.read_file(**login(sshd, key, path=str(tmp_path / name))) == content


def test_only_the_end_of_a_large_file_is_read(sshd, key, tmp_path):
    (tmp_path / "log").write_bytes(b"start" + b"x" * 3_000_000 + b"end")
    assert ssh.read_file(**login(sshd, key, path=str(tmp_path / "log"), max_bytes=5)) == b"xxend"
    assert len(ssh.read_file(**login(sshd, key, path=str(tmp_path / "log")))) == 1 << 20


def test_an_empty_file_is_read(sshd, key, tmp_path):
    (tmp_path / "empty").touch()
    assert ssh.read_file(**login(sshd, key, path=str(tmp_path / "empty"))) == b""


def test_a_remote_file_that_is_not_there(sshd, key, tmp_path):
    with pytest.raises(TunnelError) as raised:
        ssh.read_file(**login(sshd, key, path=str(tmp_path / "none")))
    assert raised.value.message == (
        f"cannot read `{tmp_path}/none` at {USER}@127.0.0.1:{sshd.port}: "
        f"tail: cannot open '{tmp_path}/none' for reading: No such file or directory"
    )


def test_a_file_that_never_ends_is_given_up(sshd, key, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with at_most(4), pytest.raises(TunnelError) as raised:
        ssh.read_file(**login(sshd, key, path=str(tmp_path / "fifo"), timeout=1.0))
    os.close(os.open(tmp_path / "fifo", os.O_WRONLY | os.O_NONBLOCK))  # lets the remote command end
    assert raised.value.message == (
        f"the connection to 127.0.0.1:{sshd.port} broke while `{tmp_path}/fifo` was read"
    )


# Other programs' files


def test_the_users_ssh_files_are_neither_read_nor_changed(sshd, key, web, home, tmp_path):
    make_key(tmp_path / "wrong")
    shutil.copy(key, home / ".ssh/id_ed25519")  # would log in, if it were tried
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {make_key(tmp_path / 'other')}\n")
    (home / ".ssh/config").write_text("Host *\n  Port 1\n  User nobody\n  ProxyCommand false\n")
    before = contents(home)
    with ssh.open_tunnel(**login(sshd, key, remote_port=web)) as port:
        assert get(port) == "/hello"
    message, _ = failure(sshd, tmp_path / "wrong")
    assert message == f"cannot log in as {USER}@127.0.0.1:{sshd.port} with the key `{tmp_path}/wrong`"
    assert contents(home) == before


def test_nothing_is_imported_before_it_is_needed():
    script = (
        "import sys, daft_launcher.ssh\nprint({'paramiko', 'sshtunnel', 'cryptography'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"


# The agent


def test_the_agents_keys_log_in(sshd, web, agent, tmp_path):
    make_key(tmp_path / "stranger")
    sshd.authorize(make_key(tmp_path / "held"))
    add_to_agent(tmp_path / "stranger", tmp_path / "held")
    tunnel = ssh.open_tunnel(**login(sshd, None, remote_port=web))
    with tunnel as port:
        assert get(port) == "/hello"
        tunnel.ensure_open()


def test_the_agents_keys_that_were_refused_are_named(sshd, agent, tmp_path):
    for name in ("one", "two"):
        make_key(tmp_path / name)
        add_to_agent(tmp_path / name)
    message, _ = failure(sshd, None)
    assert message == (
        f"cannot log in as {USER}@127.0.0.1:{sshd.port} with "
        f"the SSH agent's key {fingerprint(tmp_path / 'one.pub')}, "
        f"the SSH agent's key {fingerprint(tmp_path / 'two.pub')}"
    )


def test_an_agent_with_more_keys_than_the_server_tries(sshd, agent, tmp_path):
    for number in range(6):
        make_key(tmp_path / str(number))
        add_to_agent(tmp_path / str(number))
    message, _ = failure(sshd, None)
    tried = [f"the SSH agent's key {fingerprint(tmp_path / f'{number}.pub')}" for number in range(3)]
    assert message == f"cannot log in as {USER}@127.0.0.1:{sshd.port} with {', '.join(tried)}"


NO_KEY = (
    (
        "there is no SSH key to log in with: none that `daft up` made on this machine, none of `ssh_key_name` in "
        "~/.ssh, none in an SSH agent"
    ),
    "`-i KEY` names one; a team shares one whose `ssh_key_name` stands in [aws]",
)


def test_an_agent_without_keys(sshd, agent):
    assert failure(sshd, None) == NO_KEY


def test_no_agent(sshd):
    assert failure(sshd, None) == NO_KEY


def test_an_agent_that_is_gone(sshd, monkeypatch, tmp_path):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))
    assert failure(sshd, None) == NO_KEY


def test_a_named_key_is_used_and_not_the_agents(sshd, key, agent, tmp_path):
    make_key(tmp_path / "stranger")
    add_to_agent(key)
    message, _ = failure(sshd, tmp_path / "stranger")
    assert message == f"cannot log in as {USER}@127.0.0.1:{sshd.port} with the key `{tmp_path}/stranger`"


# Keys with a passphrase


def test_a_key_with_a_passphrase_needs_the_agent(sshd, key, agent, tmp_path):
    locked = tmp_path / "locked"
    sshd.authorize(make_key(locked, "-N", "secret"))
    add_to_agent(key)
    assert failure(sshd, locked) == (
        f"the key `{locked}` is protected by a passphrase, and no SSH agent holds it",
        f"`ssh-add {locked}` asks for the passphrase and hands the key to the agent",
    )


def test_a_key_with_a_passphrase_that_the_agent_holds(sshd, key, web, agent, tmp_path):
    locked = tmp_path / "locked"
    sshd.authorize(make_key(locked))
    add_to_agent(locked)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", locked], check=True)
    with ssh.open_tunnel(**login(sshd, locked, remote_port=web)) as port:
        assert get(port) == "/hello"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_the_public_half_of_a_key_with_a_passphrase(tmp_path, kind):
    public = make_key(tmp_path / "locked", "-t", kind, "-N", "secret")
    (tmp_path / "locked.pub").write_text("ssh-ed25519 somebody-elses")
    assert ssh.public_key_of(tmp_path / "locked") == public


def test_the_public_half_of_a_pem_key_with_a_passphrase(tmp_path):
    locked = tmp_path / "locked"
    public = make_key(locked, "-t", "ecdsa")
    for form in ("PEM", "PKCS8"):
        (tmp_path / "locked.pub").write_text(public)
        convert = [
            "ssh-keygen",
            "-q",
            "-p",
            "-P",
            "secret" if form == "PKCS8" else "",
            "-N",
            "secret",
            "-m",
            form,
        ]
        subprocess.run([*convert, "-f", locked], check=True)
        assert ssh.public_key_of(locked) == public
        (tmp_path / "locked.pub").unlink()
        assert unusable(locked) == (
            f"the public half of `{locked}` cannot be read without its passphrase",
            f"`ssh-keygen -y -f {locked} > {locked}.pub`",
        )


# Key files


def test_a_key_pair_is_made_for_the_user_alone(tmp_path):
    old = os.umask(0)
    try:
        public = ssh.make_key_pair(tmp_path / "id_ed25519")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "id_ed25519").stat().st_mode) == 0o600
    assert re.fullmatch(r"ssh-ed25519 [A-Za-z0-9+/]{68}", public)
    derived = subprocess.run(
        ["ssh-keygen", "-y", "-f", tmp_path / "id_ed25519"], capture_output=True, text=True, check=True
    )
    assert derived.stdout.strip() == public
    assert not any((tmp_path / "home/.ssh").iterdir())


def test_an_existing_key_is_kept(tmp_path):
    public = make_key(tmp_path / "id_ed25519")
    before = (tmp_path / "id_ed25519").read_bytes()
    assert ssh.make_key_pair(tmp_path / "id_ed25519") == public
    assert (tmp_path / "id_ed25519").read_bytes() == before


def test_a_key_is_not_written_through_a_link(tmp_path):
    (tmp_path / "id_ed25519").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TunnelError) as raised:
        ssh.make_key_pair(tmp_path / "id_ed25519")
    assert raised.value.message == (
        f"cannot read the private key `{tmp_path}/id_ed25519`: No such file or directory"
    )
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_that_cannot_be_written(tmp_path):
    with pytest.raises(StateError) as raised:
        ssh.make_key_pair(tmp_path / "none" / "id_ed25519")
    assert (
        raised.value.message
        == f"cannot write the key `{tmp_path}/none/id_ed25519`: No such file or directory"
    )


def test_the_comment_of_a_key_stays_here(tmp_path):
    make_key(tmp_path / "id", "-C", "me@home")
    assert "me@home" not in ssh.public_key_of(tmp_path / "id")


def test_a_key_that_is_not_there(tmp_path):
    assert unusable(tmp_path / "none") == (
        f"cannot read the private key `{tmp_path}/none`: No such file or directory",
        None,
    )


def test_a_key_that_is_a_folder(tmp_path):
    assert unusable(tmp_path) == (f"cannot read the private key `{tmp_path}`: Is a directory", None)


def test_a_file_that_is_no_key(tmp_path):
    (tmp_path / "notes").write_text("hello")
    assert unusable(tmp_path / "notes") == (f"`{tmp_path}/notes` is not a private key", None)


def test_the_public_half_named_in_place_of_the_private_one(tmp_path):
    make_key(tmp_path / "id")
    assert unusable(tmp_path / "id.pub") == (
        f"`{tmp_path}/id.pub` is not a private key",
        "the private half has the same name without `.pub`",
    )


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o602])
def test_a_key_that_others_can_use(tmp_path, mode):
    make_key(tmp_path / "id")
    (tmp_path / "id").chmod(mode)
    assert unusable(tmp_path / "id") == (
        f"the private key `{tmp_path}/id` can be read or changed by other users (mode {mode:04o})",
        f"`chmod 600 {tmp_path}/id`",
    )


@pytest.mark.parametrize("label", ["OPENSSH PRIVATE KEY", "RSA PRIVATE KEY", "PRIVATE KEY"])
@pytest.mark.parametrize("body", ["", "AAAA", "b3BlbnNzaC1rZXktdjEA", "?"])
def test_a_damaged_key(tmp_path, label, body):
    (tmp_path / "id").write_text(f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    (tmp_path / "id").chmod(0o600)
    assert unusable(tmp_path / "id") == (
        f"`{tmp_path}/id` is damaged or of a kind that cannot be used here",
        "Ed25519, ECDSA and RSA keys in OpenSSH's format or PEM can",
    )


def test_a_damaged_key_is_not_quoted(tmp_path):
    make_key(tmp_path / "id")
    lines = (tmp_path / "id").read_text().splitlines()
    (tmp_path / "id").write_text("\n".join([*lines[:3], *lines[4:]]))
    with pytest.raises(TunnelError) as raised:
        ssh.public_key_of(tmp_path / "id")
    chain = [raised.value, raised.value.__cause__, raised.value.__context__]
    assert not any(line in repr(error) for error in chain for line in lines[1:-1])


# Finding the key


def test_where_a_key_is_looked_for(tmp_path, home):
    def find(**given) -> Path | None:
        defaults = {"explicit": None, "directory": tmp_path, "ssh_key_name": "team"}
        return ssh.find_identity(**{**defaults, **given})

    assert find() is None
    (home / ".ssh/team.pem").touch()
    assert find() == home / ".ssh/team.pem"
    (home / ".ssh/team").touch()
    assert find() == home / ".ssh/team"
    assert find(ssh_key_name=None) is None
    assert find(ssh_key_name="../.ssh/team") is None
    assert find(ssh_key_name=str(home / ".ssh/team")) is None
    (tmp_path / "id_ed25519").touch()
    assert find() == tmp_path / "id_ed25519"
    assert find(explicit=Path("~/mine")) == home / "mine"


# Tools


def unusable(path: Path) -> tuple[str, str | None]:
    with pytest.raises(TunnelError) as raised:
        ssh.public_key_of(path)
    return raised.value.message, raised.value.hint


def settle(before: set[threading.Thread]) -> None:
    """Wait a moment for the threads that were started since to end."""
    end = time.monotonic() + 3
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < end, left
        time.sleep(0.02)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def refused(port: int, address: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) != 0


def closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def other_addresses() -> list[str]:
    return ["127.0.0.2"] if sys.platform == "linux" else []


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def wait_for_log(sshd: Sshd, offset: int, words: str) -> str:
    """What the server has written from `offset` on, once it has these words."""
    for _ in range(300):
        if words in (text := sshd.log.read_text()[offset:]):
            return text
        time.sleep(0.01)
    raise AssertionError(text)


def add_to_agent(*paths: Path) -> None:
    subprocess.run(["ssh-add", "-q", *paths], check=True, capture_output=True)
