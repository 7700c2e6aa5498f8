"""The facts of a daemon as a value, read from what it tells as JSON: see docs/wire.md.

What tells may be another release, or no daemon at all: what is missing and has to be there, and
what is of another type, is an error that names it. Facts that were added later have a default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = [
    "Amount",
    "DaemonFacts",
    "InvalidFacts",
    "Listener",
    "Moved",
    "Peer",
    "Pin",
    "Reader",
    "Transfer",
]

_MOST_ROWS: Final = 1000
_LONGEST: Final = 4096
_LARGEST: Final = 2**63


class InvalidFacts(ValueError):
    """What is told is not what a Kapla program tells of itself."""


class Reader:
    """Takes fields out of an object of JSON. All methods raise InvalidFacts."""

    def __init__(self, told: Any) -> None:
        if not isinstance(told, Mapping):
            raise InvalidFacts("an object is expected")
        self._told = told

    def count(self, name: str, default: int | None = None) -> int:
        """A number of things; negative it is none."""
        value = self._told.get(name, default)
        # A truth is a number too, to Python.
        if type(value) is not int or not 0 <= value < _LARGEST:
            raise InvalidFacts(f"{name} is no count")
        return value

    def counts(self, name: str) -> dict[str, int]:
        """Counts by name."""
        inner = self.inner(name)
        return {key: inner.count(key) for key in inner.names}

    def maybe_count(self, name: str) -> int | None:
        """As `count`; None, if it is null or not there."""
        return None if self._told.get(name) is None else self.count(name)

    def number(self, name: str) -> float:
        """A number that is finite and not negative."""
        value: Any = self._told.get(name)
        if type(value) not in (int, float) or not 0 <= value < _LARGEST:
            raise InvalidFacts(f"{name} is no number")
        return float(value)

    def maybe_number(self, name: str) -> float | None:
        """As `number`; None, if it is null or not there."""
        return None if self._told.get(name) is None else self.number(name)

    def text(self, name: str) -> str | None:
        """A text, if there is one; of a very long one the beginning."""
        value = self._told.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidFacts(f"{name} is no text")
        return None if value is None else value[:_LONGEST]

    def is_true(self, name: str) -> bool:
        """Whether it is there and true."""
        return self._told.get(name) is True

    def has(self, name: str) -> bool:
        """Whether it is there, and not null."""
        return self._told.get(name) is not None

    @property
    def names(self) -> list[str]:
        """Those of all fields. Raises: InvalidFacts, if there are very many."""
        if len(self._told) > _MOST_ROWS:
            raise InvalidFacts("an object has too many fields")
        return [str(name) for name in self._told]

    def inner(self, name: str) -> Reader:
        """An object inside; an empty one, if it is not there."""
        return Reader(self._told.get(name, {}))

    def rows(self, name: str) -> list[Reader]:
        """The objects of a list; none, if it is null or not there."""
        value = self._told.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > _MOST_ROWS:
            raise InvalidFacts(f"{name} is no list, or too long")
        return [Reader(one) for one in value]


@dataclass(frozen=True, slots=True)
class Amount:
    """So many blocks, and their bytes."""

    blocks: int = 0
    bytes: int = 0

    @classmethod
    def read(cls, told: Reader) -> Amount:
        """Raises: InvalidFacts."""
        return cls(told.count("blocks", 0), told.count("bytes", 0))


@dataclass(frozen=True, slots=True)
class Moved:
    """Blocks that were given out of the store, given from peers and seeds, and put."""

    here: Amount = field(default_factory=Amount)
    peers: Amount = field(default_factory=Amount)
    put: Amount = field(default_factory=Amount)
    seeds: Amount = field(default_factory=Amount)

    @classmethod
    def read(cls, told: Reader) -> Moved:
        """Raises: InvalidFacts."""
        return cls(*(Amount.read(told.inner(name)) for name in ("here", "peers", "put", "seeds")))

    @property
    def given(self) -> Amount:
        """From wherever they came."""
        all_of_them = (self.here, self.peers, self.seeds)
        return Amount(sum(one.blocks for one in all_of_them), sum(one.bytes for one in all_of_them))


@dataclass(frozen=True, slots=True)
class Listener:
    """One of them, by the scheme of its URL."""

    kind: str
    connections: int
    moved: Moved


@dataclass(frozen=True, slots=True)
class Seeds:
    """Programs that make blocks again: how many there are and were, and what they did."""

    now: int = 0
    ever: int = 0
    refused: int = 0
    wrong: int = 0
    asked: int = 0
    made: Amount = field(default_factory=Amount)

    @classmethod
    def read(cls, told: Reader) -> Seeds:
        """Raises: InvalidFacts."""
        return cls(
            now=told.count("now", 0),
            ever=told.count("since_start", 0),
            refused=told.count("refused", 0),
            wrong=told.count("wrong", 0),
            asked=told.count("asked", 0),
            made=Amount.read(told),
        )


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer; without `name`, where only numbers are told."""

    name: str | None
    address: str | None
    state: str
    direction: str | None
    is_found: bool
    rtt_s: float | None
    rate: float
    hit_ratio: float | None
    blocks_in: int
    bytes_in: int
    bytes_out: int
    why: str | None

    @classmethod
    def read(cls, told: Reader) -> Peer:
        """Raises: InvalidFacts."""
        return cls(
            name=told.text("name") or told.text("key") or told.text("url"),
            address=told.text("address"),
            state=told.text("state") or "unknown",
            direction=told.text("direction"),
            is_found=told.is_true("found"),
            rtt_s=told.maybe_number("rtt_s"),
            rate=told.number("rate"),
            hit_ratio=told.maybe_number("hit_ratio"),
            blocks_in=told.count("blocks_in"),
            bytes_in=told.count("bytes_in"),
            bytes_out=told.count("bytes_out"),
            why=told.text("breaker") or told.text("why"),
        )


@dataclass(frozen=True, slots=True)
class Pin:
    """A pin by its name."""

    name: str
    owner: int
    keep: bool
    lend: bool
    blocks: int
    bytes: int
    missing: int

    @classmethod
    def read(cls, told: Reader) -> Pin:
        """Raises: InvalidFacts."""
        return cls(
            told.text("name") or "",
            told.count("owner"),
            told.is_true("keep"),
            told.is_true("lend"),
            *(told.count(name) for name in ("blocks", "bytes", "missing")),
        )


@dataclass(frozen=True, slots=True)
class Transfer:
    """What went over one connection; `sources`: what came from which peer."""

    listener: str
    who: str | None
    began_at: float
    seconds: float
    is_open: bool
    moved: Moved
    sources: Mapping[str, Amount]

    @classmethod
    def read(cls, told: Reader) -> Transfer:
        """Raises: InvalidFacts."""
        sources = told.inner("sources")
        return cls(
            told.text("listener") or "",
            told.text("who"),
            told.number("began_at"),
            told.number("seconds"),
            told.is_true("is_open"),
            Moved.read(told),
            {name: Amount.read(sources.inner(name)) for name in sources.names},
        )


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """All that a daemon tells. `pins` is None where names are not told."""

    everything: bool
    uptime_s: float
    started_at: float
    blocks: Mapping[str, int]
    block_bytes: Mapping[str, int]
    database_bytes: int
    store: str
    """What keeps the blocks: sqlite, postgresql; empty where that is not told."""
    max_size: int | None
    min_free: int | None
    when_full: str
    disk_free_bytes: int | None
    requests: Mapping[str, int]
    new_blocks: int
    full_blocks: int
    evicted_blocks: int
    scrubbed_blocks: int
    bad_blocks: int
    connections: int
    connections_ever: int
    moved: Moved
    listeners: Sequence[Listener]
    pin_count: int | None
    pinned_blocks: int
    kept_blocks: int
    lent_blocks: int
    peers: Sequence[Peer]
    seeds: Seeds = field(default_factory=Seeds)
    pins: Sequence[Pin] | None = None
    transfers: Sequence[Transfer] = ()

    @classmethod
    def read(cls, told: Any) -> DaemonFacts:
        """Read what a daemon has told. Raises: InvalidFacts."""
        reader = Reader(told)
        keeping, connections = reader.inner("keeping"), reader.inner("connections")
        has_pins = reader.is_true("everything") and reader.has("pins")
        return cls(
            everything=reader.is_true("everything"),
            uptime_s=reader.number("uptime_s"),
            started_at=reader.number("started_at"),
            blocks=reader.counts("blocks"),
            block_bytes=reader.counts("bytes"),
            database_bytes=reader.count("database_bytes"),
            store=reader.text("store") or "",
            max_size=reader.maybe_count("max_size"),
            min_free=reader.maybe_count("min_free"),
            when_full=reader.text("when_full") or "",
            disk_free_bytes=reader.maybe_count("disk_free_bytes"),
            requests=reader.counts("requests"),
            new_blocks=reader.count("new_blocks"),
            full_blocks=reader.count("full_blocks"),
            evicted_blocks=reader.count("evicted_blocks"),
            scrubbed_blocks=reader.count("scrubbed_blocks"),
            bad_blocks=reader.count("bad_blocks"),
            connections=connections.count("now"),
            connections_ever=connections.count("since_start"),
            moved=Moved.read(reader.inner("traffic")),
            listeners=tuple(map(_listener, reader.rows("listeners"))),
            pin_count=keeping.maybe_count("pins"),
            pinned_blocks=keeping.count("pinned_blocks"),
            kept_blocks=keeping.count("kept_blocks"),
            lent_blocks=keeping.count("lent_blocks"),
            peers=tuple(map(Peer.read, reader.rows("peers"))),
            seeds=Seeds.read(reader.inner("seeds")),
            pins=tuple(map(Pin.read, reader.rows("pins"))) if has_pins else None,
            transfers=tuple(map(Transfer.read, reader.rows("transfers"))),
        )


def _listener(told: Reader) -> Listener:
    return Listener(told.text("kind") or "", told.count("connections"), Moved.read(told))
