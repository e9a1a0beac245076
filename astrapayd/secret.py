"""Secrets of the configuration: named in the file, kept elsewhere, read once at load, never printed.

A model declares ``token: Secret``; the file says where it is::

    token = { env = "SHOP_TOKEN" }                # environment variable
    token = { file = "/run/secrets/shop_token" }  # first line's end is cut off
    token = { credential = "shop_token" }         # systemd LoadCredential=, in $CREDENTIALS_DIRECTORY
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_HOW = 'write { env = "NAME" }, { file = "/path" } or { credential = "NAME" }'
_MAX_BYTES = 64 * 1024


class Secret:
    """A text that no repr, str, log line or JSON shows; only :meth:`reveal` does."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text: Final = text

    def reveal(self) -> str:
        """The text itself. Call it where it is used, and keep the result nowhere."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(hidden)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Secret is not pickled")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """How pydantic reads the field: through :func:`read`, and writes it: hidden."""
        return core_schema.no_info_plain_validator_function(
            _validate, serialization=core_schema.plain_serializer_function_ser_schema(repr)
        )


class SecretUnavailable(ValueError):
    """The place that a secret is named to be in does not give it. The message is one sentence without the value."""


def read(source: Mapping[str, str], environ: Mapping[str, str]) -> Secret:
    """Fetch the secret that ``source`` (exactly one of ``env``, ``file``, ``credential``) names.

    :raises SecretUnavailable: with one sentence that says how to mend it.
    """
    if len(source) != 1 or (kind := next(iter(source))) not in _SOURCES or not isinstance(source[kind], str):
        raise SecretUnavailable(f"does not say where the secret is: {_HOW}")
    text = _SOURCES[kind](source[kind], environ)
    if not text:
        raise SecretUnavailable(f"names a place that is empty ({kind}): put the secret there")
    return Secret(text)


def _from_env(name: str, environ: Mapping[str, str]) -> str:
    if name not in environ:
        # the name is not repeated: people put the secret itself there by mistake
        raise SecretUnavailable("names an environment variable that is not set: set it, or correct the name")
    return environ[name]


def _from_file(name: str, environ: Mapping[str, str]) -> str:
    path = Path(name)
    if not path.is_absolute():
        raise SecretUnavailable("names a file by a relative path: write the whole path, from /")
    return _contents(path)


def _from_credential(name: str, environ: Mapping[str, str]) -> str:
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        raise SecretUnavailable(
            "names a systemd credential, but systemd gave none: add LoadCredential=NAME:/path to the unit"
        )
    if not name or "/" in name or name in {".", ".."}:
        raise SecretUnavailable("names a systemd credential by a path: write its name only")
    return _contents(Path(folder) / name)


def _contents(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise SecretUnavailable(f"names {str(path)!r}, which is longer than any secret: name another file")
        # editors and echo end a file with a line break, which is never part of the secret
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretUnavailable(f"names {str(path)!r}, which is not UTF-8 text: store it as text") from None
    except OSError as error:
        raise SecretUnavailable(f"names {str(path)!r}, which cannot be read ({error.strerror}): mend that") from None
    except ValueError as error:
        if isinstance(error, SecretUnavailable):
            raise
        raise SecretUnavailable("names a file whose path has a null character: write the path again") from None


_SOURCES: Final[Mapping[str, Callable[[str, Mapping[str, str]], str]]] = {
    "env": _from_env,
    "file": _from_file,
    "credential": _from_credential,
}


def _validate(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, Mapping):
        raise PydanticCustomError("secret", f"is a secret and may not stand in the file itself: {_HOW}")
    try:
        return read(value, os.environ)
    except SecretUnavailable as error:
        # a custom error, since pydantic's own would carry a prefix
        raise PydanticCustomError("secret", str(error)) from None
