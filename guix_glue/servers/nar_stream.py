"""The bytes of a nar from a server, in one go for whoever takes them.

Where the connection is lost in the middle, the rest is asked for (RFC 9110, "Range Requests"): if
the server said how long the nar is and by what it can be told from another, so that the rest is
surely of the same. One that hangs in the middle counts as lost, too. What comes is compared with a
hash in the end anyway. Bodies in an encoding are not gone on with: their pieces do not stand for
pieces of the nar.

Not all servers say how long a nar is, and some of these leave the connection open behind it: then
the size of the nar tells where it ends.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import Final

import aiohttp

from guix_glue.errors import CompressionError, FetchFailed, TemporaryFailure
from guix_glue.formats.compression import Compression, Decompressor
from guix_glue.servers.encodings import body_decoder, encoding_name
from guix_glue.servers.http import HttpClient, network_failure
from guix_glue.servers.nars import NarEnd, NarSource
from guix_glue.servers.patience import Patience
from guix_glue.servers.url import InvalidServer

__all__ = ["nar_pieces"]

# Both together are less than the silence after which a server is given up.
_WAITING_S: Final = 25.0
_SILENCE_S: Final = 20.0
# After so many bytes more it is another failure.
_PROGRESS: Final = 256 * 1024
_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_STRONG: Final = re.compile(r'"[!#-~]{0,200}"')
# RFC 9110, 8.8.2.2: a date tells versions apart when it was long ago.
_OLD_S: Final = 60
_STEP: Final = 256 * 1024
_GZIP_MAGIC: Final = b"\x1f\x8b"


async def nar_pieces(
    client: HttpClient,
    source: NarSource,
    nar_size: int,
    end: NarEnd,
    *,
    length: int | None = None,
) -> AsyncGenerator[bytes, None]:
    """Give the bytes as they come, compressed as they are.

    `nar_size` tells where an uncompressed nar ends, if nothing else does. `end` is told how it did,
    and is the same for all tries of a source. With `length` nothing is taken of what the server
    says to be longer or shorter, as it is sent.
    Raises: FetchFailed; TemporaryFailure, where another try from the beginning may do.
    """
    end.begin()
    stream = _Stream(client, source, nar_size, length, resumes=not end.whole)
    patience = Patience(_WAITING_S)
    came = 0
    while True:
        try:
            async with aclosing(stream.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
            end.told = stream.end_is_told
            return
        except TemporaryFailure as error:
            if stream.came - came >= _PROGRESS:
                patience, came = Patience(_WAITING_S), stream.came
            pause_s = patience.pause_s(error.pause_s) if stream.can_go_on else None
            if pause_s is None:
                raise
        await asyncio.sleep(pause_s)
        end.resumed = stream.came > 0


class _Stream:
    """How far a nar has come, and by what the rest of it can be asked for."""

    def __init__(
        self,
        client: HttpClient,
        source: NarSource,
        nar_size: int,
        expected: int | None,
        *,
        resumes: bool,
    ) -> None:
        self._client = client
        self._source = source
        self._left = nar_size
        self._expected = expected
        self._resumes = resumes
        self._length: int | None = None
        self._validator: str | None = None
        self.came = 0
        """Bytes of the body."""
        self.end_is_told = False
        """Whether the server tells where the body ends."""

    @property
    def can_go_on(self) -> bool:
        """Whether there is a way to ask for the rest."""
        return self._validator is not None

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Ask for the nar, or for the rest of it."""
        source = self._source
        async with await self._ask() as response:
            decoder = self._check_rest(response) if self.came else self._check(response)
            endless = self._length is None and source.compression is Compression.NONE
            try:
                while data := await self._read(response.content):
                    self.came += len(data)
                    for piece in decoder.feed(data, _STEP):
                        yield piece
                        self._left -= len(piece)
                    if endless and self._left <= 0:
                        response.close()
                        return
                decoder.finish()
            except (aiohttp.ClientError, OSError) as error:
                raise network_failure(error) from error
            except CompressionError as error:
                raise FetchFailed(f"the server's answer cannot be decoded: {error}") from error

    async def _read(self, content: aiohttp.StreamReader) -> bytes:
        """What comes next; empty at the end. A connection may hang where another one would not."""
        async with asyncio.timeout(_SILENCE_S if self.can_go_on else None):
            return await content.readany()

    async def _ask(self) -> aiohttp.ClientResponse:
        source = self._source
        try:
            return await self._client.get(source.url, source.authorization, self._conditions())
        except InvalidServer as error:
            raise FetchFailed(str(error)) from error

    def _conditions(self) -> Mapping[str, str]:
        if not self.came or self._validator is None:
            return {}
        return {"Range": f"bytes={self.came}-", "If-Range": self._validator}

    def _check(self, response: aiohttp.ClientResponse) -> Decompressor:
        """See what the whole nar comes as."""
        headers = response.headers
        if response.status != 200:
            raise self._client.failure_of(response)
        self._length = response.content_length
        self.end_is_told = self._length is not None or "Transfer-Encoding" in headers
        encoding = encoding_name(", ".join(headers.getall("Content-Encoding", ())))
        if self._length is not None and not encoding:
            if self._expected not in (None, self._length):
                raise FetchFailed(f"{self._length} bytes instead of {self._expected}")
            if self._resumes:
                self._validator = _validator(headers)
        return _decoder(self._source.compression, encoding)

    def _check_rest(self, response: aiohttp.ClientResponse) -> Decompressor:
        """See that it is the rest of the nar that comes."""
        headers = response.headers
        if response.status not in (200, 206, 416):
            raise self._client.failure_of(response)
        match = _RANGE.fullmatch(headers.get("Content-Range", ""))
        rest = match is not None and (
            int(match[1]) == self.came
            and int(match[2]) + 1 == self._length
            and match[3] in ("*", str(self._length))
        )
        encoding = encoding_name(headers.get("Content-Encoding", ""))
        if response.status != 206 or not rest or encoding or self._is_other(headers):
            self._validator = None
            raise TemporaryFailure("the connection was lost, and the server does not go on there")
        return body_decoder("")

    def _is_other(self, headers: Mapping[str, str]) -> bool:
        tag = headers.get("ETag", self._validator)
        return _STRONG.fullmatch(self._validator or "") is not None and tag != self._validator


def _validator(headers: Mapping[str, str]) -> str | None:
    """What tells this nar from another under the same URL; None if nothing is sure to."""
    if headers.get("Accept-Ranges", "").strip().lower() == "none":
        return None
    tag = headers.get("ETag", "")
    if tag:
        return tag if _STRONG.fullmatch(tag) else None
    modified = headers.get("Last-Modified", "")
    try:
        age = parsedate_to_datetime(headers.get("Date", "")) - parsedate_to_datetime(modified)
    except (ValueError, TypeError, OverflowError):
        return None
    return modified if age.total_seconds() >= _OLD_S else None


def _decoder(compression: Compression, encoding: str) -> Decompressor:
    """What undoes an encoding; one that is the compression itself is left to whoever does that."""
    if encoding != compression.value:
        return body_decoder(encoding)
    return _OnceOrTwice() if compression is Compression.GZIP else body_decoder("")


class _OnceOrTwice:
    """A nar in gzip that comes with the encoding gzip: what is in it tells which of both it is.

    Servers of files call what ends in `.gz` encoded.
    """

    def __init__(self) -> None:
        self._decoder = body_decoder("gzip")
        self._raw: list[bytes] = []
        self._seen = b""
        self._twice: bool | None = None

    def feed(self, data: bytes, max_output: int = _STEP) -> Iterator[bytes]:
        if self._twice is False:
            return iter((data,))
        decoded = self._decoder.feed(data, max_output)
        return decoded if self._twice else self._decide(data, decoded)

    def finish(self) -> None:
        if self._twice:
            self._decoder.finish()

    def _decide(self, data: bytes, decoded: Iterator[bytes]) -> Iterator[bytes]:
        self._raw.append(data)
        for piece in decoded:
            self._seen += piece
            if len(self._seen) >= len(_GZIP_MAGIC):
                self._twice = self._seen.startswith(_GZIP_MAGIC)
                return chain((self._seen,), decoded) if self._twice else iter(self._raw)
        return iter(())
