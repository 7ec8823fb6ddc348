"""A shell on the head by OpenSSH's client: what it is told, and what comes back."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from daft_launcher.config import ClusterConfig
from daft_launcher.errors import TunnelError
from daft_launcher.head_shell import open_shell
from daft_launcher.instances import Instance, InstanceState
from daft_launcher.models import SshLogin
from daft_launcher.state_dir import StateDir
from daft_launcher.tools import Tools

CONFIG = ClusterConfig.model_validate({"setup": {"name": "demo", "provider": "aws"}})
HEAD = Instance(
    cluster="demo",
    role="head",
    instance_id="i-1",
    state=InstanceState.RUNNING,
    provider="aws",
    region="us-west-2",
    address="198.51.100.7",
)
LOGIN = SshLogin(
    address="198.51.100.7", user="ec2-user", host_key="ssh-ed25519 AAAA", identity_file=Path("/keys/a key")
)


class Provider:
    name = "aws"

    def __init__(self, login: SshLogin) -> None:
        self.login = login

    def list_instances(self, cluster):
        return [HEAD]

    def get_login(self, cluster, *, identity_file=None):
        return self.login


def tools(login: SshLogin, tmp_path: Path) -> Tools:
    return Tools(
        state_dir=StateDir(tmp_path),
        provider=Provider(login),
        open_terraform=None,
        open_bucket=None,
        reporter=None,
        clock=None,
        cache=tmp_path,
    )


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client that writes down its words and the known hosts that it is given, and ends with 7."""
    client = tmp_path / "bin" / "ssh"
    client.parent.mkdir()
    client.write_text(
        f"""#!{sys.executable}
import pathlib, sys
words = sys.argv[1:]
hosts = next(word.partition("=")[2] for word in words if word.startswith("UserKnownHostsFile="))
said = [word.replace(hosts, "HOSTS") for word in words] + [pathlib.Path(hosts).read_text()]
pathlib.Path(sys.argv[0]).with_name("said").write_text("\\0".join(said))
sys.exit(7)
"""
    )
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(client.parent))
    return client.with_name("said")


OPTIONS = [
    *("-F", "none"),
    *("-o", "UserKnownHostsFile=HOSTS"),
    *("-o", "GlobalKnownHostsFile=/dev/null"),
    *("-o", "StrictHostKeyChecking=yes"),
    *("-o", "HostKeyAlgorithms=ssh-ed25519"),
    *("-o", "UpdateHostKeys=no"),
    *("-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=20"),
    *("-o", "ServerAliveCountMax=3"),
]


def test_the_client_trusts_the_one_key_and_its_status_comes_back(ssh: Path, tmp_path: Path) -> None:
    assert open_shell(CONFIG, ["echo", "a b"], tools(LOGIN, tmp_path), identity_file=None) == 7
    assert ssh.read_text().split("\0") == [
        *OPTIONS,
        *("-o", "IdentitiesOnly=yes"),
        *("-i", "/keys/a key"),
        "ec2-user@198.51.100.7",
        "--",
        "echo 'a b'",
        "198.51.100.7 ssh-ed25519 AAAA\n",
    ]


def test_one_word_is_a_command_line_of_the_users_own(ssh: Path, tmp_path: Path) -> None:
    open_shell(CONFIG, ["cd /tmp && ls"], tools(LOGIN, tmp_path), identity_file=None)
    assert ssh.read_text().split("\0")[-2] == "cd /tmp && ls"


def test_a_word_is_no_option_of_the_client(tmp_path: Path) -> None:
    """The real one looks for options behind the host too; this would have run a program here."""
    remote = ["--", "-oProxyCommand=touch pwned"]
    done = subprocess.run(
        ["ssh", "-G", "-T", *OPTIONS, "ec2-user@198.51.100.7", *remote], capture_output=True, text=True
    )
    assert (done.returncode, "proxycommand" in done.stdout) == (0, False)
    without = subprocess.run(
        ["ssh", "-G", "-T", *OPTIONS, "ec2-user@198.51.100.7", *remote[1:]], capture_output=True, text=True
    )
    assert (without.returncode, "proxycommand" in without.stdout) == (0, True)


def test_without_a_key_file_the_agent_is_asked(ssh: Path, tmp_path: Path) -> None:
    login = replace(LOGIN, identity_file=None)
    assert open_shell(CONFIG, [], tools(login, tmp_path), identity_file=None) == 7
    assert ssh.read_text().split("\0") == [
        *OPTIONS,
        "ec2-user@198.51.100.7",
        "198.51.100.7 ssh-ed25519 AAAA\n",
    ]


def test_the_real_client_takes_these_options(tmp_path: Path) -> None:
    done = subprocess.run(
        ["ssh", "-G", "-T", *OPTIONS, "ec2-user@198.51.100.7"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TunnelError) as caught:
        open_shell(CONFIG, [], tools(LOGIN, tmp_path), identity_file=None)
    assert (caught.value.message, caught.value.hint) == (
        "there is no `ssh` on PATH",
        "install OpenSSH's client, for example with `apt-get install ssh`",
    )
