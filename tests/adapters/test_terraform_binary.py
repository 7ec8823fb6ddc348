"""Which Terraform is run, and what the user may say about it."""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from release_server import (
    forward_to,
    serving,
    silence,
    whole,
)
from terraform_machine import ZIP, ZIP_PATH, Machine, new_machine, says

from daft_launcher.terraform_binary import (
    CHOSEN_HINT,
    PINNED,
    WAYS_OUT,
    TerraformBinary,
)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return new_machine(tmp_path, monkeypatch)


# What is on this machine already


def test_terraform_on_path_comes_before_tofu(machine: Machine) -> None:
    path = machine.program("terraform", says("1.11.0"))
    machine.program("tofu", says("1.12.0"))
    assert machine.find() == TerraformBinary(path=path, product="terraform", version="1.11.0")
    assert machine.lines == []


def test_tofu_will_do(machine: Machine) -> None:
    path = machine.program("tofu", says("1.11.1"))
    assert machine.find() == TerraformBinary(path=path, product="tofu", version="1.11.1")


def test_a_terraform_that_is_a_link_to_tofu_is_tofu(machine: Machine) -> None:
    tofu = machine.program("tofu", says("1.11.1"))
    link = tofu.with_name("terraform")
    link.symlink_to(tofu)
    assert machine.find() == TerraformBinary(path=link, product="tofu", version="1.11.1")


@pytest.mark.parametrize("unfit", [says("1.10.5"), says("0.99.0"), "exit 1", "exec /bin/sleep 20"])
def test_an_unfit_terraform_is_passed_over_for_tofu(machine: Machine, unfit: str) -> None:
    machine.program("terraform", unfit)
    machine.patience = 0.5 if "sleep" in unfit else 10
    path = machine.program("tofu", says("1.11.0"))
    assert machine.find() == TerraformBinary(path=path, product="tofu", version="1.11.0")
    assert machine.lines == []


def test_a_relative_path_entry_gives_an_absolute_path(machine: Machine, monkeypatch) -> None:
    path = machine.program("terraform", says("2.0.0"))
    monkeypatch.chdir(machine.root)
    machine.environ["PATH"] = "bin"
    assert machine.find() == TerraformBinary(path=path, product="terraform", version="2.0.0")


def test_a_warning_around_the_version_is_no_trouble(machine: Machine) -> None:
    noise = "echo 'Warning: {'; echo '| there is no \"/x\"' >&2"
    path = machine.program("terraform", f"{noise}; {says('1.12.0-rc1')}; echo '}}'")
    assert machine.find() == TerraformBinary(path=path, product="terraform", version="1.12.0-rc1")


def test_the_version_is_asked_without_the_users_own_arguments_and_configuration(machine: Machine) -> None:
    settings = "$TF_CLI_ARGS$TF_CLI_ARGS_version$TF_LOG|$TF_CLI_CONFIG_FILE|$CHECKPOINT_DISABLE|$OTHER|$*"
    machine.program("terraform", f'echo "{settings}" > "$SEEN"; {says("1.11.4")}')
    seen = machine.root / "seen"
    unwanted = dict.fromkeys(["TF_CLI_ARGS", "TF_CLI_ARGS_version", "TF_LOG", "TF_CLI_CONFIG_FILE"], "broken")
    machine.environ |= {**unwanted, "OTHER": "kept", "SEEN": str(seen)}
    machine.find()
    assert seen.read_text() == "|/dev/null|1|kept|version -json\n"


# DAFT_TERRAFORM


def test_the_chosen_one_comes_before_all_others(machine: Machine, monkeypatch) -> None:
    machine.program("terraform", says("1.13.0"))
    path = machine.program("my-tofu", says("1.11.0"))
    monkeypatch.chdir(machine.root)
    for chosen in (str(path), "my-tofu", "bin/my-tofu"):
        machine.environ["DAFT_TERRAFORM"] = chosen
        assert machine.find() == TerraformBinary(path=path, product="tofu", version="1.11.0")


@pytest.mark.parametrize(
    ("script", "mode", "trouble"),
    [
        (says("1.10.9"), 0o755, ": `{path}` is Terraform 1.10.9, and 1.11 or newer is needed"),
        ("echo 'Terraform v0.12.31'", 0o755, ": `{path}` is Terraform 0.12.31, and 1.11 or newer is needed"),
        (says("1.12.0"), 0o644, " names `{path}`, which is not an executable file"),
        ("/bin/sleep 20", 0o755, ": `{path}` did not tell its version within 0.3 seconds"),
        ("echo 1; echo two >&2; exit 3", 0o755, ": `{path}` did not tell its version, but said: two"),
        ("exit 0", 0o755, ": `{path}` did not tell its version, but said: nothing"),
        ("echo Go away", 0o755, ": `{path}` did not tell its version, but said: Go away"),
    ],
)
def test_the_chosen_one_must_do(machine: Machine, script: str, mode: int, trouble: str) -> None:
    machine.program("terraform", says("1.13.0"))
    path = machine.program("mine", script, mode=mode)
    machine.patience = 0.3 if "sleep" in script else 10
    machine.environ["DAFT_TERRAFORM"] = str(path)
    assert machine.failure() == ("DAFT_TERRAFORM" + trouble.format(path=path), CHOSEN_HINT)


def test_one_that_hangs_is_ended_with_its_children(machine: Machine) -> None:
    fifo = machine.root / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    path = machine.program("mine", f"exec 9> {fifo}; echo started >&9; /bin/sleep 20 & wait")
    machine.environ["DAFT_TERRAFORM"] = str(path)
    machine.patience = 0.5
    trouble = f"DAFT_TERRAFORM: `{path}` did not tell its version within 0.5 seconds"
    assert machine.failure() == (trouble, CHOSEN_HINT)
    assert os.read(reader, 100) == b"started\n"
    assert select.select([reader], [], [], 5)[0] == [reader]  # the end of the file: nobody holds it any more
    assert os.read(reader, 100) == b""
    os.close(reader)


def test_the_chosen_one_must_be_there(machine: Machine) -> None:
    machine.program("terraform", says("1.13.0"))
    for chosen, trouble in [("/no/such", "does not exist"), ("nosuch", "is not on PATH")]:
        machine.environ["DAFT_TERRAFORM"] = chosen
        assert machine.failure() == (f"DAFT_TERRAFORM names `{chosen}`, which {trouble}", CHOSEN_HINT)


def test_the_chosen_one_must_be_a_program(machine: Machine) -> None:
    path = machine.program("mine", "")
    path.write_bytes(b"\x7fELF and no more")
    machine.environ["DAFT_TERRAFORM"] = str(path)
    trouble = f"DAFT_TERRAFORM: `{path}` cannot be run: {os.strerror(errno.ENOEXEC)}"
    assert machine.failure() == (trouble, CHOSEN_HINT)


# What the user may set


def test_downloads_can_be_forbidden_and_a_fetched_one_still_serves(machine: Machine) -> None:
    with serving(whole(ZIP)) as server:
        machine.environ |= {"DAFT_TERRAFORM_RELEASES_URL": server.url, "DAFT_TERRAFORM_DOWNLOAD": "never"}
        trouble = "no Terraform 1.11 or newer was found, and DAFT_TERRAFORM_DOWNLOAD is `never`"
        assert machine.failure() == (trouble, WAYS_OUT)
        assert (server.asked, machine.lines, machine.cache.exists()) == ([], [], False)
        machine.environ["DAFT_TERRAFORM_DOWNLOAD"] = "no"
        trouble = "DAFT_TERRAFORM_DOWNLOAD is `no`, and the one value it takes is `never`"
        assert machine.failure() == (trouble, WAYS_OUT)
        del machine.environ["DAFT_TERRAFORM_DOWNLOAD"]
        machine.find()
    machine.environ["DAFT_TERRAFORM_DOWNLOAD"] = "never"
    assert machine.find().path == machine.fetched


@pytest.mark.parametrize("url", ["ftp://host", "host/path", "https://", "http://[::1", "http://host:port"])
def test_a_mirror_must_be_a_web_address(machine: Machine, url: str) -> None:
    machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = url
    trouble = "DAFT_TERRAFORM_RELEASES_URL is not a web address like `https://host/path`"
    assert machine.failure() == (trouble, WAYS_OUT)


def test_there_is_none_for_another_platform(machine: Machine) -> None:
    machine.release = PINNED
    for machine.platform in ("freebsd_amd64", "linux_386"):
        trouble = (
            f"no Terraform was found, and there is none to fetch for {machine.platform},"
            " only for linux_amd64, linux_arm64, darwin_amd64, darwin_arm64"
        )
        assert machine.failure() == (trouble, WAYS_OUT)


def test_a_proxy_is_used_and_no_proxy_heeded(machine: Machine, monkeypatch) -> None:
    with serving(whole(ZIP)) as server, serving(forward_to(server.url)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = "http://releases.invalid"
        assert machine.find().path == machine.fetched
        assert (proxy.asked, server.asked) == (
            [f"GET http://releases.invalid{ZIP_PATH}"],
            [f"GET {ZIP_PATH}"],
        )

        machine.fetched.unlink()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = server.url
        assert machine.find().path == machine.fetched
        assert (len(proxy.asked), len(server.asked)) == (1, 2)


def test_the_vendors_site_is_asked_through_the_proxy(machine: Machine, monkeypatch) -> None:
    del machine.environ["DAFT_TERRAFORM_RELEASES_URL"]
    with serving(silence) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        place = f"https://releases.hashicorp.com{ZIP_PATH}"
        trouble = "proxy: Tunnel connection failed: 403 Not through here"
        message = f"Terraform 1.11.4 could not be fetched from {place}: {trouble}"
        assert machine.failure() == (message, WAYS_OUT)
        assert proxy.asked == ["CONNECT releases.hashicorp.com:443"]


def test_a_malformed_proxy_does_not_give_away_its_password(machine: Machine, monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:port")
    url = machine.environ["DAFT_TERRAFORM_RELEASES_URL"]
    trouble = "the address of the server or of the proxy is not a valid one"
    message = f"Terraform 1.11.4 could not be fetched from {url}{ZIP_PATH}: {trouble}"
    assert machine.failure() == (message, WAYS_OUT)


def write_certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = key.private_bytes(pem, pkcs8, serialization.NoEncryption())
    path = folder / "site.pem"
    path.write_bytes(private + certificate.public_bytes(pem))
    return path


def test_the_users_own_authority_is_trusted_and_no_other(machine: Machine, monkeypatch) -> None:
    certificate = write_certificate(machine.root)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with serving(whole(ZIP)) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
        machine.environ["DAFT_TERRAFORM_RELEASES_URL"] = server.url
        message, hint = machine.failure()
        start_of = f"Terraform 1.11.4 could not be fetched from {server.url}{ZIP_PATH}: "
        assert message.startswith(f"{start_of}[SSL: CERTIFICATE_VERIFY_FAILED]")
        assert hint == WAYS_OUT
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such.pem")
        missing = "Could not find a suitable TLS CA certificate bundle, invalid path: /no/such.pem"
        assert machine.failure() == (f"{start_of}{missing}", WAYS_OUT)
        assert not machine.cache.exists()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert machine.find().path == machine.fetched
