"""Column types that keep money exact on every engine."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Dialect, LargeBinary, String, TypeDecorator

AMOUNT_DIGITS = 78
"""Decimal digits of 2**256 - 1."""

TOTAL_DIGITS = 96
"""A sum of more than 10**17 of the largest amounts still fits."""


class _FixedWidthInteger(TypeDecorator[int]):
    """A non-negative integer as zero-padded decimal text: exact, and it sorts and compares as the number does.

    SQLite's NUMERIC affinity turns integers beyond 64 bits into floats, and PostgreSQL's driver would answer with
    Decimal; text of one width is the same on both. There is no arithmetic in SQL on it.
    """

    impl = String
    cache_ok = True
    width = AMOUNT_DIGITS

    def __init__(self) -> None:
        super().__init__(self.width)

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if type(value) is not int:
            raise TypeError(f"an amount is an int in base units, not {type(value).__name__}")
        text = f"{value:0{self.width}d}"
        if value < 0 or len(text) > self.width:
            raise OverflowError(f"amount outside 0 … 10^{self.width}-1")
        return text

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value)


class BaseAmount(_FixedWidthInteger):
    """One amount in base units, 0 … 2**256-1 and a little above."""

    cache_ok = True
    width = AMOUNT_DIGITS


class BaseTotal(_FixedWidthInteger):
    """A sum of amounts in base units."""

    cache_ok = True
    width = TOTAL_DIGITS


class Json(TypeDecorator[Any]):
    """A JSON value as UTF-8 bytes: never queried by its inside, so no engine's own JSON type is needed."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        return None if value is None else orjson.dumps(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(value)
