"""What answers at the head's address is no head, or does not let in: said at once, and nothing is sent to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.adapters.ray_api_server import RayApiServer
from tests.adapters.sshd import USER, Sshd, fingerprint, free_port, make_key
from tests.cli.clikit import Seen, failed
from tests.network.head import SUBMIT, Head
from tests.network.peers import Peer, ending_at_the_login, listening

pytestmark = pytest.mark.real

COMMANDS = {
    "submit": SUBMIT,
    "dashboard": ("dashboard", "--no-open"),
    "logs": ("logs", "job-1"),
    "bootstrap log": ("logs", "--bootstrap"),
    "jobs": ("jobs",),
    "stop-job": ("stop-job", "job-1"),
}
every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)

NOT_SSH = (
    "what answers at SSH does not complete an SSH handshake",
    (
        "the head may be booting or overloaded, or something else may answer at its address; `daft list` shows its "
        "state and address"
    ),
)
BROKEN_LOGIN = (
    "the head may be overloaded or shutting down: try again, and `daft list` shows its state; or it does not take "
    "this key: `-i KEY` names another"
)


def strangers_key(host_key: str, other: Path, sshd: Sshd) -> tuple[str, str]:
    return (
        (
            f"the machine that answers at SSH is not the head that tagged itself: its host key is "
            f"{fingerprint(sshd.folder / 'host_key.pub')}, the head's is {fingerprint(other)}"
        ),
        (
            "nothing of yours was sent. The address may be another machine's by now, the head's host key may have been "
            "changed since it booted, or somebody sits in between. Compare the address with `daft list`; if it is the "
            "head's, `daft down` and `daft up` make a head whose key is known"
        ),
    )


@every_command
def test_another_machines_host_key(head: Head, ray: RayApiServer, sshd: Sshd, tmp_path: Path, command):
    head.tag(make_key(tmp_path / "other"))
    said = len(sshd.log.read_text())
    assert head.daft(*command) == failed(*strangers_key(head.host_key, tmp_path / "other.pub", sshd))
    assert ray.asked() == []
    assert USER not in sshd.log.read_text()[said:]


@every_command
def test_a_head_that_has_not_said_its_host_key(head: Head, ray: RayApiServer, sshd: Sshd, command):
    head.tag(None)
    said = len(sshd.log.read_text())
    assert head.daft(*command) == failed(
        "the head node of `demo` (i-1) has not said its SSH host key yet",
        "wait until `daft up` says that it is ready",
    )
    assert ray.asked() == []
    assert USER not in sshd.log.read_text()[said:]


@pytest.mark.parametrize("tag", ["ssh-ed25519", "ssh-ed25519 !!!", "ssh-ed25519 AAAA", "\u202enone"])
def test_a_tag_that_is_no_host_key(head: Head, ray: RayApiServer, sshd: Sshd, tag: str):
    head.tag(tag)
    said = len(sshd.log.read_text())
    assert head.daft("jobs") == failed(
        f"the head's tag holds no OpenSSH public key: `{tag.encode('ascii', 'backslashreplace').decode()}`",
        "`daft down` and `daft up` make a head that names its host key",
    )
    assert USER not in sshd.log.read_text()[said:]


PEERS = {
    "silence": Peer(),
    "closes": Peer(ending="close"),
    "resets": Peer(ending="reset"),
    "HTTP": Peer(says=b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", ending="close"),
    "garbage": Peer(says=b"\xff\xfe\x00\x1b[31m nonsense\r\n" * 200),
    "a banner without end": Peer(says=b"SSH-2.0-", again=b"x" * 4096),
    "lines without end": Peer(again=b"welcome\r\n" * 100),
    "a banner byte by byte": Peer(says=b"SSH-", again=b"2", pause=0.2),
    "an old version": Peer(says=b"SSH-1.5-old\r\n"),
    "a banner and silence": Peer(says=b"SSH-2.0-x\r\n"),
    "a banner and the end": Peer(says=b"SSH-2.0-x\r\n", ending="close"),
    "a banner and garbage": Peer(says=b"SSH-2.0-x\r\n" + b"\xff" * 64),
    "a banner and garbage without end": Peer(says=b"SSH-2.0-x\r\n", again=b"\x00\x00\x10\x00" * 64),
}


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_what_is_no_ssh_server(head: Head, ray: RayApiServer, peer: Peer):
    with listening(peer) as port:
        head.reach = replace(head.reach, ssh_port=port, ssh_timeout=0.6)
        assert head.daft("jobs") == failed(*NOT_SSH)
    assert ray.asked() == []


def test_nothing_listens_there(head: Head):
    head.reach = replace(head.reach, ssh_port=free_port())
    assert head.daft("jobs") == failed(
        "SSH refuses SSH connections",
        "it is there but has no SSH server yet, or no longer; `daft list` shows its state",
    )


@pytest.mark.parametrize(("hangs_up", "words"), [(True, "hung up"), (False, "went silent")])
def test_a_head_that_leaves_at_the_login(head: Head, sshd: Sshd, hangs_up: bool, words: str):
    with ending_at_the_login(sshd.folder / "host_key", hangs_up=hangs_up) as port:
        head.reach = replace(head.reach, ssh_port=port, ssh_timeout=4)
        assert head.daft("jobs") == failed(f"SSH {words} during the login as {USER}", BROKEN_LOGIN)


def test_a_key_that_the_head_does_not_know(head: Head, ray: RayApiServer, tmp_path: Path):
    make_key(tmp_path / "stranger")
    head.key = tmp_path / "stranger"
    assert head.daft("jobs") == failed(
        f"cannot log in as {USER}@SSH with the key `DESK/stranger`",
        "`-i KEY` names the key that the cluster was made with; `ssh_user` must be the image's login, ec2-user on "
        "Amazon Linux, ubuntu on Ubuntu",
    )
    assert ray.asked() == []


# Past the login


@pytest.mark.parametrize("content", ["", " \n", "two\nlines", "\x1b[31mred", "tökèn"])
def test_a_token_file_that_holds_none(head: Head, ray: RayApiServer, tmp_path: Path, content: str):
    (tmp_path / "token").write_text(content)
    assert head.daft("jobs", token_path=str(tmp_path / "token")) == failed(
        f"`DESK/token` at {USER}@127.0.0.1 holds no token of Ray's",
        "`daft logs --bootstrap` shows how the head was set up",
    )
    assert ray.asked() == []


def test_a_token_file_that_is_not_there(head: Head, ray: RayApiServer):
    assert head.daft("jobs", token_path="/none") == failed(
        f"cannot read `/none` at {USER}@SSH: tail: cannot open '/none' for reading: No such file or directory",
        "`daft ssh` opens a shell on the head",
    )


@pytest.mark.parametrize("again", ["x", "x" * 999], ids=["byte by byte", "much"])
def test_a_token_file_without_end(head: Head, ray: RayApiServer, tmp_path: Path, again: str):
    """`tail` waits for the end of a pipe, and the head's patience is not ours."""
    os.mkfifo(tmp_path / "pipe")
    script = (
        "import sys, time\nwith open(sys.argv[1], 'w') as pipe:\n"
        "    for _ in range(6000): print(sys.argv[2], file=pipe, flush=True); time.sleep(0.01)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "pipe", again], stderr=subprocess.DEVNULL
    )
    try:
        assert head.daft("jobs", token_path=str(tmp_path / "pipe"), ssh_timeout=3) == failed(
            "the connection to SSH broke while `DESK/pipe` was read", "try again"
        )
    finally:
        # First, so that the head's second try does not wait at it for a writer, forever.
        (tmp_path / "pipe").unlink()
        writer.kill()
        writer.wait()


@pytest.mark.parametrize("command", [SUBMIT, ("dashboard", "--no-open"), ("logs", "job-1")], ids=" ".join)
def test_nothing_listens_at_rays_port(head: Head, command):
    head.reach = replace(head.reach, ray_port=free_port())
    assert head.daft(*command) == failed(
        "nothing listens at port RAY of SSH: its Ray is not running",
        "`daft logs --bootstrap` shows how the head was set up, `daft ssh` opens a shell on it",
    )


@pytest.fixture(scope="module")
def closed_sshd(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("closed")
    server = Sshd(folder)
    (folder / "sshd_config").write_text((folder / "sshd_config").read_text() + "AllowTcpForwarding no\n")
    shutil.copy(key.parent / "authorized_keys", folder / "authorized_keys")
    server.start()
    yield server
    server.kill()


def test_a_head_that_forwards_nothing(head: Head, ray: RayApiServer, closed_sshd: Sshd):
    head.tag(closed_sshd.host_key)
    head.reach = replace(head.reach, ssh_port=closed_sshd.port)
    seen = head.daft("jobs")
    assert seen == failed(
        f"the SSH server of SSH does not forward to port {head.reach.ray_port}",
        "its sshd_config needs `AllowTcpForwarding yes` or `local`, and must permit that port",
    )
    assert ray.asked() == []


# `daft ssh`


@pytest.fixture
def client(head: Head) -> None:
    program = shutil.which("ssh")
    assert program, "OpenSSH's client is not installed: `apt-get install openssh-client`"
    (head.desk.bin / "ssh").symlink_to(program)


def typed(head: Head, *words: str, within: float = 20) -> Seen:
    """OpenSSH's client writes to this process's own streams, so the program gets one of its own."""
    start = time.monotonic()
    seen = head.daft("ssh", *words)
    assert time.monotonic() - start < within
    return seen


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        (Peer(), "Connection timed out during banner exchange"),
        (Peer(ending="close"), "kex_exchange_identification: Connection closed by remote host"),
        (Peer(says=b"HTTP/1.1 400 no\r\n", ending="close"), "kex_exchange_identification"),
    ],
    ids=["silence", "closes", "HTTP"],
)
def test_ssh_to_what_is_no_ssh_server(head: Head, client: None, capfd, peer: Peer, said: str):
    with listening(peer) as port:
        head.reach = replace(head.reach, ssh_port=port, ssh_timeout=1)
        assert typed(head, within=8) == Seen(255)
    assert said in capfd.readouterr().err


def test_ssh_to_another_machine(head: Head, client: None, sshd: Sshd, tmp_path: Path, capfd):
    head.tag(make_key(tmp_path / "other"))
    said = len(sshd.log.read_text())
    assert typed(head) == Seen(255)
    assert "Host key verification failed." in capfd.readouterr().err
    assert USER not in sshd.log.read_text()[said:]


def test_ssh_ends_as_the_command_did(head: Head, client: None, capfd):
    assert head.desk.daft("ssh", "-i", str(head.key), "--", "echo one; exit 7", reach=head.reach) == Seen(7)
    assert capfd.readouterr() == ("one\n", "")
