"""A head that is silent: whether that is because this machine has moved."""

from __future__ import annotations

import json

import pytest

from daft_launcher.errors import SilentHostError, TunnelError
from daft_launcher.providers.aws_reach import explaining_silence

UNKNOWN = "what the door itself says"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "operator.auto.tfvars.json").write_text(json.dumps({"operator_cidrs": ["203.0.113.7/32"]}))
    return tmp_path


def hint(root, *, cidrs=()):
    with pytest.raises(SilentHostError) as caught, explaining_silence(root, ssh_allowed_cidrs=cidrs):
        raise SilentHostError("no answer", hint=UNKNOWN)
    assert caught.value.message == "no answer"
    return caught.value.hint


def test_a_machine_that_moved_is_told_how_to_be_let_in(root, checkip):
    checkip.answer(b"198.51.100.9\n")
    assert hint(root) == (
        "this machine's public address is 198.51.100.9 now, and the cluster lets in 203.0.113.7/32 only: "
        "`daft up` lets the new one in"
    )


def test_networks_of_the_configuration_are_the_users_to_change(root, checkip):
    checkip.answer(b"198.51.100.9\n")
    assert hint(root, cidrs=["10.0.0.0/8", "192.0.2.0/24"]) == (
        "this machine's public address is 198.51.100.9, and `ssh_allowed_cidrs` under `[aws]` lets in 10.0.0.0/8, "
        "192.0.2.0/24 only: add it there, then `daft up`"
    )


@pytest.mark.parametrize("cidrs", [(), ("203.0.113.0/24",)])
def test_a_machine_that_is_let_in_looks_elsewhere(root, checkip, cidrs):
    checkip.answer(b"203.0.113.7\n")
    assert hint(root, cidrs=cidrs) == (
        "this machine's public address, 203.0.113.7, is let in: does a firewall on the way stop port 22, and does the "
        "head's subnet reach the internet? `daft list` shows the head's state and address"
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"operator_cidrs": 7}'])
def test_who_is_let_in_is_not_known_here(root, checkip, text):
    (root / "operator.auto.tfvars.json").write_text(text)
    checkip.answer(b"203.0.113.7\n")
    assert hint(root) == UNKNOWN


def test_nothing_is_said_when_the_address_cannot_be_had(root, checkip):
    checkip.answer(b"sorry", status=503)
    assert hint(root) == UNKNOWN


def test_other_troubles_are_left_as_they_are(root, checkip):
    with pytest.raises(TunnelError) as caught, explaining_silence(root, ssh_allowed_cidrs=()):
        raise TunnelError("it refuses", hint=UNKNOWN)
    assert (caught.value.message, caught.value.hint) == ("it refuses", UNKNOWN)
