"""One entry of the catalogue, and how it is told from one that was damaged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final

from kapla.catalogue.names import format_version

__all__ = ["COLUMNS", "Entry", "checksum_of", "entry_of"]

COLUMNS: Final = "id, name, stored, urn, root, store, source, kind, size, blocks, keep, checksum"
_CHECK_SIZE: Final = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was stored. Whoever has `urn` can read it; `store` may be a capability."""

    urn: str = field(repr=False)
    root: bytes = field(repr=False)
    """The reference of the root: 32 bytes."""
    store: str = field(repr=False)
    """A store URL, with its path."""
    kind: str
    """`file`, `tree`, `partial`: a tree without what could not be read; or `delta`."""
    size: int
    """Bytes of content; of a tree, those of its files, in a packed one each content once."""
    source: str = field(default="", repr=False)
    """What was encoded: a path, or `-` for standard input."""
    name: str | None = None
    blocks: int | None = None
    stored: int = 0
    """When it was stored last, in seconds since 1970."""
    keep: int | None = None
    """How many versions of this name are to be kept."""
    id: int = 0
    version: int = 0
    """How many newer ones there are of this name."""
    is_sound: bool = True
    """Whether it is as it was written: a URN that was damaged would be that of nothing."""

    @property
    def title(self) -> str:
        """Its name, with the version; empty if it has none."""
        return "" if self.name is None else format_version(self.name, self.version)


def checksum_of(entry: Entry) -> bytes:
    """Over what an entry leads to."""
    fields = (entry.name, entry.urn, entry.root, entry.store)
    return blake2b(repr(fields).encode(), digest_size=_CHECK_SIZE).digest()


def entry_of(row: tuple[object, ...], version: int = 0) -> Entry:
    """An entry out of the columns `COLUMNS`."""
    number, name, stored, urn, root, store, source, kind, size, blocks, keep, checksum = row
    entry = Entry(
        urn=_text(urn),
        root=root if isinstance(root, bytes) else b"",
        store=_text(store),
        kind=_text(kind),
        size=_number(size) or 0,
        source=_text(source),
        name=None if name is None else _text(name),
        blocks=_number(blocks),
        stored=_number(stored) or 0,
        keep=_number(keep),
        id=_number(number) or 0,
        version=version,
    )
    if checksum == checksum_of(entry):
        return entry
    return replace(entry, is_sound=False)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
