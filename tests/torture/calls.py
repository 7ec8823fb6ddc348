"""A call to AWS as it goes over the wire: who asks, of which service, what, and of which occurrence."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_SCOPE = re.compile(r"Credential=[^/]+/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/")
_READING = ("Assume", "Describe", "Get", "Head", "List")
# What S3 is asked stands in the query, where there is more to it than the method.
_S3_WORDS = ("versioning", "encryption", "publicAccessBlock", "location", "uploads", "list-type")


@dataclass(frozen=True, order=True)
class Call:
    """What is asked of AWS, and whether `terraform` or `daft` itself asks."""

    client: str
    service: str
    action: str

    @property
    def writes(self) -> bool:
        return not self.action.startswith(_READING)

    def __str__(self) -> str:
        return f"{self.client}:{self.service}:{self.action}"


@dataclass(frozen=True)
class Wire:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def call(self) -> Call:
        agent = self.headers.get("user-agent", "")
        client = "daft" if agent.startswith("Boto3") else "terraform"
        return Call(client, self.service, self._action())

    @property
    def service(self) -> str:
        scope = _SCOPE.search(self.headers.get("authorization", ""))
        return scope["service"] if scope else "?"

    @property
    def region(self) -> str:
        scope = _SCOPE.search(self.headers.get("authorization", ""))
        return scope["region"] if scope else "?"

    @property
    def is_json(self) -> bool:
        return "x-amz-target" in self.headers

    def parameters(self) -> Mapping[str, Any]:
        """Return what the call says, by the names that its service gives to it."""
        if self.is_json:
            parsed: Mapping[str, Any] = json.loads(self.body or b"{}")
            return parsed
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    def _action(self) -> str:
        if self.is_json:
            return self.headers["x-amz-target"].rpartition(".")[2]
        if self.service == "s3":
            return self._s3_action()
        return str(self.parameters().get("Action", "?"))

    def _s3_action(self) -> str:
        parts = urlsplit(self.path)
        asked = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        words = [word.title().replace("-", "") for word in _S3_WORDS if word in asked]
        what = words[0] if words else ("Lock" if parts.path.endswith(".tflock") else "Object")
        return f"{self.method.title()}{what}"


class Record:
    """The calls of one phase, in order, and the number of each."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._seen: Counter[Call] = Counter()

    def add(self, call: Call) -> int:
        """Return the occurrence of a call, from 1."""
        self.calls.append(call)
        self._seen[call] += 1
        return self._seen[call]
