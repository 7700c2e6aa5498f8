"""The path of a block under N2R, and back.

`GET /uri-res/N2R?urn:blake2b:<52 letters>` is how RFC 2169 asks for what a name stands for, with
the name that ERIS gives a block. The prefix of a URN may be in any case, as URNs have it; the
letters are upper case only, as everywhere in ERIS.
Source: RFC 2169, section 2; ERIS Experimental Recommendation "ERIS over HTTP".
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from eris.base32 import format_base32_reference, parse_base32_reference
from eris.model import Reference

__all__ = ["N2R_PATH", "format_n2r", "parse_n2r_query"]

N2R_PATH: Final = "/uri-res/N2R"
_PREFIX: Final = "urn:blake2b:"
_LETTERS: Final = 52
# Each character of the URN may be escaped.
_LONGEST_QUERY: Final = 3 * (len(_PREFIX) + _LETTERS)


def format_n2r(reference: Reference) -> str:
    """Write the path and query of a block, 32 bytes: `/uri-res/N2R?urn:blake2b:<52 letters>`."""
    return f"{N2R_PATH}?{_PREFIX}{format_base32_reference(reference).decode('ascii')}"


def parse_n2r_query(query: str) -> Reference:
    """Read what follows the `?`, as it came: escapes, as in `urn%3Ablake2b%3A`, are undone here.

    Raises: ValueError, with the reason; a URN of another kind is none of a block.
    """
    if len(query) > _LONGEST_QUERY:
        raise ValueError(f"a name of a block has {_LETTERS} letters behind {_PREFIX}")
    urn = _unescape(query)
    prefix, letters = urn[: len(_PREFIX)], urn[len(_PREFIX) :]
    if prefix.lower() != _PREFIX:
        raise ValueError(f"the name of a block begins with {_PREFIX}")
    try:
        return Reference(parse_base32_reference(letters.encode("ascii")))
    except UnicodeEncodeError:
        raise ValueError("a character is not in the Base32 alphabet") from None
    except ValueError as error:
        raise ValueError(_reason(letters, error)) from None


def _unescape(query: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", query):
        raise ValueError("a percent sign begins no escape")
    try:
        return unquote(query, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("what is escaped is not UTF-8") from None


def _reason(letters: str, error: ValueError) -> str:
    """Python's own words for a foreign character would repeat the text."""
    if re.fullmatch(r"[A-Z2-7]*", letters):
        return str(error)
    return "not upper-case, unpadded Base32"
