"""What AWS says when it refuses a call, in the form of each of its services."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import format_datetime

from tests.torture.calls import Wire

_REQUEST_ID = "7a62c49f-347e-4fc4-9331-6e8e2f1c9d0a"
_FORMS = {
    "ec2": "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
    "<RequestID>{id}</RequestID></Response>",
    "s3": "<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{id}</RequestId></Error>",
}
_QUERY_FORM = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    "<RequestId>{id}</RequestId></ErrorResponse>"
)


@dataclass(frozen=True)
class Reply:
    """An answer over HTTP."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Cut(Exception):
    """The connection is to be reset in place of an answer."""


def refusal(wire: Wire, code: str, message: str, status: int = 400, *, date: datetime | None = None) -> Reply:
    """Return an error of AWS's; `date` is what time it is there."""
    headers = {"Date": format_datetime((date or datetime.now(timezone.utc)), usegmt=True)}
    if wire.is_json:
        body = json.dumps({"__type": code, "message": message})
        headers |= {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": code}
    else:
        body = _FORMS.get(wire.service, _QUERY_FORM).format(code=code, message=message, id=_REQUEST_ID)
        headers |= {"Content-Type": "text/xml"}
    return Reply(status, body.encode(), {**headers, "x-amzn-RequestId": _REQUEST_ID})
