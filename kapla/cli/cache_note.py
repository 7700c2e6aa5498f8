"""What the summary tells of the encode cache, to whoever wants to know more."""

from __future__ import annotations

from typing import Protocol

from kapla.cli.summary import current_summary

__all__ = ["Looked", "note_cache"]


class Looked(Protocol):
    """How many contents were looked up, and how many of them need not be encoded."""

    @property
    def asked(self) -> int:
        """All of them."""

    @property
    def confirmed(self) -> int:
        """Those that are known, and in the store."""


def note_cache(known: Looked) -> None:
    """Note how much of what was looked up need not be encoded again."""
    summary = current_summary()
    if summary is not None and known.asked:
        summary.notes.append(
            f"encode cache: {known.confirmed:,} of {known.asked:,} contents known and in the store"
        )
