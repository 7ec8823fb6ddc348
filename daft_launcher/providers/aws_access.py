"""The door to boto3: one user's session, its clients, and one place where every failure is put into words."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daft_launcher.providers.aws_errors import Asked, explain

if TYPE_CHECKING:
    import boto3

FALLBACK_REGION = "us-west-2"
CONNECT_TIMEOUT_SECONDS = 5
# An endpoint that takes the call and never answers costs three of these: half a minute, no more.
READ_TIMEOUT_SECONDS = 8
ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Way:
    """How AWS is reached otherwise than by the profile alone: other addresses, and a role to take on first.

    `role` holds the parameters of AssumeRole, `region` is where STS is asked for it.
    """

    endpoints: Mapping[str, str] = field(default_factory=dict)
    path_style: bool = False
    role: Mapping[str, str] = field(default_factory=dict)
    region: str = FALLBACK_REGION


class AWSAccess:
    """AWS as one profile sees it. Nothing is loaded, and nobody is asked, before the first call."""

    def __init__(self, *, profile: str | None = None, way: Way | None = None) -> None:
        self._profile = profile
        self._way = way or Way()
        self._loaded: boto3.Session | None = None
        self._clients: dict[tuple[str, str], Any] = {}
        # botocore's clients may be shared between threads; making them may not.
        self._making = threading.RLock()

    @property
    def profile(self) -> str | None:
        """The profile in use, given or from the environment, for messages."""
        return self._profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")

    @contextmanager
    def asking(self, service: str, region: str, what: str) -> Iterator[Any]:
        """Give the service's client; what goes wrong is an AWSError: `could not <what> in <region>: …`."""
        with self._explaining(service, region, what):
            yield self._client(service, region)

    def default_region(self) -> str:
        """Return the region that the AWS CLI would take, or ours."""
        with self._explaining("ec2", "the default region", "find clusters"):
            # boto3 alone does not read AWS_REGION, which the CLI and Terraform do.
            return os.environ.get("AWS_REGION") or self._session().region_name or FALLBACK_REGION

    @contextmanager
    def _explaining(self, service: str, region: str, what: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, RuntimeError, ValueError) as error:
            raise explain(error, self._asked(service, region, what)) from error

    def _asked(self, service: str, region: str, what: str) -> Asked:
        return Asked(
            what=what,
            service=service,
            region=region,
            profile=self.profile,
            profiles=_profiles,
            known_regions=_known_regions,
        )

    def _session(self) -> boto3.Session:
        import boto3

        with self._making:
            if self._loaded is None:
                session = boto3.Session(profile_name=self._profile)
                self._loaded = self._in_role(session) if self._way.role else session
            return self._loaded

    def _in_role(self, session: boto3.Session) -> boto3.Session:
        import boto3

        granted = self._make(session, "sts", self._way.region).assume_role(**self._way.role)["Credentials"]
        return boto3.Session(
            aws_access_key_id=granted["AccessKeyId"],
            aws_secret_access_key=granted["SecretAccessKey"],
            aws_session_token=granted["SessionToken"],
        )

    def _client(self, service: str, region: str) -> Any:  # noqa: ANN401 - each service has a type of its own, which the callers name
        with self._making:
            if (service, region) not in self._clients:
                self._clients[service, region] = self._make(self._session(), service, region)
            return self._clients[service, region]

    def _make(self, session: boto3.Session, service: str, region: str) -> Any:  # noqa: ANN401 - as above
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        )
        if service == "s3" and self._way.path_style:
            config = config.merge(Config(s3={"addressing_style": "path"}))
        make: Any = session.client
        return make(service, region_name=region, endpoint_url=self._way.endpoints.get(service), config=config)


def _profiles() -> Sequence[str]:
    """Return the profiles of this machine, as far as its AWS files can be read."""
    import botocore.session
    from botocore.exceptions import BotoCoreError

    try:
        return botocore.session.Session().available_profiles
    except BotoCoreError:
        return ()


@functools.cache
def _known_regions() -> Sequence[str]:
    """Return every region of every partition that this botocore knows."""
    import botocore.session
    from botocore.exceptions import BotoCoreError

    session = botocore.session.Session()
    try:
        return [
            region
            for partition in session.get_available_partitions()
            for region in session.get_available_regions("ec2", partition_name=partition)
        ]
    except BotoCoreError:
        return ()
