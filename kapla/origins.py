"""Where the blocks came from that a store gave us: its own, or those of its peers and seeds.

The daemon counts for each connection and is asked once, at the end, so that nothing is counted for
each block here. A store that does not tell - another program's, or an older one - is nothing
unusual.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from eris.errors import ErisError
from kapla.coap.blocks import ORIGIN_PATH
from kapla.coap.frame import Code, OptionNumber, encode_options
from kapla.urls import FileEndpoint, HttpEndpoint, StoreUrl, UnixEndpoint

if TYPE_CHECKING:
    from kapla.file_store import FileStore
    from kapla.http.asking.store import HttpStore
    from kapla.remote_store import RemoteStore

__all__ = ["HERE", "Amount", "Origins", "ask_origins", "bytes_by_place", "place_of"]

HERE: Final = "here"
"""What a store of this machine is called."""

_SEEDS: Final = "seeds"
# It has just brought what this is about.
_PATIENCE_S: Final = 2.0
_MOST_NAMES: Final = 200
_LONGEST_NAME: Final = 200
_MOST: Final = 2**63


@dataclass(frozen=True, slots=True)
class Amount:
    """So many blocks, and their bytes."""

    blocks: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Origins:
    """What came over one connection, and what was put on it."""

    here: Amount = field(default_factory=Amount)
    """Out of the store itself."""
    peers: Mapping[str, Amount] = field(default_factory=dict)
    """From its peers, by what they are called there."""
    put: Amount = field(default_factory=Amount)
    seeds: Amount = field(default_factory=Amount)
    """Made again from files on its machine."""

    @property
    def of_others(self) -> Iterator[tuple[str, Amount]]:
        """What was not in the store, by where it came from."""
        if self.seeds.blocks:
            yield _SEEDS, self.seeds
        yield from self.peers.items()


def place_of(url: StoreUrl) -> str:
    """What a store is called, for people: by its endpoint, if it is not here."""
    return HERE if isinstance(url.endpoint, UnixEndpoint | FileEndpoint) else str(url)


async def bytes_by_place(stores: Iterable[RemoteStore | HttpStore]) -> dict[str, int]:
    """How many bytes of blocks came from where, so far, over the connections that there are."""
    found: dict[str, int] = {}
    asked = list(stores)
    told = await asyncio.gather(*map(ask_origins, asked))
    for store, origins in zip(asked, told, strict=True):
        if origins is not None:
            for place, amount in ((place_of(store.url), origins.here), *origins.of_others):
                found[place] = found.get(place, 0) + amount.bytes
    return found


async def ask_origins(store: RemoteStore | HttpStore) -> Origins | None:
    """What came over the connection that there is; None if there is none, or nobody tells."""
    if isinstance(store.url.endpoint, HttpEndpoint):
        # Whether it had them from others it does not tell.
        given = cast("HttpStore", store)
        return Origins(Amount(given.blocks, given.bytes))
    if isinstance(store.url.endpoint, FileEndpoint):
        file = cast("FileStore", store)
        put = Amount(file.put_blocks, file.put_bytes)
        return Origins(Amount(file.blocks, file.bytes), put=put)
    store = cast("RemoteStore", store)
    if not store.connected:
        return None
    body = encode_options((OptionNumber.URI_PATH, part.encode()) for part in ORIGIN_PATH)
    with contextlib.suppress(ErisError, TimeoutError, ValueError, RecursionError):
        async with asyncio.timeout(_PATIENCE_S):
            code, payload = await store.ask(Code.GET, body)
        if code == Code.CONTENT:
            return _read(json.loads(payload))
    return None


def _read(told: Any) -> Origins:
    """Raises: ValueError."""
    if not isinstance(told, dict) or not isinstance(told.get("peers"), dict):
        raise ValueError("no map")
    peers = told["peers"]
    if len(peers) > _MOST_NAMES or any(len(name) > _LONGEST_NAME for name in peers):
        raise ValueError("too much")
    return Origins(
        _amount(told.get("here")),
        {name: _amount(amount) for name, amount in peers.items()},
        _amount(told.get("put")),
        # An older daemon has none.
        _amount(told.get("seeds", {"blocks": 0, "bytes": 0})),
    )


def _amount(told: Any) -> Amount:
    if not isinstance(told, dict):
        raise ValueError("no amount")
    return Amount(_number(told.get("blocks")), _number(told.get("bytes")))


def _number(told: Any) -> int:
    # A truth is a number too, to Python.
    if type(told) is not int or not 0 <= told < _MOST:
        raise ValueError("no number")
    return told
