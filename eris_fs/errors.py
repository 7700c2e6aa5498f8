"""Every way in which a file tree can fail to become content, or content a file tree.

The class says whose move it is: the index's author (`InvalidManifest`, `UnsafePath`), the owner of
the files (`UnsupportedEntry`, `FileChanged`), or the caller (`TargetExists`, `TreeTooLarge`, and
`PathError` with what is below it). Paths
appear in messages with anything unprintable escaped; capabilities and keys never appear.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import ClassVar

from eris.errors import ContentError, ErisError
from eris_fs.model import Path, printable, show_path

__all__ = [
    "FileChanged",
    "InvalidManifest",
    "InvalidPack",
    "InvalidPatch",
    "IsADirectory",
    "IsASymlink",
    "NotADirectory",
    "NotAFile",
    "NotFound",
    "NotUtf8",
    "OtherBase",
    "OtherListing",
    "PathError",
    "TargetExists",
    "TreeError",
    "TreeTooLarge",
    "Unreadable",
    "UnsafePath",
    "UnsupportedEntry",
    "Vanished",
]


class TreeError(ErisError):
    """Base of all errors raised by `eris_fs`."""


class InvalidManifest(TreeError):
    """The content is not an index of a tree. `offset` is the byte where that shows."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"not a valid ERIS-FS index (at byte {offset}): {reason}")
        self.reason = reason
        self.offset = offset


class InvalidPack(TreeError, ContentError):
    """What is stored of a pack is not what the index says; `number` counts packs from 0."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"pack {number} of the tree is not valid: {reason}")
        self.number = number
        self.reason = reason


class InvalidPatch(TreeError, ContentError):
    """What is stored of a patch is not what the index says; `number` counts patches from 0."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"patch {number} of the delta is not valid: {reason}")
        self.number = number
        self.reason = reason


class OtherBase(TreeError):
    """A delta leads from another tree than the base that was given, or that was altered."""

    def __init__(self) -> None:
        super().__init__("the delta leads from another tree than this base, or the base changed")


class OtherListing(TreeError):
    """What a delta made is not the tree that it names: the base is not what it was, or it lies."""

    def __init__(self) -> None:
        super().__init__(
            "what the delta makes of this base is not the tree that it names: "
            "a file of the base has other contents, or the delta is wrong"
        )


class UnsafePath(TreeError):
    """An entry cannot be put where its path says without harm; `path` is within the tree."""

    def __init__(self, path: Sequence[str], reason: str) -> None:
        super().__init__(f"unsafe entry {show_path(path)}: {reason}")
        self.path: Path = tuple(path)
        self.reason = reason


class PathError(TreeError):
    """A tree has something else at a path than is asked for, or nothing; `path` is within the tree.

    `errno`: what the system calls this, for those who answer as it does.
    """

    errno: ClassVar[int]
    _what: ClassVar[str]

    def __init__(self, path: Sequence[str]) -> None:
        super().__init__(f"{show_path(path)} {self._what}")
        self.path: Path = tuple(path)


class NotFound(PathError):
    """Nothing is there."""

    errno = errno.ENOENT
    _what = "is not in the tree"


class NotADirectory(PathError):
    """A file or a symlink is there, where a directory is asked for."""

    errno = errno.ENOTDIR
    _what = "is not a directory"


class IsADirectory(PathError):
    """A directory is there, where a file is asked for."""

    errno = errno.EISDIR
    _what = "is a directory"


class IsASymlink(PathError):
    """A symlink is there, where a file is asked for; it is not followed."""

    errno = errno.ELOOP
    _what = "is a symlink"

    def __init__(self, path: Sequence[str], target: str) -> None:
        super().__init__(path)
        self.args = (f"{self.args[0]} to {printable(target)}",)
        self.target = target


class UnsupportedEntry(TreeError):
    """ERIS-FS cannot express this file, or it cannot be read; `path` is in the file system."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot encode {printable(path)}: {reason}")
        self.path = path
        self.reason = reason


class NotUtf8(UnsupportedEntry):
    """A name or a symlink's target is not UTF-8: only a packed tree can hold it."""


class NotAFile(UnsupportedEntry):
    """A device, a socket or a pipe: there is nothing in it to read."""


class Unreadable(UnsupportedEntry):
    """The system does not let us read it."""


class FileChanged(TreeError):
    """A file changed while it was being read: try again; `path` is in the file system."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{printable(path)} changed while being read: {reason}")
        self.path = path
        self.reason = reason


class Vanished(FileChanged):
    """A file that was there a moment ago is not there any more."""


class TargetExists(TreeError):
    """A tree is only restored where nothing is; `path` is in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{printable(path)} exists already")
        self.path = path


class DeltaTooLarge(TreeError):
    """A delta would take more bytes of blocks than the caller's `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the delta takes more than {limit} bytes of blocks")
        self.limit = limit


class TreeTooLarge(TreeError):
    """A tree goes beyond a limit of the caller's: `limit` of `what`."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"the tree has more than {limit} {what}")
        self.what = what
        self.limit = limit
