"""Turns pydantic's errors into what an administrator reads: a dotted key, and one sentence that says how to mend it.

No sentence repeats a text from the file: it could be a secret put in the wrong place. Numbers are repeated.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Loc = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def dotted(loc: Loc) -> str:
    """The key as TOML writes it: ``chains.ethereum.nodes[0]``, quoted where it must be."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        # a name with signs that TOML wants quoted, or a very long one, must not break the line
        shown = part if len(part) <= 64 else part[:61] + "..."
        if not _BARE_KEY.fullmatch(shown) and shown != "[hidden]":
            shown = '"' + shown.encode("unicode_escape").decode().replace('"', '\\"') + '"'
        text += f".{shown}" if text else shown
    return text


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(written[:64].lower(), names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"use one of {', '.join(names)}" if names else "remove it"


def reasons(error: ValidationError, model: type[BaseModel], table: Mapping[str, Any]) -> list[tuple[Loc, str]]:
    """Every problem in ``table`` as (where, sentence), one for each place.

    pydantic reports each branch of a union apart, with the branch's name in the place; here they are one sentence.
    """
    by_place: dict[Loc, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_place.setdefault(_place(detail, table), []).append(detail)
    return [(place, _sentence(details, place, model)) for place, details in by_place.items()]


def _place(detail: ErrorDetails, table: object) -> Loc:
    """``loc`` without the branch names of unions: the parts that can be followed in the table."""
    place: list[str | int] = []
    at = table
    for part in detail["loc"]:
        if (isinstance(at, Mapping) and part in at) or (
            isinstance(at, Sequence) and not isinstance(at, str) and isinstance(part, int) and part < len(at)
        ):
            at = at[part]  # type: ignore[index]  # a Mapping's str or a Sequence's int, as just asked
        elif detail["type"] == "missing" and part == detail["loc"][-1] and isinstance(at, Mapping):
            pass
        else:
            continue
        place.append(part)
    return tuple(place)


def _sentence(details: list[ErrorDetails], place: Loc, model: type[BaseModel]) -> str:
    if len(details) > 1 and not isinstance(details[0]["input"], Mapping):
        # where text may stand as well, a secret is only one of the ways
        details = [detail for detail in details if detail["type"] != "secret"]
    # a branch that took the type and refused the value says more than those that refused the type
    closer = [detail for detail in details if detail["type"] not in _WANTED]
    if not closer:
        wanted = " or ".join(dict.fromkeys(_WANTED[detail["type"]] for detail in details))
        return f"is {_kind(details[0]['input'])}: write {wanted}"
    # of several, one sentence: what is wrong as the first says it, then everything that could stand there instead
    said, write, _ = _one(closer[0], place, model).partition(": write ")
    if not write:
        return said
    offers = [_one(detail, place, model).partition(": write ")[2] for detail in closer]
    if all(detail["type"] == "literal_error" for detail in closer):
        offers = [_WANTED[detail["type"]] for detail in details if detail["type"] in _WANTED] + offers
    return f"{said}: write {' or '.join(dict.fromkeys(filter(None, offers)))}"


def _one(detail: ErrorDetails, place: Loc, model: type[BaseModel]) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return f"is missing: add {place[-1] if place else 'it'} = ..."
        case "extra_forbidden":
            return f"is not a setting: {did_you_mean(str(place[-1]), _siblings(model, place))}"
        case "literal_error" | "enum":
            value = detail["input"]
            shown = f"is {value}" if type(value) is int else "is not one of the choices"
            return f"{shown}: write {str(context['expected']).replace(chr(39), chr(34))}"
        case "value_error" | "assertion_error":
            return str(context["error"])
    template = _LIMITS.get(detail["type"])
    if template is not None:
        return template(detail["input"], context)
    # a plugin's own error types, and pydantic's rare ones, speak for themselves
    return detail["msg"]


def _siblings(model: type[BaseModel], place: Loc) -> list[str]:
    """The settings that could stand beside the unknown one: of the model that the place leads to."""
    at: type[BaseModel] | None = model
    for part in place[:-1]:
        field = at.model_fields.get(part) if at is not None and isinstance(part, str) else None
        inner = _models_in(field.annotation) if field is not None else []
        if inner:
            at = inner[0]
        elif field is not None:
            return []
    return list(at.model_fields) if at is not None else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]


def _kind(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case str():
            return "text"
        case int():
            return "a whole number"
        case float():
            return "a number with a point"
        case list() | tuple():
            return "an array"
        case Mapping():
            return "a table"
        case _:
            return "a date or time"


def _number(value: object) -> str:
    return str(value)[:40]


def _plural(count: object, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


_WANTED: Mapping[str, str] = {
    "string_type": "text in quotes",
    "int_type": "a whole number without quotes",
    "int_from_float": "a whole number without a point",
    "float_type": "a number without quotes",
    "bool_type": "true or false, without quotes",
    "list_type": "an array, in [ ]",
    "tuple_type": "an array, in [ ]",
    "set_type": "an array, in [ ]",
    "frozen_set_type": "an array, in [ ]",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dataclass_type": "a table",
    "none_required": "nothing (leave it out)",
}

_LIMITS: Mapping[str, Callable[[Any, Mapping[str, Any]], str]] = {
    "greater_than": lambda value, c: f"is {_number(value)}: write a number above {c['gt']}",
    "greater_than_equal": lambda value, c: f"is {_number(value)}: write a number of at least {c['ge']}",
    "less_than": lambda value, c: f"is {_number(value)}: write a number below {c['lt']}",
    "less_than_equal": lambda value, c: f"is {_number(value)}: write a number of at most {c['le']}",
    "multiple_of": lambda value, c: f"is {_number(value)}: write a multiple of {c['multiple_of']}",
    "string_too_short": lambda value, c: (
        "is empty: write something" if value == "" else f"is too short: write at least {c['min_length']} characters"
    ),
    "string_too_long": lambda value, c: (
        f"is {len(value)} characters long: write at most {_plural(c['max_length'], 'character')}"
    ),
    "string_pattern_mismatch": lambda value, c: f"has not the form that is needed here: write it as {c['pattern']}",
    "too_short": lambda value, c: f"has too few entries: write at least {_plural(c['min_length'], 'entry')}".replace(
        "entrys", "entries"
    ),
    "too_long": lambda value, c: f"has too many entries: write at most {c['max_length']}",
    "finite_number": lambda value, c: "is not a finite number: write one",
}
