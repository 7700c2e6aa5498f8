"""What callers give: contents as URNs, places in `eris://` URLs."""

from __future__ import annotations

import re
from typing import Final

from eris.capability import URN_PREFIX, ReadCapability
from eris.errors import InvalidCapability

__all__ = ["Urn", "read_urn", "split_place"]

Urn = ReadCapability | str
"""A content: its URN, or what that was read into."""

LETTERS: Final = 106
"""Those of a URN, behind `urn:eris:`."""

_LETTERS: Final = re.compile(rf"[A-Za-z2-7]{{{LETTERS}}}")


def read_urn(given: Urn) -> ReadCapability:
    """Read what is to name a content.

    Raises: InvalidCapability, which is a ValueError; TypeError, for what is neither text nor a
    ReadCapability. What was given is not repeated: it may be a secret.
    """
    if isinstance(given, ReadCapability):
        return given
    if not isinstance(given, str):
        raise TypeError(
            f"a content is named by its URN, as text, or a ReadCapability, not {_name(given)}"
        )
    if _LETTERS.fullmatch(given):
        # Many programs write the part of a URL that they take for a host in small letters.
        given = URN_PREFIX + given.upper()
    return ReadCapability.from_urn(given)


def split_place(place: str) -> tuple[ReadCapability, str, str]:
    """Split `LETTERS/docs/guide.txt` into the content, how it was written, and the path in it.

    `LETTERS` are the 106 letters of a URN, in any case, or the whole URN.
    Raises: InvalidCapability.
    """
    first, _, path = place.partition("/")
    if not _LETTERS.fullmatch(first) and not first.lower().startswith("urn:"):
        raise InvalidCapability(
            f"eris:// goes on with the {LETTERS} letters of a URN, not with {len(first)}"
            " other characters; or the option urn= names the content"
        )
    return read_urn(first), first, path


def _name(given: object) -> str:
    return "None" if given is None else type(given).__name__
