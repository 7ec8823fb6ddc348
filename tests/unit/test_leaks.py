"""The search for secrets finds them wherever they are folded in, and leaves each in its own place."""

from __future__ import annotations

import base64
import gzip
import io
import json
import secrets
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.leaks import SHOWN, Search

TOKEN = "4f" * 32
BODY = "b3Bl" * 17 + "\n" + "Q9zX" * 17
KEY = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{BODY}\n-----END OPENSSH PRIVATE KEY-----\n"


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tfplan", data)
    return file.getvalue()


def user_data(data: bytes) -> bytes:
    """As Terraform's state has it: the settings as gzip in base64, in a script that is both again."""
    settings = base64.b64encode(gzip.compress(data))
    return base64.b64encode(gzip.compress(secrets.token_hex(99).encode() + b'settings="' + settings + b'"'))


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Gone with the test: what is planted here must not be found when the session's own search comes by."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def search() -> Search:
    search = Search()
    search.learn("Ray's token", TOKEN)
    return search


def put(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    "fold", [bytes, zipped, gzip.compress, base64.b64encode, user_data, lambda x: zipped(user_data(x))]
)
def test_a_known_secret_is_found_however_it_is_folded(
    search: Search, tmp_path: Path, fold: Callable[[bytes], bytes]
) -> None:
    said = json.dumps({"more": "words " * 20, "address": "10.0.0.1", "x": TOKEN}).encode()
    path = put(tmp_path, "project/.daft/demo/terraform.tfstate", fold(said))
    assert search.in_files(tmp_path) == [f"{path}: Ray's token"]


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_what_is_folded_and_damaged_ends_no_search(search: Search, at: float) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tfplan", "".join(map(str, range(9999))))
    for whole in (file.getvalue(), gzip.compress(file.getvalue())):
        place = int(len(whole) * at)
        for damaged in (whole[:place], whole[:place] + b"\xff" * 64 + whole[place + 64 :]):
            assert search.in_data(damaged) == set()
            assert search.in_data(damaged + TOKEN.encode()) == {"Ray's token"}


@pytest.mark.parametrize(
    "name",
    [
        ".daft/demo/main.tf",
        ".daft/demo/cluster.json",
        ".daft/demo/operator.auto.tfvars.json",
        ".daft/demo/terraform.tfstate.backup",
        ".daft/demo/errored.tfstate",
        ".daft/demo/.terraform/terraform.tfstate",
        ".daft/demo/logs/apply.jsonl",
        ".daft/demo.local/run/logs/head.log",
        "home/.cache/daft-launcher/plans/0f/terraform.tfstate",
        "demo0/project.output/001.err",
        "submit-x/err",
        "saved.tfplan",
    ],
)
def test_it_is_found_in_all_that_the_program_writes(search: Search, tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, f"token: {TOKEN}".encode())
    if name.endswith("/err"):
        put(tmp_path, "submit-x/out", b"")
    assert f"{path}: Ray's token" in search.in_files(tmp_path)


def test_each_secret_may_lie_in_its_own_place_and_nowhere_else(tmp_path: Path) -> None:
    search = Search()
    put(tmp_path, ".daft/demo/id_ed25519", KEY.encode())
    put(tmp_path, ".daft/demo.local/run/token", TOKEN.encode())
    put(tmp_path, "demo.output/000.err", SHOWN + TOKEN.encode())
    assert search.in_files(tmp_path) == []
    copy = put(tmp_path, ".daft/demo/copy", json.dumps({"key": KEY}).encode())
    log = put(tmp_path, ".daft/demo.local/run/logs/head.log", SHOWN + b"\n" + TOKEN.encode())
    assert search.in_files(tmp_path) == [
        f"{log}: Ray's token",
        f"{copy}: a private key",
        f"{copy}: a private key's first line",
    ]


@pytest.mark.parametrize(
    ("text", "leak"),
    [
        (KEY, "a private key's first line"),
        ("as AKIAABCDEFGHIJKLMNOP says", "an AWS access key"),
        ('"session_token": "FwoGZXIvYXdzEJr0aD7x2kQ9"', "what is called a secret and looks random"),
        ("PASSWORD=s3cr3tZ8mQ41xLpW7vB2", "what is called a secret and looks random"),
    ],
)
def test_what_nobody_knew_is_found_by_its_looks(search: Search, text: str, leak: str) -> None:
    assert search.in_data(text.encode()) == {leak}


@pytest.mark.parametrize(
    "text", ["secret = aws_ssm_parameter.ray.arn", "token = fetch(IMDS + path)", f"sha256: {'0f' * 32}"]
)
def test_what_only_speaks_of_secrets_is_none(search: Search, text: str) -> None:
    assert search.in_data(text.encode()) == set()


def test_a_head_writes_its_token_into_the_secret_and_nothing_else(tmp_path: Path) -> None:
    search = Search()
    value = json.dumps({"address": "10.0.0.1", "token": TOKEN})
    search.note("ssm PutParameter", json.dumps({"Name": "/daft/demo/ray", "Value": value}).encode())
    assert search.in_requests() == []
    search.note("ec2 CreateTags", json.dumps({"Tag.1.Value": [TOKEN]}).encode())
    assert search.in_requests() == ["ec2 CreateTags: Ray's token"]


def test_what_a_role_was_given_is_known() -> None:
    search = Search()
    search.learn_credentials("<SecretAccessKey>one</SecretAccessKey><SessionToken>two</SessionToken>")
    assert search.in_data(b"one, two") == {"a role's SecretAccessKey", "a role's SessionToken"}
