"""AWS as it turns commands away: nobody logged in, a session that has expired, no permission, no answer."""

from __future__ import annotations

import pytest
from clikit import AWS, COMMANDS, CREDENTIALS, Desk, Seen, failed
from fake_aws import Refusal, closed_port, serving

LOGIN = "run `aws sso login`, or `aws configure`"
WHO = "who you are: aws sts get-caller-identity"
USE = "could not use AWS in us-west-2"
LIST = "could not list the instances in us-west-2"
#: What each command asks AWS first; all of them ask before they change anything.
FIRST_CALL = {
    "up": USE,
    "up --plan": USE,
    "down": USE,
    "submit": LIST,
    "dashboard": LIST,
    "jobs": LIST,
    "logs": LIST,
    "stop-job": LIST,
    "list": LIST,
}
ARGUMENTS = {**COMMANDS, "list": ["list"]}

REFUSALS = {
    "expired": (
        Refusal("ExpiredToken", "The security token included in the request is expired"),
        "the AWS credentials have expired (ExpiredToken)",
        LOGIN,
    ),
    "unknown": (
        Refusal("InvalidClientTokenId", "The security token included in the request is invalid", 403),
        "AWS does not accept these credentials (InvalidClientTokenId)",
        f"{LOGIN}; or enable us-west-2 when the account has not",
    ),
    "not allowed": (
        Refusal("AccessDenied", "User: ann is not authorized to perform: sts:AnyCall on resource: x", 403),
        "these AWS credentials may not do `sts:AnyCall` (AccessDenied)",
        f"ask for the IAM permission `sts:AnyCall`; {WHO}",
    ),
}


@pytest.fixture
def at_aws(desk: Desk) -> Desk:
    desk.write(".daft.toml", AWS)
    desk.write("job/main.py", "print(1)\n")
    desk.patient_terraform()  # `up --plan` lets it begin while AWS is asked
    return desk


def _seen(command: str, cause: str, hint: str) -> Seen:
    message = f"{FIRST_CALL[command]}: {cause}"
    if command == "list":  # it goes on to other regions, and says what it could not see
        return Seen(1, err=f"warning: {message}\nhint: {hint}\n")
    return failed(message, hint)


@pytest.mark.parametrize("command", FIRST_CALL)
def test_no_credentials(at_aws: Desk, command: str):
    with at_aws.unchanged():
        assert at_aws.daft(*ARGUMENTS[command]) == failed(
            f"{FIRST_CALL[command]}: this machine has no AWS credentials", LOGIN
        )


@pytest.mark.parametrize(
    ("fault", "command"),
    [
        *(("expired", command) for command in FIRST_CALL),
        *(
            (fault, command)
            for fault in ("unknown", "not allowed")
            for command in ("up", "down", "submit", "list")
        ),
    ],
)
def test_refused(at_aws: Desk, command: str, fault: str):
    refusal, cause, hint = REFUSALS[fault]
    with serving() as aws:
        aws.refusal = refusal
        at_aws.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": aws.url}
        with at_aws.unchanged():
            assert at_aws.daft(*ARGUMENTS[command]) == _seen(command, cause, hint)
    assert len(aws.calls) == 1


@pytest.mark.parametrize("command", FIRST_CALL)
def test_no_answer(at_aws: Desk, command: str):
    with closed_port() as port:
        url = f"http://127.0.0.1:{port}"
        at_aws.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": url}
        with at_aws.unchanged():
            assert at_aws.daft(*ARGUMENTS[command]) == _seen(
                command, f"no answer from {url}", "check the network, HTTPS_PROXY and AWS_ENDPOINT_URL"
            )


@pytest.mark.parametrize("command", FIRST_CALL)
def test_a_profile_that_is_not_there(at_aws: Desk, command: str):
    at_aws.write(".daft.toml", AWS + 'profile = "work"\n')
    args = [*ARGUMENTS[command], *(["--profile", "work"] if command == "list" else [])]
    what = "could not find clusters in the default region" if command == "list" else FIRST_CALL[command]
    with at_aws.unchanged():
        assert at_aws.daft(*args) == failed(
            f"{what}: there is no AWS profile `work`", "profiles on this machine: none"
        )


@pytest.mark.parametrize("command", ["render", "render --check"])
def test_what_asks_nobody(at_aws: Desk, command: str):
    with serving() as aws:
        at_aws.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": aws.url}
        assert at_aws.daft(*ARGUMENTS[command]).status in (0, 1)
    assert aws.calls == []
