"""Bundles: blocks and read capabilities in one file, written and read in pieces, without I/O.

A bundle is CBOR: an array of a map, from references to blocks, and of read capabilities. Writing
needs no count beforehand: array and map are of indefinite length. Reading is a push parser of our
own: a library would build the whole map before anything could be checked. Each block is checked
against its reference. Where the file is damaged the reader says so, and looks for blocks and
capabilities in what follows: a block that has its reference is sound wherever it stands.

Source: CBOR Serialization of ERIS Encoded Content (EER cbor).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

from eris.capability import ReadCapability
from eris.crypto import reference_of
from eris.errors import InvalidBundle, InvalidCapability
from eris.model import CAPABILITY_SIZE, REFERENCE_SIZE, BlockSize, EncodedBlock, Reference

__all__ = [
    "BUNDLE_HEAD",
    "DEFAULT_LIMITS",
    "BadBlock",
    "BundleItem",
    "BundleLimits",
    "BundleReader",
    "format_bundle_tail",
    "format_bundled_block",
]

BUNDLE_HEAD: Final = bytes.fromhex("d9d9f7da657269739fbf")
"""How a bundle begins: tags 55799 and 1701996915, an array, its first element a map."""

_BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = 2, 3, 4, 5, 6, 7
_BREAK: Final = 0xFF
_TAGS: Final = (55799, 1701996915)
_CAPABILITY_TAG: Final = 276
_HEAD_SIZES: Final = {24: 1, 25: 2, 26: 4, 27: 8}
_MAY_BE_INDEFINITE: Final = (_BYTES, _TEXT, _ARRAY, _MAP, _SIMPLE)

_REFERENCE_HEAD: Final = b"\x58\x20"
_BLOCK_HEADS: Final = {1024: b"\x59\x04\x00", 32768: b"\x59\x80\x00"}

# What a block, or a capability, looks like from outside, in the shortest encoding.
_CANDIDATE: Final = re.compile(
    rb"\x58\x20(.{32})\x59(\x04|\x80)\x00|\xd9\x01\x14\x58\x42(?=[\x0a\x0f])", re.DOTALL
)
_LONGEST_CANDIDATE: Final = 2 + REFERENCE_SIZE + 3
# Bytes made for it could look like a block at every place, each to be hashed.
_MOST_VAIN: Final = 4096


class BadBlock(NamedTuple):
    """Bytes in the place of a block that have not the reference they are under."""

    reference: Reference


BundleItem = EncodedBlock | BadBlock | ReadCapability
"""What a bundle holds: a block with its reference, which it has; a bad one; a capability."""

_Head = tuple[int, int | None]


@dataclass(frozen=True, slots=True)
class BundleLimits:
    """What a reader bears."""

    capabilities: int = 65536
    """They are kept until the end by whoever reads; far more than anybody puts into one file."""
    ignored_bytes: int = 1 << 20
    """Of elements that are not known: a damaged length should not swallow what follows."""
    depth: int = 16
    """Of such elements."""


DEFAULT_LIMITS: Final = BundleLimits()


def format_bundled_block(reference: Reference, block: bytes) -> bytes:
    """Write one entry of the map; all of them stand behind `BUNDLE_HEAD`, each only once."""
    return _REFERENCE_HEAD + reference + _BLOCK_HEADS[len(block)] + block


def format_bundle_tail(capabilities: Iterable[ReadCapability] = ()) -> bytes:
    """Write what follows the last block. Capabilities are secrets: so is the file then."""
    return b"\xff" + b"".join(one.to_cbor() for one in capabilities) + b"\xff"


class BundleReader:
    """Reads a bundle that comes in pieces.

    ```python
    reader = BundleReader()
    for piece in pieces:
        for item in reader.feed(piece):
            ...
    reader.finish()
    ```

    Damage does not raise before `finish`, so that what is good is read first: `failure` is the
    damage that was met.
    """

    def __init__(self, limits: BundleLimits = DEFAULT_LIMITS) -> None:
        self.failure: InvalidBundle | None = None
        self.ignored = 0
        """Elements that are none of a bundle, and were passed over."""
        self._limits = limits
        self._data = bytearray()
        self._at = 0
        self._dropped = 0
        self._is_over = False
        self._capabilities = 0
        self._ignorable = limits.ignored_bytes
        self._items: list[BundleItem] = []
        self._parsing = self._parse()

    def feed(self, data: bytes) -> list[BundleItem]:
        """Give what these bytes, any number, complete."""
        self._drop()
        self._data += data
        self._go_on()
        items, self._items = self._items, []
        return items

    def finish(self) -> None:
        """Say that this was all.

        Raises: InvalidBundle, if the bundle was damaged or is cut off.
        """
        if self.failure is None and not self._is_over:
            size = self._dropped + len(self._data)
            self.failure = InvalidBundle("it is cut off", size)
        if self.failure is not None:
            raise self.failure

    def _drop(self) -> None:
        self._dropped += self._at
        del self._data[: self._at]
        self._at = 0

    def _go_on(self) -> None:
        try:
            next(self._parsing)
        except InvalidBundle as error:
            self._parsing = self._salvage() if self.failure is None else self._drop_all()
            self.failure = self.failure or error
            self._go_on()

    def _fail(self, reason: str) -> NoReturn:
        raise InvalidBundle(reason, self._dropped + self._at)

    # Each of these is run until it wants more bytes, and then goes on where it stood.

    def _parse(self) -> Generator[None, None, None]:
        elements = yield from self._open()
        if not (yield from self._has_more(elements)):
            self._fail("the array is empty")
        kind, blocks = yield from self._head()
        if kind != _MAP:
            self._fail("no map of blocks is in the array")
        while (yield from self._has_more(blocks)):
            yield from self._block()
            blocks = None if blocks is None else blocks - 1
        while elements is None or elements > 1:
            if not (yield from self._has_more(elements)):
                break
            yield from self._element()
            elements = None if elements is None else elements - 1
        self._is_over = True
        yield from self._need(1)
        self._fail("something follows its end")

    def _open(self) -> Generator[None, None, int | None]:
        """Read the tags and the head of the array; returns how many elements it has."""
        kind, value = yield from self._head()
        for tag in _TAGS:
            if (kind, value) == (_TAG, tag):
                kind, value = yield from self._head()
        if kind != _ARRAY:
            self._fail_at(0, "it does not begin as a bundle does")
        return value

    def _block(self) -> Generator[None, None, None]:
        start = self._dropped + self._at
        # So that what is damaged is still at hand, and can be looked at as something else.
        yield from self._need(_LONGEST_CANDIDATE)
        kind, size = yield from self._head()
        if (kind, size) != (_BYTES, REFERENCE_SIZE):
            self._fail_at(start, "no reference is where one should be")
        reference = Reference((yield from self._take(REFERENCE_SIZE)))
        kind, size = yield from self._head()
        if kind != _BYTES or size not in _BLOCK_HEADS:
            self._fail_at(start, "no block is where one should be")
        self._add(reference, (yield from self._take(size)))

    def _fail_at(self, position: int, reason: str) -> NoReturn:
        self._at = max(0, position + 1 - self._dropped)
        raise InvalidBundle(reason, position)

    def _add(self, reference: Reference, block: bytes) -> None:
        is_good = reference_of(block) == reference
        self._items.append((reference, block) if is_good else BadBlock(reference))

    def _element(self) -> Generator[None, None, None]:
        head = yield from self._head()
        if head == (_TAG, _CAPABILITY_TAG):
            head = yield from self._head()
            if head == (_BYTES, CAPABILITY_SIZE):
                self._add_capability((yield from self._take(CAPABILITY_SIZE)))
                return
        self.ignored += 1
        yield from self._pass_over(head)

    def _add_capability(self, data: bytes) -> None:
        self._capabilities += 1
        if self._capabilities > self._limits.capabilities:
            self._fail(f"it names more than {self._limits.capabilities:,} contents")
        try:
            self._items.append(ReadCapability.from_bytes(data))
        except InvalidCapability:
            self.ignored += 1

    def _pass_over(self, head: _Head) -> Generator[None, None, None]:
        """Read what is behind the head of an item of any kind, and keep nothing of it."""
        start = self._dropped + self._at
        end = start + self._ignorable
        # How many items each array, map or tag that is open has still to come.
        open_items: list[int | None] = [1]
        while True:
            kind, value = head
            if kind == _SIMPLE and value is None:
                if open_items.pop() is not None:
                    self._fail("an item ends where none should")
            else:
                if open_items[-1] is not None:
                    open_items[-1] -= 1
                yield from self._enter(kind, value, open_items, end)
            while open_items and open_items[-1] == 0:
                open_items.pop()
            if not open_items:
                self._ignorable -= self._dropped + self._at - start
                return
            head = yield from self._head()

    def _enter(
        self, kind: int, value: int | None, open_items: list[int | None], end: int
    ) -> Generator[None, None, None]:
        size = 0
        if kind == _TAG:
            open_items.append(1)
        elif kind in (_ARRAY, _MAP):
            open_items.append(value if value is None or kind == _ARRAY else 2 * value)
        elif kind in (_BYTES, _TEXT):
            if value is None:
                open_items.append(None)
            else:
                size = value
        if len(open_items) > self._limits.depth:
            self._fail("an unknown element is nested too deeply")
        if self._dropped + self._at + size > end:
            self._fail("unknown elements are too long")
        yield from self._leave_out(size)

    def _has_more(self, left: int | None) -> Generator[None, None, bool]:
        """Whether an array or map with so many items left, or of indefinite length, goes on."""
        if left is not None:
            return left > 0
        yield from self._need(1)
        if self._data[self._at] != _BREAK:
            return True
        self._at += 1
        return False

    def _head(self) -> Generator[None, None, _Head]:
        """Read the head of an item: its major type, and its value or length.

        None is an indefinite length, and with the last type the break that ends such an item.
        """
        yield from self._need(1)
        kind, value = self._data[self._at] >> 5, self._data[self._at] & 31
        if value == 31 and kind in _MAY_BE_INDEFINITE:
            self._at += 1
            return kind, None
        if value < 24:
            self._at += 1
            return kind, value
        size = _HEAD_SIZES.get(value)
        if size is None:
            self._fail("no CBOR item begins so")
        yield from self._need(1 + size)
        start = self._at + 1
        self._at = start + size
        return kind, int.from_bytes(self._data[start : self._at], "big")

    def _take(self, size: int) -> Generator[None, None, bytes]:
        yield from self._need(size)
        start = self._at
        self._at += size
        return bytes(self._data[start : self._at])

    def _leave_out(self, size: int) -> Generator[None, None, None]:
        while size:
            yield from self._need(1)
            step = min(size, len(self._data) - self._at)
            self._at += step
            size -= step

    def _need(self, size: int) -> Generator[None, None, None]:
        while len(self._data) - self._at < size:
            yield

    def _salvage(self) -> Generator[None, None, None]:
        """Look for blocks and capabilities behind damage; never ends."""
        vain = 0
        while vain < _MOST_VAIN:
            found = _CANDIDATE.search(self._data, self._at)
            if found is None:
                self._at = max(self._at, len(self._data) - _LONGEST_CANDIDATE + 1)
                yield
                continue
            self._at = found.start()
            reference, size = found.groups()
            if reference is None:
                self._at += 5
                self._add_capability((yield from self._take(CAPABILITY_SIZE)))
                continue
            length = BlockSize.SMALL if size == b"\x04" else BlockSize.LARGE
            yield from self._need(_LONGEST_CANDIDATE + length)
            start = self._at + _LONGEST_CANDIDATE
            block = bytes(self._data[start : start + length])
            if reference_of(block) == reference:
                self._items.append((Reference(reference), block))
                self._at = start + length
            else:
                vain += 1
                self._at += 1
        yield from self._drop_all()

    def _drop_all(self) -> Generator[None, None, None]:
        while True:
            self._at = len(self._data)
            yield
