"""Payloads of our own resources: CBOR maps from names to plain values.

Read by a reader of our own for the few items that occur: a general one follows tags that have no
business here, and merges keys in silence. What it does not know it passes over, in a loop and not
in itself, so that no nesting is too deep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cbor2 import dumps

from kapla.coap.blocks import BadRequest

__all__ = ["MAP_FORMAT", "format_map", "read_map"]

MAP_FORMAT: Final = 60
"""The Content-Format application/cbor."""

_MOST_ENTRIES: Final = 64
# What fits into a column of the database.
_LARGEST: Final = 2**63 - 1
_UINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = 0, 2, 3, 4, 5, 6, 7
_TYPES: Final = {int: "a number", bytes: "bytes", str: "text", bool: "true or false"}
_BOOLEANS: Final = {20: False, 21: True}
# Lengths and numbers of so many bytes follow.
_LONGER: Final = {24: 1, 25: 2, 26: 4, 27: 8}


def format_map(values: Mapping[str, Any]) -> bytes:
    """Write a map. None is null."""
    return dumps(values)


def read_map(payload: bytes, types: Mapping[str, type]) -> dict[str, Any]:
    """Read a map; an empty payload is an empty one. What `types` does not name is left out.

    The types are int (0 to 2⁶³ - 1), bytes, str and bool.
    Raises: BadRequest.
    """
    if not payload:
        return {}
    return {
        name: _checked(name, value, types[name])
        for name, value in _Items(payload).entries()
        if name in types
    }


def _checked(name: str, value: object, expected: type) -> object:
    # Not isinstance: true is no number here.
    if type(value) is not expected or (isinstance(value, int) and value > _LARGEST):
        raise BadRequest(f"{name} has to be {_TYPES[expected]}")
    return value


class _Other:
    """A value that no entry of ours may have."""


class _Items:
    """The items of a payload, from its beginning on."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def entries(self) -> Iterator[tuple[str, object]]:
        """The entries of the map that the whole payload is."""
        major, count, _ = self._head()
        if major != _MAP:
            raise BadRequest("the payload has to be a map in CBOR")
        if count > _MOST_ENTRIES:
            raise BadRequest(f"a map has {_MOST_ENTRIES} entries at most")
        names = set()
        for _ in range(count):
            name = self._value()
            if not isinstance(name, str) or name in names:
                raise BadRequest("the keys of a map are texts, each once")
            names.add(name)
            yield name, self._value()
        if self._at != len(self._payload):
            raise BadRequest("something follows the map")

    def _value(self) -> object:
        start = self._at
        major, argument, detail = self._head()
        if major == _UINT:
            return argument
        if major == _BYTES:
            return self._take(argument)
        if major == _TEXT:
            return self._text(argument)
        if major == _SIMPLE and detail in _BOOLEANS:
            return _BOOLEANS[detail]
        self._at = start
        self._pass_over()
        return _Other

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode()
        except UnicodeDecodeError:
            raise BadRequest("a text is not UTF-8") from None

    def _pass_over(self) -> None:
        due = 1
        while due:
            major, argument, _ = self._head()
            due -= 1
            if major in (_BYTES, _TEXT):
                self._take(argument)
            elif major in (_ARRAY, _MAP):
                due += argument * (2 if major == _MAP else 1)
            elif major == _TAG:
                due += 1
            # Each takes a byte at the least.
            if due > len(self._payload) - self._at:
                raise BadRequest("the map is cut off")

    def _head(self) -> tuple[int, int, int]:
        """The next item's major type, its number or length, and how that is written."""
        first = self._take(1)[0]
        detail = first & 31
        if detail < 24:
            return first >> 5, detail, detail
        size = _LONGER.get(detail)
        if size is None:
            raise BadRequest("lengths in the map have to be definite")
        return first >> 5, int.from_bytes(self._take(size), "big"), detail

    def _take(self, size: int) -> bytes:
        start = self._at
        if size > len(self._payload) - start:
            raise BadRequest("the map is cut off")
        self._at = start + size
        return self._payload[start : self._at]
