"""Another server's narinfo, as it is passed on: with URLs of ours, and else as it was.

What Guix signed stays, byte for byte, with its signature. Where only Nix signed there is no such
text: what its signatures cover is written anew, with all of them, and with what the item is
addressed by. Whatever nobody signed may be anybody's, and Nix gives up an item, with all that needs
it, for one line that it cannot read: such lines are left out. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from guix_glue.formats.content_address import is_content_address
from guix_glue.formats.narinfo import (
    DeltaLine,
    Narinfo,
    NarUrl,
    format_narinfo,
    format_unsigned,
)

__all__ = ["has_signed_urls", "own_hints", "passed_on"]

_NEEDED: Final = frozenset({"StorePath", "NarHash", "References"})
_SIGNATURE: Final = re.compile(r"[!-9;-~]{1,255}:[0-9A-Za-z+/]{86}==")


def passed_on(
    narinfo: Narinfo,
    urls: Sequence[NarUrl],
    *,
    hint: str | None = None,
    hint_deltas: Sequence[DeltaLine] = (),
) -> bytes:
    """The text of a narinfo with these URLs; hints are lines that nobody signs.

    Raises: ValueError, for a value that would be more than one line.
    """
    signed = _signed_text(narinfo)
    text = format_narinfo(
        format_unsigned(replace(narinfo.item, deriver=None)) if signed is None else signed,
        None if signed is None else narinfo.signature,
        urls,
        hint=hint,
        hint_deltas=hint_deltas,
        nix_signatures=tuple(filter(_SIGNATURE.fullmatch, narinfo.nix_signatures)),
    )
    known = _names(text.decode())
    more = ""
    if "NarSize" not in known:
        more += f"NarSize: {narinfo.item.nar_size}\n"
    if (
        "CA" not in known
        and narinfo.ca is not None
        and is_content_address(narinfo.ca, narinfo.item)
    ):
        more += f"CA: {narinfo.ca}\n"
    return text + more.encode()


def has_signed_urls(narinfo: Narinfo) -> bool:
    """Whether URLs stand in what is signed, so that they cannot be replaced."""
    signed = _signed_text(narinfo)
    return signed is not None and "URL" in _names(signed)


def own_hints(narinfo: Narinfo) -> tuple[str | None, tuple[DeltaLine, ...]]:
    """A narinfo's own URN and deltas that nobody signed, without those in the signed text.

    Of what is signed by somebody who is not believed the lines stay where they are.
    """
    signed = (_signed_text(narinfo) or "").split("\n")
    hint = narinfo.hint_urn
    deltas = [line for line in narinfo.hint_deltas if _is_new(line, signed)]
    return None if hint is None or f"ERIS: {hint}" in signed else hint, tuple(deltas)


def _is_new(line: DeltaLine, signed: Sequence[str]) -> bool:
    return f"ERIS-Delta: {line.base} {line.urn}" not in signed


def _signed_text(narinfo: Narinfo) -> str | None:
    """What Guix signed, if a client could make use of it."""
    if narinfo.signed_text is None or narinfo.signature is None:
        return None
    return narinfo.signed_text if _names(narinfo.signed_text) >= _NEEDED else None


def _names(text: str) -> frozenset[str]:
    # Not `splitlines`, which ends lines where no reader does.
    return frozenset(line.partition(":")[0] for line in text.split("\n"))
