"""What AWS says when what is to be removed is no more, where moto says otherwise.

Terraform takes it as done: a call whose answer was lost is made again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.ec2.exceptions import InvalidPermissionNotFoundError, InvalidSecurityGroupRuleIdNotFoundError
from moto.iam.exceptions import NotFoundException


def gone_by_rule_id(revoke: Callable[..., None]) -> Callable[..., None]:
    """Return moto's function with EC2's error for an id: moto's is that for a permission."""

    def revoked(backend: Any, *args: Any, security_rule_ids: list[str] | None = None, **kwargs: Any) -> None:
        try:
            revoke(backend, *args, security_rule_ids=security_rule_ids, **kwargs)
        except InvalidPermissionNotFoundError:
            if security_rule_ids:
                raise InvalidSecurityGroupRuleIdNotFoundError(security_rule_ids[0]) from None
            raise

    return revoked


def gone_from_profile(remove: Callable[..., None]) -> Callable[..., None]:
    """Return moto's function with IAM's error for a role that an instance profile does not have: moto breaks down."""

    def removed(backend: Any, profile_name: str, role_name: str) -> None:
        try:
            remove(backend, profile_name, role_name)
        except ValueError:
            message = f"Instance profile {profile_name} does not have the role {role_name}."
            raise NotFoundException(message) from None

    return removed
