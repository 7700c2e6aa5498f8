"""Link files, `.eris`: a read capability with size and media type of its content, as CBOR; pure.

Other programs write them too, so what is read is bounded in length, depth and number. Some people
keep a bare URN in such a file: that is read as a link that tells nothing else. Whoever has a link
can read the content.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from eris.capability import URN_PREFIX, ReadCapability
from eris.errors import InvalidCapability, InvalidLink
from eris.model import CAPABILITY_SIZE

__all__ = ["LINK_MAGIC", "LINK_MEDIA_TYPE", "MAX_LINK_SIZE", "Link", "format_link", "parse_link"]

LINK_MAGIC: Final = bytes.fromhex("d9d9f784d901145842")
"""How a link begins: tag 55799, an array of four, tag 276 on 66 bytes."""
LINK_MEDIA_TYPE: Final = "application/x-eris-link+cbor"
MAX_LINK_SIZE: Final = 64 * 1024
"""Bytes of a file that is read as a link: one has a hundred, and attributes are for people."""

_LONGEST_TYPE: Final = 255
_MOST_ATTRIBUTES: Final = 256
_DEEPEST: Final = 8
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_HEAD_SIZES: Final = {24: 1, 25: 2, 26: 4, 27: 8}
_FLOATS: Final = {25: ">e", 26: ">f", 27: ">d"}
_PLAIN: Final = {20: False, 21: True, 22: None, 23: None}


@dataclass(frozen=True, slots=True)
class Link:
    """What a link file says; all but the capability is somebody's word."""

    capability: ReadCapability
    size: int | None = None
    """Bytes of the content; None in a bare URN."""
    media_type: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Whatever else is said, by name: text, numbers, bytes, lists and maps of these."""


def format_link(link: Link) -> bytes:
    """Write a link.

    Raises: ValueError for one that could not be read again, or has no size.
    """
    if link.size is None:
        raise ValueError("a link tells the size of its content")
    data = b"".join(
        (
            LINK_MAGIC,
            link.capability.to_bytes(),
            _head(_UNSIGNED, link.size),
            _item(link.media_type),
            _item(dict(link.attributes)),
        )
    )
    parse_link(data)
    return data


def parse_link(data: bytes) -> Link:
    """Read a link, or the text of a bare URN.

    Raises: InvalidLink.
    """
    if len(data) > MAX_LINK_SIZE:
        raise InvalidLink(f"it has more than {MAX_LINK_SIZE // 1024} KiB")
    if data[: len(URN_PREFIX)].lower() == URN_PREFIX.encode():
        return Link(_bare(data))
    if not data.startswith(LINK_MAGIC):
        raise InvalidLink("it begins neither as a link does nor with urn:eris:")
    reader = _Reader(data, len(LINK_MAGIC))
    try:
        capability = ReadCapability.from_bytes(reader.take(CAPABILITY_SIZE))
    except InvalidCapability as error:
        raise InvalidLink(error.reason) from None
    size, media_type, attributes = reader.item(), reader.item(), reader.item()
    if type(size) is not int or size < 0:
        raise InvalidLink("its size is no number")
    if not isinstance(media_type, str) or len(media_type) > _LONGEST_TYPE:
        raise InvalidLink(f"its media type is no text of at most {_LONGEST_TYPE} letters")
    if not isinstance(attributes, dict):
        raise InvalidLink("its attributes are no map")
    reader.finish()
    return Link(capability, size, media_type, attributes)


def _bare(data: bytes) -> ReadCapability:
    try:
        return ReadCapability.from_urn(data.decode("ascii").strip())
    except UnicodeDecodeError:
        raise InvalidLink("its URN has letters that no URN has") from None
    except InvalidCapability as error:
        raise InvalidLink(error.reason) from None


class _Reader:
    """Reads items of CBOR, each of a length that is stated before it."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._left = _MOST_ATTRIBUTES

    def take(self, size: int) -> bytes:
        """The next bytes, all of them."""
        if size > len(self._data) - self._at:
            self._fail("it is cut off")
        self._at += size
        return self._data[self._at - size : self._at]

    def finish(self) -> None:
        """Raises: InvalidLink, if anything follows."""
        if self._at < len(self._data):
            self._fail("something follows its end")

    def item(self, depth: int = 0) -> Any:
        """The next item."""
        if depth > _DEEPEST:
            self._fail(f"something in it is more than {_DEEPEST} deep")
        kind, short = divmod(self.take(1)[0], 32)
        if kind == _SIMPLE:
            return self._simple(short)
        value = self._value(short)
        match kind:
            case 0:
                return value
            case 1:
                return -1 - value
            case 2:
                return self.take(value)
            case 3:
                return self._text(value)
            case 4:
                return [self.item(depth + 1) for _ in range(self._count(value))]
            case 5:
                return self._map(self._count(value), depth)
            case _:
                # What a tag says of the item behind it is not ours to know.
                return self.item(depth + 1)

    def _map(self, count: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self.item(depth + 1)
            if not isinstance(key, str) or key in found:
                self._fail("a map in it has a key twice, or one that is no text")
            found[key] = self.item(depth + 1)
        return found

    def _value(self, short: int) -> int:
        if short < 24:
            return short
        if short not in _HEAD_SIZES:
            self._fail("it has an item without a stated length")
        return int.from_bytes(self.take(_HEAD_SIZES[short]), "big")

    def _text(self, size: int) -> str:
        try:
            return self.take(size).decode()
        except UnicodeDecodeError:
            self._fail("a text in it is no UTF-8")

    def _count(self, value: int) -> int:
        """Bound what is built before it is built."""
        self._left -= value
        if self._left < 0:
            self._fail(f"it has more than {_MOST_ATTRIBUTES} attributes and parts of these")
        return value

    def _simple(self, short: int) -> bool | float | None:
        if short in _PLAIN:
            return _PLAIN[short]
        if short not in _FLOATS:
            self._fail("it has a value that nobody knows")
        (number,) = struct.unpack(_FLOATS[short], self.take(_HEAD_SIZES[short]))
        return float(number)

    def _fail(self, reason: str) -> NoReturn:
        raise InvalidLink(f"{reason} (byte {self._at})")


def _head(kind: int, value: int) -> bytes:
    """The head of an item, in its shortest form."""
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{value} does not fit a link")
    if value < 24:
        return bytes([kind << 5 | value])
    for short, size in _HEAD_SIZES.items():
        if value < 1 << (8 * size):
            return bytes([kind << 5 | short]) + value.to_bytes(size, "big")
    raise AssertionError(value)


def _item(value: Any) -> bytes:
    match value:
        case bool() | None:
            return bytes([_SIMPLE << 5 | {False: 20, True: 21, None: 22}[value]])
        case int():
            return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
        case float():
            return bytes([_SIMPLE << 5 | 27]) + struct.pack(">d", value)
        case bytes():
            return _head(_BYTES, len(value)) + value
        case str():
            text = value.encode()
            return _head(_TEXT, len(text)) + text
        case list():
            return _head(_ARRAY, len(value)) + b"".join(map(_item, value))
        case dict():
            # In the order of their bytes: equal links are equal files.
            pairs = sorted((_item(key), _item(inner)) for key, inner in value.items())
            return _head(_MAP, len(pairs)) + b"".join(key + inner for key, inner in pairs)
        case _:
            raise ValueError(f"{type(value).__name__} does not go into a link")
