"""The methods by their names, and what a publisher may choose among them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["Compression", "CompressionChoice", "longest_compressed", "parse_choice"]

_DEFAULT_LEVEL: Final = 3
_SLACK: Final = 256 * 1024


class Compression(Enum):
    """The methods, named as in narinfos and URLs."""

    NONE = "none"
    GZIP = "gzip"
    LZIP = "lzip"
    ZSTD = "zstd"
    XZ = "xz"
    BZIP2 = "bzip2"


_HIGHEST: Final = {Compression.GZIP: 9, Compression.LZIP: 9, Compression.ZSTD: 19}


@dataclass(frozen=True, slots=True)
class CompressionChoice:
    """A method to compress by, and its level: from 1 to 9, for zstd to 19, and 0 for `NONE`.

    Raises: ValueError, for another level, and for a method that is only read.
    """

    method: Compression
    level: int

    def __post_init__(self) -> None:
        if self.method is Compression.NONE:
            allowed = range(1)
        elif self.method in _HIGHEST:
            allowed = range(1, _HIGHEST[self.method] + 1)
        else:
            raise ValueError(f"{self.method.value} can be read, but not written")
        if self.level not in allowed:
            highest = allowed[-1]
            raise ValueError(f"{self.method.value} has levels from {allowed[0]} to {highest}")


def parse_choice(text: str) -> CompressionChoice:
    """Read `METHOD[:LEVEL]`, by the rules of `guix publish`.

    The level is 3 if it is not given, and a number alone is a level of gzip. Level 0 of whatever
    method is no compression, and so is `none`.
    Raises: ValueError, whose message is for whoever wrote it.
    """
    name, colon, digits = text.partition(":")
    if not colon and name.isdigit():
        name, digits = "gzip", name
    elif not colon:
        digits = "0" if name == Compression.NONE.value else str(_DEFAULT_LEVEL)
    try:
        method = Compression(name)
    except ValueError:
        known = ", ".join(method.value for method in (*_HIGHEST, Compression.NONE))
        raise ValueError(f"no compression is called {name!r}; there are {known}") from None
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 2):
        raise ValueError(f"{digits!r} is not a level of compression")
    return CompressionChoice(method if int(digits) else Compression.NONE, int(digits))


def longest_compressed(size: int) -> int:
    """The most bytes that so many take compressed, by any method and even if they cannot be.

    There are formats that may hold any number of bytes which stand for nothing: what is longer is
    no compression of it.
    """
    return size + size // 16 + _SLACK
