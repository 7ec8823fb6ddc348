"""Nobody else gets in: not from outside, not from another cluster, not without the token; and where that is."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations, product
from pathlib import Path

import pytest

from tests.lab.cloud import REGION
from tests.lab.lab import Lab, Project, Seen
from tests.lab.machine import Machine, wait_for
from tests.lab.neighbours import Neighbours
from tests.moto.iam import Call, allows, policies_of

PYTHON = "/usr/bin/python3"
TOKEN = "/etc/daft/ray-token"
PROBE = """\
import json, socket, sys, concurrent.futures
def probe(port):
    try:
        socket.create_connection((sys.argv[1], port), 2).close()
    except ConnectionRefusedError:
        return port, "refused"
    except OSError:
        return port, "silent"
    return port, "open"
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(json.dumps(dict(pool.map(probe, map(int, sys.argv[2:])))))
"""
ASK = """\
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=5).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
KNOCK = """\
import sys, urllib.error, urllib.request
headers = {"Authorization": "Bearer " + sys.argv[1]}
try:
    asked = urllib.request.Request("http://127.0.0.1:8265/api/version", headers=headers)
    print(urllib.request.urlopen(asked, timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_only_ssh_answers_outside_and_only_the_operator(cluster: Project, stranger: None) -> None:
    for machine in (cluster.head(), cluster.workers()[0]):
        ports = _listening(machine)
        assert 22 in ports
        answers = _probe(_here, machine.facts.public, ports)
        assert answers == dict.fromkeys(ports, "silent") | {22: "open"}
        assert _probe(_from_stranger, machine.facts.public, ports) == dict.fromkeys(ports, "silent")


@pytest.fixture
def other(lab: Lab) -> Iterator[Machine]:
    machine = lab.launch("somebody-elses")
    yield machine
    lab.terminate(lab.cloud.backend().get_instance(machine.facts.instance_id))
    wait_for(lambda: not machine.on, "machine that is off")


def test_other_instance_of_the_account_reaches_nothing(cluster: Project, other: Machine) -> None:
    head, worker = cluster.head(), cluster.workers()[0]
    ports = _listening(head)

    assert _probe(worker.run, head.facts.private, {22, 6379}) == {22: "open", 6379: "open"}
    for address in (head.facts.private, head.facts.public):
        assert _probe(other.run, address, ports) == dict.fromkeys(ports, "silent")


def test_clusters_reach_nothing_of_each_other(cluster: Project, beside: Neighbours) -> None:
    ours = [cluster.head(), cluster.workers()[0]]
    theirs = [beside.proxied.project.head(), beside.offline.project.head()]
    ports = {machine: _listening(machine) for machine in (*ours, *theirs)}
    assert all({22, 6379} <= ports[head] for head in (ours[0], *theirs))
    tries = [
        (source, target, address)
        for source, target in [*product(ours, theirs), *product(theirs, ours), *permutations(theirs, 2)]
        for address in (target.facts.private, target.facts.public)
    ]
    with ThreadPoolExecutor(len(tries)) as pool:
        answers = list(pool.map(lambda one: _probe(one[0].run, one[2], ports[one[1]]), tries))

    assert len(tries) == 20
    assert answers == [dict.fromkeys(ports[target], "silent") for _, target, _ in tries]


def test_token_of_another_cluster_opens_nothing(cluster: Project, beside: Neighbours) -> None:
    heads = [cluster.head(), beside.proxied.project.head(), beside.offline.project.head()]
    tokens = [head.read(TOKEN) for head in heads]
    found = [[_words(head.run(PYTHON, "-c", KNOCK, token)) for token in tokens] for head in heads]

    assert found == [[["200" if own == token else "403"] for token in tokens] for own in tokens]
    assert len(set(tokens)) == 3


def test_roles_read_their_own_clusters_secret_alone(lab: Lab, cluster: Project, beside: Neighbours) -> None:
    names = [cluster.name, beside.proxied.project.name, beside.offline.project.name]
    ssm = lab.cloud.client("ssm")
    secrets = {name: ssm.get_parameter(Name=f"/daft/{name}/ray")["Parameter"]["ARN"] for name in names}
    for name in names:
        (head,) = lab.cloud.find(name, "head")
        assert f"meta-data/iam/security-credentials/{name}-{REGION}-head" in lab.cloud.metadata(head)
    may_read = {
        (reader, role, owner): allows(
            policies_of(lab.cloud, f"{reader}-{REGION}-{role}"), Call("ssm:GetParameter", secrets[owner])
        )
        for reader, role, owner in product(names, ("head", "worker"), names)
    }
    assert may_read == {key: key[0] == key[2] for key in may_read}


def test_ray_answers_nothing_without_the_token(cluster: Project) -> None:
    head = cluster.head()
    dashboard = [
        f"http://127.0.0.1:8265/{path}" for path in ("api/version", "api/jobs/", "nodes?view=summary")
    ]
    agent = f"http://{head.facts.private}:52365/api/job_agent/jobs/"

    assert _words(head.run(PYTHON, "-c", ASK, *dashboard)) == ["401"] * 3
    assert _words(cluster.workers()[0].run(PYTHON, "-c", ASK, agent)) == ["401"]


def test_dashboard_listens_on_loopback_alone(cluster: Project) -> None:
    listeners = cluster.head().run("ss", "--tcp", "--listening", "--numeric", "--no-header").stdout
    assert re.findall(r"(\S+):8265 ", listeners) == ["127.0.0.1"]


def test_token_lies_in_one_closed_file(cluster: Project) -> None:
    for machine in (cluster.head(), *cluster.workers()):
        modes = machine.run(
            "stat", "-c", "%n %a %U", TOKEN, "/etc/daft/settings.json", "/var/log/daft-bootstrap.log"
        )
        assert modes.stdout.splitlines() == [
            f"{TOKEN} 600 ec2-user",
            "/etc/daft/settings.json 600 root",
            "/var/log/daft-bootstrap.log 600 ec2-user",
        ]
        assert _holding_token(machine, "/etc", "/home", "/opt/daft/bootstrap.sh", "/tmp/ray", "/var") == [
            TOKEN
        ]


def test_token_is_in_no_argv_and_no_environment(cluster: Project, tmp_path: Path) -> None:
    count = f"grep --text --count --fixed-strings --file {TOKEN}"
    for machine in (cluster.head(), *cluster.workers()):
        found = machine.run("sh", "-c", f"cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | {count}")
        would_be = machine.run("sh", "-c", f"A=$(cat {TOKEN}) cat /proc/self/environ | {count}")
        assert (found.stdout, would_be.stdout) == ("0\n", "1\n")

    (tmp_path / "main.py").write_text(
        f"import os\nprint('token' if open('{TOKEN}').read() in str(os.environ) else 'nothing')\n"
    )
    assert cluster.daft("submit", "-w", str(tmp_path), "--job-id", "look").out == "look\nnothing\n"


def test_token_is_nowhere_in_what_terraform_writes(lab: Lab, cluster: Project, came_up: Seen) -> None:
    token = cluster.head().read(TOKEN)
    assert [worker.read(TOKEN) for worker in cluster.workers()] == [token] * 2
    planned = cluster.daft("up", "--plan", "--detailed-exitcode")

    # What the nodes wrote, their tags and the secret, is no change for Terraform either.
    assert planned.status == 0, planned
    secret = lab.cloud.client("ssm").get_parameter(Name="/daft/demo/ray", WithDecryption=True)["Parameter"]
    assert (secret["Type"], json.loads(secret["Value"])["token"]) == ("SecureString", token)
    texts = [planned.out, planned.err, came_up.out, came_up.err]
    texts += [str(instance.get_tags()) for instance in lab.cloud.snapshot()]
    texts += [
        gzip.decompress(data).decode() for i in lab.cloud.snapshot() if (data := lab.cloud.user_data(i))
    ]
    assert [text for text in texts if token in text] == []
    assert [path for path in _files(cluster.root) if token.encode() in path.read_bytes()] == []


def test_private_files_of_the_user_are_closed(cluster: Project) -> None:
    private = {path.name: oct(path.stat().st_mode & 0o777) for path in cluster.state.iterdir()}
    assert (private["id_ed25519"], private["terraform.tfstate"]) == ("0o600", "0o600")


def _listening(machine: Machine) -> set[int]:
    lines = machine.run("ss", "--tcp", "--listening", "--numeric", "--no-header").stdout.splitlines()
    return {int(line.split()[3].rpartition(":")[2]) for line in lines}


def _probe(run: Run, address: str | None, ports: set[int]) -> dict[int, str]:
    done = run(PYTHON, "-c", PROBE, str(address), *map(str, sorted(ports)))
    assert done.returncode == 0, done.stderr
    return {int(port): answer for port, answer in json.loads(done.stdout).items()}


def _here(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def _from_stranger(*argv: str) -> subprocess.CompletedProcess[str]:
    return _here("ip", "netns", "exec", "stranger", *argv)


def _words(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def _holding_token(machine: Machine, *places: str) -> list[str]:
    # By a file of patterns, so that the token is not in this command's own argv.
    grep = f"grep -rlaF --devices=skip --file={TOKEN}"
    return machine.run(*grep.split(), *places).stdout.splitlines()


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and ".terraform" not in path.parts]
