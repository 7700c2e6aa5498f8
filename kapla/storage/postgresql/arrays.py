"""Arrays of bytes as parameters, in the server's binary form: made with one join."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any, Final

import psycopg
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

__all__ = ["Array", "array_of", "register"]

_BYTEA: Final = 17
_BYTEA_ARRAY: Final = 1001
_HEAD: Final = struct.Struct(">iiIii")
_LENGTH: Final = struct.Struct(">i")


class Array(bytes):
    """An array of bytea as the server reads it."""

    __slots__ = ()


def array_of(values: Sequence[bytes]) -> Array:
    """An array of values that are none of them None.

    Source: array_recv in PostgreSQL's src/backend/utils/adt/arrayfuncs.c.
    """
    if not values:
        return Array(_HEAD.pack(0, 0, _BYTEA, 0, 1)[:12])
    head = _HEAD.pack(1, 0, _BYTEA, len(values), 1)
    lengths = set(map(len, values))
    if len(lengths) == 1:
        # The usual case: all references, or all blocks of one size.
        length = _LENGTH.pack(lengths.pop())
        return Array(b"".join(chain((head,), chain.from_iterable(zip(repeat(length), values)))))
    packed = ((_LENGTH.pack(len(value)), value) for value in values)
    return Array(b"".join(chain((head,), chain.from_iterable(packed))))


class _ArrayDumper(Dumper):
    format = Format.BINARY
    oid = _BYTEA_ARRAY

    def dump(self, obj: Any) -> Buffer:
        """As it is."""
        return bytes(obj)


def register(connection: psycopg.Connection[Any]) -> None:
    """Let such arrays be parameters on this connection."""
    connection.adapters.register_dumper(Array, _ArrayDumper)
