"""Nars on their way through a mirror: fetched once into a file, and read from it as it grows.

However many clients want the same nar, there is one download of it, as fast as the server sends;
each client reads the file as fast as it likes. The last bytes are held back until the whole is
found to have the signed hash, so that nobody takes a wrong one for whole. It ends with the last
client that waits for it; only what is whole and right is kept. What did not come so is left to the
server for a while: a client that was cut off and tries again is not cut off again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO, Final

from eris.errors import ErisError
from eris.threads import in_thread, settle
from guix_glue.errors import FetchFailed, TemporaryFailure
from guix_glue.kept.directory import CacheDirectory
from guix_glue.local.files import take_room
from guix_glue.servers.complaints import Complaints
from guix_glue.servers.limits import MIN_RATE, NAR_STALL_S
from guix_glue.servers.outage import Outage
from guix_glue.servers.remembered import Remembered
from guix_glue.servers.watch import Watch
from guix_glue.upstream.kept_nars import KeptNars, NarKey
from guix_glue.upstream.nar_check import NarCheck

__all__ = ["Download", "Downloads"]

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 32
"""Each takes a connection and a file; whoever comes then is sent to the server itself."""
_COMPLAINTS: Final = 1000
# Whoever was cut off tries again within moments; the server may have mended it in minutes.
_FAILED_S: Final = 300.0
_FAILURES_KEPT: Final = 10_000
# After a file could not be written to though there was room when it was made.
_PAUSE_S: Final = 60.0
_PIECE: Final = 256 * 1024

# However slowly a server sends.
_LONGEST_S: Final = 6 * 3600.0

_Fetch = Callable[[], AsyncGenerator[bytes, None]]


class Download:
    """One nar, `size` bytes as it comes. Whoever was given it calls `leave`, once."""

    def __init__(self, size: int, fetch: _Fetch, check: NarCheck) -> None:
        self.size = size
        self.waiting = 0
        self.is_given_up = False
        self.has_begun: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None]
        self._fetch = fetch
        self._check = check
        self._file: BinaryIO | None = None
        self._received = 0
        self._is_right = False
        self._has_ended = False
        self._changed = asyncio.Event()

    def leave(self) -> None:
        """Wait for it no longer; without anybody it ends."""
        self.waiting -= 1
        if not self.waiting:
            if self._received < self.size:
                self.is_given_up = True
                self.task.cancel()
            self._close_unused()

    async def pieces(self, offset: int, size: int) -> AsyncGenerator[bytes, None]:
        """What comes: so many bytes from an offset on.

        Raises: FetchFailed, if the rest does not come, or is wrong.
        """
        end = offset + size
        while offset < end:
            ready = min(end, self._received, self.size if self._is_right else self.size - 1)
            if ready > offset:
                assert self._file is not None
                length = min(_PIECE, ready - offset)
                piece = await in_thread(os.pread, self._file.fileno(), length, offset)
                offset += len(piece)
                yield piece
            elif self.task.done():
                raise FetchFailed("the nar that was being fetched did not come whole and right")
            else:
                self._changed.clear()
                await self._changed.wait()

    def open_file(self, create: Callable[[Path], BinaryIO], path: Path) -> None:
        """Make the file, with room for all of it, as long as nobody was sent anything.

        It is ours at once: whoever waits for that may be cancelled.
        Raises: OSError.
        """
        self._file = create(path)
        take_room(self._file, self.size)

    async def fetch(self) -> None:
        """Fetch it all, and check it.

        Raises: FetchFailed, CompressionError, OSError.
        """
        try:
            async with asyncio.timeout(_LONGEST_S), Watch(NAR_STALL_S, MIN_RATE) as watch:
                await self._fetch_watched(watch)
        except TimeoutError as error:
            raise FetchFailed(str(error) or "nothing comes any more") from None
        if self._received != self.size:
            raise FetchFailed(f"{self._received} bytes instead of {self.size}")
        await in_thread(self._check.finish)
        self._is_right = True
        self._changed.set()

    async def _fetch_watched(self, watch: Watch) -> None:
        async with aclosing(self._fetch()) as pieces:
            async for piece in pieces:
                watch.touch(len(piece))
                watch.pause()
                if self._received + len(piece) > self.size:
                    raise FetchFailed(f"more than the {self.size} bytes that it should have")
                await in_thread(self._take, piece)
                watch.resume()
                self._received += len(piece)
                self.begin(well=True)
                self._changed.set()

    def begin(self, *, well: bool) -> None:
        """Something came, or nothing ever will."""
        if not self.has_begun.done():
            self.has_begun.set_result(well)

    def end(self) -> None:
        """The task has ended, in whatever way."""
        self._has_ended = True
        self.begin(well=False)
        self._changed.set()
        self._close_unused()

    def _close_unused(self) -> None:
        # Not when the task is done: until `end` somebody may still join.
        if not self.waiting and self._has_ended and self._file is not None:
            self._file.close()

    def _take(self, piece: bytes) -> None:
        assert self._file is not None
        rest = memoryview(piece)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._check.feed(piece)


class Downloads:
    """All that are under way. `close()` it."""

    def __init__(
        self, directory: CacheDirectory, kept: KeptNars, doubt: Callable[[str], Awaitable[None]]
    ) -> None:
        """`doubt` is told the hash parts of items whose nars came wrong."""
        self._directory = directory
        self._kept = kept
        self._doubt = doubt
        self._under_way: dict[NarKey, Download] = {}
        # With the size: one that the server says anew is another nar.
        self._failed: Remembered[tuple[NarKey, int]] = Remembered(_FAILED_S, length=_FAILURES_KEPT)
        self._outage = Outage(_PAUSE_S)
        self._complaints = Complaints(_log, length=_COMPLAINTS)

    async def join(
        self, key: NarKey, size: int, make: Callable[[], tuple[_Fetch, NarCheck]]
    ) -> Download | None:
        """The download of a nar, which sends already; None if that cannot be.

        `make` gives what fetches and what checks it, if it is not under way.
        """
        download = self._under_way.get(key)
        if download is None and self._may_begin(key, size):
            download = self._begin(key, size, *make())
        if download is None or download.is_given_up or download.size != size:
            return None
        download.waiting += 1
        try:
            # Others wait for the same.
            well = await asyncio.shield(download.has_begun)
        except asyncio.CancelledError:
            download.leave()
            raise
        if not well:
            download.leave()
            return None
        return download

    async def close(self) -> None:
        """End all of them."""
        tasks = [download.task for download in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await settle(*tasks)

    def _may_begin(self, key: NarKey, size: int) -> bool:
        if self._outage.left_s or (key, size) in self._failed:
            return False
        under_way = sum(download.size for download in self._under_way.values())
        return len(self._under_way) < _AT_ONCE and under_way + size <= self._kept.max_bytes

    def _begin(self, key: NarKey, size: int, fetch: _Fetch, check: NarCheck) -> Download:
        download = self._under_way[key] = Download(size, fetch, check)
        download.task = asyncio.create_task(self._run(key, download))

        def ended(task: asyncio.Task[None]) -> None:
            # Not in the task: one that is cancelled at once never begins.
            del self._under_way[key]
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("A download failed", exc_info=error)
            download.end()

        download.task.add_done_callback(ended)
        return download

    async def _run(self, key: NarKey, download: Download) -> None:
        made = self._directory.new_name()
        try:
            await in_thread(download.open_file, self._directory.create, made)
            await download.fetch()
            await in_thread(self._kept.keep, made, key)
        except (ErisError, OSError) as error:
            await self._note_failure(key, download, error)
        else:
            self._complaints.withdraw(key.file_name)
            self._outage.end()
        finally:
            await in_thread(_remove, made)

    async def _note_failure(
        self, key: NarKey, download: Download, error: ErisError | OSError
    ) -> None:
        self._failed.add((key, download.size))
        reason = error.strerror if isinstance(error, OSError) else error
        text = f"The nar of {key.hash_part} ({key.method.value}) is not kept: {reason or error}"
        self._complaints.say(key.file_name, text)
        if isinstance(error, OSError):
            self._note_disk(download, error)
        elif not isinstance(error, TemporaryFailure):
            await self._doubt(key.hash_part)

    def _note_disk(self, download: Download, error: OSError) -> None:
        """The disk would cut off others, too; not if it had no room for this one to begin with."""
        if download.has_begun.done() and self._outage.begin(error.strerror):
            _log.warning(
                "No nars are kept for %.0f s: %s; clients are sent to the servers",
                _PAUSE_S,
                error.strerror or error,
            )


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
