"""What is wrong in a `.daft.toml`, in the words of the person who wrote it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from daft_launcher.config_types import shown
from daft_launcher.toml_lines import LineIndex

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_MOST = 20  # a screen of them
_WANTED = {
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}


def describe_problems(
    errors: Iterable[ErrorDetails], *, text: str, schema: type[BaseModel]
) -> list[tuple[int, str]]:
    """Return each problem with the line of `text` it is about, in the order of the lines; the first twenty."""
    lines = LineIndex(text)
    found = [(lines.find(location) or 1, location, error) for error, location in map(_located, errors)]
    first = sorted(found, key=lambda problem: problem[0])[:_MOST]
    return sorted((line, _sentence(error, location, schema)) for line, location, error in first)


def _located(error: ErrorDetails) -> tuple[ErrorDetails, list[str | int]]:
    location = _as_written(error["loc"])
    if error["type"].startswith("union_tag_"):
        location.append("type")
    return error, location


def _as_written(location: Sequence[str | int]) -> list[str | int]:
    # pydantic names the chosen member of a tagged union as a step of the path, and a table's key as `[key]`.
    return [
        part
        for index, part in enumerate(location)
        if part != "[key]" and not (location[0] == "backend" and index == 1 and part in ("s3", "local"))
    ]


def _sentence(error: ErrorDetails, location: Sequence[str | int], schema: type[BaseModel]) -> str:
    name = _dotted(location)
    kind = error["type"]
    context = error.get("ctx", {})
    if kind == "extra_forbidden":
        return f"`{name}` is not a key that is known here{_nearest(location, schema)}"
    if kind in ("missing", "union_tag_not_found"):
        return f"`{name}` is required and missing"
    if kind == "value_error":
        return f"`{name}` {context['error']}"
    if kind == "literal_error":
        return f"`{name}` must be {context['expected']}, not {shown(error['input'])}"
    if kind == "union_tag_invalid":
        return (
            f"`{name}` must be {context['expected_tags'].replace(', ', ' or ')}, not {shown(context['tag'])}"
        )
    if kind in _WANTED:
        return f"`{name}` {_WANTED[kind]}, not {shown(error['input'])}"
    return f"`{name}` {_bound(error['msg'])}, not {shown(error['input'])}"


def _bound(message: str) -> str:
    """Turn pydantic's `Input should be less than or equal to 5` into `must be less than or equal to 5`."""
    for start in ("Input should", "Tuple should", "Dictionary should", "Value should"):
        message = message.replace(start, "must", 1)
    return message.partition(", not")[0].removesuffix(" after validation")


def _dotted(location: Sequence[str | int]) -> str:
    dotted = ""
    for part in location:
        dotted += f"[{part + 1}]" if isinstance(part, int) else f".{_key(part)}" if dotted else _key(part)
    return dotted


def _key(part: str) -> str:
    return part if re.fullmatch(r"[\w-]{1,60}", part) else shown(part)


def _nearest(location: Sequence[str | int], schema: type[BaseModel]) -> str:
    known = _keys_at(location[:-1], schema)
    wrong = str(location[-1]).replace("-", "_")
    if wrong in known and wrong != location[-1]:
        return f"; `{wrong}` stands there in both spellings"
    if wrong in known:
        return "; it belongs to a backend of another type"
    elsewhere = {key: table for table in schema.model_fields for key in _keys_at([table], schema)}
    if wrong in elsewhere:
        return f"; `{wrong}` belongs to [{elsewhere[wrong]}]"
    if close := difflib.get_close_matches(wrong, known, n=1, cutoff=0.5):
        return f"; did you mean `{close[0]}`?"
    return f"; known: {', '.join(sorted(known))}"


def _keys_at(location: Sequence[str | int], schema: type[BaseModel]) -> list[str]:
    models = [schema]
    for part in location:
        fields = [model.model_fields[str(part)].annotation for model in models if part in model.model_fields]
        models = [model for annotation in fields for model in _models_in(annotation)]
    return [key for model in models for key in model.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - a type form
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
