"""What is kept of other servers' items, on disk: one file each, with a checksum.

    upstream/HASH-PART     the narinfo as it came, from where (no password), until when it is good;
                           what others said that leads to the same; and the URN, of a mirror

A file that is damaged, or of another version, counts as missing. So does a narinfo that none of the
keys vouches for that count now, whatever counted when it came.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from guix_glue.errors import GuixError, SignatureRejected
from guix_glue.formats.narinfo import Narinfo, parse_narinfo
from guix_glue.formats.store_path import is_hash_part
from guix_glue.kept.delta_results import DeltaResult, split_key
from guix_glue.kept.directory import CacheDirectory
from guix_glue.kept.records import (
    Destination,
    ErisResult,
    format_checked,
    pack_eris,
    parse_checked,
    unpack_eris,
)
from guix_glue.model import StoreItem
from guix_glue.servers.complaints import Complaints
from guix_glue.servers.url import Server, parse_server
from guix_glue.sources.vouching import Candidate, says_the_same

__all__ = ["MirrorCache", "Mirrored"]

_log = logging.getLogger(__name__)

_VERSION: Final = 2
# JSON has numbers that are infinite.
_DAMAGED: Final = (GuixError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
_KEPT: Final = 5000
_OTHERS: Final = 8
"""Servers that say the same of an item; more are of no use."""
_LONGEST_OTHER: Final = 32 * 1024
"""Characters of what they say: all of a record must be below `_LARGEST`."""
_COMPLAINTS: Final = 1000
_LARGEST: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Mirrored:
    """An authorized narinfo of another server, good until a time (seconds of the epoch).

    `others` say the same of the item, authorized or not.
    """

    server: Server
    narinfo: Narinfo
    good_until: float
    eris: ErisResult | None = None
    others: tuple[Candidate, ...] = ()


class MirrorCache:
    """The items of other servers that were asked for. Writing is for worker threads."""

    def __init__(
        self,
        directory: CacheDirectory,
        store_dir: str,
        believed: Callable[[Narinfo], Narinfo] = lambda narinfo: narinfo,
    ) -> None:
        """`believed` gives a narinfo as far as it is vouched for, or raises SignatureRejected."""
        self._believed = believed
        self._directory = directory
        self._path = directory.subdirectory("upstream")
        self._store_dir = store_dir
        self._known: OrderedDict[str, Mirrored] = OrderedDict()
        self._complaints = Complaints(_log, length=_COMPLAINTS)
        self._guard = threading.Lock()
        self._writing = threading.Lock()

    def find(self, hash_part: str) -> Mirrored | None:
        """What is kept of an item, good or not any more."""
        with self._guard:
            known = self._known.get(hash_part)
        if known is None:
            known = self._judged(self._read(hash_part))
            if known is not None:
                self._remember(hash_part, known)
        return known

    def _judged(self, read: Mirrored | None) -> Mirrored | None:
        """What was read, by the keys that count now."""
        if read is None:
            return None
        try:
            return replace(read, narinfo=self._believed(read.narinfo))
        except SignatureRejected:
            return None

    def remember(self, mirrored: Mirrored) -> None:
        """Know what a server says of an item, until there is too much to know or this ends."""
        self._remember(mirrored.narinfo.item.hash_part, mirrored)

    def keep(self, mirrored: Mirrored) -> None:
        """Keep what a server says of an item: in memory at least.

        What became of that very item as ERIS content stays, whoever notes more of it meanwhile.
        Raises: OSError, if it cannot be written.
        """
        with self._writing:
            now = self.find(mirrored.narinfo.item.hash_part)
            eris = now.eris if now is not None and _is_same(now, mirrored) else mirrored.eris
            self._keep(replace(mirrored, eris=eris))

    def keep_eris(self, mirrored: Mirrored, result: ErisResult) -> None:
        """Note what became of an item as ERIS content, if a server does not name another by now.

        Raises: OSError.
        """
        with self._writing:
            now = self.find(mirrored.narinfo.item.hash_part) or mirrored
            if _is_same(now, mirrored):
                self._keep(replace(now, eris=result.after(now.eris)))

    def keep_delta(
        self, hash_part: str, urn: str | None, store_id: str | None, result: DeltaResult
    ) -> None:
        """Note what became of a delta in a store to an item, if that has this URN still.

        Raises: OSError.
        """
        with self._writing:
            now = self.find(hash_part)
            if now is not None and now.eris is not None and now.eris.urn == urn:
                self._keep(replace(now, eris=now.eris.with_delta(store_id, result)))

    def _keep(self, mirrored: Mirrored) -> None:
        hash_part = mirrored.narinfo.item.hash_part
        value = {
            "version": _VERSION,
            "server": mirrored.server.url,
            "text": mirrored.narinfo.text,
            "good_until": mirrored.good_until,
            "eris": pack_eris(mirrored.eris),
            "others": [[one.server.url, one.narinfo.text] for one in _kept_others(mirrored)],
        }
        self._remember(hash_part, mirrored)
        self._directory.write(self._path / hash_part, format_checked(value))

    def count(self) -> int:
        """How many narinfos are kept. For worker threads."""
        return sum(map(is_hash_part, os.listdir(self._path)))

    def urns(self, wanted: Destination) -> dict[str, str]:
        """The URNs computed here that are for this format and store, by hash part or key."""
        found: dict[str, str] = {}
        for hash_part in filter(is_hash_part, os.listdir(self._path)):
            mirrored = self._read(hash_part)
            if mirrored is not None and mirrored.eris is not None:
                found |= mirrored.eris.urns_in(wanted, hash_part)
        return found

    def withdraw_urn(self, key: str) -> None:
        """Note that an item has no URN, whatever there was; or that there is no such delta.

        Raises: OSError.
        """
        hash_part, base = split_key(key)
        with self._writing:
            mirrored = self.find(hash_part)
            if mirrored is not None and mirrored.eris is not None:
                self._keep(replace(mirrored, eris=mirrored.eris.without(base)))

    def tree(self, hash_part: str) -> tuple[StoreItem, ErisResult | None] | None:
        """What became of an item as ERIS content. For worker threads."""
        found = self.find(hash_part)
        return None if found is None else (found.narinfo.item, found.eris)

    def items(self) -> Iterator[tuple[str, float]]:
        """What became a tree here, by base names, each with when that was first."""
        for hash_part in filter(is_hash_part, os.listdir(self._path)):
            mirrored = self._read(hash_part)
            if mirrored is not None and mirrored.eris is not None and mirrored.eris.urn:
                yield mirrored.narinfo.item.base_name, mirrored.eris.baked_at

    def expire(self, before: float) -> None:
        """Remove what was good until some time before this, and what is damaged."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._path) as found:
            for entry in found:
                with self._writing, contextlib.suppress(OSError):
                    self._expire(entry.name, before)

    def trim(self, most: int) -> None:
        """Remove what was kept longest ago, if there is more than so many. For worker threads."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._path) as found:
            entries = [(entry.stat().st_mtime, entry.name) for entry in found]
            for _, name in sorted(entries, reverse=True)[most:]:
                with self._writing:
                    self._remove(name)

    def _remove(self, hash_part: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path / hash_part)
        with self._guard:
            self._known.pop(hash_part, None)

    def _expire(self, hash_part: str, before: float) -> None:
        mirrored = self._parse(hash_part, self._load(hash_part))
        if mirrored is None or mirrored.good_until < before:
            self._remove(hash_part)

    def _remember(self, hash_part: str, mirrored: Mirrored) -> None:
        with self._guard:
            self._known[hash_part] = mirrored
            self._known.move_to_end(hash_part)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)

    def _read(self, hash_part: str) -> Mirrored | None:
        try:
            data = self._load(hash_part)
        except FileNotFoundError:
            return None
        except OSError as error:
            path = self._path / hash_part
            self._complaints.say(hash_part, f"{path} cannot be read: {error.strerror}")
            return None
        return self._parse(hash_part, data)

    def _load(self, hash_part: str) -> bytes:
        with (self._path / hash_part).open("rb") as file:
            return file.read(_LARGEST)

    def _parse(self, hash_part: str, data: bytes) -> Mirrored | None:
        value = parse_checked(data)
        mirrored = None
        if value is not None and value.get("version") == _VERSION:
            # Whatever is in it, the others are not concerned.
            with contextlib.suppress(*_DAMAGED):
                mirrored = _unpack(value, self._store_dir)
        if mirrored is None or mirrored.narinfo.item.hash_part != hash_part:
            path = self._path / hash_part
            self._complaints.say(hash_part, f"{path} is damaged: the server will be asked again")
            return None
        return mirrored


def _is_same(one: Mirrored, other: Mirrored) -> bool:
    """Whether two answers are of one item, and not of two builds of it."""
    return one.narinfo.item.nar_hash == other.narinfo.item.nar_hash


def _kept_others(mirrored: Mirrored) -> list[Candidate]:
    short = [one for one in mirrored.others if len(one.narinfo.text) <= _LONGEST_OTHER]
    return short[:_OTHERS]


def _unpack(value: dict[str, Any], store_dir: str) -> Mirrored:
    """Raises: GuixError, KeyError, TypeError, ValueError, AttributeError."""
    one = _candidate(value["server"], value["text"], store_dir)
    good_until = float(value["good_until"])
    if not math.isfinite(good_until):
        raise ValueError("no time")
    # Records of the first mirrors have none.
    pairs = value.get("others", [])[:_OTHERS]
    found = [_candidate(url, text, store_dir) for url, text in pairs]
    others = tuple(other for other in found if says_the_same(other.narinfo, one.narinfo))
    return Mirrored(one.server, one.narinfo, good_until, unpack_eris(value["eris"]), others)


def _candidate(url: object, text: object, store_dir: str) -> Candidate:
    narinfo = parse_narinfo(str(text).encode(), store_dir=store_dir)
    return Candidate(parse_server(str(url)), narinfo)
