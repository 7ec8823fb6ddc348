"""The shapes that single values of `.daft.toml` must have; each says in words what it wants."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from daft_launcher.models import MAX_ARGUMENT_BYTES, NAME_PATTERN, PLACEHOLDER

_VERSION_PATTERN = r"\d{1,6}(\.\d{1,6}){1,2}((a|b|rc|\.post|\.dev)\d{1,6})?"

_TAG_PUNCTUATION = set(" _.:/=+-@")


def shown(value: object) -> str:
    """Return a value as it may stand in a message: on one line, and cut where it is long."""
    try:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    except ValueError:  # Python writes no number out that has thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _shape(pattern: str, meaning: str, *, then: Callable[[str], str] = str) -> Any:  # noqa: ANN401 - an Annotated alias has no narrower type
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"must be {meaning}, not {shown(value)}")
        return then(value)

    return Annotated[str, AfterValidator(check), Field(json_schema_extra={"pattern": pattern})]


def _text(*, allowed_controls: str = "", longest: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        for character in value:
            if unicodedata.category(character) == "Cc" and character not in allowed_controls:
                raise ValueError(f"must not contain the control character {character!r}")
        if not value.strip():
            raise ValueError("must not be empty")
        if len(value) > longest:
            raise ValueError(f"must have at most {longest} characters, not {len(value)}")
        return _composed(value)

    return check


def _composed(value: str) -> str:
    # Terraform silently stores every string in this form, so any other would arrive changed.
    composed = unicodedata.normalize("NFC", value)
    if composed != value:
        pairs = enumerate(zip(value, composed, strict=False))
        start = next(position for position, (before, after) in pairs if before != after)
        raise ValueError(
            f"must be in composed Unicode (NFC), which Terraform would make of it: see {shown(value[start:])}"
        )
    return value


def _command(value: str) -> str:
    if (size := len(value.encode())) > MAX_ARGUMENT_BYTES:
        raise ValueError(f"must have at most {MAX_ARGUMENT_BYTES} bytes in UTF-8, not {size}")
    return value


def _name(value: str) -> str:
    if value == PLACEHOLDER:
        raise ValueError(f"is still the placeholder {PLACEHOLDER!r}: give your cluster a name, like 'demo'")
    if not re.fullmatch(NAME_PATTERN, value):
        raise ValueError(
            "must be 1 to 30 lower-case letters, digits, `-` or `_`, start with a letter "
            f"and end with a letter or a digit, not {shown(value)}"
        )
    return value


def _long_enough(value: str) -> str:
    if not set(value) & set("123456789"):
        raise ValueError(f"must be at least '1m', not {shown(value)}")
    return value


def _cidr(value: str) -> str:
    try:
        # A zone (`fe80::%eth0/64`) means something on one machine only.
        return str(ipaddress.ip_network(value.replace("%", "|")))
    except ValueError as error:
        problem = str(error) if len(value) <= 60 else f"{shown(value)} is none"
        raise ValueError(f"must be a network like '203.0.113.7/32': {problem}") from None


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or any(part.isspace() for part in value):
        raise ValueError(f"must be an address like 'https://pypi.example.com/simple', not {shown(value)}")
    if parts.username or parts.password:
        # It would be readable in the HCL, the state and every node's user data.
        raise ValueError(
            "must not hold a user name or a password: let the server tell nodes by their network"
        )
    return value


def _wheels(value: str) -> str:
    return value if value.startswith("/") else _url(value)


def _state_path(value: str) -> str:
    if not value.endswith(".tfstate"):
        raise ValueError(f"must end in '.tfstate', which stays out of git, not {shown(value)}")
    return value


def _bucket(value: str) -> str:
    """Check what S3 asks of a name beyond its shape.

    The rules: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    """
    if ".." in value:
        raise ValueError(f"must be the name of an S3 bucket, without two dots in a row, not {shown(value)}")
    if re.fullmatch(r"\d+\.\d+\.\d+\.\d+", value):
        raise ValueError(
            f"must be the name of an S3 bucket, which cannot look like an address: {shown(value)}"
        )
    for start in ("xn--", "sthree-", "amzn-s3-demo-"):
        if value.startswith(start):
            raise ValueError(f"must be the name of an S3 bucket, which cannot start with {start!r}")
    for end in ("-s3alias", "--ola-s3", ".mrap", "--x-s3", "--table-s3"):
        if value.endswith(end):
            raise ValueError(f"must be the name of an S3 bucket, which cannot end in {end!r}")
    return value


def _state_key(value: str) -> str:
    # What Terraform's backend refuses: https://developer.hashicorp.com/terraform/language/backend/s3
    if value.startswith("/") or value.endswith("/"):
        raise ValueError(f"must not start or end with '/', not {shown(value)}")
    return value


def _version_from(
    floor: tuple[int, ...], example: str, *, pattern: str = _VERSION_PATTERN
) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(f"must be a version like '{example}', not {shown(value)}")
        numbers = tuple(int(part) for part in re.findall(r"\d+", value)[:2])
        if numbers < floor:
            raise ValueError(f"must be at least {'.'.join(map(str, floor))}, not {shown(value)}")
        return value

    return check


def _tag_key(value: str) -> str:
    if value.lower().startswith(("aws:", "daft:")) or value == "Name":
        raise ValueError("tag keys `Name`, `aws:…` and `daft:…` are taken")
    if not 1 <= len(value) <= 128:
        raise ValueError("tag keys must have 1 to 128 characters")
    return _tag_text(value)


def _tag_value(value: str) -> str:
    if len(value) > 256:
        raise ValueError("tag values must have at most 256 characters")
    return _tag_text(value)


def _tag_text(value: str) -> str:
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions; IAM enforces it.
    for character in value:
        if not (character.isalnum() or character in _TAG_PUNCTUATION):
            raise ValueError(f"tags may hold letters, digits, spaces and _ . : / = + - @, not {character!r}")
    return _composed(value)


ClusterName = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
Region = _shape(r"^[a-z]{2,4}(-[a-z]+)+-\d{1,2}$", "a region like 'us-west-2'")
SshUser = _shape(r"^[a-z_][a-z0-9_-]{0,31}$", "a Linux account name like 'ec2-user'")
InstanceType = _shape(r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$", "an EC2 instance type like 'm7g.medium'")
# In TOML a dot in a bare key begins a table, and the type would end before it.
PricedType = _shape(r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$", 'an EC2 instance type in quotes, like "m7g.medium"')
Dollars = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
ImageId = _shape(r"^ami-([0-9a-f]{8}|[0-9a-f]{17})$", "an image id like 'ami-01c3c55948a949a52'")
VpcId = _shape(r"^vpc-([0-9a-f]{8}|[0-9a-f]{17})$", "a VPC id like 'vpc-0123456789abcdef0'")
SubnetId = _shape(r"^subnet-([0-9a-f]{8}|[0-9a-f]{17})$", "a subnet id like 'subnet-0123456789abcdef0'")
KeyName = _shape(r"^[ -~]{1,255}$", "the name of an EC2 key pair")
InstanceProfile = _shape(r"^[\w+=,.@-]{1,128}$", "the name of an IAM instance profile")
PolicyArn = _shape(r"^arn:aws[a-z-]*:iam::(aws|\d{12}):policy/[\w+=,.@/-]+$", "the ARN of an IAM policy")
RoleArn = _shape(r"^arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+$", "the ARN of an IAM role")
SessionName = _shape(r"^[\w+=,.@-]{2,64}$", "2 to 64 letters, digits or _ + = , . @ -")
Span = _shape(
    r"^(?=\d)(\d{1,6}d)?(\d{1,6}h)?(\d{1,6}m)?$",
    "a time like '90m', '8h', '2d' or '1h30m'",
    then=_long_enough,
)
AccountId = _shape(r"^\d{12}$", "the number of an AWS account, as a string of 12 digits")
Bucket = _shape(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", "the name of an S3 bucket", then=_bucket)
Cidr = Annotated[str, AfterValidator(_cidr)]
PythonVersion = Annotated[
    str, AfterValidator(_version_from((3, 10), "3.12", pattern=r"3\.\d{1,2}(\.\d{1,2})?"))
]
RayVersion = Annotated[str, AfterValidator(_version_from((2, 54), "2.60.0"))]
DaftVersion = Annotated[str, AfterValidator(_version_from((0, 5), "0.7.26"))]
Line = Annotated[str, AfterValidator(_text(longest=1024))]
Url = Annotated[Line, AfterValidator(_url)]
Wheels = Annotated[Line, AfterValidator(_wheels)]
StatePath = Annotated[Line, AfterValidator(_state_path)]
StateKey = Annotated[Line, AfterValidator(_state_key)]
Command = Annotated[
    str, AfterValidator(_text(allowed_controls="\n\t", longest=65536)), AfterValidator(_command)
]
TagKey = Annotated[str, AfterValidator(_tag_key)]
TagValue = Annotated[str, AfterValidator(_tag_value)]
