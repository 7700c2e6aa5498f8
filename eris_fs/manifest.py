"""The index of a tree: model to bytes and back, without I/O.

Writing follows RFC 8949, section 4.2.1: the shortest heads, definite lengths, map keys in bytewise
order of their encoding. Reading is a push parser of our own, for the few items that occur. It takes
bytes as they come, keeps at most one unfinished entry, refuses a length before waiting for what it
announces, and takes nothing that a deterministic encoder would not write, save for two things:
keys may come in any order, and a path may also be one text string, `bin/hello`, as others write it.

Source: ERIS-FS, version 1 (EER eris-fs).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NoReturn

from cbor2 import dumps

from eris.capability import ReadCapability
from eris.errors import InvalidCapability
from eris.model import CAPABILITY_SIZE
from eris_fs.errors import InvalidManifest, TreeTooLarge, UnsafePath
from eris_fs.model import (
    DEFAULT_LIMITS,
    EmptyDirectory,
    Entry,
    Limits,
    PackedFile,
    Path,
    RegularFile,
    Symlink,
    Tree,
)
from eris_fs.paths import check_path, check_path_size, check_target, name_fault, order_paths

__all__ = ["MAGIC", "VERSION", "ManifestReader", "format_manifest", "looks_like_tree"]

MAGIC: Final = bytes.fromhex("da6572697482")
"""How every index begins: tag 0x65726974 on an array of two items."""

VERSION: Final = 1

# How many bytes to put together before handing them out.
_PIECE_SIZE: Final = 256 * 1024

_UINT, _TEXT, _ARRAY, _MAP = 0, 3, 4, 5
_FILE, _EXECUTABLE, _SYMLINK, _EMPTY_DIRECTORY = 0, 1, 2, 3
# Tag 276 (d9 0114) on a byte string of 66 bytes (58 42).
_CAPABILITY_CBOR_SIZE: Final = 5 + CAPABILITY_SIZE
# RFC 8949, section 4.2.1: a number below these fits, and so must be written in, a shorter head.
_SHORTEST: Final = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}


def looks_like_tree(head: bytes) -> bool:
    """Tell from the first bytes of a content, at least 6, whether it claims to be a tree."""
    return head.startswith(MAGIC)


def format_manifest(tree: Tree, limits: Limits = DEFAULT_LIMITS) -> Iterator[bytes]:
    """Write the index of a tree, piece by piece; equal trees give equal bytes.

    Raises: UnsafePath, if an entry cannot be in a tree; TreeTooLarge.
    """
    order_paths(tree, limits)
    # CBOR's order of keys is that of their bytes, not RFC 7049's, which put shorter ones first.
    keys = sorted((_format_path(path, limits), path) for path in tree)
    count = bytearray(dumps(len(keys)))
    count[0] |= _MAP << 5
    piece = bytearray(MAGIC) + dumps(VERSION) + count
    for key, path in keys:
        piece += key
        piece += _format_entry(path, tree[path], limits)
        if len(piece) >= _PIECE_SIZE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _format_path(path: Path, limits: Limits) -> bytes:
    check_path(path, limits)
    return dumps(path)


def _format_entry(path: Path, entry: Entry, limits: Limits) -> bytes:
    match entry:
        case RegularFile(capability, executable):
            return (b"\x82\x01" if executable else b"\x82\x00") + capability.to_cbor()
        case Symlink(target):
            check_target(path, target, limits)
            return dumps((_SYMLINK, target))
        case EmptyDirectory():
            return dumps((_EMPTY_DIRECTORY,))
        case PackedFile():
            raise ValueError("a file of a packed tree has no capability of its own")


class _Incomplete(Exception):
    """The bytes at hand end within an item."""


class ManifestReader:
    """Read an index that comes in pieces.

    ```python
    reader = ManifestReader()
    for piece in pieces:
        tree.update(reader.feed(piece))
    reader.finish()
    ```

    Entries are handed out as they are read, each sound by itself; that they agree with each other
    (none twice, none under another) is known only when `finish()` returns.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._data = b""
        self._at = 0
        self._consumed = 0
        self._remaining: int | None = None
        self._paths: list[Path] = []
        # Components repeat, directories above all: each is checked, and kept, once.
        self._names: dict[bytes, str] = {}

    def feed(self, data: bytes) -> list[tuple[Path, Entry]]:
        """Take the next bytes, any number; returns the entries they completed, in their order.

        Raises: InvalidManifest.
        """
        self._data = self._data[self._at :] + data
        self._consumed += self._at
        self._at = 0
        if self._consumed + len(self._data) > self._limits.index_size:
            self._fail(f"more than {self._limits.index_size} bytes")
        entries: list[tuple[Path, Entry]] = []
        start = 0
        try:
            if self._remaining is None:
                self._remaining = self._read_header()
            while self._remaining:
                start = self._at
                entries.append(self._read_pair())
                self._remaining -= 1
        except _Incomplete:
            self._at = start
            return entries
        if self._at < len(self._data):
            self._fail("something follows its end")
        return entries

    def finish(self) -> None:
        """Check what shows only at the end.

        Raises: InvalidManifest.
        """
        if self._remaining != 0:
            self._at = len(self._data)
            self._fail("it ends too early")
        try:
            order_paths(self._paths, self._limits)
        except (UnsafePath, TreeTooLarge) as error:
            raise InvalidManifest(str(error), self._consumed + self._at) from error

    def _read_header(self) -> int:
        """Read everything before the first key; returns the number of entries."""
        magic = self._data[: len(MAGIC)]
        if not MAGIC.startswith(magic):
            self._fail("it does not begin with the ERIS-FS tag and an array of two")
        if len(magic) < len(MAGIC):
            raise _Incomplete
        self._at = len(MAGIC)
        version = self._expect(_UINT)
        if version != VERSION:
            self._fail(f"version {version} is not supported")
        count = self._expect(_MAP)
        if count > self._limits.entries:
            self._fail(f"more than {self._limits.entries} entries")
        return count

    def _read_pair(self) -> tuple[Path, Entry]:
        path = self._read_path()
        entry = self._read_entry(path)
        self._paths.append(path)
        return path, entry

    def _read_path(self) -> Path:
        limits = self._limits
        major, value = self._head()
        try:
            if major == _ARRAY:
                if value > limits.depth:
                    self._fail(f"a path of more than {limits.depth} components")
                path = tuple([self._read_name() for _ in range(value)])
                check_path_size(path, limits)
            elif major == _TEXT:
                path = tuple(self._text(value, limits.path_size).split("/"))
                check_path(path, limits)
            else:
                self._fail("a path that is neither an array nor a text string")
        except UnsafePath as error:
            raise InvalidManifest(str(error), self._consumed + self._at) from error
        return path

    def _read_name(self) -> str:
        size = self._expect(_TEXT)
        raw = self._take(size, self._limits.name_size)
        name = self._names.get(raw)
        if name is None:
            name = self._decode(raw)
            if fault := name_fault(name, self._limits):
                self._fail(fault)
            self._names[raw] = name
        return name

    def _read_entry(self, path: Path) -> Entry:
        length = self._expect(_ARRAY)
        kind = self._expect(_UINT)
        if kind in (_FILE, _EXECUTABLE) and length == 2:
            return RegularFile(self._read_capability(), kind == _EXECUTABLE)
        if kind == _SYMLINK and length == 2:
            target = self._text(self._expect(_TEXT), self._limits.target_size)
            try:
                check_target(path, target, self._limits)
            except UnsafePath as error:
                raise InvalidManifest(str(error), self._consumed + self._at) from error
            return Symlink(target)
        if kind == _EMPTY_DIRECTORY and length == 1:
            return EmptyDirectory()
        self._fail(f"an entry of unknown kind {kind} with {length} items")

    def _read_capability(self) -> ReadCapability:
        data = self._take(_CAPABILITY_CBOR_SIZE, _CAPABILITY_CBOR_SIZE)
        try:
            return ReadCapability.from_cbor(data)
        except InvalidCapability as error:
            raise InvalidManifest(str(error), self._consumed + self._at) from error

    def _expect(self, major: int) -> int:
        found, value = self._head()
        if found != major:
            self._fail(f"an item of major type {found} where {major} belongs")
        return value

    def _head(self) -> tuple[int, int]:
        """Read the head of one data item: (major type, number)."""
        data, at = self._data, self._at
        if at >= len(data):
            raise _Incomplete
        first = data[at]
        info = first & 31
        self._at = at + 1
        if info < 24:
            return first >> 5, info
        if info not in _SHORTEST:
            self._fail("an indefinite length or a reserved head")
        end = at + 1 + (1 << (info - 24))
        if end > len(data):
            raise _Incomplete
        value = int.from_bytes(data[at + 1 : end], "big")
        if value < _SHORTEST[info]:
            self._fail("a number that is not in its shortest form")
        self._at = end
        return first >> 5, value

    def _text(self, size: int, limit: int) -> str:
        return self._decode(self._take(size, limit))

    def _take(self, size: int, limit: int) -> bytes:
        if size > limit:
            self._fail(f"a text of more than {limit} bytes")
        end = self._at + size
        if end > len(self._data):
            raise _Incomplete
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def _decode(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise InvalidManifest("a text that is not UTF-8", self._consumed + self._at) from error

    def _fail(self, reason: str) -> NoReturn:
        raise InvalidManifest(reason, self._consumed + self._at)
