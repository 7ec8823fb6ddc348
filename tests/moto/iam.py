"""IAM's answer to a request, which moto does not give: it lets everybody do everything.

As far as our policies go, after docs.aws.amazon.com/IAM/latest/UserGuide: reference_policies_evaluation-logic,
_elements_resource, _elements_condition_operators, _condition-single-vs-multi-valued-context-keys and _variables. What
is not here is refused loudly, so that a policy cannot pass because nobody reads a part of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.moto.server import MotoServer

Values = tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """One action on one resource, and the request's context: a key that is not in it has no value, and no empty one.

    IAM is asked once for each resource of a call that names several.
    """

    action: str
    resource: str
    context: Mapping[str, Values] = field(default_factory=dict)

    def values(self, key: str) -> Values | None:
        """Return what a context key holds, None for one that is missing; keys have no case."""
        return next((held for name, held in self.context.items() if name.lower() == key.lower()), None)


def allows(policies: Iterable[Mapping[str, Any]], call: Call) -> bool:
    """Return whether a role with these policies may make a call."""
    effects = {s["Effect"] for policy in policies for s in _statements(policy) if _applies(s, call)}
    return "Allow" in effects and "Deny" not in effects


def policies_of(aws: MotoServer, role: str) -> list[Mapping[str, Any]]:
    """Return all policy documents of a role, its own and attached ones."""
    iam = aws.client("iam")
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    found = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]
    for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = attached["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        found.append(document)
    return [json.loads(one) if isinstance(one, str) else one for one in found]


def _statements(policy: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    # In the older version of the language a variable is plain text.
    assert policy["Version"] == "2012-10-17", policy
    statements: list[Mapping[str, Any]] = policy["Statement"]
    for statement in statements:
        unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}
        assert not unknown, f"no rule here for {unknown}"
    return statements


def _applies(statement: Mapping[str, Any], call: Call) -> bool:
    return (
        any(_matches(pattern.lower(), call.action.lower()) for pattern in _listed(statement["Action"]))
        and any(_is_resource(pattern, call) for pattern in _listed(statement["Resource"]))
        and all(
            _holds(operator, key, _listed(wanted), call)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _is_resource(pattern: str, call: Call) -> bool:
    # A wildcard of an ARN ends with its segment; the sixth is the rest.
    ours, theirs = pattern.split(":", 5), call.resource.split(":", 5)
    if pattern == "*":
        return True
    return len(ours) == len(theirs) and all(
        _matches_with_variables(one, other, call) for one, other in zip(ours, theirs, strict=True)
    )


def _holds(operator: str, key: str, wanted: list[str], call: Call) -> bool:
    held = call.values(key)
    if operator == "Null":
        return wanted == ["true" if held is None else "false"]
    one_of: Mapping[str, Callable[[str], bool]] = {
        "StringEquals": lambda value: any(_fill(text, call) == value for text in wanted),
        "NumericEquals": lambda value: any(float(text) == float(value) for text in wanted),
        "StringLike": lambda value: any(_matches_with_variables(text, value, call) for text in wanted),
    }
    quantifier, _, test = operator.rpartition(":")
    assert quantifier in ("", "ForAllValues"), f"no rule here for {operator}"
    assert test in one_of, f"no rule here for {operator}"
    if quantifier:
        # Also true of a request that has no such key.
        return all(map(one_of[test], held or ()))
    assert held is None or len(held) == 1, f"{key} has many values, and {operator} is for one"
    return held is not None and one_of[test](held[0])


def _fill(text: str, call: Call) -> str | None:
    """Return a text with its variables filled in; None when one has no value, and then nothing equals it."""
    parts = _parts(text, call)
    return None if parts is None else "".join(part for part, _ in parts)


def _matches_with_variables(pattern: str, value: str, call: Call) -> bool:
    parts = _parts(pattern, call)
    # A star that a variable brings is a star, and no wildcard.
    return parts is not None and bool(
        re.fullmatch(
            "".join(_regex(part) if own else re.escape(part) for part, own in parts), value, re.DOTALL
        )
    )


def _parts(text: str, call: Call) -> list[tuple[str, bool]] | None:
    """Return a text in parts, and for each whether it is the policy's own or a variable's value."""
    parts = []
    for index, part in enumerate(re.split(r"\$\{([^}]*)\}", text)):
        if index % 2 == 0:
            parts.append((part, True))
        elif part in ("*", "?", "$"):
            parts.append((part, False))
        elif (held := call.values(part)) is not None and len(held) == 1:
            parts.append((held[0], False))
        else:
            return None
    return parts


def _matches(pattern: str, value: str) -> bool:
    return bool(re.fullmatch(_regex(pattern), value, re.DOTALL))


def _regex(pattern: str) -> str:
    return re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
