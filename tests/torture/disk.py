"""A disk that lost power, or whose writer was killed: what can be found on it afterwards.

It follows recorded operations. What a process wrote is there when it is killed. After a power cut
only what was synced is sure; of what was written to a file since, any part may be there, in any
order, and torn in sectors or pages. A name is sure once its file or its directory was synced.
Pure: no files here.
"""

from __future__ import annotations

from random import Random
from typing import Final

from tests.torture.shim import Kind, Operation

__all__ = ["Disk", "Image"]

Image = dict[str, bytes]
"""What is on a disk: contents by the ends of the names; that of the database itself is empty."""

_PAGE: Final = 4096
# No file is called so.
_NONE: Final = "/"
_TORN: Final = (512, _PAGE)


class _File:
    """One inode: what is in it, what is in it for sure, and what came since."""

    __slots__ = ("now", "since", "sure")

    def __init__(self, content: bytes = b"") -> None:
        self.now = bytearray(content)
        self.sure = bytearray(content)
        self.since: list[Operation] = []

    def do(self, operation: Operation) -> None:
        _apply(self.now, operation)
        self.since.append(operation)

    def sync(self) -> None:
        for operation in self.since:
            _apply(self.sure, operation)
        self.since.clear()


def _apply(content: bytearray, operation: Operation) -> None:
    start = operation.offset
    if operation.kind is Kind.TRUNCATE:
        if start <= len(content):
            del content[start:]
        else:
            content.extend(bytes(start - len(content)))
        return
    if start > len(content):
        content.extend(bytes(start - len(content)))
    content[start : start + len(operation.data)] = operation.data


class Disk:
    """What is on the disk after so many of the operations."""

    def __init__(self, image: Image) -> None:
        self._now = {name: _File(content) for name, content in image.items()}
        self._sure = dict(self._now)
        # By the numbers that operations name files by.
        self._names: dict[int, str] = {}

    def do(self, operation: Operation) -> None:
        """One more operation; marks are nothing to a disk."""
        kind, name = operation.kind, self._names.get(operation.file, _NONE)
        if kind is Kind.CREATE:
            name = self._names[operation.file] = operation.data.decode()
            self._now[name] = _File()
        elif kind is Kind.OPEN:
            self._names[operation.file] = operation.data.decode()
        elif kind is Kind.UNLINK:
            self._now.pop(operation.data.decode(), None)
        elif kind is Kind.SYNC_DIRECTORY:
            self._sure = dict(self._now)
        elif kind is Kind.RENAME:
            target = self._names[operation.offset] = operation.data.decode()
            self._now[target] = self._now.pop(name)
        elif kind is Kind.SYNC and name in self._now:
            self._now[name].sync()
            self._sure[name] = self._now[name]
        elif kind in (Kind.WRITE, Kind.TRUNCATE) and name in self._now:
            self._now[name].do(operation)

    def killed(self, following: Operation | None, random: Random) -> Image:
        """What is there after the process was killed, perhaps in the middle of the next write."""
        image = {name: bytes(file.now) for name, file in self._now.items()}
        name = self._names.get(following.file, _NONE) if following is not None else _NONE
        if following is not None and following.kind is Kind.WRITE and name in image:
            torn = bytearray(image[name])
            _apply(torn, _torn_end(following, random))
            image[name] = bytes(torn)
        return image

    def cut(self, random: Random) -> Image:
        """What may be there after a power cut now."""
        image: Image = {}
        for name in sorted(self._now.keys() | self._sure.keys()):
            file = random.choice((self._now.get(name), self._sure.get(name)))
            if file is not None:
                image[name] = _after_cut(file, random)
        return image


def _torn_end(operation: Operation, random: Random) -> Operation:
    # The kernel looks for a signal that kills between pages.
    length = random.randrange(len(operation.data) // _PAGE + 1) * _PAGE
    return operation._replace(data=operation.data[:length])


def _after_cut(file: _File, random: Random) -> bytes:
    """Some of what is not sure: in several ways, as none of them finds everything."""
    content = bytearray(file.sure)
    since = file.since
    if not since:
        return bytes(content)
    way = random.randrange(6)
    if way == 0:
        return bytes(content)
    if way == 1:
        return bytes(file.now)
    if way == 2:
        chosen = since[: random.randrange(len(since) + 1)]
    elif way == 3:
        left_out = random.randrange(len(since))
        chosen = since[:left_out] + since[left_out + 1 :]
    else:
        chosen = [operation for operation in since if random.random() < 0.5]
    is_torn = way in (2, 5)
    for operation in chosen:
        if is_torn and operation.kind is Kind.WRITE and random.random() < 0.3:
            _apply_torn(content, operation, random)
        else:
            _apply(content, operation)
    return bytes(content)


def _apply_torn(content: bytearray, operation: Operation, random: Random) -> None:
    """Only some sectors or pages of a write. The file's size may be known before its content."""
    unit = random.choice(_TORN)
    start, data = operation.offset, operation.data
    if random.random() < 0.5 and start + len(data) > len(content):
        content.extend(bytes(start + len(data) - len(content)))
    first = start - start % unit
    for place in range(first, start + len(data), unit):
        if random.random() < 0.5:
            low, high = max(place, start), min(place + unit, start + len(data))
            _apply(content, operation._replace(offset=low, data=data[low - start : high - start]))
