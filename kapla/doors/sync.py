"""A store for programs that know nothing of asyncio.

```python
from kapla.doors.sync import open_store

with open_store("coap+unix:///run/eris.sock") as store:
    urn = store.put_tree("notes").to_urn()
    with store.open(urn, "photos.zip") as file, zipfile.ZipFile(file) as photos:
        photos.extractall("photos")
```

Any number of threads may use one store. What is asked is done in a thread of this process that all
stores share; Ctrl-C in the thread that waits gives it up.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from errno import EISDIR
from functools import partial
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import eris_fs
from eris.capability import ReadCapability
from eris.errors import StoreUnavailable
from eris.model import NULL_CONVERGENCE_SECRET, BlockSize, ConvergenceSecret
from eris.store import BlockFinder
from eris.transfer import Source, get_content, put_content
from eris_fs.errors import IsADirectory, PathError
from eris_fs.model import Path
from eris_fs.reader import EntryInfo, Kind, TreeReader
from eris_fs.reader.caches import DEFAULT_CACHE_SIZE
from kapla.client import default_store_urls
from kapla.doors.feeding import feed
from kapla.doors.file import BUFFER_SIZE, ContentFile
from kapla.doors.given import Urn, read_urn
from kapla.doors.links import follow, path_of, system_error
from kapla.doors.running import Background, background
from kapla.doors.session import DEFAULT_RECONNECT_S, Session, Settings
from kapla.given_urls import GivenUrl, read_store_urls
from kapla.remote_store import DEFAULT_CONNECT_TIMEOUT_S, DEFAULT_TIMEOUT_S

__all__ = ["Store", "open_store"]

T = TypeVar("T")


def open_store(
    urls: GivenUrl | Iterable[GivenUrl] | None = None,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S,
    reconnect_s: float = DEFAULT_RECONNECT_S,
    cache_size: int = DEFAULT_CACHE_SIZE,
) -> Store:
    """Open a store, or several as one, and connect to it.

    `urls`: one store URL, or several in a list; None: $ERIS_STORE_URL, else the local daemon's
    socket. `timeout_s`: how long a store may be silent; `reconnect_s`: how long it is tried to have
    a lost connection again. `cache_size`: bytes that are kept of each content that is read, at
    least 4 MiB; those of four contents are kept when they are not in use.
    Raises: InvalidUrl, a ValueError; TypeError; StoreUnavailable, if it cannot be reached.
    """
    found = tuple(default_store_urls()) if urls is None else read_store_urls(urls)
    times = {
        "timeout_s": timeout_s,
        "connect_timeout_s": connect_timeout_s,
        "reconnect_s": reconnect_s,
    }
    store = Store(Settings(found, tuple(times.items()), cache_size))
    try:
        store.connect()
    except BaseException:
        store.close()
        raise
    return store


class Store:
    """A store that is open, for any number of threads: see `open_store`.

    Use it in a `with`, or `close()` it. A process that forks has it in both; each connects by
    itself. A content is named by its URN or by a `ReadCapability`, which shows itself only when it
    is asked to.

    Beside what is named below, everything raises ValueError when the store is closed, and
    StoreError when it fails; what reads raises BlockNotFound and ContentError too.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closed = False
        # Of the loop that it belongs to: a child process has another.
        self._session: tuple[Background, Session] | None = None

    def __repr__(self) -> str:
        where = ", ".join(str(url) for url in self._settings.urls)
        return f"<Store {where}{', closed' if self._closed else ''}>"

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self._session is not None:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
            self._closed = True
            home, session = self._session
            if home.is_here:
                home.begin(partial(_close, home, session))

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._closed

    def connect(self) -> None:
        """Connect now, if it is not done yet.

        Raises: StoreUnavailable.
        """
        self._call(lambda session: session.store.connect())

    def get_content(self, urn: Urn) -> bytes:
        """Read a whole content into memory: of a tree, the index.

        Raises: InvalidCapability, a ValueError; TypeError.
        """
        capability = read_urn(urn)
        return self._call(lambda session: get_content(session.store, capability))

    def put_content(
        self,
        source: bytes | bytearray | memoryview | BinaryIO,
        *,
        block_size: BlockSize | None = None,
        convergence_secret: ConvergenceSecret = NULL_CONVERGENCE_SECRET,
    ) -> ReadCapability:
        """Keep bytes, or what a binary file gives from where it stands; see `eris.put_content`.

        Raises: TypeError, for anything else; StoreRefused; what reading the file raises.
        """
        _check_source(source)

        async def put(session: Session, content: Source) -> ReadCapability:
            store = session.store
            return await put_content(
                store,
                content,
                block_size=block_size,
                convergence_secret=convergence_secret,
                finder=store if isinstance(store, BlockFinder) else None,
            )

        if isinstance(source, bytes | bytearray | memoryview):
            return self._call(lambda session: put(session, source))
        home = self._home()
        return feed(home, source, lambda pieces: put(self._session_in(home), pieces))

    def put_tree(
        self,
        path: str | os.PathLike[str],
        *,
        packed: bool = False,
        convergence_secret: ConvergenceSecret = NULL_CONVERGENCE_SECRET,
        selection: eris_fs.Selection = eris_fs.EVERYTHING,
    ) -> ReadCapability:
        """Keep a directory, or `packed`, in fewer and compressed blocks: see `docs/formats.md`.

        A file by itself becomes a tree that is one file. `selection` says what is left out.
        Raises: OSError; TreeError, for what no tree can hold; StoreRefused.
        """
        put = eris_fs.put_packed_tree if packed else eris_fs.put_tree
        return self._call(
            lambda session: put(
                session.store, path, convergence_secret=convergence_secret, selection=selection
            )
        )

    def get_tree(self, urn: Urn, target: str | os.PathLike[str]) -> None:
        """Write a tree to `target`, where nothing may be.

        After an error what was written is left there.
        Raises: TargetExists; InvalidManifest, for what is no tree; OSError; UnsafePath.
        """
        capability = read_urn(urn)

        async def get(session: Session) -> None:
            tree = await eris_fs.load_tree(session.store, capability)
            await eris_fs.get_tree(session.store, tree, target)

        self._call(get)

    def open(self, urn: Urn, path: str | None = None) -> io.BufferedReader:
        """Open a content, or the file at a path of a tree, for reading: a binary file.

        Symlinks are followed, as long as they stay in the tree.
        Raises: FileNotFoundError, IsADirectoryError and so on; InvalidCapability, TypeError.
        """
        capability = read_urn(urn)
        info = self._find(capability, _components(path))
        if info.kind is not Kind.FILE:
            if path is None:
                raise IsADirectoryError(EISDIR, 'This is a tree: name a file in it, as path="…"')
            raise system_error(IsADirectory(info.path))
        where = info.path
        raw = ContentFile(
            partial(self._read, capability, where),
            partial(self._size, capability, where),
            "/".join(where),
        )
        return io.BufferedReader(raw, BUFFER_SIZE)

    def info(self, urn: Urn, path: str | None = None) -> EntryInfo:
        """Tell what is at a path of a tree, or what the content itself is; the size of a file too.

        Symlinks are followed, as by `open`.
        Raises: FileNotFoundError and so on; InvalidCapability, TypeError.
        """
        return self._find(read_urn(urn), _components(path))

    def entries(self, urn: Urn, directory: str | None = None) -> list[EntryInfo]:
        """Tell what is in a directory of a tree, by name; the sizes of files too.

        Raises: FileNotFoundError, NotADirectoryError; InvalidCapability, TypeError.
        """
        capability, path = read_urn(urn), _components(directory)

        async def list_them(session: Session) -> list[EntryInfo]:
            async with session.reader(capability) as reader:
                return await _entries(reader, path)

        return self._call(list_them)

    def close(self) -> None:
        """Close it; files that are open give no more than they have. Twice is once."""
        if self._closed:
            return
        self._closed = True
        if self._session is not None:
            home, session = self._session
            if home.is_here:
                # At the end of the program it was closed already.
                with suppress(StoreUnavailable):
                    home.call(partial(_close, home, session))

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the store is closed")

    def _home(self) -> Background:
        self._check_open()
        return background()

    def _session_in(self, home: Background) -> Session:
        """The session of a loop; called in it, which does one thing at a time: so there is one."""
        if self._session is None or self._session[0] is not home:
            session = Session(self._settings)
            home.keep_open(session.aclose)
            self._session = home, session
        return self._session[1]

    def _call(self, work: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
        """Do some work in the loop's thread, with a session of that loop."""
        home = self._home()

        async def run() -> T:
            return await work(self._session_in(home))

        try:
            return home.call(run)
        except PathError as error:
            raise system_error(error) from error

    def _find(self, capability: ReadCapability, path: Path) -> EntryInfo:
        return self._call(lambda session: session.find(capability, path))

    def _read(self, capability: ReadCapability, path: Path, offset: int, length: int) -> bytes:
        return self._call(lambda session: session.read(capability, path, offset, length))

    def _size(self, capability: ReadCapability, path: Path) -> int:
        size = self._find(capability, path).size
        assert size is not None
        return size


async def _close(home: Background, session: Session) -> None:
    await session.aclose()
    home.closed(session.aclose)


async def _entries(reader: TreeReader, path: Path) -> list[EntryInfo]:
    where = follow(reader.info, path).path
    await reader.sizes(where)
    return reader.entries(where)


def _components(path: str | None) -> Path:
    if path is not None and not isinstance(path, str):
        raise TypeError(f"a path in a tree is text, not {type(path).__name__}")
    return path_of(path or "")


def _check_source(source: object) -> None:
    if isinstance(source, bytes | bytearray | memoryview):
        return
    if isinstance(source, str | io.TextIOBase):
        raise TypeError("a content is bytes: encode the text, or open the file with “rb”")
    if isinstance(source, os.PathLike):
        raise TypeError("a content is bytes or a binary file: open the path with “rb”")
    if not callable(getattr(source, "read", None)):
        name = "None" if source is None else type(source).__name__
        raise TypeError(f"a content is bytes or a binary file, not {name}")
