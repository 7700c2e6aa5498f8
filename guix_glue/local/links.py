"""Files of equal content share one inode, by way of the store's `.links` directory.

A link there is named after the hash of a nar that holds nothing but the file, so that the
executable bit counts. The hash is taken while the file is written, not by reading it again. It is
used later, when the whole item has turned out to be what it should: a link stays when the item is
thrown away.

Deduplication saves space and is never needed: whatever stands in its way (a full disk, a file with
as many links as the file system allows, another process that links the same file at the same time)
leaves the file as it is. No symlink is followed, and a link that does not look like the file that
it stands for is not used.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from typing import Final

from guix_glue.formats import nixbase32
from guix_glue.formats.nar import File, NarWriter
from guix_glue.formats.nar.layout import CLOSE

__all__ = ["MIN_SIZE", "FileHash", "Links"]

MIN_SIZE: Final = 8192
"""Files of fewer bytes are not deduplicated."""

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HARMLESS: Final = frozenset(
    {errno.EEXIST, errno.EMLINK, errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EXDEV}
    | {errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOTSUP}
)


class FileHash:
    """What a file is called in `.links`, computed while its content goes by."""

    def __init__(self, size: int, executable: bool) -> None:
        writer = NarWriter()
        self._state = hashlib.sha256(writer.write(File((), size, executable)))
        self._size = size

    def update(self, content: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._state.update(content)

    def digest(self) -> bytes:
        """The SHA-256 (32 bytes) that is the name, once the content is complete."""
        state = self._state.copy()
        # The content went past the writer, which would only have copied it; this is what follows.
        state.update(bytes(-self._size % 8) + CLOSE)
        return state.digest()


class Links:
    """The links of a store; `directory` is usually `/gnu/store/.links`.

    Without such a directory nothing is deduplicated.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def start(self, size: int, executable: bool) -> FileHash | None:
        """Begin to hash a file of `size` bytes; None if it is too small to be linked."""
        return FileHash(size, executable) if size >= MIN_SIZE else None

    def deduplicate(self, parent: int, name: bytes, digest: bytes) -> None:
        """Link a complete file, in its final form, with all files of equal content.

        `parent` is a descriptor of its directory, whose times change; `digest` that of `FileHash`.
        Raises: OSError, if the file system fails.
        """
        try:
            links = os.open(self._directory, _DIRECTORY)
        except OSError:
            return
        try:
            _share(links, nixbase32.encode(digest), parent, name)
        except OSError as error:
            if error.errno not in _HARMLESS:
                raise
        finally:
            os.close(links)


def _share(links: int, link: str, parent: int, name: bytes) -> None:
    try:
        found = os.stat(link, dir_fd=links, follow_symlinks=False)
    except FileNotFoundError:
        os.link(name, link, src_dir_fd=parent, dst_dir_fd=links, follow_symlinks=False)
        return
    file = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if _are_alike(found, file) and not os.path.samestat(found, file):
        _replace(links, link, parent, name)


def _are_alike(link: os.stat_result, file: os.stat_result) -> bool:
    """Whether a link may stand for a file, so far as that can be told without reading it."""
    return (
        stat.S_ISREG(link.st_mode)
        and (link.st_mode, link.st_size) == (file.st_mode, file.st_size)
        and link.st_uid == file.st_uid
    )


def _replace(links: int, link: str, parent: int, name: bytes) -> None:
    """Put a link in the place of a file, which is there all the while.

    Under a name among the links first: what a kill leaves there goes with the links that nobody
    uses, while in the store it would stay.
    """
    temporary = b".tmp-link-%d-%s" % (os.getpid(), os.urandom(8).hex().encode())
    os.link(link, temporary, src_dir_fd=links, dst_dir_fd=links, follow_symlinks=False)
    try:
        os.rename(temporary, name, src_dir_fd=links, dst_dir_fd=parent)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=links)
        raise
