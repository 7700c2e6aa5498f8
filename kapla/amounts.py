"""Amounts as people read them: bytes, blocks, time."""

from __future__ import annotations

from typing import Final

__all__ = ["blocks_text", "bytes_text", "duration_text"]

_MOST: Final = 1 << 64


def bytes_text(count: float) -> str:
    """Bytes, with the unit that suits them; a hostile URN can stand for more than a float holds."""
    if count >= _MOST:
        return "over 16 EiB"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def blocks_text(count: int) -> str:
    """A number of blocks."""
    return "1 block" if count == 1 else f"{count:,} blocks"


def duration_text(seconds: float) -> str:
    """A time, by its two largest units."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    shown = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(shown[:2]) or "0 s"
