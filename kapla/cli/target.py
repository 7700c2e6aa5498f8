"""Putting a finished file or tree where the user wants it, all at once.

Everything is written under a temporary name beside the target and renamed when it is complete and
verified. An interrupted decode leaves neither half a target nor the temporary one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import click

from eris.threads import settle
from eris_fs import printable
from kapla.cli.common import CommandError, ExitCode

__all__ = ["Target"]

_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100


class Target:
    """The place OUT, checked before anything is fetched.

    Raises: CommandError, if something is there and may not be replaced.
    """

    def __init__(self, out: str, *, force: bool) -> None:
        if not out:
            raise CommandError("OUT is empty", ExitCode.USAGE)
        # abspath, not resolve: when OUT is a symlink, the link itself is what is replaced.
        self._path = Path(os.path.abspath(out))
        self._out = out
        self._force = force
        if not self._path.parent.is_dir():
            raise CommandError(f"{self._path.parent}: there is no such directory", ExitCode.FILE)
        if os.path.lexists(self._path):
            self._check_replaceable(out)
            if not force:
                advice = "exists; --force replaces it"
                if self._is_directory():
                    advice = "is a directory; --force replaces it by a tree, with all that is in it"
                raise CommandError(f"{out} {advice}", ExitCode.FILE)

    def check_for_a_file(self) -> None:
        """See whether a file may stand here: it does not take the place of a directory.

        Raises: CommandError.
        """
        if self._is_directory():
            text = f"{self._out} is a directory, and this is a file: not replaced"
            raise CommandError(text, ExitCode.FILE)
        if self._out.endswith("/"):
            raise CommandError(f"{self._out} names a directory, and this is a file", ExitCode.FILE)

    def _is_directory(self) -> bool:
        return self._path.is_dir() and not self._path.is_symlink()

    def _check_replaceable(self, out: str) -> None:
        mode = self._path.lstat().st_mode
        if stat.S_ISLNK(mode):
            return
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise CommandError(f"{out} is neither file nor directory: not replaced", ExitCode.FILE)
        real = self._path.resolve()
        mounted = [Path("/"), *_mount_points()]
        if real in mounted or os.path.ismount(real):
            raise CommandError(f"{out} is a mount point: not replaced", ExitCode.FILE)
        # The old directory is removed with all that is in it, which must be its own.
        if any(real in point.parents for point in mounted):
            raise CommandError(f"{out} holds a mount point: not replaced", ExitCode.FILE)
        here = Path.cwd()
        if real == here or real in here.parents:
            raise CommandError(f"{out} holds the working directory: not replaced", ExitCode.FILE)

    def free_bytes(self) -> int:
        """How much the disk has room for, for this user."""
        found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize

    @asynccontextmanager
    async def prepare(self) -> AsyncIterator[Path]:
        """Give a free name beside the target; what stands there at the end becomes the target.

        After an error it is removed. What was replaced is removed too; where that fails, the target
        is in place all the same, and the user is told. Whoever interrupts either comes too late.
        """
        # Cut so that it stays below 255 bytes, at four a letter.
        name = f".{self._path.name[:50]}.{secrets.token_hex(4)}.kapla"
        temporary = self._path.with_name(name)
        try:
            yield temporary
            await _to_the_end(self._commit, temporary)
        except BaseException as error:
            with contextlib.suppress(OSError):  # the error under way is the one that matters
                await _to_the_end(_remove, temporary)
            if isinstance(error, OSError) and error.filename == str(temporary):
                # Users know nothing of the other name.
                error.filename = self._out
            raise
        try:
            await _to_the_end(_remove, temporary)
        except OSError as error:
            text = f"kapla: what was replaced is left at {temporary}: {error.strerror}"
            click.echo(printable(text), err=True)

    def _commit(self, temporary: Path) -> None:
        if not temporary.is_dir() or temporary.is_symlink():
            self.check_for_a_file()
        if self._force and os.path.lexists(self._path):
            self._check_replaceable(str(self._path))
            _flush(temporary)
            # The old one is then at the temporary name, from where it is removed.
            if not _rename(temporary, self._path, _RENAME_EXCHANGE):
                self._replace_stepwise(temporary)
            # The new names too, before the old one goes; some file systems cannot, and it is done.
            with contextlib.suppress(OSError):
                _sync(self._path.parent, os.fsync)
            return
        if not _rename(temporary, self._path, _RENAME_NOREPLACE):
            # This file system knows plain renames only: looked at once more just before.
            if os.path.lexists(self._path):
                raise CommandError(f"{self._path} has appeared meanwhile", ExitCode.FILE)
            os.rename(temporary, self._path)

    def _replace_stepwise(self, temporary: Path) -> None:
        """Where names cannot be exchanged: a file at once, a directory in two renames."""
        if not self._path.is_dir() and not temporary.is_dir():
            os.replace(temporary, self._path)
            return
        old = temporary.with_name(temporary.name + "-old")
        os.rename(self._path, old)
        try:
            os.rename(temporary, self._path)
        except OSError:
            os.rename(old, self._path)
            raise
        # To the name from where what was replaced is removed.
        os.rename(old, temporary)


async def _to_the_end(function: Callable[[Path], None], path: Path) -> None:
    """Work in a thread: the event loop must be free to see that it is not stuck."""
    call = asyncio.ensure_future(asyncio.to_thread(function, path))
    await settle(call)
    call.result()


def _mount_points() -> list[Path]:
    """Where file systems and parts of them are mounted; none where the system does not say."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    return [Path(os.fsdecode(_unescape(line.split(b" ")[4]))) for line in lines]


def _unescape(field: bytes) -> bytes:
    """Read a field of mountinfo: white space and backslashes are octal escapes."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)


def _rename(source: Path, target: Path, flag: int) -> bool:
    """renameat2 with a flag; False if the system or the file system does not know it.

    Raises: OSError, CommandError if the target has appeared.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        renameat2 = libc.renameat2
    except AttributeError:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL):
        return False
    if number == errno.EEXIST:
        raise CommandError(f"{target} has appeared meanwhile", ExitCode.FILE)
    raise OSError(number, os.strerror(number), str(target))


def _flush(path: Path) -> None:
    """Write a file, or all of a tree's file system, to disk, before something else is given up."""
    if not path.is_symlink():
        _sync(path, _syncfs if path.is_dir() else os.fsync)


def _sync(path: Path, sync: Callable[[int], None]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def _syncfs(descriptor: int) -> None:
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.fsync(descriptor)
    elif syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=_open_up)
    else:
        path.unlink(missing_ok=True)


def _open_up(function: Callable[[str], object], path: str, _: object) -> None:
    """Let go what a read-only directory holds: its owner may, and asked for it."""
    for directory in (os.path.dirname(path), path):
        if not os.path.islink(directory) and os.path.isdir(directory):
            os.chmod(directory, 0o700)
    if function is os.rmdir or function is os.unlink:
        function(path)
    else:
        # Only if it can be entered now: else this would not end.
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
        shutil.rmtree(path, onerror=_open_up)
