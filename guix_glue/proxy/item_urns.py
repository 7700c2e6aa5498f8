"""What is known of the URNs of one item, as a value and for its file. Pure.

The file is JSON below the SHA-256 of its text, as the records of the publisher are. Trees that are
the item stand there by their URNs, since they are asked for by these; of what is something else, no
more is kept than it takes to know it again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from eris.capability import ReadCapability
from eris.errors import InvalidCapability
from guix_glue.kept.records import format_checked, parse_checked

__all__ = ["NO_URNS", "ItemUrns", "format_urns", "parse_urns"]

_VERSION: Final = 1
_MAX_GOOD: Final = 4
_MAX_NOTED: Final = 32
_NOTED_S: Final = 30 * 86_400.0
# JSON has numbers that are infinite.
_DAMAGED: Final = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class ItemUrns:
    """What is known of one item: the trees that are it, the best known first; and what is not.

    `wrong` has what is something else, `doubted` what may be: digests of capabilities, and until
    when each counts (seconds of the epoch).
    """

    good: tuple[ReadCapability, ...] = ()
    wrong: Mapping[str, float] = field(default_factory=dict)
    doubted: Mapping[str, float] = field(default_factory=dict)

    def is_wrong(self, capability: ReadCapability, now: float) -> bool:
        """Whether this is known not to be the item, at a time (of the epoch)."""
        return self.wrong.get(_digest(capability), 0.0) > now

    def is_doubted(self, capability: ReadCapability, now: float) -> bool:
        """Whether this may not be the item, as far as is known."""
        return self.doubted.get(_digest(capability), 0.0) > now

    def with_good(self, capability: ReadCapability) -> ItemUrns:
        """The same with one more that is the item."""
        others = self._without(capability)
        return replace(others, good=(capability, *others.good)[:_MAX_GOOD])

    def with_wrong(self, capability: ReadCapability, now: float) -> ItemUrns:
        """The same with one more that is not, for a month from now on."""
        if self.is_wrong(capability, now):
            return self
        others = self._without(capability)
        return replace(others, wrong=_with_one(others.wrong, capability, now))

    def with_doubted(self, capability: ReadCapability, now: float) -> ItemUrns:
        """The same with one more that may not be, for a month, unless it is known not to be."""
        if self.is_doubted(capability, now) or self.is_wrong(capability, now):
            return self
        others = self._without(capability)
        return replace(others, doubted=_with_one(others.doubted, capability, now))

    def _without(self, capability: ReadCapability) -> ItemUrns:
        digest = _digest(capability)
        good = tuple(one for one in self.good if one != capability)
        wrong, doubted = (
            {key: until for key, until in noted.items() if key != digest}
            for noted in (self.wrong, self.doubted)
        )
        return ItemUrns(good, wrong, doubted)


NO_URNS: Final = ItemUrns()


def format_urns(urns: ItemUrns) -> bytes:
    """Write the file."""
    return format_checked(
        {
            "version": _VERSION,
            "good": [capability.to_urn() for capability in urns.good],
            "wrong": dict(urns.wrong),
            "doubted": dict(urns.doubted),
        }
    )


def parse_urns(data: bytes) -> ItemUrns:
    """Read the file; one that is damaged, or of another version, says nothing."""
    value = parse_checked(data)
    if value is None or value.get("version") != _VERSION:
        return NO_URNS
    try:
        good = tuple(ReadCapability.from_urn(str(urn)) for urn in value["good"])
        wrong, doubted = _noted(value["wrong"]), _noted(value["doubted"])
    except (InvalidCapability, *_DAMAGED):
        return NO_URNS
    if len(good) > _MAX_GOOD:
        return NO_URNS
    return ItemUrns(good, wrong, doubted)


def _noted(value: Mapping[str, float]) -> Mapping[str, float]:
    """Raises: TypeError, ValueError, AttributeError."""
    noted = {str(digest): float(until) for digest, until in value.items()}
    if len(noted) > _MAX_NOTED or not all(map(math.isfinite, noted.values())):
        raise ValueError("too many, or no times")
    return noted


def _with_one(
    noted: Mapping[str, float], capability: ReadCapability, now: float
) -> Mapping[str, float]:
    """The newest, with one more."""
    more = {**noted, _digest(capability): now + _NOTED_S}
    return dict(list(more.items())[-_MAX_NOTED:])


def _digest(capability: ReadCapability) -> str:
    """What tells a capability from others, without being one."""
    return hashlib.sha256(capability.to_bytes()).hexdigest()
