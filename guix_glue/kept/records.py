"""What baking an item gave, as a value and as the file that keeps it. Pure.

The file is a line with the SHA-256 of the rest, and the rest is JSON. Who reads it believes it only
when the sum is right and every field is of its kind: anything else counts as nothing, and the item
is baked again. An URN is a read capability; it is public in narinfos, and still left out of reprs.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from typing import Any, Final

from guix_glue.errors import InvalidStorePath
from guix_glue.kept.delta_results import (
    NO_DELTAS,
    DeltaResult,
    Deltas,
    pack_deltas,
    unpack_deltas,
)
from guix_glue.model import StoreItem

__all__ = [
    "Baked",
    "BakedFile",
    "Destination",
    "ErisResult",
    "Promise",
    "format_checked",
    "format_record",
    "pack_eris",
    "parse_checked",
    "parse_record",
    "unpack_eris",
]

_VERSION: Final = 1
# JSON has numbers that are infinite.
_NOT_A_RECORD: Final = (
    *(KeyError, TypeError, ValueError, AttributeError, ArithmeticError),
    InvalidStorePath,
)


@dataclass(frozen=True, slots=True)
class BakedFile:
    """A compressed nar in the cache: `choice` as `gzip:3`, `size` in bytes.

    `sha256` is that of the file; None of what an earlier version baked.
    """

    choice: str
    size: int
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """What a URN is wanted for: trees of a format, in a store; or in none, for the URN alone."""

    format: str
    store_id: str | None


@dataclass(frozen=True, slots=True)
class ErisResult:
    """The URN of an item, and the stores that took its blocks; or why there is no URN.

    `format` is how it became ERIS content: another gives other URNs, and has another name.
    `baked_at` is when it first did so, in seconds of the epoch, 0 if that was not noted; `deltas`
    are what leads to it from other items.
    """

    format: str
    urn: str | None = field(repr=False)
    stores: tuple[str, ...] = ()
    reason: str | None = None
    baked_at: float = 0.0
    deltas: Deltas = NO_DELTAS

    def urn_in(self, wanted: Destination) -> str | None:
        """The URN, if it is of this format, and the store has the blocks or none is needed."""
        there = wanted.store_id is None or wanted.store_id in self.stores
        return self.urn if self.format == wanted.format and there else None

    def done_for(self, wanted: Destination) -> bool:
        """Whether there is no more to encode for this format and store."""
        if self.urn is None:
            return self.format == wanted.format
        return self.urn_in(wanted) is not None

    def urns_in(self, wanted: Destination, hash_part: str) -> dict[str, str]:
        """The same and those of its deltas, each by its key: all that clients may be told."""
        urn = self.urn_in(wanted)
        if urn is None:
            return {}
        return {hash_part: urn} | self.deltas.in_store(wanted.store_id).urns(hash_part)

    def after(self, before: ErisResult | None) -> ErisResult:
        """The same, with what still counts of an earlier result for this item."""
        if before is None:
            return self
        known = replace(self, baked_at=before.baked_at or self.baked_at)
        if before.urn != self.urn:
            return known
        stores = tuple(dict.fromkeys((*before.stores, *self.stores)))
        return replace(known, stores=stores, deltas=before.deltas)

    def with_delta(self, store_id: str | None, result: DeltaResult) -> ErisResult:
        """The same when something became of a delta in a store."""
        return replace(self, deltas=self.deltas.in_store(store_id).with_result(result))

    def without(self, base_part: str | None) -> ErisResult | None:
        """What is left when the delta from a base is withdrawn, or, with None, the URN itself."""
        if base_part is None:
            return None
        return replace(self, deltas=self.deltas.without(base_part))

    def results(self, wanted: Destination) -> dict[str, tuple[None, str]]:
        """Its format and how it went, as `Baked.results`; nothing, if there is more to encode."""
        name = self.format.replace(" ", "-")
        return {name: (None, self.reason or "done")} if self.done_for(wanted) else {}


@dataclass(frozen=True, slots=True)
class Promise:
    """How long clients may ask for what a narinfo names: `age_s` from the last use of the record.

    A promise that was longer, and is not made any more, holds `until` a time (of the epoch).
    """

    age_s: int = 0
    until: float = 0.0

    def ends(self, used: float) -> float:
        """When it is over, if the last use was at that time (of the epoch)."""
        return max(self.until, used + self.age_s)


@dataclass(frozen=True, slots=True)
class Baked:
    """All that is kept of an item; its nar was found to have the hash that the item says."""

    item: StoreItem
    files: tuple[BakedFile, ...] = ()
    eris: ErisResult | None = None
    promise: Promise = Promise()

    def results(self, wanted: Destination | None) -> dict[str, tuple[int | None, str]]:
        """What there is: for each compression the bytes of its file, for a tree None; and how."""
        made: dict[str, tuple[int | None, str]] = {}
        made |= {file.choice: (file.size, "done") for file in self.files}
        if self.eris is not None and wanted is not None:
            made |= self.eris.results(wanted)
        return made

    def file(self, choice: str) -> BakedFile | None:
        """The nar in this compression."""
        return next((file for file in self.files if file.choice == choice), None)


def format_record(baked: Baked) -> bytes:
    """Write a record."""
    item = baked.item
    return format_checked(
        {
            "version": _VERSION,
            "path": item.path,
            "nar_hash": item.nar_hash.hex(),
            "nar_size": item.nar_size,
            "references": list(item.references),
            "deriver": item.deriver,
            "content_address": item.content_address,
            "signatures": list(item.signatures),
            "files": {file.choice: file.size for file in baked.files},
            "hashes": {file.choice: file.sha256.hex() for file in baked.files if file.sha256},
            "eris": pack_eris(baked.eris),
            "promise": [baked.promise.age_s, baked.promise.until],
        }
    )


def parse_record(data: bytes) -> Baked | None:
    """Read a record; None if it is damaged, or of another version."""
    value = parse_checked(data)
    if value is None or value.get("version") != _VERSION:
        return None
    try:
        # Records of the first servers have neither the last two, nor hashes, nor promises.
        item = StoreItem(
            str(value["path"]),
            bytes.fromhex(value["nar_hash"]),
            int(value["nar_size"]),
            tuple(map(str, value["references"])),
            _text_or_none(value["deriver"]),
            _text_or_none(value.get("content_address")),
            tuple(map(str, value.get("signatures", ()))),
        )
        hashes = {name: bytes.fromhex(text) for name, text in value.get("hashes", {}).items()}
        files = tuple(
            BakedFile(str(name), int(size), hashes.get(name))
            for name, size in value["files"].items()
        )
        age_s, until = value.get("promise", (0, 0))
        promise = Promise(int(age_s), float(until))
        return Baked(item, files, unpack_eris(value["eris"]), promise)
    except _NOT_A_RECORD:
        return None


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def pack_eris(result: ErisResult | None) -> dict[str, Any] | None:
    """What became of an item as ERIS content, for a record."""
    if result is None:
        return None
    return {
        "format": result.format,
        "urn": result.urn,
        "stores": list(result.stores),
        "reason": result.reason,
        "baked_at": result.baked_at,
        "deltas": pack_deltas(result.deltas),
    }


def unpack_eris(value: Any) -> ErisResult | None:
    """The same out of a record.

    Raises: KeyError, TypeError, ValueError, InvalidStorePath, if it is something else.
    """
    if value is None:
        return None
    stores = tuple(map(str, value["stores"]))
    urn, reason = value["urn"], value["reason"]
    if not isinstance(urn, str | None) or not isinstance(reason, str | None):
        raise TypeError("URN and reason of a record are text, or null")
    # Records of the first servers have neither.
    baked_at, deltas = float(value.get("baked_at", 0)), unpack_deltas(value.get("deltas"))
    if not math.isfinite(baked_at):
        raise ValueError("no time")
    return ErisResult(str(value["format"]), urn, stores, reason, baked_at, deltas)


def format_checked(value: dict[str, Any]) -> bytes:
    """Write a JSON object below the SHA-256 of its text."""
    text = json.dumps(value, ensure_ascii=True).encode()
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def parse_checked(data: bytes) -> dict[str, Any] | None:
    """Read such an object; None if the text is not the one that was written."""
    digest, _, text = data.partition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() != digest:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
