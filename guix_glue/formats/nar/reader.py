"""Bytes of a nar to events, as they come; refuses whatever a writer would not have written.

The reader takes one step for each part of the nar: a row of strings that is always the same (see
`layout.py`), a name, a target, or a piece of contents. A part that is not complete stays in the
buffer until more comes; no part but contents is larger than a name or a target may be, and contents
are handed on as they come, so that memory does not depend on the nar.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from guix_glue.errors import InvalidNar
from guix_glue.formats.nar.layout import (
    CLOSE,
    DIRECTORY,
    ENTRY,
    EXECUTABLE,
    LENGTH,
    MAGIC,
    NODE,
    REGULAR,
    SYMLINK,
    is_name,
)
from guix_glue.formats.nar.model import (
    DEFAULT_NAR_LIMITS,
    Data,
    Directory,
    File,
    NarEvent,
    NarLimits,
    NarPath,
    Symlink,
)

__all__ = ["NarReader"]

_KINDS: Final = (REGULAR, EXECUTABLE, SYMLINK, DIRECTORY)
# What may come next: in the item itself, or in a directory of it.
_NODES: Final = (tuple(MAGIC + kind for kind in _KINDS), tuple(NODE + kind for kind in _KINDS))
_ENDS: Final = ((CLOSE,), (CLOSE + CLOSE,))
_MORE: Final = ((ENTRY, CLOSE), (ENTRY, CLOSE + CLOSE))
# After contents, by the padding they need.
_FILE_ENDS: Final = tuple(
    tuple((bytes(padding) + end,) for padding in range(8)) for (end,) in _ENDS
)
_LONGEST: Final = max(map(len, (*_NODES[0], *_NODES[1])))

# Below this a copy costs less than a view, which would also keep all that was fed in memory.
_COPIED: Final = 4096


class NarReader:
    """Reads one nar. After an error it is of no more use.

    ```python
    reader = NarReader()
    for data in pieces:            # cut anywhere
        for event in reader.feed(data): ...
    reader.finish()
    ```
    """

    def __init__(self, limits: NarLimits = DEFAULT_NAR_LIMITS) -> None:
        self.done = False
        """Whether the nar is complete."""
        self._limits = limits
        self._buffer = b""
        # Where in the buffer we are, and where in the nar the buffer begins.
        self._position = 0
        self._base = 0
        self._events: list[NarEvent] = []
        self._next: Callable[[NarReader], bool] = NarReader._read_node
        # The entry that is read, its directory, and for each open directory the last name in it.
        self._path: NarPath = ()
        self._directory: NarPath = ()
        self._names: list[bytes] = []
        self._entries = 0
        # Of the file whose contents are read: what is still to come, and what follows that.
        self._left = 0
        self._file_end: tuple[bytes, ...] = ()

    def feed(self, data: bytes) -> list[NarEvent]:
        """Take the next bytes; returns what they say.

        Pieces of contents may be views of `data`.
        Raises: InvalidNar, also for what goes beyond a limit or follows the end.
        """
        self._buffer = self._buffer + data if self._buffer else data
        if self._base + len(self._buffer) > self._limits.size:
            raise InvalidNar(f"it is longer than {self._limits.size} bytes", self._limits.size)
        while self._position < len(self._buffer) and self._next(self):
            pass
        self._base += self._position
        self._buffer = self._buffer[self._position :]
        self._position = 0
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """Say that this was all.

        Raises: InvalidNar, if the nar is not complete.
        """
        if not self.done:
            raise InvalidNar("it is cut off", self._base + len(self._buffer))

    # --- the steps: each returns whether it was taken, or has to wait for more ---------------

    def _read_node(self) -> bool:
        kind = self._take(_NODES[bool(self._names)], "a file, a symlink or a directory")
        if kind is None:
            return False
        self._entries += 1
        if self._entries > self._limits.entries:
            raise self._error(f"it has more than {self._limits.entries} entries")
        if kind.endswith(DIRECTORY):
            self._enter()
        elif kind.endswith(SYMLINK):
            self._next = NarReader._read_target
        elif kind.endswith(EXECUTABLE):
            self._next = NarReader._read_executable_size
        else:
            self._next = NarReader._read_size
        return True

    def _read_more(self) -> bool:
        """In a directory: another entry, or its end."""
        found = self._take(_MORE[len(self._names) > 1], "an entry or the end of a directory")
        if found is None:
            return False
        if found is ENTRY:
            self._next = NarReader._read_name
        else:
            self._leave()
        return True

    def _read_name(self) -> bool:
        name = self._take_string(self._limits.name_size, "a name")
        if name is None:
            return False
        if not is_name(name):
            raise self._error(f"no entry may be named {name!r}")
        if name <= self._names[-1]:
            raise self._error(f"the name {name!r} does not come after {self._names[-1]!r}")
        self._names[-1] = name
        self._path = (*self._directory, name)
        if len(self._path) > self._limits.depth:
            raise self._error(f"directories are more than {self._limits.depth} deep")
        self._next = NarReader._read_node
        return True

    def _read_target(self) -> bool:
        target = self._take_string(self._limits.target_size, "a symlink's target")
        if target is None:
            return False
        if not target or b"\0" in target:
            raise self._error("a symlink's target is empty or holds a NUL")
        self._events.append(Symlink(self._path, target))
        self._next = NarReader._read_symlink_end
        return True

    def _read_size(self) -> bool:
        return self._begin_file(executable=False)

    def _read_executable_size(self) -> bool:
        return self._begin_file(executable=True)

    def _read_contents(self) -> bool:
        position = self._position
        size = min(self._left, len(self._buffer) - position)
        content: bytes | memoryview
        if size < _COPIED or size == len(self._buffer):
            content = self._buffer[position : position + size]
        else:
            content = memoryview(self._buffer)[position : position + size]
        self._events.append(Data(content))
        self._position += size
        self._left -= size
        if not self._left:
            self._next = NarReader._read_file_end
        return True

    def _read_file_end(self) -> bool:
        return self._end(self._file_end, "zeroes up to a multiple of 8, and the end of a file")

    def _read_symlink_end(self) -> bool:
        return self._end(_ENDS[bool(self._names)], "the end of a symlink")

    def _refuse(self) -> bool:
        raise self._error("something follows its end")

    # --- parts of steps ----------------------------------------------------------------------

    def _begin_file(self, *, executable: bool) -> bool:
        size = self._take_length()
        if size is None:
            return False
        if self._base + self._position + size > self._limits.size:
            raise self._error(f"a file goes beyond the {self._limits.size} bytes of all")
        self._events.append(File(self._path, size, executable))
        self._left = size
        self._file_end = _FILE_ENDS[bool(self._names)][-size % 8]
        self._next = NarReader._read_contents if size else NarReader._read_file_end
        return True

    def _enter(self) -> None:
        self._events.append(Directory(self._path))
        self._directory = self._path
        self._names.append(b"")
        self._next = NarReader._read_more

    def _leave(self) -> None:
        self._names.pop()
        self._directory = self._directory[:-1]
        self._go_on()

    def _end(self, end: tuple[bytes, ...], expected: str) -> bool:
        if self._take(end, expected) is None:
            return False
        self._go_on()
        return True

    def _go_on(self) -> None:
        """What follows an entry: the rest of its directory, or nothing."""
        if self._names:
            self._next = NarReader._read_more
        else:
            self.done = True
            self._next = NarReader._refuse

    def _take(self, choices: tuple[bytes, ...], expected: str) -> bytes | None:
        """Take one of some rows of strings; None if more is needed to tell which."""
        for choice in choices:
            if self._buffer.startswith(choice, self._position):
                self._position += len(choice)
                return choice
        rest = self._buffer[self._position : self._position + _LONGEST]
        if any(choice.startswith(rest) for choice in choices):
            return None
        raise self._error(f"{expected} should come here")

    def _take_length(self) -> int | None:
        if len(self._buffer) < self._position + LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._buffer, self._position)
        self._position += LENGTH.size
        return int(length)

    def _take_string(self, limit: int, what: str) -> bytes | None:
        start = self._position
        length = self._take_length()
        if length is None:
            return None
        if length > limit:
            raise self._error(f"{what} is longer than {limit} bytes")
        stop = self._position + length
        end = stop + -length % 8
        if end > len(self._buffer):
            self._position = start
            return None
        content = self._buffer[self._position : stop]
        if any(self._buffer[stop:end]):
            raise self._error(f"{what} is not padded with zeroes")
        self._position = end
        return content

    def _error(self, reason: str) -> InvalidNar:
        return InvalidNar(reason, self._base + self._position)
