"""Finding many blocks by where some of them lie: what came together lies side by side.

A content's blocks arrive in about its order, and get ids in that order, while the index has them in
the order of their references, which is none. So whoever asks for many blocks of a content costs a
search of the index for each, where reading the rows from the first to the last would do. Here some
of what is asked for is looked up, and if places turn out to be near each other the rows there are
read. A row has its reference, so what is found so is found; what is not is left to the index.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["EVERY", "runs_near"]

EVERY: Final = 16
"""One in so many is looked up to see where they lie."""

# From one of these to the next in ids, where all lie side by side: as far as their step. Twice as
# far, half of the rows between them are others': still cheaper to read than the index to search.
_FARTHEST: Final = 2 * EVERY
# Beyond the first and the last of a run there may be some more.
_BEYOND: Final = EVERY
_HIGHEST: Final = 2**63 - 1


def runs_near(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Where to read rows, first and last id, if these are places of some of what is asked for.

    Ids with no other one near them tell of no run. No row is in two runs, and there are no more
    than `_FARTHEST` + 1 for each id.
    """
    runs: list[list[int]] = []
    for block_id in sorted(set(ids)):
        if runs and block_id - runs[-1][1] <= _FARTHEST:
            runs[-1][1] = block_id
        else:
            runs.append([block_id, block_id])
    return [
        (first - _BEYOND, min(last + _BEYOND, _HIGHEST)) for first, last in runs if first != last
    ]
