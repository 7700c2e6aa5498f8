"""The official vectors that come with the program: nine small ones, in `data/`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from eris.base32 import parse_base32
from eris.model import BlockSize, Reference

__all__ = ["KNOWN", "NUMBERS", "Vector", "read_vector"]

NUMBERS: Final = {
    0: "12 bytes in 1 KiB",
    1: "12 bytes in 32 KiB",
    2: "1023 zeroes in 1 KiB",
    3: "1024 zeroes in 1 KiB",
    4: "16383 bytes in 1 KiB",
    5: "16384 bytes in 1 KiB, two levels",
    6: "4096 zeroes in 1 KiB, equal blocks",
    9: "12 bytes in 1 KiB, a convergence secret",
    10: "12 bytes in 32 KiB, a convergence secret",
}
"""Those that are here, and what each is."""

KNOWN: Final = {BlockSize.SMALL: 0, BlockSize.LARGE: 1}
"""Vectors of one block each, which are asked for wherever a block has to be there.

Neither of their references is UTF-8, which matters where they are sent as raw octets.
"""


@dataclass(frozen=True, slots=True)
class Vector:
    """A content and its blocks."""

    content: bytes
    urn: str
    blocks: dict[Reference, bytes]


def read_vector(number: int) -> Vector:
    """Read one of those that are here."""
    name = f"eris-test-vector-positive-{number:02d}.json"
    facts = json.loads(files(__package__).joinpath("data", name).read_bytes())
    return Vector(
        parse_base32(facts["content"]),
        facts["urn"],
        {
            Reference(parse_base32(name)): parse_base32(block)
            for name, block in facts["blocks"].items()
        },
    )
