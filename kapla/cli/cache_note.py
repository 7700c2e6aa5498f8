"""What the summary tells of the encode cache, to whoever wants to know more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kapla.cli.summary import current_summary

if TYPE_CHECKING:
    from eris_fs.known import KnownContents

__all__ = ["note_cache"]


def note_cache(known: KnownContents) -> None:
    """Note how much of what was looked up need not be encoded again."""
    summary = current_summary()
    if summary is not None and known.asked:
        summary.notes.append(
            f"encode cache: {known.confirmed:,} of {known.asked:,} contents known and in the store"
        )
