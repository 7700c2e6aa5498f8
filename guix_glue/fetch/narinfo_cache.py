"""What servers said of items, on disk: for the next process, and for when there is no network.

A file for each server and item, so that damage is that of one answer, and each is written under
another name first. Nothing here is believed: what is read is judged as if it had just come, by the
keys that are authorized now. Files are spread over directories by the hash parts of their items;
each directory has its share of what there may be in all, and makes room for itself: what is out of
date goes, then what would be so first. Nobody has to walk through all of it.

All functions may be called by any thread, and none fails: without a cache the network is asked.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from guix_glue.fetch.http_wire import MAX_BODY
from guix_glue.local.user_caches import caches_directory
from guix_glue.servers.url import Server

__all__ = [
    "Answer",
    "NarinfoCache",
    "format_answer",
    "narinfo_cache_directory",
    "parse_answer",
]

_log = logging.getLogger(__name__)

LONGEST_S: Final = 365 * 86400
"""How long an answer may be good. A clock that went wrong for a moment is no reason for longer."""

_FILES: Final = 64
_BYTES: Final = 512 * 1024
"""Of one directory. There are 1024: 65,536 answers at most, and 512 MiB; usual ones have 2 KB."""

# How old a file must be that somebody began to write, to be one that was left behind.
_ABANDONED_S: Final = 3600.0
_TEMPORARY: Final = ".new-"

_HEADER: Final = re.compile(rb"kapla-narinfo 1 ([0-9]{1,12}) (-|[0-9]{1,7}) ([0-9a-f]{64})\n")
_LONGEST_HEADER: Final = 128
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def narinfo_cache_directory(given: str | None, environ: Mapping[str, str]) -> str | None:
    """Where narinfos are kept: where it is said, else where this user keeps such things.

    None for nowhere. Raises: ValueError, for what is no absolute path.
    """
    directory = given or environ.get("KAPLA_NARINFO_CACHE")
    if directory == "none":
        return None
    if not directory:
        base = caches_directory(environ)
        return None if base is None else f"{base}/kapla/narinfos"
    if not directory.startswith("/") or "\0" in directory:
        raise ValueError("their place is no absolute path")
    return directory.rstrip("/") or "/"


@dataclass(frozen=True, slots=True)
class Answer:
    """A narinfo, None if the server does not have it, and for how many seconds that is good."""

    text: bytes | None
    left_s: float


class NarinfoCache:
    """A directory, made when it is needed; `now` gives the seconds since the epoch."""

    def __init__(self, directory: str, *, now: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._now = now

    def read(self, server: Server, hash_parts: Iterable[str]) -> dict[str, Answer]:
        """What is known, and good still."""
        key, found = _key(server), {}
        with suppress(OSError), _Opened(self._open(make=False)) as root:
            for hash_part in hash_parts:
                answer = self._read(root, hash_part, key)
                if answer is not None:
                    found[hash_part] = answer
        return found

    def write(self, server: Server, answers: Mapping[str, Answer]) -> None:
        """Keep what a server answered."""
        key = _key(server)
        try:
            with _Opened(self._open(make=True)) as root:
                for hash_part, answer in answers.items():
                    self._write(root, hash_part, key, answer)
        except OSError as error:
            _log.debug("No narinfos are kept in %s: %s", self._directory, error.strerror)

    def forget(self, server: Server, hash_part: str) -> None:
        """Let go what turned out to be of no use."""
        with suppress(OSError), _Opened(self._open(make=False)) as root:
            os.unlink(_path(hash_part, _key(server)), dir_fd=root)

    def _open(self, *, make: bool) -> int:
        """The directory, if it is ours alone: others could have us believe old answers.

        Raises: OSError.
        """
        if make:
            os.makedirs(os.path.dirname(self._directory), 0o755, exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(self._directory, 0o700)
        # Whoever made it a symlink is whoever named it.
        descriptor = os.open(self._directory, _DIRECTORY & ~os.O_NOFOLLOW)
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            os.close(descriptor)
            raise PermissionError(errno.EPERM, "it is not ours alone", self._directory)
        return descriptor

    def _read(self, root: int, hash_part: str, key: str) -> Answer | None:
        try:
            content = _read_file(root, _path(hash_part, key))
        except OSError:
            return None
        return parse_answer(content, self._now())

    def _write(self, root: int, hash_part: str, key: str, answer: Answer) -> None:
        left_s = min(answer.left_s, LONGEST_S)
        if left_s < 1 or len(answer.text or b"") > MAX_BODY:
            return
        until = int(self._now() + left_s)
        path = _path(hash_part, key)
        bucket = os.path.dirname(path)
        with suppress(FileExistsError):
            os.mkdir(bucket, 0o700, dir_fd=root)
        with _Opened(os.open(bucket, _DIRECTORY, dir_fd=root)) as directory:
            _replace(directory, os.path.basename(path), format_answer(answer.text, until), until)
            _make_room(directory, self._now())


class _Opened:
    """Closes a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _key(server: Server) -> str:
    """What stands for a server: its URL may be a secret, and what it answers be for one user."""
    named = f"{server.url}\n{server.authorization or ''}"
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def _path(hash_part: str, key: str) -> str:
    return f"{hash_part[:2]}/{hash_part}-{key}"


def format_answer(text: bytes | None, until: int) -> bytes:
    """The content of a file: a narinfo, or that there is none, and until when that is good."""
    length = "-" if text is None else str(len(text))
    facts = f"{until} {length}"
    digest = hashlib.sha256(facts.encode() + b"\n" + (text or b"")).hexdigest()
    return f"kapla-narinfo 1 {facts} {digest}\n".encode() + (text or b"")


def parse_answer(content: bytes, now: float) -> Answer | None:
    """Read a file; None if it is damaged or out of date."""
    header = _HEADER.match(content)
    if header is None:
        return None
    until = int(header[1])
    text = None if header[2] == b"-" else content[header.end() :]
    if not now < until <= now + LONGEST_S or content != format_answer(text, until):
        return None
    return Answer(text, until - now)


def _read_file(root: int, path: str) -> bytes:
    with _Opened(os.open(path, _READ, dir_fd=root)) as descriptor:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        return os.read(descriptor, _LONGEST_HEADER + MAX_BODY + 1)


def _replace(directory: int, name: str, content: bytes, until: int) -> None:
    """Write a file at once. Its time is when it is out of date: who makes room need not read it."""
    temporary = f"{_TEMPORARY}{os.urandom(8).hex()}"
    try:
        with _Opened(os.open(temporary, _WRITE, 0o600, dir_fd=directory)) as descriptor:
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    with suppress(OSError):
        os.utime(name, (until, until), dir_fd=directory)


def _make_room(directory: int, now: float) -> None:
    files = []
    for name in os.listdir(directory):
        with suppress(OSError):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            until = status.st_mtime
            if name.startswith(_TEMPORARY):
                until += _ABANDONED_S
            files.append((until, status.st_size, name))
    files.sort()
    count, size = len(files), sum(size for _, size, _ in files)
    for until, file_size, name in files:
        if now < until and count <= _FILES and size <= _BYTES:
            return
        with suppress(OSError):
            os.unlink(name, dir_fd=directory)
        count, size = count - 1, size - file_size
