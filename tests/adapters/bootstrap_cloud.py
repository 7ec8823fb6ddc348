"""What a node sees of AWS: instance metadata v2, EC2, Auto Scaling, SSM, and a package index, on one loopback port."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

CREDENTIALS = {"AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "secret+/=", "Token": "session//token=="}
METADATA = {
    "instance-id": "i-0123456789abcdef0",
    "local-ipv4": "127.0.0.1",
    "iam/security-credentials/": "daft-node",
    "iam/security-credentials/daft-node": json.dumps(CREDENTIALS),
}


def signature_is_right(headers: dict[str, str], body: bytes, url: str) -> bool:
    """Let botocore sign the same request at the same second, and compare; every x-amz-* header must be signed."""
    scope, names, signature = (
        part.split("=", 1)[1] for part in headers["authorization"].split(" ", 1)[1].split(", ")
    )
    key_id, _, region, service, _ = scope.split("/")
    signed = {name: headers[name] for name in names.split(";")}
    auth = SigV4Auth(Credentials(key_id, CREDENTIALS["SecretAccessKey"]), service, region)
    request = AWSRequest("POST", url, signed, body)
    request.context["timestamp"] = headers["x-amz-date"]
    expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    return signature == expected and {name for name in headers if name.startswith("x-amz-")} <= signed.keys()


class FakeCloud(ThreadingHTTPServer):
    """Keeps what nodes did; `faults` is how many calls about a status fail before one works, `files` what GET serves
    beside, `denied` which actions fail and with which words, `limits` what Terraform wrote of them.

    `tags` has what nodes said of their status, `ends` of their end, `done` what they did to end it, in that order.

    It is also a proxy that takes every AWS for itself, and knows no other host; `forwarded` has whom it was asked for.
    """

    daemon_threads = True

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((address, port), _Handler)
        self.url = f"http://{address}:{self.server_port}"
        self.tags: list[dict[str, str]] = []
        self.secrets: dict[str, Any] = {}
        self.types: list[str] = []
        self.files: dict[str, bytes] = {}
        self.refused: list[str] = []
        self.forwarded: list[str] = []
        self.faults = 0
        self.limits: object = None
        self.denied: dict[str, str] = {}
        self.ends: list[str] = []
        self.done: list[str] = []
        self.asked: list[str] = []
        self.thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> FakeCloud:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()

    @property
    def statuses(self) -> list[tuple[str, str]]:
        return [(tags["daft:status"], tags["daft:detail"]) for tags in self.tags]


class _Handler(BaseHTTPRequestHandler):
    server: FakeCloud

    def log_message(self, *_: object) -> None: ...

    def do_PUT(self) -> None:
        known = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
        self._answer(200 if known else 400, b"imds-token")

    def do_GET(self) -> None:
        if self.path.startswith("/latest/meta-data/"):
            value = METADATA.get(self.path.removeprefix("/latest/meta-data/"))
            allowed = self.headers.get("X-aws-ec2-metadata-token") == "imds-token"
            self._answer((404 if value is None else 200) if allowed else 401, (value or "").encode())
        else:
            found = self.server.files.get(self.path)
            self._answer(404 if found is None else 200, found or b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        form = {name: value[0] for name, value in parse_qs(body.decode(), keep_blank_values=True).items()}
        action = headers.get("x-amz-target", "").rpartition(".")[2] or form["Action"]
        self.server.asked.append(action)
        if "://" in self.path:
            self.server.forwarded.append(f"{self.path} {action}")
        if (self.server.faults and b"daft%3Astatus" in body) or headers[
            "x-amz-security-token"
        ] != CREDENTIALS["Token"]:
            self.server.faults -= 1
            self._answer(503, b"RequestLimitExceeded")
        elif not signature_is_right(headers, body, self.server.url + "/"):
            self.server.refused.append(action)
            self._answer(403, b"SignatureDoesNotMatch")
        elif action in self.server.denied:
            self._answer(400, self.server.denied[action].encode())
        elif "." in headers.get("x-amz-target", ""):
            self._answer(*self._act_on_parameter(action, json.loads(body)))
        else:
            self._act(action, form)
            self._answer(200, f"<{action}Response/>".encode())

    def _act(self, action: str, form: dict[str, str]) -> None:
        me = METADATA["instance-id"]
        if action == "CreateTags":
            assert form["ResourceId.1"] == me, form
            keys = [name for name in form if name.endswith(".Key")]
            self._tag({form[name]: form[name.replace(".Key", ".Value")] for name in keys})
        else:
            del form["Action"], form["Version"]
            self.server.done.append(f"{action} {' '.join(form.values())}")

    def _tag(self, tags: dict[str, str]) -> None:
        if "daft:ends" in tags:
            assert set(tags) == {"daft:ends"}
            self.server.ends.append(tags["daft:ends"])
        elif tags.get("daft:status") == "ended" or set(tags) == {"daft:detail"}:
            self.server.done.append(f"{tags.get('daft:status', 'still')}: {tags['daft:detail']}")
        else:
            self.server.tags.append(tags)

    def _act_on_parameter(self, action: str, asked: dict[str, Any]) -> tuple[int, bytes]:
        if action == "PutParameter":
            self.server.types.append(f"{asked['Type']} overwrite={asked['Overwrite']}")
            self.server.secrets[asked["Name"]] = json.loads(asked["Value"])
            return 200, b"{}"
        of_limits = asked["Name"] == "/daft/demo/limits"
        value = self.server.limits if of_limits else self.server.secrets.get(asked["Name"])
        if of_limits and value is None:
            return 400, b'{"__type":"ParameterNotFound"}'
        text = json.dumps(value) if value else "pending"
        return 200, json.dumps({"Parameter": {"Value": text}}).encode()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
