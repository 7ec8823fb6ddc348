"""No Terraform, one that is too old, and one that cannot have its provider."""

from __future__ import annotations

import pytest
from clikit import AWS, CREDENTIALS, LOCAL, Desk, Seen, failed
from fake_aws import closed_port, serving

STATE = '{"version": 4, "resources": [{"mode": "managed", "type": "terraform_data", "name": "x", "instances": []}]}'
INSTALL = (
    "install Terraform 1.11 or newer (https://developer.hashicorp.com/terraform/install), or let DAFT_TERRAFORM "
    "name one; a mirror of the release site can be named in DAFT_TERRAFORM_RELEASES_URL, a proxy in HTTPS_PROXY"
)
CHOOSE = "let DAFT_TERRAFORM name a Terraform or OpenTofu 1.11 or newer, or unset it"
NONE_FOUND = "no Terraform 1.11 or newer was found, and DAFT_TERRAFORM_DOWNLOAD is `never`"
ELSEWHERE = (
    "let DAFT_TERRAFORM_PLUGIN_DIR name a folder that holds the provider, set HTTPS_PROXY, or try again"
)


def _nothing(desk: Desk) -> None:
    """PATH is empty."""


def _too_old(desk: Desk) -> None:
    desk.script("terraform", """echo '{"terraform_version": "1.5.7"}'""")


def _mute(desk: Desk) -> None:
    desk.script("terraform", "exit 3")


def _chosen_too_old(desk: Desk) -> None:
    desk.environ["DAFT_TERRAFORM"] = str(desk.script("mine", """echo '{"terraform_version": "1.10.5"}'"""))


def _chosen_missing(desk: Desk) -> None:
    desk.environ["DAFT_TERRAFORM"] = "/nowhere/terraform"


def _undecided(desk: Desk) -> None:
    desk.environ["DAFT_TERRAFORM_DOWNLOAD"] = "maybe"


FAULTS = {
    "none": (_nothing, failed(NONE_FOUND, INSTALL)),
    "too old": (
        _too_old,
        failed(
            f"{NONE_FOUND}; `DESK/bin/terraform` is Terraform 1.5.7, and 1.11 or newer is needed", INSTALL
        ),
    ),
    "one that does not tell": (
        _mute,
        failed(f"{NONE_FOUND}; `DESK/bin/terraform` did not tell its version, but said: nothing", INSTALL),
    ),
    "the chosen one is too old": (
        _chosen_too_old,
        failed("DAFT_TERRAFORM: `DESK/bin/mine` is Terraform 1.10.5, and 1.11 or newer is needed", CHOOSE),
    ),
    "the chosen one is not there": (
        _chosen_missing,
        failed("DAFT_TERRAFORM names `/nowhere/terraform`, which does not exist", CHOOSE),
    ),
    "a word that DAFT_TERRAFORM_DOWNLOAD does not take": (
        _undecided,
        failed("DAFT_TERRAFORM_DOWNLOAD is `maybe`, and the one value it takes is `never`", INSTALL),
    ),
}


@pytest.mark.parametrize("command", ["up", "up --plan", "down"])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_terraform(desk: Desk, command: str, fault: str):
    prepare, expected = FAULTS[fault]
    desk.write(".daft.toml", LOCAL)
    prepare(desk)
    if command == "down":
        _make_root(desk, "demo.local")
    with desk.unchanged():
        assert desk.daft(*command.split()) == expected


@pytest.mark.parametrize("command", ["render", "render --check", "list --provider local", "down"])
def test_what_needs_no_terraform(desk: Desk, command: str):
    desk.write(".daft.toml", LOCAL)
    assert desk.daft(*command.split()).status == (1 if "--check" in command else 0)


@pytest.mark.real
@pytest.mark.parametrize("command", ["up", "up --plan", "down"])
@pytest.mark.parametrize("fault", ["empty mirror", "mirror out of reach"])
def test_a_provider_that_cannot_be_had(terraform_desk: Desk, command: str, fault: str):
    desk = terraform_desk
    desk.write(".daft.toml", AWS)
    (desk.root / "mirror").mkdir()
    with serving() as aws, closed_port() as port:
        desk.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": aws.url}
        url = f"https://127.0.0.1:{port}/"
        if fault == "empty mirror":
            desk.environ["DAFT_TERRAFORM_PLUGIN_DIR"] = str(desk.root / "mirror")
            why = (
                "provider registry.terraform.io/hashicorp/aws was not found in any of the search locations\n"
                "    - DESK/mirror"
            )
        else:
            config = desk.root / "mirror/cli.tfrc"
            config.write_text(f'provider_installation {{\n  network_mirror {{\n    url = "{url}"\n  }}\n}}\n')
            desk.environ["TF_CLI_CONFIG_FILE"] = str(config)
            why = (
                f"failed to query provider mirror {url} for registry.terraform.io/hashicorp/aws: "
                "the request failed after 2 attempts, please try again later: "
                f'Get "{url}registry.terraform.io/hashicorp/aws/index.json": '
                f"dial tcp 127.0.0.1:{port}: connect: connection refused\n"
                "  To see which modules are currently depending on hashicorp/aws and what versions are specified, "
                "run the following command:\n      terraform providers"
            )
        expected = failed(
            "Terraform could not initialise:\n  Failed to query available provider packages\n"
            f"  Could not retrieve the list of available versions for provider hashicorp/aws: {why}",
            ELSEWHERE,
        )
        if command == "down":
            _make_root(desk, "demo")
        before = desk.tree()
        assert desk.daft(*command.split()) == expected
        after = desk.tree()
    if (
        command == "down"
    ):  # Terraform's own notes stay in a root that is there; they are no part of the cluster
        after = {path: content for path, content in after.items() if path in before}
    assert after == before


def _make_root(desk: Desk, name: str) -> None:
    assert desk.daft("render") == Seen(0, err=_rendered(desk, name))
    desk.write(f".daft/{name}/terraform.tfstate", STATE)


def _rendered(desk: Desk, name: str) -> str:
    files = [path for path in (desk.project / ".daft" / name).rglob("*") if path.is_file()]
    return f".daft/{name}: {len(files)} of {len(files)} files written\n"
