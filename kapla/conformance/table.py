"""All checks, in the order in which they are made."""

from __future__ import annotations

from typing import Final

from kapla.conformance import (
    blocks,
    both_ways,
    contents,
    extensions,
    flight,
    greeting,
    hostile,
    pieces,
    references,
    requests,
    signals,
)
from kapla.conformance.model import GROUPS, Check

__all__ = ["TABLE"]

TABLE: Final[dict[str, tuple[Check, ...]]] = dict(
    zip(
        GROUPS,
        (
            greeting.CHECKS,
            signals.CHECKS,
            blocks.CHECKS,
            references.CHECKS,
            contents.CHECKS,
            requests.CHECKS,
            pieces.CHECKS,
            flight.CHECKS,
            hostile.CHECKS,
            both_ways.CHECKS,
            extensions.CHECKS,
        ),
        strict=True,
    )
)
"""Group by group; a test sees to it that each has the name of its module."""
