"""Compressed bytes in, pieces of bounded size out, however much the input stands for.

All formats allow members (zstd: frames) one after the other, which together are one content. The
end of a member must be there, and nothing but another one may follow it, except for the zeros that
gzip(1) and xz(1) take for padding.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

from eris_fs.zstd import DecompressionParameter, ZstdDecompressor, ZstdError, get_frame_info
from guix_glue.errors import CompressionError
from guix_glue.formats.compression.choice import Compression
from guix_glue.formats.compression.lzip import LzipMember

__all__ = ["MAX_MEMORY", "MAX_OUTPUT", "Decompressor", "decompressor"]

MAX_OUTPUT: Final = 1024 * 1024
"""Bytes of output at a time."""

MAX_MEMORY: Final = 128 * 1024 * 1024
"""Bytes of window or dictionary that a stream may ask for: what zstd itself allows unless told
otherwise, and more than the highest levels of lzip (32 MiB) and xz (64 MiB) use."""

# What else xz needs is much less.
_XZ_MEMORY: Final = MAX_MEMORY + 1024 * 1024
_ZSTD_OPTIONS: Final[dict[int, int]] = {
    DecompressionParameter.window_log_max: MAX_MEMORY.bit_length() - 1
}
# Source: RFC 8878, section 3.1.1.
_MAX_ZSTD_HEADER: Final = 18
_GZIP: Final = 31
# Members can be tiny, and what follows one is copied.
_STEP: Final = 64 * 1024
_FAILURES: Final = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, ZstdError)


class Decompressor(Protocol):
    """Decompresses one stream."""

    def feed(self, data: bytes, max_output: int = MAX_OUTPUT) -> Iterator[bytes]:
        """Take the next bytes; gives what they stand for, at most `max_output` bytes at a time.

        The iterator must be exhausted before more is fed.
        Raises: CompressionError.
        """
        ...

    def finish(self) -> None:
        """Say that this was all.

        Raises: CompressionError, if it is not complete.
        """
        ...


def decompressor(method: Compression) -> Decompressor:
    """What decompresses what was compressed by a method."""
    match method:
        case Compression.NONE:
            return _Plain()
        case Compression.GZIP:
            return _Members(method, _GzipMember, _Padding(1, last=True))
        case Compression.LZIP:
            return _Members(method, lambda: LzipMember(MAX_MEMORY))
        case Compression.XZ:
            return _Members(
                method,
                lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY),
                _Padding(4, last=False),
            )
        case Compression.BZIP2:
            return _Members(method, bz2.BZ2Decompressor)
        case Compression.ZSTD:
            return _Members(method, _ZstdFrame)
        case _:
            assert_never(method)


class _Plain:
    def feed(self, data: bytes, max_output: int = MAX_OUTPUT) -> Iterator[bytes]:
        return _cut(data, max_output)

    def finish(self) -> None:
        pass


class _Member(Protocol):
    """What decompresses one member, as bz2 and lzma have it."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Padding:
    """Zeros that may follow a member: a multiple of `unit`; if `last`, no other member after it."""

    unit: int
    last: bool


class _Members:
    """Any number of members, but one."""

    def __init__(
        self, method: Compression, begin: Callable[[], _Member], padding: _Padding | None = None
    ) -> None:
        self._name = method.value
        self._begin = begin
        self._padding = padding
        self._zeros = 0
        self._member: _Member | None = None
        self._complete = False

    def feed(self, data: bytes, max_output: int = MAX_OUTPUT) -> Iterator[bytes]:
        for piece in _cut(data, _STEP):
            yield from self._feed(piece, max_output)

    def finish(self) -> None:
        if not self._complete or (self._padding and self._zeros % self._padding.unit):
            raise CompressionError(f"the {self._name} stream is cut off")

    def _feed(self, data: bytes, max_output: int) -> Iterator[bytes]:
        data = self._skip_zeros(data)
        while data or self._has_more():
            output, rest = self._step(data, max_output)
            if output:
                yield output
            data = self._skip_zeros(rest)

    def _skip_zeros(self, data: bytes) -> bytes:
        """Take the zeros behind a member, if some may be there; returns what follows them."""
        if self._padding is None or not self._complete:
            return data
        rest = data.lstrip(b"\0")
        self._zeros += len(data) - len(rest)
        if rest and self._zeros:
            if self._padding.last or self._zeros % self._padding.unit:
                raise CompressionError(f"something else follows the {self._name} stream")
            self._zeros = 0
        return rest

    def _has_more(self) -> bool:
        return self._member is not None and not self._member.needs_input

    def _step(self, data: bytes, max_output: int) -> tuple[bytes, bytes]:
        """Decompress; returns the output, and what follows the member if that ends."""
        try:
            member = self._member = self._member or self._begin()
            output = member.decompress(data, max_output)
        except _FAILURES as error:
            raise CompressionError(f"the {self._name} stream is damaged: {error}") from error
        self._complete = member.eof
        if not member.eof:
            return output, b""
        self._member = None
        return output, member.unused_data


class _GzipMember:
    def __init__(self) -> None:
        self._codec = zlib.decompressobj(_GZIP)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._codec.eof

    @property
    def unused_data(self) -> bytes:
        return self._codec.unused_data

    @property
    def needs_input(self) -> bool:
        return not (self._full or self._codec.unconsumed_tail)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        tail = self._codec.unconsumed_tail
        output = self._codec.decompress(tail + data if tail else data, max_length)
        # There may be more, also if all input has been taken.
        self._full = len(output) == max_length
        return output


class _ZstdFrame:
    """A frame, which may also be one that is skipped."""

    def __init__(self) -> None:
        self._codec = ZstdDecompressor(options=_ZSTD_OPTIONS)
        self._head = b""
        self._size = 0

    @property
    def eof(self) -> bool:
        return self._codec.eof

    @property
    def needs_input(self) -> bool:
        return self._codec.needs_input

    @property
    def unused_data(self) -> bytes:
        return self._codec.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        self._head += data[: _MAX_ZSTD_HEADER - len(self._head)]
        output = self._codec.decompress(data, max_length)
        self._size += len(output)
        if self._codec.eof and not self._is_whole():
            raise ValueError("a frame is not as long as it says")
        return output

    def _is_whole(self) -> bool:
        """Whether the frame held what it says: of some the library does not ask it."""
        return get_frame_info(self._head).decompressed_size in (None, self._size)


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    if len(data) <= size:
        return iter((data,) if data else ())
    return (data[start : start + size] for start in range(0, len(data), size))
