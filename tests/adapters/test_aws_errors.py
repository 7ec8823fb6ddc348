"""Every way in which AWS fails us, and the whole of what the user then reads."""

from __future__ import annotations

import contextlib
import os
import socket
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ProxyConnectionError,
    SSLError,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from scripted_aws import script

from daft_launcher.errors import AWSError
from daft_launcher.providers import aws_access
from daft_launcher.providers.aws_access import AWSAccess
from daft_launcher.providers.aws_errors import TransientAWSError

LOGIN = "run `aws sso login --profile dev`, or `aws configure --profile dev`"
ENDPOINT = "https://ec2.us-west-2.amazonaws.com/"


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def describe(access: AWSAccess, region: str = "us-west-2") -> AWSError:
    """Ask for the instances and return how that failed."""
    with pytest.raises(AWSError) as caught, access.asking("ec2", region, "list the instances") as ec2:
        ec2.describe_instances()
    return caught.value


def answered(error: Exception, region: str = "us-west-2") -> AWSError:
    """Return what becomes of an error that botocore raises."""
    access = AWSAccess(profile="dev")

    def refuse(operation, params):
        raise error

    script(access, "ec2", region, refuse)
    return describe(access, region)


def refusal(code: str, message: str = "AWS says so", *, status: int = 400, behind: timedelta | None = None):
    headers = {"date": format_datetime(datetime.now(timezone.utc) + behind)} if behind else {}
    response = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    return answered(ClientError(response, "DescribeInstances"))


def said(error: AWSError) -> tuple[str, str | None]:
    prefix = "could not list the instances in us-west-2: "
    assert error.message.startswith(prefix)
    return error.message.removeprefix(prefix), error.hint


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException", "RequestExpired"])
def test_expired_credentials(code):
    assert said(refusal(code)) == (f"the AWS credentials have expired ({code})", LOGIN)


@pytest.mark.parametrize("code", ["AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException"])
def test_unknown_credentials(code):
    hint = f"{LOGIN}; or enable us-west-2 when the account has not"
    assert said(refusal(code)) == (f"AWS does not accept these credentials ({code})", hint)


def test_a_wrong_secret_key_and_nothing_of_what_was_signed():
    error = refusal(
        "SignatureDoesNotMatch", "The Canonical String should have been 'x-amz-security-token:SECRET'"
    )
    assert said(error) == (
        "AWS refuses the signature made with these credentials (SignatureDoesNotMatch)",
        "check the secret access key: aws configure --profile dev",
    )


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "RequestExpired", "AuthFailure"])
@pytest.mark.parametrize(("minutes", "direction"), [(20, "behind"), (-20, "ahead of")])
def test_a_wrong_clock(code, minutes, direction):
    cause, hint = said(refusal(code, behind=timedelta(minutes=minutes, seconds=minutes)))
    assert (cause, hint) == (
        f"this machine's clock is 20 minutes {direction} AWS's ({code})",
        "set the clock",
    )


def test_a_missing_permission_is_named_as_aws_names_it():
    message = (
        "You are not authorized to perform this operation. User: arn:aws:iam::1:user/x is not authorized to"
        " perform: ec2:DescribeTags because no policy allows it. Encoded authorization failure message: AAAA"
    )
    assert said(refusal("UnauthorizedOperation", message, status=403)) == (
        "these AWS credentials may not do `ec2:DescribeTags` (UnauthorizedOperation)",
        "ask for the IAM permission `ec2:DescribeTags`; who you are: aws sts get-caller-identity --profile dev",
    )


def test_a_missing_permission_that_aws_does_not_name():
    cause, _ = said(refusal("AccessDenied", "You are not authorized to perform this operation.", status=403))
    assert cause == "these AWS credentials may not do `ec2:DescribeInstances` (AccessDenied)"


def test_a_region_that_the_account_has_not_enabled():
    assert said(refusal("OptInRequired", "You are not subscribed to this service", status=401)) == (
        "this AWS account has not enabled ec2 there (OptInRequired)",
        "enable it: aws account enable-region --region-name us-west-2 --profile dev",
    )


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "SlowDown"])
def test_throttling_may_pass(code):
    slow = refusal(code, status=503)
    assert type(slow) is TransientAWSError
    assert said(slow) == (f"AWS asks for fewer calls ({code})", "wait a minute and try again")


def test_failures_of_aws_may_pass():
    broken = refusal("InternalError", "Oops", status=500)
    assert type(broken) is TransientAWSError
    assert said(broken) == ("AWS failed: InternalError: Oops", "see https://health.aws.amazon.com")


def test_anything_else_is_told_in_the_words_of_aws_on_one_line():
    error = refusal("InvalidParameterValue", "Value (x)\n  for y is invalid. " + "z" * 500)
    cause, hint = said(error)
    assert cause == "InvalidParameterValue: Value (x) for y is invalid. " + "z" * 372 + "…"
    assert hint is None
    assert type(error) is AWSError


def test_no_credentials():
    assert said(describe(AWSAccess())) == (
        "this machine has no AWS credentials",
        "run `aws sso login`, or `aws configure`",
    )


def test_half_of_the_credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    assert said(describe(AWSAccess())) == (
        "the AWS credentials lack `AWS_SECRET_ACCESS_KEY`",
        "run `aws sso login`, or `aws configure`",
    )


@pytest.mark.parametrize("given", [True, False])
def test_a_profile_that_is_not_there(monkeypatch, tmp_path, given):
    (tmp_path / "config").write_text("[profile work]\nregion = eu-west-1\n[profile home]\n")
    if not given:
        monkeypatch.setenv("AWS_PROFILE", "dev")
    access = AWSAccess(profile="dev" if given else None)
    assert said(describe(access)) == ("there is no AWS profile `dev`", "profiles on this machine: work, home")


def test_a_session_that_was_never_begun(tmp_path):
    sso = "sso_session = corp\nsso_account_id = 1\nsso_role_name = dev\n"
    corp = "sso_region = us-west-2\nsso_start_url = https://corp.example/start\n"
    (tmp_path / "config").write_text(f"[profile dev]\n{sso}[sso-session corp]\n{corp}")
    error = describe(AWSAccess(profile="dev"))
    assert said(error) == ("the AWS session has expired or was never begun", LOGIN)


@pytest.mark.parametrize(
    "error",
    [
        SSOTokenLoadError(error_msg="x"),
        UnauthorizedSSOTokenError(),
        TokenRetrievalError(provider="sso", error_msg="Token has expired and refresh failed"),
        RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."),
    ],
)
def test_a_session_that_has_expired(error):
    assert said(answered(error)) == ("the AWS session has expired or was never begun", LOGIN)


def test_a_session_of_aws_login_that_has_expired():
    expired = pytest.importorskip("botocore.exceptions").LoginRefreshRequired
    assert said(answered(expired())) == ("the AWS session has expired", "run `aws login --profile dev`")


def test_aws_files_that_cannot_be_read(tmp_path):
    (tmp_path / "config").write_text("[profile dev\n")
    cause, _ = said(describe(AWSAccess(profile="dev")))
    assert cause == f"Unable to parse config file: {tmp_path / 'config'}"


@pytest.mark.parametrize("error", [EndpointConnectionError, ConnectTimeoutError, ConnectionClosedError])
def test_an_endpoint_out_of_reach(error):
    failed = answered(error(endpoint_url=f"{ENDPOINT}?token=secret"))
    assert type(failed) is TransientAWSError
    assert said(failed) == (
        "no answer from https://ec2.us-west-2.amazonaws.com",
        "check the network, HTTPS_PROXY and AWS_ENDPOINT_URL",
    )


def test_a_region_that_does_not_exist():
    error = answered(
        EndpointConnectionError(endpoint_url="https://ec2.us-wset-2.amazonaws.com/"), "us-wset-2"
    )
    cause = (
        "no answer from https://ec2.us-wset-2.amazonaws.com, and `us-wset-2` is no region that boto3 knows"
    )
    assert (error.message, error.hint, type(error)) == (
        f"could not list the instances in us-wset-2: {cause}",
        "did you mean us-west-2?",
        AWSError,
    )


def test_what_is_no_region_at_all(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    error = describe(AWSAccess(), "us west 2")
    assert (error.message, error.hint) == (
        "could not list the instances in us west 2: `us west 2` is not the name of a region",
        "did you mean us-west-2?",
    )


def test_a_proxy_out_of_reach_is_named_without_its_password():
    error = answered(ProxyConnectionError(proxy_url="http://user:hunter2@proxy.example:3128/"))
    assert said(error) == (
        "no way through the proxy http://proxy.example:3128",
        "check HTTPS_PROXY and NO_PROXY",
    )


def test_a_certificate_that_is_not_trusted():
    assert said(answered(SSLError(endpoint_url=ENDPOINT, error="self-signed"))) == (
        "the certificate of https://ec2.us-west-2.amazonaws.com is not trusted",
        "behind a proxy that opens TLS, set AWS_CA_BUNDLE to its certificate",
    )


def test_an_endpoint_that_is_none(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    assert said(describe(AWSAccess())) == ("Invalid endpoint: nonsense", None)


def test_an_endpoint_that_takes_the_call_and_says_nothing(monkeypatch):
    monkeypatch.setattr(aws_access, "READ_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(aws_access, "ATTEMPTS", 2)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        error = describe(AWSAccess())
    assert said(error) == (f"no answer from {url}", "check the network, HTTPS_PROXY and AWS_ENDPOINT_URL")


def test_no_endpoint_can_hold_us_for_half_a_minute():
    client = AWSAccess()._client("ec2", "us-west-2")
    config = client.meta.config
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}
    # botocore's standard mode waits up to 1 s before the second attempt and up to 2 s before the third.
    assert config.connect_timeout * 3 + 3 < 20
    assert config.read_timeout * 3 + 3 < 30


@pytest.mark.parametrize(
    ("environment", "region"),
    [
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_PROFILE": "work"}, "eu-west-3"),
        ({}, "us-west-2"),
    ],
)
def test_the_region_when_none_is_given(monkeypatch, tmp_path, environment, region):
    (tmp_path / "config").write_text("[profile work]\nregion = eu-west-3\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert AWSAccess().default_region() == region
