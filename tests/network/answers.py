"""What may come back when Ray is asked for something, and what the user is to read then."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.adapters.ray_api_server import TOKEN, Answer, Raw

OK = b"HTTP/1.1 200 OK\r\n"
PASSING, FINAL = "passing", "final"

SEE_LIST = "`daft list` shows whether the cluster is there"
SEE_LOGS = "the dashboard's logs on the head node say more"
NOT_RAY = "what answers at RAY is not Ray's job API: no answer of Ray's to `{request}`"
NOT_RAY_HINT = "another program may have the port; `daft list` shows the cluster's address"
TOKEN_HINT = "another cluster may answer at this address, or this one was made anew; try again"
BROKEN = "Ray at RAY does not answer: the connection broke off"
SILENT = "Ray at RAY does not answer: it is silent"


@dataclass(frozen=True)
class Case:
    """An answer, the error that it is, and whether asking again may help. `waits`: until the program's deadline."""

    answer: Answer | Raw
    message: str
    hint: str
    kind: str = PASSING
    waits: bool = False


def not_ray(answer: Answer | Raw) -> Case:
    return Case(answer, NOT_RAY, NOT_RAY_HINT, FINAL)


def broken(says: bytes) -> Case:
    return Case(Raw(says=says), BROKEN, SEE_LIST)


def silent(raw: Raw) -> Case:
    return Case(raw, SILENT, SEE_LIST, waits=True)


def failed(status: int, reason: str, body: object = "", kind: str = PASSING) -> Case:
    return Case(
        Answer(status=status, body=body),
        f"Ray at RAY failed at `{{request}}` ({status}): {reason}",
        SEE_LOGS,
        kind,
    )


def refused(status: int, reason: str, body: str) -> Case:
    message = f"Ray at RAY does not accept the cluster's token ({status}): {reason}"
    return Case(Answer(status=status, body=body), message, TOKEN_HINT, FINAL)


TRACEBACK = (
    f"Traceback (most recent call last):\n  File \x1b[31mx\nValueError: no {TOKEN}\x1b]0;owned\x07\n.\n\n"
)

#: Answers with a status that is no success.
STATUSES = {
    "401": refused(401, "Unauthorized: bad ***", f"Unauthorized: bad {TOKEN}"),
    "403": refused(403, "Forbidden\\x1b[2J", "Forbidden\x1b[2J"),
    "405": failed(405, "'GET' not allowed", "'GET' not allowed", FINAL),
    "429": failed(429, "slow down", "slow down"),
    "500": failed(500, "ValueError: no ***\\x1b]0;owned\\x07", TRACEBACK),
    # As much of an error page is read as may say why.
    "500, endless": Case(
        Raw(says=b"HTTP/1.1 500 No\r\n\r\n", again=b"no" * 50_000),
        f"Ray at RAY failed at `{{request}}` (500): {'no' * 150}",
        SEE_LOGS,
    ),
    "502, html": failed(502, "</html>", "<html>\n<h1>Bad Gateway</h1>\n</html>\n"),
    "503, nothing": failed(503, "no reason given"),
    "503, binary": failed(503, "\ufffd\ufffd\\x00", b"\xff\xfe\x00"),
    **{
        f"redirect {status}": not_ray(
            Answer(status=status, headers={"Location": f"http://127.0.0.1:1/{TOKEN}"})
        )
        for status in (301, 302, 303, 307, 308)
    },
}
#: Connections that do not bring a whole answer.
BREAKS = {
    "closed at once": broken(b""),
    "closed in the status": broken(b"HTTP/1.1 2"),
    "closed in the body": broken(OK + b"Content-Length: 100\r\n\r\n{"),
    "closed in a chunk": broken(OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\n{"),
    "a chunk of no length": broken(OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{"),
    "not HTTP": broken(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "garbage": broken(b"\xff\x00\x1b[31m" * 99 + b"\r\n\r\n"),
    "a header without end": broken(OK + b"X: " + b"x" * 70_000),
    "headers without end": broken(OK + b"X: x\r\n" * 200),
    "what is no gzip": broken(OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
    "silence": silent(Raw(silent=True)),
    "silence in the body": silent(Raw(says=OK + b"Content-Length: 9\r\n\r\n{", silent=True)),
    "a byte now and then, header": silent(Raw(says=OK + b"X: ", again=b"x", pause=0.05)),
    "a byte now and then, body": silent(
        Raw(says=OK + b"Content-Length: 999\r\n\r\n", again=b" ", pause=0.05)
    ),
    "a byte now and then, chunked": silent(
        Raw(says=OK + b"Transfer-Encoding: chunked\r\n\r\n", again=b"1\r\n\n\r\n", pause=0.05)
    ),
    "more to come, for ever": silent(Raw(again=b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.01)),
}

ESC = "\x1b[31m\x9b2J"
DEEP = "[" * 100_000
#: Answers with status 200 that are no JSON object.
BODIES = {
    "html": not_ray(Answer(body=f"<html>{ESC}</html>", headers={"Content-Type": "text/html"})),
    "half a json": not_ray(Answer(body='{"version": "4')),
    "empty": not_ray(Answer()),
    "null": not_ray(Answer(body="null")),
    "a number": not_ray(Answer(body="7")),
    "a string": not_ray(Answer(body=json.dumps(ESC))),
    "a list of lists": not_ray(Answer(body=[[]])),
    "deeper than can be read": not_ray(Answer(body=DEEP)),
    "not UTF-8": not_ray(Answer(body=b'{"version": "\xff"}')),
    "closed in a header": not_ray(Raw(says=OK + b"Content-Le")),
    "a length too short": not_ray(Raw(says=OK + b'Content-Length: 9\r\n\r\n{"version": "4"}')),
}
ENDLESS = Case(
    Raw(says=OK + b"\r\n", again=b" " * (1 << 20)),
    "what answers at RAY is not Ray's job API: over 32 MiB in answer to `{request}`",
    NOT_RAY_HINT,
    FINAL,
)
