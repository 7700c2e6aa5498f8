"""What became of the deltas that lead to an item, as a value and for its record. Pure.

A delta leads from a base, another item, and is in one store. One that is not worth its blocks is
noted too, with the reason, so that it is not tried again. URNs are left out of reprs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from guix_glue.formats.narinfo import DeltaLine
from guix_glue.formats.store_path import check_base_name, hash_part_of, is_hash_part

__all__ = [
    "NO_DELTAS",
    "DeltaResult",
    "Deltas",
    "delta_key",
    "pack_deltas",
    "split_key",
    "unpack_deltas",
]

_BETWEEN: Final = "+"


@dataclass(frozen=True, slots=True)
class DeltaResult:
    """The delta from `base` (`HASH-NAME`): its URN, and the bytes of its blocks; or why none."""

    base: str
    urn: str | None = field(default=None, repr=False)
    block_bytes: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Deltas:
    """All that were made or given up, and the store that has their blocks."""

    store_id: str | None = None
    results: tuple[DeltaResult, ...] = ()

    def in_store(self, store_id: str | None) -> Deltas:
        """Those that count for a store: what another one has is as if it were not made."""
        return self if self.store_id == store_id else Deltas(store_id)

    @property
    def made(self) -> tuple[DeltaResult, ...]:
        """Those that there are, the smallest first."""
        made = (one for one in self.results if one.urn is not None)
        return tuple(sorted(made, key=lambda one: one.block_bytes))

    def is_known(self, base: str) -> bool:
        """Whether the delta from a base was made, or given up."""
        return any(one.base == base for one in self.results)

    def lines(self, count: int) -> tuple[DeltaLine, ...]:
        """What a narinfo says of them: the best first, so many at most."""
        return tuple(DeltaLine(one.base, one.urn) for one in self.made[:count] if one.urn)

    def with_result(self, result: DeltaResult) -> Deltas:
        """The same with one more, in the place of what there was from this base."""
        others = self.without(hash_part_of(result.base)).results
        return replace(self, results=(*others, result))

    def without(self, base_part: str) -> Deltas:
        """The same without the delta from the base with this hash part."""
        kept = tuple(one for one in self.results if hash_part_of(one.base) != base_part)
        return replace(self, results=kept)

    def urns(self, hash_part: str) -> dict[str, str]:
        """The URNs of those that lead to an item, each by its key."""
        return {delta_key(hash_part, one.base): one.urn for one in self.made if one.urn}


NO_DELTAS: Final = Deltas()


def delta_key(hash_part: str, base: str) -> str:
    """What pins call the delta from a base to an item: `HASH-PART+HASH-PART`, the base's last."""
    return f"{hash_part}{_BETWEEN}{hash_part_of(base)}"


def split_key(key: str) -> tuple[str, str | None]:
    """The hash part of an item, and of the base if the key is that of a delta."""
    hash_part, _, base = key.partition(_BETWEEN)
    return hash_part, base if is_hash_part(base) else None


def pack_deltas(deltas: Deltas) -> dict[str, Any]:
    """What became of them, for a record."""
    results = [[one.base, one.urn, one.block_bytes, one.reason] for one in deltas.results]
    return {"store": deltas.store_id, "results": results}


def unpack_deltas(value: Any) -> Deltas:
    """The same out of a record; of the first servers' there is nothing.

    Raises: KeyError, TypeError, ValueError, if it is something else; InvalidStorePath.
    """
    if value is None:
        return NO_DELTAS
    results = []
    for base, urn, block_bytes, reason in value["results"]:
        if not isinstance(urn, str | None) or not isinstance(reason, str | None):
            raise TypeError("URN and reason of a delta are text, or null")
        if not isinstance(block_bytes, int):
            raise TypeError("its bytes are a number")
        results.append(DeltaResult(check_base_name(base), urn, block_bytes, reason))
    store_id = value["store"]
    return Deltas(None if store_id is None else str(store_id), tuple(results))
