"""The dialogue with the daemon, as bytes: commands that come, replies that go. No I/O.

A reply is lines, and its end is a line too: whoever could put a line break into a reply could say
anything in our name. So whatever a narinfo brought is checked once more before it becomes a line.
A command that cannot be read is a value like the others: who reads on decides what to answer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from guix_glue.errors import ProtocolError
from guix_glue.formats import nixbase32
from guix_glue.formats.store_path import is_store_path
from guix_glue.model import StoreItem

__all__ = [
    "MAX_LINE",
    "NOT_FOUND",
    "NO_ITEMS",
    "Command",
    "CommandReader",
    "Have",
    "Info",
    "Substitute",
    "Unreadable",
    "format_available",
    "format_details",
    "format_mismatch",
    "format_success",
]

MAX_LINE: Final = 16 * 1024 * 1024
"""Bytes of one command. The daemon asks for all items of a plan in one line; this is 150,000."""

NO_ITEMS: Final = b"\n"
"""The answer to a query of which nothing is available."""

NOT_FOUND: Final = b"not-found\n"
"""The answer to a `substitute` that failed."""

_T = TypeVar("_T")

_PLAIN: Final = re.compile(r"[!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Have:
    """Which of these can be substituted? Only real store paths are left in `paths`."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Info:
    """The same with details."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Substitute:
    """Bring the item `path` and make it `destination`, an absolute path."""

    path: str
    destination: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is no command."""

    reason: str


Command = Have | Info | Substitute | Unreadable


class CommandReader:
    """Cuts what comes on standard input into commands."""

    def __init__(self, store_dir: str, max_line: int = MAX_LINE) -> None:
        self._store_dir = store_dir
        self._max_line = max_line
        self._pieces: list[bytes] = []
        self._size = 0
        self._skipping = False

    def feed(self, data: bytes) -> list[Command]:
        """Take more bytes; returns the commands that are complete now."""
        *ends, rest = data.split(b"\n")
        commands = []
        for end in ends:
            self._keep(end)
            commands.append(self._take())
        self._keep(rest)
        return commands

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._max_line:
            self._skipping = True
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)

    def _take(self) -> Command:
        line, skipped = b"".join(self._pieces), self._skipping
        self._pieces.clear()
        self._size, self._skipping = 0, False
        if skipped:
            return Unreadable(f"a command is longer than {self._max_line} bytes")
        return self._parse(os.fsdecode(line))

    def _parse(self, line: str) -> Command:
        word, _, rest = line.partition(" ")
        match word:
            case "have":
                return Have(self._paths(rest))
            case "info":
                return Info(self._paths(rest))
            case "substitute":
                return self._substitute(rest)
            case _:
                return Unreadable("unknown command")

    def _paths(self, text: str) -> tuple[str, ...]:
        """The store paths among the words, each once: of anything else there is no substitute."""
        words = dict.fromkeys(text.split(" "))
        return tuple(word for word in words if is_store_path(word, self._store_dir))

    def _substitute(self, text: str) -> Command:
        path, _, destination = text.partition(" ")
        if not is_store_path(path, self._store_dir):
            return Unreadable("what is to be substituted is no store path")
        if not destination.startswith("/") or "\0" in destination:
            return Unreadable("the destination is no absolute path")
        return Substitute(path, destination)


def format_available(paths: Iterable[str]) -> bytes:
    """The answer to `have`; a path that is not plain text is left out."""
    return b"".join(_each(paths, lambda path: f"{_plain(path)}\n")) + NO_ITEMS


def format_details(items: Iterable[tuple[StoreItem, int]]) -> bytes:
    """The answer to `info`: items, each with the bytes to download (0 if that is unknown).

    An item with a name that is not plain text is left out.
    """
    return b"".join(_each(items, lambda known: _details(*known))) + NO_ITEMS


def _each(values: Iterable[_T], form: Callable[[_T], str]) -> Iterator[bytes]:
    """What can be told: one that cannot is no reason to be silent about the others."""
    for value in values:
        with suppress(ProtocolError):
            yield form(value).encode("ascii")


def _details(item: StoreItem, download_size: int) -> str:
    store_dir = item.store_dir
    return _lines(
        (
            item.path,
            f"{store_dir}/{item.deriver}" if item.deriver else "",
            str(len(item.references)),
            *(f"{store_dir}/{name}" for name in item.references),
            str(download_size),
            str(item.nar_size),
        )
    )


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{line and _plain(line)}\n" for line in lines)


def _plain(text: str) -> str:
    if not _PLAIN.fullmatch(text):
        raise ProtocolError("a name holds what cannot be told to the daemon")
    return text


def format_success(nar_hash: bytes, nar_size: int) -> bytes:
    """The answer to `substitute` when the item is there."""
    return f"success sha256:{nixbase32.encode(nar_hash)} {nar_size}\n".encode("ascii")


def format_mismatch(expected: bytes, actual: bytes) -> bytes:
    """The answer to `substitute` when what came is not what was signed."""
    shown = f"{nixbase32.encode(expected)} {nixbase32.encode(actual)}"
    return f"hash-mismatch sha256 {shown}\n".encode("ascii")
