"""Blocks that are there while more pins lack them than can be told at once; held until all are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kapla.storage.sqlite.keeping.state import Hold, Keeping

__all__ = ["Waiting"]

_NOBODY: Final = -1
_FIRST: Final = -1


class Waiting:
    """By what stands in `wanted`: the place of the block, (id, size). For the writer."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._places: dict[bytes, tuple[int, int]] = {}
        # Up to which pin they have been told of the first one.
        self._after = _FIRST
        self._hold: Hold | None = None

    def __bool__(self) -> bool:
        return bool(self._places)

    def add(self, places: Mapping[bytes, tuple[int, int]]) -> None:
        """Hold these until all pins are told."""
        if not places:
            return
        if self._hold is None:
            self._hold = self._keeping.open_hold(_NOBODY)
        with self._keeping.lock:
            self._keeping.hold(self._hold, places.values())
        # What is told of already may be lacking to others now: it begins anew, as the last.
        for key, place in places.items():
            if self._places.pop(key, None) is not None:
                self._after = _FIRST
            self._places[key] = place

    def places(self) -> dict[bytes, tuple[int, int]]:
        """All that are there still."""
        hold = self._hold
        if hold is None:
            return {}
        held = hold.small | hold.large
        return {key: place for key, place in self._places.items() if place[0] in held}

    def first(self) -> tuple[bytes, tuple[int, int] | None, int]:
        """The next one, its place, and after which pin to go on. None: it is there no more."""
        key, place = next(iter(self._places.items()))
        hold = self._hold
        is_held = hold is not None and (place[0] in hold.small or place[0] in hold.large)
        return key, place if is_held else None, self._after

    def moved(self, places: Mapping[int, tuple[int, int]]) -> None:
        """Blocks have other ids now: (id, size) by the former one."""
        for key, place in self._places.items():
            self._places[key] = places.get(place[0], place)

    def told(self, key: bytes, after: int | None) -> None:
        """Up to this pin all have it; None: all. With the last one nothing is held any more."""
        if after is not None:
            self._after = after
            return
        self._after = _FIRST
        self._places.pop(key, None)
        if not self._places and self._hold is not None:
            self._keeping.end_hold(self._hold)
            self._hold = None
