"""The door to boto3: one user's session, its clients, and one place where every failure is put into words."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from daft_launcher.providers.aws_errors import Asked, explain

if TYPE_CHECKING:
    import boto3

FALLBACK_REGION = "us-west-2"
CONNECT_TIMEOUT_SECONDS = 5
# An endpoint that takes the call and never answers costs three of these: half a minute, no more.
READ_TIMEOUT_SECONDS = 8
ATTEMPTS = 3


class AWSAccess:
    """AWS as one profile sees it. Nothing is loaded, and nobody is asked, before the first call."""

    def __init__(self, *, profile: str | None = None) -> None:
        self._profile = profile
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
                self._loaded = boto3.Session(profile_name=self._profile)
            return self._loaded

    def _client(self, service: str, region: str) -> Any:  # noqa: ANN401 - each service has a type of its own, which the callers name
        from botocore.config import Config

        with self._making:
            if (service, region) not in self._clients:
                config = Config(
                    connect_timeout=CONNECT_TIMEOUT_SECONDS,
                    read_timeout=READ_TIMEOUT_SECONDS,
                    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                )
                make: Any = self._session().client
                self._clients[service, region] = make(service, region_name=region, config=config)
            return self._clients[service, region]


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
