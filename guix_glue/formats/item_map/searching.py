"""Where in a map an item is: windows to look at, one after the other. Pure.

Hash parts are spread as evenly as random numbers are. So an item is where its number would be
between two entries whose places are known, give or take the square root of how many lie between
them. The steps of the head give such places for the first window, and each window for the next.

A map that is not spread like this, as a hostile one, is halved from the third window on, and given
up after a fixed number of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, sqrt
from typing import Final, NamedTuple

from guix_glue.formats.item_map.entries import ENTRY_SIZE, Entry
from guix_glue.formats.item_map.layout import KEY_BITS, InvalidMap, MapHead, steps_for

__all__ = ["MOST_WINDOWS", "Search", "Window", "first_guess"]

MOST_WINDOWS: Final = 24
"""Enough to halve the largest map down to one window."""

# Standard deviations on either side: one of 370 look-ups needs another window.
_MARGIN: Final = 3.0
# Fewer for a guess: it is wide, and what it misses costs a round trip more, once in twenty times.
_GUESS: Final = 2.0
_INTERPOLATED: Final = 2
# Entries on either side of the middle: about a leaf together.
_HALVING: Final = 192
# What a head has before its steps, about.
_HEAD: Final = 100


class Window(NamedTuple):
    """Entries from number `first` up to `stop`."""

    first: int
    stop: int


class Search:
    """Look for one key, 20 bytes.

    ```python
    search = Search(head, key)
    while (window := search.window) is not None:
        search.look(entries[window.first : window.stop])
    found = search.found
    ```
    """

    def __init__(self, head: MapHead, key: bytes) -> None:
        self.window: Window | None = None
        """What to look at next; None at the end."""
        self.found: bytes | None = None
        """The 65 bytes of the capability, if there is such an entry."""
        self._key = key
        self._number = int.from_bytes(key, "big")
        shift = KEY_BITS - ((len(head.steps) - 1).bit_length() - 1)
        step = self._number >> shift
        # Where it can be, and the numbers between which all entries there are.
        self._first, self._stop = head.steps[step], head.steps[step + 1]
        self._low, self._high = step << shift, (step + 1) << shift
        self._windows = 0
        self._next()

    def look(self, entries: Sequence[Entry]) -> None:
        """Take the entries of the window.

        Raises: InvalidMap, if they are not where they should be, or too many windows show nothing.
        """
        window = self.window
        if window is None or len(entries) != window.stop - window.first:
            raise ValueError("these are not the entries of the window")
        numbers = [int.from_bytes(entry.key, "big") for entry in entries]
        if any(after <= before for before, after in pairwise(numbers)):
            raise InvalidMap("its entries are not in order")
        if not self._low <= numbers[0] <= numbers[-1] < self._high:
            raise InvalidMap("its entries are not where its head says")
        self.window = None
        if self._number < numbers[0]:
            self._stop, self._high = window.first, numbers[0]
            self._next()
        elif self._number > numbers[-1]:
            self._first, self._low = window.stop, numbers[-1] + 1
            self._next()
        else:
            self.found = next((one.value for one in entries if one.key == self._key), None)

    def _next(self) -> None:
        count = self._stop - self._first
        if count <= 0:
            return
        self._windows += 1
        if self._windows > MOST_WINDOWS:
            raise InvalidMap("its entries are nowhere near where they should be")
        if self._windows <= _INTERPOLATED:
            share = (self._number - self._low) / (self._high - self._low)
            margin = ceil(_MARGIN * sqrt(count * share * (1 - share))) + 1
        else:
            share, margin = 0.5, _HALVING
        middle = self._first + int(share * count)
        first = max(self._first, min(middle - margin, self._stop - 1))
        stop = min(self._stop, max(middle + margin + 1, self._first + 1))
        self.window = Window(first, stop)


def first_guess(key: bytes, most_size: int, least_size: int) -> tuple[int, int]:
    """Which bytes of a map to fetch for a key while nothing is known but about how long it is.

    From and up to. Any bytes do: it is for having them at once with the head, which tells where to
    look.
    """
    size = (most_size + least_size) / 2
    count = max(0.0, (size - _HEAD) / ENTRY_SIZE)
    steps = 4 << steps_for(int(count))
    count = max(0.0, count - steps / ENTRY_SIZE)
    share = int.from_bytes(key, "big") / (1 << KEY_BITS)
    unsure = share * (most_size - least_size) / 2 / ENTRY_SIZE
    margin = _GUESS * sqrt(count * share * (1 - share)) + unsure + 1
    start = _HEAD + steps + (share * count - margin) * ENTRY_SIZE
    stop = _HEAD + steps + (share * count + margin) * ENTRY_SIZE
    return max(0, int(start)), min(most_size, max(0, int(stop)))
