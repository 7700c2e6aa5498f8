"""The client's side of pins: opening, filling and closing one, and looking after those there are.

A pin is opened before the first block is put. From then on whatever is put on the connection, or
confirmed by a FETCH, is held by the store until the pin is closed under a name or abandoned. A
connection has one open pin. When it is lost the next one goes on with the pin by its token, before
anything else is asked on it. After ten minutes, or if the store was restarted, it is gone: then
another one is begun, and holds what this one did, as far as that is still there; what went is
noted as lacking, and the pin is not closed without it. See `docs/wire.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from eris.errors import ErisError, StoreFull, StoreRefused, StoreUnavailable
from eris.model import Reference
from kapla.coap.blocks import unpack_bitmap
from kapla.coap.frame import Code
from kapla.errors import NotAllowed, PinLost, PinNotFound, PinsUnsupported
from kapla.held import Held
from kapla.parts import ask_in_parts
from kapla.pin_messages import (
    format_request,
    good_answer,
    nonsense,
    read_map,
    read_summary,
    told,
)
from kapla.pins import PinSummary
from kapla.remote_store import Ask, RemoteStore

__all__ = [
    "OpenPin",
    "PinNotWhole",
    "Pins",
]

_TRIES: Final = 3
"""How often a request that may be repeated is sent when connections are lost."""
_RESUME_AGAIN_S: Final = (0.05, 0.2, 0.75)
"""When to ask once more for a pin that is not there to go on with."""
_ABANDON_S: Final = 3.0
"""A store that does not take that a pin is abandoned gives it up by itself, ten minutes later."""
_QUERY_LETTERS: Final = 60
_MAX_PAGES: Final = 100_000
_OTHER_PROGRAMS: Final = frozenset(
    {
        Code.BAD_REQUEST,
        Code.BAD_OPTION,
        Code.NOT_FOUND,
        Code.METHOD_NOT_ALLOWED,
        Code.NOT_ACCEPTABLE,
        Code.UNSUPPORTED_CONTENT_FORMAT,
        Code.NOT_IMPLEMENTED,
    }
)
"""What programs without pins say when they are asked for one."""


class PinNotWhole(StoreRefused):
    """Blocks of a pin are not in the store, and nobody said that they may be missing."""


class Pins:
    """The pins of one store, as far as they are ours to see. One of them may be open."""

    def __init__(self, store: RemoteStore) -> None:
        self._store = store

    async def open(self, expected: int | None = None) -> OpenPin:
        """Begin a pin; `expected`: how many bytes of blocks are about to come, if that is known.

        Raises: StoreFull, if there is no room for them; PinsUnsupported; StoreError.
        """
        opening = asyncio.ensure_future(self._open(expected))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The store may have opened it already, and would wait for us: if it was asked.
            patience_s = _ABANDON_S if self._store.connected else 0
            await asyncio.wait([opening], timeout=patience_s)
            if opening.cancel() or opening.cancelled() or opening.exception() is not None:
                raise
            await opening.result().abandon()
            raise

    async def list(self) -> AsyncIterator[PinSummary]:
        """Every pin that we may see.

        Raises: PinsUnsupported; StoreError.
        """
        self._check_right()
        after: str | None = None
        for _ in range(_MAX_PAGES):
            page, after = await self._page(after)
            for summary in page:
                yield summary
            if after is None:
                return
        raise StoreUnavailable("the store's list of pins has no end")

    async def find(self, which: str | Reference) -> PinSummary | None:
        """Our pin of this name or root reference; None if there is none.

        Raises: PinsUnsupported; StoreError.
        """
        try:
            # A change of nothing.
            return await self.change(which)
        except PinNotFound:
            return None

    async def change(
        self,
        which: str | Reference,
        *,
        owner: int | None = None,
        lend: bool | None = None,
        keep: bool | None = None,
    ) -> PinSummary:
        """Set switches of the pin with a name (str), or of all with a root reference (bytes).

        `owner`: whose it is, if not ours. Returns the last one that was changed.
        Raises: PinNotFound; PinsUnsupported; StoreError.
        """
        return await self._do("change", which, owner, {"lend": lend, "keep": keep})

    async def release(self, which: str | Reference, *, owner: int | None = None) -> PinSummary:
        """Release the pin with a name (str), or all with a root reference (bytes).

        Raises: PinNotFound; PinsUnsupported; StoreError.
        """
        return await self._do("release", which, owner, {})

    async def _open(self, expected: int | None) -> OpenPin:
        self._check_right()
        if self._store.on_connected is not None:
            raise RuntimeError("this connection has an open pin")
        asked = {} if expected is None else {"bytes": expected}
        # One that was opened twice holds nothing, and is given up by the store.
        code, payload = await self._ask(Code.POST, ("pins", "open"), asked, may_be_repeated=True)
        if code in _OTHER_PROGRAMS:
            raise PinsUnsupported("this store has no pins")
        return OpenPin(self._store, *_opened(self._good(code, payload)))

    async def _do(
        self, what: str, which: str | Reference, owner: int | None, more: Mapping[str, object]
    ) -> PinSummary:
        self._check_right()
        by = "name" if isinstance(which, str) else "root"
        asked = {by: which, "owner": owner, **more}
        is_question = what == "change" and all(value is None for value in more.values())
        code, payload = await self._ask(Code.POST, ("pins", what), asked, only_reads=is_question)
        if code in _OTHER_PROGRAMS:
            # A store without pins says the same: what it says to another question tells them apart.
            await self._page(None)
        if code == Code.NOT_FOUND:
            raise PinNotFound("there is no such pin here, or it is not yours")
        return read_summary(read_map(self._good(code, payload)))

    async def _page(self, after: str | None) -> tuple[Sequence[PinSummary], str | None]:
        # A query has 255 bytes, and a letter of a name at most four.
        parts = range(0, len(after or ""), _QUERY_LETTERS)
        query = [f"after={(after or '')[start : start + _QUERY_LETTERS]}" for start in parts]
        code, payload = await self._ask(Code.GET, ("pins",), None, query)
        if code in _OTHER_PROGRAMS:
            raise PinsUnsupported("this store has no pins")
        answer = read_map(self._good(code, payload))
        found, following = answer.get("pins"), answer.get("next")
        if not isinstance(found, list) or not isinstance(following, str | None):
            raise nonsense()
        return [read_summary(one) for one in found], following

    def _check_right(self) -> None:
        if not self._store.url.allows("put"):
            raise PinsUnsupported("the URL of this store does not allow put, nor pins")

    @staticmethod
    def _good(code: int, payload: bytes) -> bytes:
        try:
            return good_answer(code, payload)
        except NotAllowed:
            raise PinsUnsupported("this store does not let us pin here") from None

    async def _ask(
        self,
        code: int,
        names: Sequence[str],
        asked: Mapping[str, object] | None,
        query: Sequence[str] = (),
        *,
        only_reads: bool = False,
        may_be_repeated: bool = False,
    ) -> tuple[int, bytes]:
        return await self._store.ask(
            code,
            format_request(self._store.url.store_path, names, asked, query),
            only_reads=only_reads,
            may_be_repeated=may_be_repeated,
        )


def _opened(answer: bytes) -> tuple[bytes, int]:
    """Token and room of a pin that was opened."""
    try:
        told = read_map(answer)
    except StoreUnavailable:
        raise PinsUnsupported("this store has no pins that we understand") from None
    token, room = told.get("token"), told.get("room")
    if not isinstance(token, bytes) or not isinstance(room, int):
        raise PinsUnsupported("this store has no pins that we understand")
    return token, room


class OpenPin:
    """A pin that is being filled. As an asynchronous context it is abandoned unless closed."""

    def __init__(self, store: RemoteStore, token: bytes, room: int) -> None:
        self.room = room
        """Bytes that the store could hold for us when the pin was opened."""
        self.was_begun_anew = False
        """Whether the store gave it up on the way, as when it is restarted: what it held may have
        gone, and is then lacking."""
        self._store = store
        self._token = token
        self._held = store.held = Held()
        self._is_needed = True
        store.on_connected = self._resume

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.abandon()

    @property
    def is_open(self) -> bool:
        """Whether it is neither closed nor abandoned."""
        return self._store.on_connected == self._resume

    async def want(self, references: Sequence[Reference]) -> list[bool]:
        """Hold the blocks that are there, and note the others as lacking; tells which are there.

        Some requests at a time. Raises: StoreError.
        """
        self._held.update(references)
        return await ask_in_parts(references, self._want)

    async def close(
        self,
        *,
        root: Reference | None,
        name: str | None = None,
        lend: bool = False,
        keep: bool = True,
        incomplete: bool = False,
    ) -> PinSummary:
        """Keep what is held under a name, or that of `root`; one of ours so called is replaced.

        Raises: PinNotWhole, if blocks are lacking and that was not said to be right: the pin
        stays open; StoreFull, over a quota; StoreError.
        """
        asked = {"name": name, "root": root, "lend": lend, "keep": keep, "incomplete": incomplete}
        body = format_request(self._store.url.store_path, ("pins", "close"), asked)
        # Done twice it takes the place of itself.
        code, payload = await self._store.ask(Code.POST, body, may_be_repeated=True)
        if code == Code.CONFLICT:
            raise PinNotWhole(told(payload) or "blocks of this pin are missing")
        if code == Code.NOT_FOUND:
            raise PinLost("the store has given up the pin while blocks were put")
        summary = read_summary(read_map(good_answer(code, payload)))
        self._leave()
        return summary

    async def lend(self) -> int:
        """Hold nothing any more, but lend it for as long as the store has it.

        Returns how many blocks are lent so: none, if the store lends nothing without a pin.
        Raises: PinLost; StoreError.
        """
        body = format_request(self._store.url.store_path, ("pins", "abandon"), {"lend": True})
        code, payload = await self._store.ask(Code.POST, body, may_be_repeated=True)
        if code == Code.NOT_FOUND:
            raise PinLost("the store has given up the pin while blocks were put")
        good = good_answer(code, payload)
        self._leave()
        # A store that only knows how to abandon says nothing.
        lent = read_map(good).get("lent") if good else 0
        if not isinstance(lent, int):
            raise nonsense()
        return lent

    async def abandon(self) -> None:
        """Hold nothing any more. A store that is not to be reached finds out by itself, later."""
        if not self.is_open:
            return
        self._is_needed = False
        body = format_request(self._store.url.store_path, ("pins", "abandon"), {})
        try:
            with contextlib.suppress(ErisError, TimeoutError):
                async with asyncio.timeout(_ABANDON_S):
                    await self._store.ask(Code.POST, body)
        finally:
            self._leave()

    def _leave(self) -> None:
        """Nothing of this pin is of interest to the store any more."""
        self._store.on_connected = self._store.held = None

    async def _want(self, references: Sequence[Reference]) -> list[bool]:
        body = (
            format_request(self._store.url.store_path, ("pins", "open"), None)
            + b"\xff"
            + b"".join(references)
        )
        code, payload = await self._ask_again(Code.FETCH, body)
        try:
            return unpack_bitmap(good_answer(code, payload), len(references))
        except ValueError as error:
            raise StoreRefused(f"the store does not tell what it has: {error}") from None

    async def _ask_again(self, code: int, body: bytes) -> tuple[int, bytes]:
        """Ask what may be asked twice: over the next connection where one is lost."""
        for _ in range(_TRIES - 1):
            try:
                return await self._store.ask(code, body)
            except PinLost:
                raise
            except StoreUnavailable:
                if self._store.connected:
                    raise
        return await self._store.ask(code, body)

    async def _resume(self, ask: Ask) -> None:
        """Go on with the pin on a new connection.

        The store may not have noticed yet that the one before has ended.
        """
        body = format_request(self._store.url.store_path, ("pins", "open"), {"token": self._token})
        for pause_s in (*_RESUME_AGAIN_S, None):
            code, payload = await ask(Code.POST, body)
            if code != Code.NOT_FOUND or pause_s is None:
                break
            await asyncio.sleep(pause_s)
        if code == Code.SERVICE_UNAVAILABLE:
            # It does not know now, and may later.
            good_answer(code, payload)
        if code == Code.NOT_FOUND and self._is_needed and self._held.is_whole:
            await self._begin_anew(ask)
        elif code >> 5 != 2:
            raise PinLost(
                "the store has given up the pin that held these blocks: it was restarted, or not"
                " reached for too long"
            )
        else:
            good_answer(code, payload)

    async def _begin_anew(self, ask: Ask) -> None:
        """Open another pin instead, and have it hold what this one did.

        Raises: PinLost, StoreFull; StoreError.
        """
        path = self._store.url.store_path
        code, payload = await ask(Code.POST, format_request(path, ("pins", "open"), {}))
        try:
            token, _ = _opened(good_answer(code, payload))
            want = format_request(path, ("pins", "open"), None) + b"\xff"
            for part in self._held.parts():
                good_answer(*await ask(Code.FETCH, want + part))
        except StoreFull:
            raise
        except StoreRefused as error:
            raise PinLost(f"the store has given up the pin, and opens no other: {error}") from None
        self._token = token
        self.was_begun_anew = True
