"""How many examples a property test tries: fewer where they are the same each time.

`make test` tries the same ones always, and `make campaign` others in each round. What a test finds
in the long run is found there; here it is to show that something was changed.
"""

from __future__ import annotations

from hypothesis import settings

__all__ = ["examples"]

_USUAL = 100


def examples(count: int) -> int:
    """`count` of them in a round of a campaign, and the suite's part of that in the suite."""
    return max(1, count * settings().max_examples // _USUAL)
