"""What botocore raises and what AWS answers, said as one sentence and the next step.

Knows botocore's exceptions by their names alone: newer releases have more of them than our lower bound.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from daft_launcher.errors import AWSError, MissingCredentialsError

LONGEST_ANSWER = 400
# AWS refuses signatures that are over five minutes off; what is near that is worth naming.
TOLERATED_SKEW_SECONDS = 240

EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
UNKNOWN = {"AuthFailure", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken"} | {
    "MissingAuthenticationToken",
    "UnrecognizedClientException",
}
UNSIGNED = {
    "IncompleteSignature",
    "InvalidSignatureException",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"}
THROTTLED = {
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
SESSION_LOST = {"SSOError", "TokenRetrievalError", "NoAuthTokenError"}
UNREACHED = {"ConnectionError", "HTTPClientError"}


class TransientAWSError(AWSError):
    """AWS could not be reached, failed, or asked for fewer calls: a moment later the same call may work."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What AWS was asked for, and what of this machine its failure may have to name."""

    what: str
    service: str
    region: str
    profile: str | None = None
    # Asked for only when a message needs them: reading the second takes longer than most calls.
    profiles: Callable[[], Sequence[str]] = tuple
    known_regions: Callable[[], Sequence[str]] = tuple

    def option(self) -> str:
        """Return the `--profile` that a command of the AWS CLI needs to act for the same user."""
        return f" --profile {self.profile}" if self.profile else ""

    def failed(self, cause: str, hint: str | None = None) -> AWSError:
        """Return the error for a call that will fail again."""
        return AWSError(f"could not {self.what} in {self.region}: {cause}", hint=hint)

    def failed_for_now(self, cause: str, hint: str) -> AWSError:
        """Return the error for a call that may work later."""
        return TransientAWSError(f"could not {self.what} in {self.region}: {cause}", hint=hint)

    def login(self) -> str:
        """Return what to do about missing credentials."""
        return f"run `aws sso login{self.option()}`, or `aws configure{self.option()}`"


def explain(error: Exception, asked: Asked) -> AWSError:
    """Return what went wrong in our words."""
    names = {base.__name__ for base in type(error).__mro__}
    if "ClientError" in names:
        return _explain_answer(getattr(error, "response", {}), getattr(error, "operation_name", "?"), asked)
    known = getattr(error, "kwargs", {})
    if names & UNREACHED:
        return _explain_silence(names, known, asked)
    if "InvalidRegionError" in names:
        return asked.failed(f"`{asked.region}` is not the name of a region", _nearest_region(asked))
    return _explain_credentials(error, names, known, asked)


def _explain_credentials(error: Exception, names: set[str], known: dict[str, Any], asked: Asked) -> AWSError:
    if "NoCredentialsError" in names:
        message = f"could not {asked.what} in {asked.region}: this machine has no AWS credentials"
        return MissingCredentialsError(message, hint=asked.login())
    if "PartialCredentialsError" in names:
        return asked.failed(f"the AWS credentials lack `{known.get('cred_var')}`", asked.login())
    if names & SESSION_LOST or "still expired" in str(error):
        return asked.failed("the AWS session has expired or was never begun", asked.login())
    if "LoginError" in names:
        return asked.failed("the AWS session has expired", f"run `aws login{asked.option()}`")
    if "ProfileNotFound" in names:
        there = f"profiles on this machine: {', '.join(asked.profiles()) or 'none'}"
        return asked.failed(f"there is no AWS profile `{known.get('profile')}`", there)
    return asked.failed(_one_line(str(error)))


def _explain_silence(names: set[str], known: dict[str, Any], asked: Asked) -> AWSError:
    if "ProxyConnectionError" in names:
        cause = f"no way through the proxy {_origin(known.get('proxy_url'))}"
        return asked.failed_for_now(cause, "check HTTPS_PROXY and NO_PROXY")
    endpoint = _origin(known.get("endpoint_url"))
    if "SSLError" in names:
        cause = f"the certificate of {endpoint} is not trusted"
        return asked.failed(cause, "behind a proxy that opens TLS, set AWS_CA_BUNDLE to its certificate")
    if "amazonaws.com" in endpoint and asked.region not in asked.known_regions():
        cause = f"no answer from {endpoint}, and `{asked.region}` is no region that boto3 knows"
        return asked.failed(cause, _nearest_region(asked))
    return asked.failed_for_now(
        f"no answer from {endpoint}", "check the network, HTTPS_PROXY and AWS_ENDPOINT_URL"
    )


def _explain_answer(response: dict[str, Any], operation: str, asked: Asked) -> AWSError:
    code = response.get("Error", {}).get("Code", "?")
    said = _one_line(response.get("Error", {}).get("Message", ""))
    if code in EXPIRED | UNKNOWN | UNSIGNED:
        return _explain_identity(code, response, asked)
    if code in DENIED:
        action = re.search(r"not authorized to perform: ([\w:*-]+)", said)
        needed = action.group(1) if action else f"{asked.service}:{operation}"
        hint = (
            f"ask for the IAM permission `{needed}`; who you are: aws sts get-caller-identity{asked.option()}"
        )
        return asked.failed(f"these AWS credentials may not do `{needed}` ({code})", hint)
    if code == "OptInRequired":
        hint = f"enable it: aws account enable-region --region-name {asked.region}{asked.option()}"
        return asked.failed(f"this AWS account has not enabled {asked.service} there ({code})", hint)
    if code in THROTTLED:
        return asked.failed_for_now(f"AWS asks for fewer calls ({code})", "wait a minute and try again")
    if response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
        return asked.failed_for_now(f"AWS failed: {code}: {said}", "see https://health.aws.amazon.com")
    return asked.failed(f"{code}: {said}")


def _explain_identity(code: str, response: dict[str, Any], asked: Asked) -> AWSError:
    """AWS's own words are left out: they repeat what was signed, session token included."""
    behind = _seconds_behind(response)
    if abs(behind) > TOLERATED_SKEW_SECONDS:
        direction = "behind" if behind > 0 else "ahead of"
        cause = f"this machine's clock is {abs(behind) // 60} minutes {direction} AWS's ({code})"
        return asked.failed(cause, "set the clock")
    if code in EXPIRED:
        return asked.failed(f"the AWS credentials have expired ({code})", asked.login())
    if code in UNSIGNED:
        hint = f"check the secret access key: aws configure{asked.option()}"
        return asked.failed(f"AWS refuses the signature made with these credentials ({code})", hint)
    hint = f"{asked.login()}; or enable {asked.region} when the account has not"
    return asked.failed(f"AWS does not accept these credentials ({code})", hint)


def _seconds_behind(response: dict[str, Any]) -> int:
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return int((parsedate_to_datetime(date) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError):
        return 0


def _nearest_region(asked: Asked) -> str:
    near = difflib.get_close_matches(asked.region, asked.known_regions(), n=1)
    return f"did you mean {near[0]}?" if near else "regions: aws ec2 describe-regions, or the AWS console"


def _origin(url: object) -> str:
    """Return a URL without what may be secret in it: user, password, path and query."""
    try:
        parts = urlsplit(str(url))
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return "its endpoint"


def _one_line(text: str) -> str:
    line = " ".join(text.split("Encoded authorization failure message")[0].split())
    return line if len(line) <= LONGEST_ANSWER else f"{line[:LONGEST_ANSWER]}…"
