"""Files of the stream that come again later: kept until they have come for the last time.

Which these are the index tells. Small ones stay in memory, up to 16 MiB together; what is beyond
goes to a file without a name, which is gone with the process, and has at most the size of the
stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from tempfile import TemporaryFile
from typing import BinaryIO, Final

from eris.threads import in_thread
from eris_fs.delta.temporary import temporary_file_named
from eris_fs.model import PackedFile

__all__ = ["Kept"]

_ROOM: Final = 16 * 1024 * 1024
_STEP: Final = 1024 * 1024

_Place = tuple[int, int]


class Kept:
    """Keeps those of `files` that come again; these are all files of a tree, in their order.

    Close it, when no read is under way.
    Raises, all of it: OSError, which names the directory for temporary files.
    """

    def __init__(self, files: Iterable[PackedFile], room: int = _ROOM) -> None:
        uses = Counter((file.offset, file.size) for file in files if file.size)
        self._left = {place: count - 1 for place, count in uses.items() if count > 1}
        self._room = room
        self._held: dict[_Place, list[bytes]] = {}
        self._spilled: dict[_Place, int] = {}
        self._file: BinaryIO | None = None
        self._end = 0

    def __contains__(self, file: PackedFile) -> bool:
        """Whether a file comes again, from here on."""
        return (file.offset, file.size) in self._left

    async def add(self, file: PackedFile, piece: bytes) -> None:
        """Take the next piece of a file that comes again; one file after the other."""
        place = file.offset, file.size
        if place not in self._held and place not in self._spilled:
            if file.size <= self._room:
                self._held[place] = []
                self._room -= file.size
            else:
                self._spilled[place] = self._end
        if place in self._held:
            self._held[place].append(piece)
        else:
            with temporary_file_named():
                await in_thread(self._spill, piece)

    async def read(self, file: PackedFile) -> AsyncGenerator[bytes, None]:
        """Give a file again that came before, piece by piece; for the last time it is let go."""
        place = file.offset, file.size
        self._left[place] -= 1
        is_last = not self._left[place]
        if is_last:
            del self._left[place]
        if place in self._held:
            for piece in self._held[place]:
                yield piece
            if is_last:
                del self._held[place]
                self._room += file.size
            return
        start = self._spilled[place]
        for at in range(start, start + file.size, _STEP):
            yield await in_thread(self._recall, at, min(_STEP, start + file.size - at))

    def close(self) -> None:
        """Let go of everything; again is harmless."""
        self._held.clear()
        if self._file is not None:
            self._file.close()

    def _spill(self, piece: bytes) -> None:
        if self._file is None:
            self._file = TemporaryFile(buffering=0)  # noqa: SIM115 - close() closes it
        self._file.seek(self._end)
        view = memoryview(piece)
        while view:
            written = self._file.write(view)
            self._end += written
            view = view[written:]

    def _recall(self, at: int, size: int) -> bytes:
        assert self._file is not None
        self._file.seek(at)
        parts = []
        while size:
            part = self._file.read(size)
            if not part:
                raise OSError("what was written to a temporary file is not there any more")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
