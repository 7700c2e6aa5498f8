"""What somebody may have meant who typed something that there is not."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["meant"]


def meant(text: str, words: Iterable[str]) -> str:
    """The word that is most like it, to end a sentence; empty if none is."""
    # Loaded by those who made a mistake.
    from difflib import get_close_matches

    like = {word.lower(): word for word in words}
    near = get_close_matches(text.lower().replace("_", "-"), like, 1)
    return f"; did you mean {like[near[0]]!r}?" if near else ""
