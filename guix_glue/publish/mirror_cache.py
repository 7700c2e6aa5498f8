"""What a mirror keeps of other servers' items, on disk: one file each, with a checksum.

    upstream/HASH-PART     the narinfo as it came, from where (no password), until when it is good;
                           and the URN

A file that is damaged, or of another version, counts as missing. The narinfo was verified before
it came here; who can write to the cache directory can make this server say anything anyway.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from guix_glue.errors import GuixError
from guix_glue.formats.narinfo import Narinfo, parse_narinfo
from guix_glue.publish.directory import CacheDirectory
from guix_glue.publish.records import (
    ErisResult,
    format_checked,
    pack_eris,
    parse_checked,
    unpack_eris,
)
from guix_glue.servers.url import Server, parse_server

__all__ = ["MirrorCache", "Mirrored"]

_log = logging.getLogger(__name__)

_VERSION: Final = 2
_KEPT: Final = 5000
_LARGEST: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Mirrored:
    """An authorized narinfo of another server, good until a time (seconds of the epoch)."""

    server: Server
    narinfo: Narinfo
    good_until: float
    eris: ErisResult | None = None


class MirrorCache:
    """The items of other servers that were asked for. Writing is for worker threads."""

    def __init__(self, directory: CacheDirectory, store_dir: str) -> None:
        self._directory = directory
        self._path = directory.subdirectory("upstream")
        self._store_dir = store_dir
        self._known: OrderedDict[str, Mirrored] = OrderedDict()
        self._guard = threading.Lock()
        self._writing = threading.Lock()

    def find(self, hash_part: str) -> Mirrored | None:
        """What is kept of an item, good or not any more."""
        with self._guard:
            known = self._known.get(hash_part)
        if known is None:
            known = self._read(hash_part)
            if known is not None:
                self._remember(hash_part, known)
        return known

    def keep(self, mirrored: Mirrored) -> None:
        """Keep an item.

        Raises: OSError.
        """
        hash_part = mirrored.narinfo.item.hash_part
        value = {
            "version": _VERSION,
            "server": mirrored.server.url,
            "text": mirrored.narinfo.text,
            "good_until": mirrored.good_until,
            "eris": pack_eris(mirrored.eris),
        }
        with self._writing:
            self._directory.write(self._path / hash_part, format_checked(value))
            self._remember(hash_part, mirrored)

    def expire(self, before: float) -> None:
        """Remove what was good until some time before this, and what cannot be read."""
        with os.scandir(self._path) as found:
            for entry in found:
                with self._writing, contextlib.suppress(OSError):
                    mirrored = self._read(entry.name)
                    if mirrored is None or mirrored.good_until < before:
                        os.unlink(entry.path)
                        with self._guard:
                            self._known.pop(entry.name, None)

    def _remember(self, hash_part: str, mirrored: Mirrored) -> None:
        with self._guard:
            self._known[hash_part] = mirrored
            self._known.move_to_end(hash_part)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)

    def _read(self, hash_part: str) -> Mirrored | None:
        path = self._path / hash_part
        try:
            with path.open("rb") as file:
                value = parse_checked(file.read(_LARGEST))
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("%s cannot be read: %s", path, error.strerror)
            return None
        if value is None or value.get("version") != _VERSION:
            _log.warning("%s is damaged: the server will be asked again", path)
            return None
        try:
            return self._parse(value)
        except (GuixError, KeyError, TypeError, ValueError):
            return None

    def _parse(self, value: dict[str, Any]) -> Mirrored:
        narinfo = parse_narinfo(str(value["text"]).encode(), store_dir=self._store_dir)
        result = unpack_eris(value["eris"])
        server = parse_server(str(value["server"]))
        return Mirrored(server, narinfo, float(value["good_until"]), result)
