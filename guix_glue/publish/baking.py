"""Bakes one item: every compressed nar that is asked for, and its tree in an ERIS store.

An item of which none is wanted has its plain nar kept, so that it can be had as long as was
promised, also when it leaves the store.

The nar is read once, in a worker thread, and fed to all compressors and to the hash; nothing is
kept unless the hash is the item's. Memory is that of the compressors, however large the item.

The tree is encoded from the same files (`trees`). It is only published for an item whose nar
was seen to have the right hash, and whoever fetches it compares the hash again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Final, TypeVar

from eris.errors import ErisError
from eris.threads import in_thread, settle
from guix_glue.errors import DamagedItem, NotBaked
from guix_glue.formats.compression import Compression, CompressionChoice, Compressor, compressor
from guix_glue.formats.nar import NarWriter
from guix_glue.kept.records import Baked, ErisResult
from guix_glue.local.archive import read_item
from guix_glue.local.niceness import be_nice
from guix_glue.model import StoreItem
from guix_glue.publish.cache import BakedCache
from guix_glue.publish.model import ErisTarget
from guix_glue.publish.queue import TryLater
from guix_glue.publish.trees import EncodeTree

__all__ = ["Bakery", "baked_choices", "choice_key", "is_compressed", "nar_pieces"]

_T = TypeVar("_T")

_PIECE: Final = 256 * 1024
"""Bytes of nar that are gathered: small files are many events of a few bytes."""

_PLAIN: Final = CompressionChoice(Compression.NONE, 0)
# Nars of these gain nothing by compression: as the stock server has it.
_COMPRESSED: Final = (".gz", ".bz2", ".xz", ".lz", ".lzma", ".zst", ".tgz", ".tbz2", ".txz", ".zip")


def choice_key(choice: CompressionChoice) -> str:
    """How a compression and its level are named in the cache, as `gzip:3`."""
    return f"{choice.method.value}:{choice.level}"


def is_compressed(name: str) -> bool:
    """Whether an item of this name is compressed already."""
    return name.endswith(_COMPRESSED)


def baked_choices(
    item: StoreItem, choices: Sequence[CompressionChoice]
) -> tuple[CompressionChoice, ...]:
    """Which nars are made of an item: the plain one alone of what is compressed already."""
    if is_compressed(item.name):
        return (_PLAIN,)
    made = tuple(choice for choice in choices if choice.method is not Compression.NONE)
    return made or (_PLAIN,)


def nar_pieces(location: str, size: int = _PIECE) -> Generator[bytes, None, None]:
    """The nar of the files at `location`, in pieces of `size` bytes, up to twice that.

    Close the iterator if it is not exhausted.
    Raises: UnsupportedItem, OSError.
    """
    writer = NarWriter()
    gathered = bytearray()
    events = read_item(location, size)
    try:
        for event in events:
            gathered += writer.write(event)
            if len(gathered) >= size:
                piece, gathered = bytes(gathered), bytearray()
                yield piece
        gathered += writer.finish()
        yield bytes(gathered)
    finally:
        if hasattr(events, "close"):
            events.close()


class Bakery:
    """Bakes items of this machine's store into a cache, and into an ERIS store. `close()` it."""

    def __init__(
        self,
        cache: BakedCache,
        location: Callable[[StoreItem], str],
        choices: Sequence[CompressionChoice],
        eris: ErisTarget | None,
        *,
        workers: int,
    ) -> None:
        self._cache = cache
        self._location = location
        self._choices = tuple(choices)
        self.encode = None if eris is None else EncodeTree(eris)
        """What puts trees into the store."""
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(workers, "bake", initializer=be_nice)

    async def bake(self, item: StoreItem) -> None:
        """Make what is missing of an item.

        Raises: DamagedItem, if the files are not what the store says; UnsupportedItem; NotBaked,
        with what could not be read; OSError, of the cache; TryLater, if the store failed.
        """
        baked = self._cache.recall(item)
        missing = [
            choice
            for choice in baked_choices(item, self._choices)
            if baked is None or baked.file(choice_key(choice)) is None
        ]
        if baked is None or missing:
            baked = await self._in_pool(lambda: self._compress(item, missing))
        if self.encode is not None and (
            baked.eris is None or not baked.eris.done_for(self.encode.destination)
        ):
            result = await self._encoded(item, self.encode)
            with contextlib.suppress(LookupError):
                await in_thread(self._cache.keep_eris, item, result)

    async def close(self) -> None:
        """Stop what the threads do. Nothing half-made stays."""
        self._stopping.set()
        await asyncio.to_thread(self._pool.shutdown)

    async def _encoded(self, item: StoreItem, encode: EncodeTree) -> ErisResult:
        try:
            return await encode(self._location(item), item.base_name)
        except (ErisError, OSError) as error:
            raise NotBaked(item.base_name, f"its tree: {error}") from error

    def _compress(self, item: StoreItem, missing: Sequence[CompressionChoice]) -> Baked:
        directory = self._cache.temporary()
        try:
            made = {choice_key(choice): directory / f"{n}" for n, choice in enumerate(missing)}
            with contextlib.ExitStack() as stack:
                outputs = [
                    _Output(stack.enter_context(path.open("wb")), compressor(choice))
                    for path, choice in zip(made.values(), missing, strict=True)
                ]
                self._read(item, outputs)
            hashes = {key: output.sha256 for key, output in zip(made, outputs, strict=True)}
            return self._cache.keep_files(item, made, hashes)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _read(self, item: StoreItem, outputs: Sequence[_Output]) -> None:
        state = hashlib.sha256()
        with contextlib.closing(_read_pieces(item, self._location(item))) as pieces:
            for piece in pieces:
                if self._stopping.is_set():
                    raise TryLater
                state.update(piece)
                for output in outputs:
                    output.write(piece)
        if state.digest() != item.nar_hash:
            raise DamagedItem(item.base_name)
        for output in outputs:
            output.finish()

    async def _in_pool(self, function: Callable[[], _T]) -> _T:
        call = asyncio.ensure_future(
            asyncio.get_running_loop().run_in_executor(self._pool, function)
        )
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            # The thread works on files that are closed or removed when we leave.
            self._stopping.set()
            await settle(call)
            raise


def _read_pieces(item: StoreItem, location: str) -> Generator[bytes, None, None]:
    try:
        yield from nar_pieces(location)
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else location
        reason = f"{where} cannot be read: {error.strerror}"
        raise NotBaked(item.base_name, reason) from error


class _Output:
    """A file and what compresses into it."""

    def __init__(self, file: BinaryIO, codec: Compressor) -> None:
        self._file = file
        self._codec = codec
        self._state = hashlib.sha256()

    @property
    def sha256(self) -> bytes:
        """The hash of what the file has."""
        return self._state.digest()

    def write(self, piece: bytes) -> None:
        self._put(self._codec.feed(piece))

    def finish(self) -> None:
        self._put(self._codec.finish())

    def _put(self, data: bytes) -> None:
        self._state.update(data)
        self._file.write(data)
