"""Arrays of bytes as parameters, in the server's binary form: made with one join."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any, Final

import psycopg
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

__all__ = ["EMPTY", "Array", "array_of", "register"]

_BYTEA: Final = 17
_BYTEA_ARRAY: Final = 1001
_HEAD: Final = struct.Struct(">iiIii")
_LENGTH: Final = struct.Struct(">i")


class Array:
    """An array of bytea as the server reads it: `data`."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


def array_of(values: Sequence[bytes]) -> Array:
    """An array of values that are none of them None.

    Source: array_recv in PostgreSQL's src/backend/utils/adt/arrayfuncs.c.
    """
    if not values:
        return EMPTY
    head = _HEAD.pack(1, 0, _BYTEA, len(values), 1)
    lengths = set(map(len, values))
    if len(lengths) == 1:
        # The usual case: all references, or all blocks of one size.
        length = _LENGTH.pack(lengths.pop())
        pairs = zip(repeat(length), values, strict=False)
        return Array(b"".join(chain((head,), chain.from_iterable(pairs))))
    packed = ((_LENGTH.pack(len(value)), value) for value in values)
    return Array(b"".join(chain((head,), chain.from_iterable(packed))))


EMPTY: Final = Array(struct.pack(">iii", 0, 0, _BYTEA))
"""An array of nothing."""


class _ArrayDumper(Dumper):
    format = Format.BINARY
    oid = _BYTEA_ARRAY

    def dump(self, obj: Array) -> Buffer:
        """As it is: a copy of some megabytes would be felt."""
        return obj.data


def register(connection: psycopg.Connection[Any]) -> None:
    """Let such arrays be parameters on this connection."""
    connection.adapters.register_dumper(Array, _ArrayDumper)
