"""The exceptions that end a command, each with what went wrong and what to do next."""

from __future__ import annotations

import re


class DaftLauncherError(Exception):
    """Say what went wrong and where; `hint` says what to do next. Ends the program with `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def go_on(self, way: str) -> None:
        """Let the hint end with how to go on from here, which is more than to run the command again."""
        before = re.sub(r"(^|,? and )run the command again$", "", self.hint or "")
        self.hint = f"{before}; then {way}" if before else way


class UsageError(DaftLauncherError):
    """The command line asks for something that cannot be done."""

    exit_code = 2


class ConfigError(DaftLauncherError):
    """A `.daft.toml` is missing, unreadable or wrong."""

    exit_code = 2


class TerraformError(DaftLauncherError):
    """Terraform is missing, too old, or has failed."""


class StateError(DaftLauncherError):
    """The state directory cannot be used: unwritable, locked, or holding somebody else's files."""


class ProviderError(DaftLauncherError):
    """A provider's machines did not do what was asked of them."""


class HeadFailedError(ProviderError):
    """The head node has said that its bootstrap failed."""


class AWSError(ProviderError):
    """AWS refused a call or could not be reached."""


class NoBucketError(AWSError):
    """The bucket that is to hold Terraform's state does not exist."""


class MissingCredentialsError(AWSError):
    """There are no AWS credentials on this machine at all."""


class TunnelError(DaftLauncherError):
    """The way over SSH to a head node could not be opened or trusted."""


class SilentHostError(TunnelError):
    """A head node did not answer at all, as when a firewall drops what this machine sends."""


class JobError(DaftLauncherError):
    """A job could not be packaged, submitted or followed."""


class Interrupted(DaftLauncherError):
    """The user pressed Ctrl-C; what still exists is in the message."""

    exit_code = 130
