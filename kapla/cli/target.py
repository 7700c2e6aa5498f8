"""Putting a finished file or tree where the user wants it, all at once.

Everything is written under a temporary name beside the target and renamed when it is complete and
verified. An interrupted decode leaves neither half a target nor the temporary one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import click

from eris.threads import settle, start_in_thread
from eris_fs import printable, remove_at
from kapla.cli.common import CommandError, ExitCode

__all__ = ["Target"]

_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2


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
        # One and the same directory throughout, wherever its path leads meanwhile.
        parent = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                yield temporary
                await _to_the_end(self._commit, parent, name)
            except BaseException as error:
                with contextlib.suppress(OSError):  # the error under way is the one that matters
                    await _to_the_end(remove_at, parent, name)
                self._name_out(error, str(temporary))
                raise
            try:
                await _to_the_end(remove_at, parent, name)
            except OSError as error:
                text = f"kapla: what was replaced is left at {temporary}: {error.strerror}"
                with contextlib.suppress(OSError):  # standard error may be full: it is done
                    click.echo(printable(text), err=True)
        finally:
            os.close(parent)

    def _name_out(self, error: BaseException, temporary: str) -> None:
        """Have an error name OUT: users know nothing of the other name."""
        if isinstance(error, OSError) and isinstance(error.filename, str):
            before, found, rest = error.filename.partition(temporary)
            if found and not before and rest[:1] in ("", "/"):
                error.filename = self._out.rstrip("/") + rest

    def _commit(self, parent: int, name: str) -> None:
        if not _is_directory(parent, name):
            self.check_for_a_file()
        if self._force and _is_there(parent, self._path.name):
            self._check_replaceable(str(self._path))
            _flush(parent, name)
            # The old one is then at the temporary name, from where it is removed.
            if not self._rename(parent, name, _RENAME_EXCHANGE):
                self._replace_stepwise(parent, name)
            # The new names too, before the old one goes; some file systems cannot, and it is done.
            with contextlib.suppress(OSError):
                _sync(parent, ".", os.fsync)
            return
        if not self._rename(parent, name, _RENAME_NOREPLACE):
            # This file system knows plain renames only: looked at once more just before.
            if _is_there(parent, self._path.name):
                raise self._appeared()
            _rename_plainly(parent, name, self._path.name)

    def _rename(self, parent: int, name: str, flag: int) -> bool:
        """Rename to the target with a flag; False if system or file system does not know it.

        Raises: OSError, CommandError if the target has appeared.
        """
        try:
            return _rename(parent, name, self._path.name, flag)
        except FileExistsError:
            raise self._appeared() from None
        except OSError as error:
            error.filename = str(self._path)
            raise

    def _appeared(self) -> CommandError:
        return CommandError(f"{self._path} has appeared meanwhile", ExitCode.FILE)

    def _replace_stepwise(self, parent: int, name: str) -> None:
        """Where names cannot be exchanged: a file at once, a directory in two renames."""
        out = self._path.name
        if not _is_directory(parent, out) and not _is_directory(parent, name):
            os.replace(name, out, src_dir_fd=parent, dst_dir_fd=parent)
            return
        old = name + "-old"
        _rename_plainly(parent, out, old)
        try:
            _rename_plainly(parent, name, out)
        except OSError:
            _rename_plainly(parent, old, out)
            raise
        # To the name from where what was replaced is removed.
        _rename_plainly(parent, old, name)


async def _to_the_end(function: Callable[[int, str], None], parent: int, name: str) -> None:
    """Work in a thread: the event loop must be free to see that it is not stuck."""
    call = start_in_thread(function, parent, name)
    await settle(call, too_late=True)
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


def _rename(parent: int, source: str, target: str, flag: int) -> bool:
    """renameat2 with a flag, within a directory; False if nothing here knows it.

    Raises: OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        renameat2 = libc.renameat2
    except AttributeError:
        return False
    if renameat2(parent, os.fsencode(source), parent, os.fsencode(target), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(number, os.strerror(number), target)


def _rename_plainly(parent: int, source: str, target: str) -> None:
    os.rename(source, target, src_dir_fd=parent, dst_dir_fd=parent)


def _is_there(parent: int, name: str) -> bool:
    return _has_kind(parent, name, lambda _: True)


def _is_directory(parent: int, name: str) -> bool:
    return _has_kind(parent, name, stat.S_ISDIR)


def _has_kind(parent: int, name: str, is_kind: Callable[[int], bool]) -> bool:
    try:
        return is_kind(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _flush(parent: int, name: str) -> None:
    """Write a file, or all of a tree's file system, to disk, before something else is given up."""
    if not _has_kind(parent, name, stat.S_ISLNK):
        _sync(parent, name, _syncfs if _is_directory(parent, name) else os.fsync)


def _sync(parent: int, name: str, sync: Callable[[int], None]) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
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
