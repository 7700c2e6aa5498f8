"""The requests that we make of a Guix daemon: the bytes of each, and how its result is read.

Reading is written as generators that ask for so many bytes and are handed exactly these, so that
it does not matter in which pieces the bytes come. Every length that the daemon claims is compared
with a limit before anything is kept.

Integers are 64 bits, little-endian; strings are a length, the bytes, and zeroes up to a multiple
of 8; lists a count and strings. Source: guix.md, section 8.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar

from guix_glue.errors import ProtocolError

__all__ = [
    "DEFAULT_WORKER_LIMITS",
    "PathInfo",
    "Reading",
    "Request",
    "WorkerLimits",
    "import_paths",
    "is_valid_path",
    "query_path_from_hash_part",
    "query_path_info",
    "query_valid_paths",
    "read_string",
    "read_word",
    "string_bytes",
    "word_bytes",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Reading: TypeAlias = Generator[int, bytes, T]
"""Asks for so many bytes (1 or more), is sent these, and returns what they mean."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How much one answer may hold; the daemon's words are read as they come, never all at once."""

    path: int = 4096
    """Bytes of a path: what the kernel accepts."""
    message: int = 1024 * 1024
    """Bytes of one piece of log text or of an error, which may quote the end of a build log."""
    references: int = 100_000
    """Paths of a list, as references of one item: the largest profiles have some thousands."""


DEFAULT_WORKER_LIMITS: Final = WorkerLimits()


@dataclass(frozen=True, slots=True)
class PathInfo:
    """What QueryPathInfo says: full paths; the SHA-256 of the nar, 32 bytes; bytes.

    Only the form on the wire was checked: whether the paths are of the store is not.
    """

    deriver: str | None
    nar_hash: bytes
    references: tuple[str, ...]
    nar_size: int


@dataclass(frozen=True, slots=True)
class Request(Generic[T_co]):
    """A request: its bytes, and how its result is read."""

    message: bytes
    result: Callable[[WorkerLimits], Reading[T_co]]
    takes_data: bool = False
    """Whether the daemon asks for more than the message, piece by piece."""


def is_valid_path(path: str) -> Request[bool]:
    """Whether the store has the item at the full path `path`."""
    return Request(_message(1, path), _read_flag)


def query_path_info(path: str) -> Request[PathInfo]:
    """What is known of the item at the full path; the daemon fails if it is not valid."""
    return Request(_message(26, path), _read_path_info)


def query_path_from_hash_part(hash_part: str) -> Request[str | None]:
    """The full path of the item with these 32 characters, if there is one."""
    return Request(_message(29, hash_part), _read_found_path)


def query_valid_paths(paths: Sequence[str]) -> Request[tuple[str, ...]]:
    """Which of these full paths are valid, in any order."""
    message = word_bytes(31) + word_bytes(len(paths)) + b"".join(map(_text_bytes, paths))
    return Request(message, _read_paths)


def import_paths() -> Request[tuple[str, ...]]:
    """Take the items of an archive (`formats/export.py`), which the daemon asks for; their paths.

    It takes only what is signed by a key of its access list, whoever asks it to.
    """
    return Request(word_bytes(27), _read_paths, takes_data=True)


def _message(operation: int, *texts: str) -> bytes:
    return word_bytes(operation) + b"".join(map(_text_bytes, texts))


def word_bytes(number: int) -> bytes:
    """An integer as the protocol has it: 64 bits, little-endian."""
    return number.to_bytes(8, "little")


def _text_bytes(text: str) -> bytes:
    # What came from the file system may hold bytes that are no UTF-8.
    return string_bytes(text.encode("utf-8", "surrogateescape"))


def string_bytes(data: bytes) -> bytes:
    """A string as the protocol has it: its length, the bytes, zeroes up to a multiple of 8."""
    return word_bytes(len(data)) + data + bytes(-len(data) % 8)


def read_word() -> Reading[int]:
    """Read an integer."""
    return int.from_bytes((yield 8), "little")


def read_string(limit: int) -> Reading[bytes]:
    """Read a string of at most `limit` bytes."""
    size = yield from read_word()
    if size > limit:
        raise ProtocolError(f"the Guix daemon sends a string of {size} bytes; {limit} are allowed")
    if size == 0:
        return b""
    data = yield size + -size % 8
    if any(data[size:]):
        raise ProtocolError("the Guix daemon pads a string with something else than zeroes")
    return data[:size]


def _read_path(limits: WorkerLimits) -> Reading[str]:
    data = yield from read_string(limits.path)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ProtocolError(f"the Guix daemon names a path that is no UTF-8: {data!r}") from None


def _read_paths(limits: WorkerLimits) -> Reading[tuple[str, ...]]:
    count = yield from read_word()
    if count > limits.references:
        allowed = limits.references
        raise ProtocolError(f"the Guix daemon lists {count} paths; {allowed} are allowed")
    paths = []
    for _ in range(count):
        path = yield from _read_path(limits)
        paths.append(path)
    return tuple(paths)


def _read_flag(_limits: WorkerLimits) -> Reading[bool]:
    word = yield from read_word()
    if word > 1:
        raise ProtocolError(f"the Guix daemon answers yes or no with {word}")
    return word == 1


def _read_found_path(limits: WorkerLimits) -> Reading[str | None]:
    return (yield from _read_path(limits)) or None


def _read_path_info(limits: WorkerLimits) -> Reading[PathInfo]:
    deriver = yield from _read_path(limits)
    nar_hash = _parse_hash((yield from read_string(64)))
    references = yield from _read_paths(limits)
    yield from read_word()  # when it was registered
    nar_size = yield from read_word()
    return PathInfo(deriver or None, nar_hash, references, nar_size)


def _parse_hash(text: bytes) -> bytes:
    """Sixty-four hexadecimal digits -> 32 bytes; `bytes.fromhex` alone would skip blanks."""
    if len(text) != 64 or not text.isalnum():
        raise ProtocolError(f"the Guix daemon gives a hash that is none: {text!r}")
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise ProtocolError(f"the Guix daemon gives a hash that is none: {text!r}") from None
