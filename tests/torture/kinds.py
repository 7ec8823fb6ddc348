"""The kinds of fault: which calls each fits, what AWS answers then, and what a message about it has to name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from tests.torture.calls import Call, Wire
from tests.torture.replies import Cut, Reply, refusal
from tests.torture.unseen import SECONDS, UNSEEN, unseen

#: Before the call takes effect.
BEFORE = "before"
#: After it took effect.
AFTER = "after"


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    `seconds` is how long it goes on from its first strike, 0 for once; with `everywhere` it then holds for all calls.
    `fits` says of which calls it makes sense. `answer` takes a call and returns what AWS answers, None where it goes
    through; it raises Cut for no answer at all. `named` is what a message about it must match.
    """

    name: str
    answer: Callable[[Wire], Reply | None]
    named: str
    fits: Callable[[Call], bool] = lambda _: True
    seconds: float = 0
    everywhere: bool = False
    when: str = BEFORE

    @property
    def passes(self) -> bool:
        """Whether the same call, made again a moment later, goes through as though nothing had been."""
        return self.seconds < math.inf and self.when == BEFORE

    def is_named(self, text: str, call: Call) -> bool:
        """Return whether a message says what is wrong."""
        return bool(re.search(self.named.replace("ACTION", call.action), text, re.IGNORECASE | re.DOTALL))


def _throttled(wire: Wire) -> Reply:
    code, status = {
        "ec2": ("RequestLimitExceeded", 503),
        "s3": ("SlowDown", 503),
        "ssm": ("ThrottlingException", 400),
    }.get(wire.service, ("Throttling", 400))
    return refusal(wire, code, "Rate exceeded", status)


def _broken(wire: Wire) -> Reply:
    code = (
        "InternalServerError"
        if wire.is_json
        else {"ec2": "InternalError", "s3": "InternalError"}.get(wire.service, "InternalFailure")
    )
    return refusal(wire, code, "An internal error has occurred", 500)


def _cut(_: Wire) -> Reply:
    raise Cut


def _denied(wire: Wire) -> Reply:
    action = f"{wire.service}:{wire.call.action}"
    message = f"User: arn:aws:iam::123456789012:user/ann is not authorized to perform: {action}"
    if wire.service == "ec2":
        return refusal(
            wire, "UnauthorizedOperation", f"You are not authorized to perform this operation. {message}", 403
        )
    code = "AccessDeniedException" if wire.is_json else "AccessDenied"
    return refusal(wire, code, message, 400 if wire.is_json else 403)


def _expired(wire: Wire) -> Reply:
    if wire.service == "ec2":
        return refusal(wire, "RequestExpired", "Request has expired.", 400)
    code = "ExpiredTokenException" if wire.is_json else "ExpiredToken"
    return refusal(
        wire, code, "The security token included in the request is expired", 400 if wire.is_json else 403
    )


def _no_capacity(wire: Wire) -> Reply:
    message = (
        "We currently do not have sufficient m7g.medium capacity in the Availability Zone you requested."
    )
    return refusal(wire, "InsufficientInstanceCapacity", message, 500)


def _no_quota(wire: Wire) -> Reply:
    message = "You have requested more vCPU capacity than your current vCPU limit of 0 allows."
    return refusal(wire, "VcpuLimitExceeded", message, 400)


def _at_another_hour(ahead: timedelta) -> Callable[[Wire], Reply | None]:
    """AWS's clock goes before or after this machine's; a call that is signed with AWS's time goes through."""

    def answer(wire: Wire) -> Reply | None:
        there = datetime.now(timezone.utc) + ahead
        signed = datetime.strptime(wire.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        if abs(there - signed) < timedelta(minutes=5):
            return None
        relation = "earlier" if ahead > timedelta() else "later"
        message = f"Signature expired: {signed:%Y%m%dT%H%M%SZ} is now {relation} than {there:%Y%m%dT%H%M%SZ}"
        if wire.service == "ec2":
            return refusal(wire, "RequestExpired", "Request has expired.", 400, date=there)
        if wire.service == "s3":
            return refusal(wire, "RequestTimeTooSkewed", message, 403, date=there)
        code = "InvalidSignatureException" if wire.is_json else "SignatureDoesNotMatch"
        return refusal(wire, code, message, 400 if wire.is_json else 403, date=there)

    return answer


def _is_consistent_later(call: Call) -> bool:
    return (call.service, call.action) in UNSEEN


def _starts_machines(call: Call) -> bool:
    return call.action == "RunInstances"


# Of S3's answer to HEAD there is only the status.
_SLOWER = "throttl|RequestLimitExceeded|SlowDown|fewer calls|AWS failed: 503"
_FAILED = "Internal(Server)?(Error|Failure)|StatusCode: 500|AWS failed"
_SILENT = "no answer from|connection reset|EOF"
# A name that is taken is what a repeated call hears whose first answer was lost, or a profile that has its one role.
_LOST = f"{_SILENT}|already exist|duplicate|in use|InstanceProfile: 1|not ?found|does not exist|no such|NoSuchEntity"
_DENIED = (
    "(UnauthorizedOperation|AccessDenied).*ACTION|ACTION.*(UnauthorizedOperation|AccessDenied)"
    # An answer to HEAD says nothing but its status.
    "|HeadObject.*Forbidden|closed to these AWS credentials.*s3:ListBucket"
)
_UNSEEN = (
    "not ?found|InvalidResourceId|does not exist|couldn't find|empty result|no such|NoSuchEntity|invalid iam"
)
_SKEWED = "clock|signature expired|request has expired"

KINDS = (
    Kind("throttled", _throttled, _SLOWER),
    Kind("throttled-on", _throttled, _SLOWER, seconds=math.inf),
    Kind("broken", _broken, _FAILED),
    Kind("broken-on", _broken, _FAILED, seconds=math.inf),
    Kind("reset", _cut, _SILENT),
    Kind("lost", _cut, _LOST, fits=lambda call: call.writes, when=AFTER),
    Kind("denied", _denied, _DENIED, seconds=math.inf),
    Kind("expired", _expired, "expired", seconds=math.inf, everywhere=True),
    Kind(
        "no-capacity", _no_capacity, "InsufficientInstanceCapacity", fits=_starts_machines, seconds=math.inf
    ),
    Kind("no-quota", _no_quota, "VcpuLimitExceeded", fits=_starts_machines, seconds=math.inf),
    Kind("unseen", unseen, _UNSEEN, fits=_is_consistent_later, seconds=SECONDS),
    Kind("clock-behind", _at_another_hour(timedelta(hours=1)), _SKEWED, seconds=math.inf, everywhere=True),
    Kind("clock-ahead", _at_another_hour(-timedelta(hours=1)), _SKEWED, seconds=math.inf, everywhere=True),
)
BY_NAME = {kind.name: kind for kind in KINDS}
