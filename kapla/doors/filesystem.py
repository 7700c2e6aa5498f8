"""`eris://` for fsspec: contents and trees in a store as a file system that can be read.

A place is `eris://LETTERS/docs/guide.txt`, where LETTERS are those of a URN, or with the option
`urn=` only `eris://docs/guide.txt`: then no secret is in a URL, where programs may show it.

Work is done in the loop of the doors, or with `asynchronous=True` in the one that is running; in
each there is a store of its own. Nothing can be written: a content that changes is another one.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from typing import Any, BinaryIO, NoReturn

from fsspec.asyn import AsyncFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK, Callback

from eris.capability import ReadCapability
from eris_fs.errors import IsADirectory, PathError
from eris_fs.model import Path
from eris_fs.reader import EntryInfo, Kind
from eris_fs.reader.caches import DEFAULT_CACHE_SIZE
from kapla.client import default_store_urls
from kapla.doors.download import download
from kapla.doors.fsspec_file import ErisFile, ErisStream, read_only
from kapla.doors.given import read_urn, split_place
from kapla.doors.links import path_of, system_error
from kapla.doors.listing import Listed, list_directory
from kapla.doors.running import background
from kapla.doors.session import DEFAULT_RECONNECT_S, Session, Settings
from kapla.doors.sessions import Sessions
from kapla.given_urls import read_store_urls
from kapla.remote_store import DEFAULT_CONNECT_TIMEOUT_S, DEFAULT_TIMEOUT_S

__all__ = ["ErisFileSystem"]

Info = dict[str, Any]


class ErisFileSystem(AsyncFileSystem):  # type: ignore[misc]
    """What is in a store, for fsspec.

    `urn`: the content that paths lie in; without it a path begins with the letters of a URN.
    `store_url`: one store URL, or a list; None: $ERIS_STORE_URL, else the local daemon's socket.
    Both are text, by which fsspec tells file systems apart. The times and `cache_size` are those of
    `kapla.doors.sync.open_store`; the rest is as for any asynchronous file system of fsspec.

    `storage_options` holds the URN, and so does what `pickle` and `to_json` make of a file system:
    whoever gets that can read the content.
    """

    protocol = "eris"
    root_marker = ""

    def __init__(
        self,
        urn: str | None = None,
        store_url: str | Sequence[str] | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S,
        reconnect_s: float = DEFAULT_RECONNECT_S,
        cache_size: int = DEFAULT_CACHE_SIZE,
        asynchronous: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        batch_size: int | None = None,
    ) -> None:
        # fsspec tells instances apart by what their arguments show, and secrets show nothing.
        _check_text(urn, store_url)
        self._given_loop = loop
        if loop is None and not asynchronous:
            # Else fsspec would start one of its own.
            loop = background().loop
        super().__init__(asynchronous=asynchronous, loop=loop, batch_size=batch_size)
        self._content = None if urn is None else read_urn(urn)
        urls = default_store_urls() if store_url is None else read_store_urls(store_url)
        times = {
            "timeout_s": timeout_s,
            "connect_timeout_s": connect_timeout_s,
            "reconnect_s": reconnect_s,
        }
        self._settings = Settings(tuple(urls), tuple(times.items()), cache_size)
        self._sessions = Sessions()
        weakref.finalize(self, self._sessions.forgotten).atexit = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Where the work is done, for those who call without `await`; a fork has its own."""
        if self.asynchronous or self._given_loop is not None:
            loop: asyncio.AbstractEventLoop | None = super().loop
            return loop
        return background().loop

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        stripped = super()._strip_protocol(path)
        return stripped if isinstance(stripped, list) else stripped.lstrip("/")

    def ukey(self, path: str) -> str:
        """Tell what is there in a text that is another one for what is something else."""
        capability, _, where = self._place(self._strip_protocol(path))
        reference = capability.root.reference.hex()
        return sha256(f"{reference}/{'/'.join(where)}".encode(errors="surrogateescape")).hexdigest()

    def checksum(self, path: str) -> int:
        """Tell the same as a number."""
        return int(self.ukey(path), 16)

    async def _info(self, path: str, sizes: bool = True, **_: Any) -> Info:
        path = self._strip_protocol(path)
        capability, _prefix, where = self._place(path)
        session = self._session()
        with _SystemErrors():
            return _describe(Listed(await session.find(capability, where, size=sizes)), path)

    async def _ls(
        self, path: str, detail: bool = True, sizes: bool = True, **_: Any
    ) -> list[Info] | list[str]:
        path = self._strip_protocol(path)
        capability, prefix, where = self._place(path)
        with _SystemErrors():
            async with self._session().reader(capability) as reader:
                listed = await list_directory(reader, where, sizes=detail and sizes)
        if listed is None:
            return [await self._info(path)] if detail else [path]
        before = "/".join(part for part in (prefix, *where) if part)
        names = [f"{before}/{one.name}" if before else one.name for one in listed]
        if not detail:
            return names
        return [_describe(one, name) for one, name in zip(listed, names, strict=True)]

    async def _walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: Any = "omit",
        **kwargs: Any,
    ) -> AsyncIterator[tuple[str, Any, Any]]:
        # In a tree that tells no sizes each one costs a block.
        kwargs.setdefault("sizes", kwargs.get("detail", False))
        walk = super()._walk(path, maxdepth, topdown, on_error, **kwargs)
        async for step in walk:
            yield step

    async def _find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any
    ) -> Any:
        detail = kwargs.pop("detail", False)
        kwargs.setdefault("sizes", detail)
        found = await super()._find(path, maxdepth, withdirs, detail=True, **kwargs)
        # A symlink to a directory, or to nothing here, is not there to be read.
        found = {name: info for name, info in found.items() if info.get("type") != "link"}
        return found if detail else list(found)

    async def _glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        kwargs.setdefault("sizes", kwargs.get("detail", False))
        return await super()._glob(path, maxdepth, **kwargs)

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        capability, _prefix, where = self._place(self._strip_protocol(path))
        session = self._session()
        with _SystemErrors():
            # Where both ends are known nobody need know where the file ends.
            sized = end is None or end < 0 or (start is not None and start < 0)
            info = _file(await session.find(capability, where, size=sized))
            begin, stop = _range(start, end, info.size)
            return await session.read(capability, info.path, begin, max(0, stop - begin))

    async def _get_file(
        self,
        rpath: str,
        lpath: str | BinaryIO,
        callback: Callback = DEFAULT_CALLBACK,
        **_: Any,
    ) -> None:
        capability, _prefix, where = self._place(self._strip_protocol(rpath))
        session = self._session()
        with _SystemErrors():
            info = await session.find(capability, where)
            if info.kind is Kind.DIRECTORY and isinstance(lpath, str):
                os.makedirs(lpath, exist_ok=True)
                return
            await download(session, capability, _file(info), lpath, callback)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> ErisFile:
        if mode != "rb":
            raise read_only(f"open with mode {mode!r}")
        return ErisFile(
            self, path, mode, block_size, autocommit, cache_options=cache_options, **kwargs
        )

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> ErisStream:
        """Open a file whose `read` is awaited."""
        if mode != "rb":
            raise read_only(f"open with mode {mode!r}")
        if kwargs.get("compression"):
            raise ValueError("open_async gives bytes as they are: there is no compression=")
        path = self._strip_protocol(path)
        info = await self._info(path)
        if info["type"] != "file":
            raise system_error(IsADirectory(path_of(path)))
        return ErisStream(self, path, size=info["size"])

    async def aclose(self) -> None:
        """Close the store that is open in the loop that runs; what is read later opens it again."""
        await self._sessions.close()

    async def _put_file(self, *_: Any, **__: Any) -> NoReturn:
        raise read_only("put a file")

    async def _pipe_file(self, *_: Any, **__: Any) -> NoReturn:
        raise read_only("write a file")

    async def _cp_file(self, *_: Any, **__: Any) -> NoReturn:
        raise read_only("copy a file")

    async def _rm_file(self, *_: Any, **__: Any) -> NoReturn:
        raise read_only("remove a file")

    async def _rm(self, *_: Any, **__: Any) -> NoReturn:
        raise read_only("remove anything")

    async def _mkdir(self, *_: Any, **__: Any) -> NoReturn:
        raise read_only("make a directory")

    async def _makedirs(self, *_: Any, **__: Any) -> NoReturn:
        raise read_only("make a directory")

    def rmdir(self, path: str) -> NoReturn:
        """Raises: OSError: this file system is read-only."""
        raise read_only("remove a directory")

    def touch(self, path: str, truncate: bool = True, **_: Any) -> NoReturn:
        """Raises: OSError: this file system is read-only."""
        raise read_only("make a file")

    def _place(self, path: str) -> tuple[ReadCapability, str, Path]:
        """The content that a path lies in, what stands before the path in it, and that path."""
        if self._content is not None:
            return self._content, "", path_of(path)
        capability, prefix, within = split_place(path)
        return capability, prefix, path_of(within)

    def _session(self) -> Session:
        return self._sessions.get(self._settings)


class _SystemErrors:
    """A context in which the errors of paths become those of the system."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, PathError):
            raise system_error(error) from error


def _describe(listed: Listed, name: str) -> Info:
    """What fsspec tells of an entry."""
    info = listed.info
    found: Info = {"name": name, "size": info.size, "type": info.kind.value}
    if info.kind is Kind.FILE:
        found["executable"] = info.executable
    else:
        found["size"] = 0
    if listed.target is not None:
        found |= {"islink": True, "destination": listed.target}
    if info.kind is Kind.SYMLINK:
        found["type"] = "link"
    return found


def _file(info: EntryInfo) -> EntryInfo:
    if info.kind is not Kind.FILE:
        raise IsADirectory(info.path)
    return info


def _range(start: int | None, end: int | None, size: int | None) -> tuple[int, int]:
    """The bytes that are meant by what may count from the end; both are let through as they are."""
    begin = start or 0
    if size is None:
        assert end is not None
        return begin, end
    if begin < 0:
        begin = max(0, size + begin)
    stop = size if end is None else end + size if end < 0 else end
    return begin, stop


def _check_text(urn: object, store_url: object) -> None:
    if urn is not None and not isinstance(urn, str):
        raise TypeError("the option urn= is a URN as text, as capability.to_urn() gives it")
    urls = [store_url] if store_url is None or isinstance(store_url, str) else store_url
    if not isinstance(urls, list | tuple) or not all(
        url is None or isinstance(url, str) for url in urls
    ):
        raise TypeError("the option store_url= is a store URL as text, or a list of them")
