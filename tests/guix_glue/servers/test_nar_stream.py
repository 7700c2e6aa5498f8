"""Nars that break off, and go on; by a clock that does not wait."""

from __future__ import annotations

import gzip
import socket
import threading
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from guix_glue.errors import FetchFailed, TemporaryFailure
from guix_glue.formats.compression import Compression
from guix_glue.servers.http import HttpClient
from guix_glue.servers.nar_stream import nar_pieces
from guix_glue.servers.nars import NarEnd, NarSource
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.fetch.fakes import scripted_server
from tests.guix_glue.servers.scripts import answer, rest_of, scripted

NAR = bytes(range(256)) * 40
TAG = 'ETag: "v1"'
DATES = ("Date: Wed, 01 Jan 2025 00:01:00 GMT", "Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT")
FRESH = ("Date: Wed, 01 Jan 2025 00:00:59 GMT", "Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT")


def fetch(url: str, compression: Compression = Compression.XZ, nar_size: int = len(NAR)) -> bytes:
    """All of a nar."""
    source = NarSource(f"{url}/nar", compression, None)

    async def collect(pieces: AsyncGenerator[bytes, None]) -> bytes:
        async with aclosing(pieces):
            return b"".join([piece async for piece in pieces])

    async def run(clock: Clock) -> bytes:
        client = HttpClient()
        try:
            pieces = nar_pieces(client, source, nar_size, NarEnd())
            return await clock.skip_until(collect(pieces), 0.25)
        finally:
            await client.close()

    return run_on_clock(run)


def rest(start: int, *headers: str, total: object = len(NAR), cut: int | None = None) -> bytes:
    """The nar from a place on."""
    place = f"Content-Range: bytes {start}-{len(NAR) - 1}/{total}"
    return answer(NAR[start:], place, *headers, status=206, cut=cut)


@pytest.mark.parametrize(
    ("headers", "validator"), [((TAG,), '"v1"'), ((TAG, *DATES), '"v1"'), (DATES, DATES[1][15:])]
)
def test_a_nar_that_breaks_off_goes_on_there(headers: tuple[str, ...], validator: str) -> None:
    with scripted(answer(NAR, *headers, cut=1000), rest(1000, *headers)) as server:
        assert fetch(server.url) == NAR
        assert server.ranges == [("", ""), ("bytes=1000-", validator)]


def test_it_may_break_off_again_and_the_server_be_busy() -> None:
    busy = answer(b"", status=503)
    with scripted(
        answer(NAR, TAG, cut=1000), busy, rest(1000, TAG, cut=500), b"", rest(1500, total="*")
    ) as server:
        assert fetch(server.url) == NAR
        assert [asked for asked, _ in server.ranges] == [
            "",
            *["bytes=1000-"] * 2,
            *["bytes=1500-"] * 2,
        ]


def test_what_breaks_off_in_the_same_place_again_and_again_is_given_up() -> None:
    with scripted(answer(NAR, TAG, cut=1000), rest(1000, TAG, cut=0)) as server:
        with pytest.raises(TemporaryFailure, match="connection was lost"):
            fetch(server.url)
        assert len(server.heads) == 4


def test_a_server_that_makes_progress_may_break_off_often() -> None:
    nar = bytes(3_000_000)
    step = 300_000

    def piece(start: int) -> bytes:
        place = f"Content-Range: bytes {start}-{len(nar) - 1}/{len(nar)}"
        return answer(nar[start:], place, status=206, cut=step)

    pieces = [piece(start) for start in range(step, len(nar), step)]
    with scripted(answer(nar, TAG, cut=step), *pieces) as server:
        assert fetch(server.url, nar_size=len(nar)) == nar
        assert len(server.heads) == 10


def test_a_connection_that_hangs_in_the_middle_is_made_anew() -> None:
    seen = threading.Event()

    def script(connection: socket.socket) -> None:
        head = connection.recv(1 << 16).decode()
        if seen.is_set():
            connection.sendall(rest_of(NAR)(head))
        else:
            seen.set()
            connection.sendall(answer(NAR, TAG, cut=1000))
            connection.recv(1 << 16)

    with scripted_server(script) as url:
        assert fetch(url) == NAR


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ('ETag: W/"v1"',),
        ("ETag: v1",),
        FRESH,
        (TAG, "Accept-Ranges: none"),
        # The pieces of an encoding are not those of the nar.
        (TAG, "Content-Encoding: gzip"),
    ],
)
def test_without_a_sure_sign_it_is_not_gone_on_with(headers: tuple[str, ...]) -> None:
    body = gzip.compress(NAR) if "Content-Encoding: gzip" in headers else NAR
    with scripted(answer(body, *headers, cut=100)) as server:
        with pytest.raises(TemporaryFailure, match="connection was lost"):
            fetch(server.url)
        assert len(server.heads) == 1


@pytest.mark.parametrize(
    "second",
    [
        answer(NAR, 'ETag: "v2"'),
        answer(NAR, TAG),
        answer(b"", status=416),
        answer(NAR[1000:], status=206),
        rest(1000, 'ETag: "v2"'),
        rest(1000, "Content-Encoding: gzip"),
        rest(999),
        rest(1001),
        rest(1000, total=len(NAR) + 1),
        answer(NAR[1000:-1], f"Content-Range: bytes 1000-{len(NAR) - 2}/{len(NAR)}", status=206),
        answer(NAR[1000:], "Content-Range: lines 1-2/3", status=206),
    ],
)
def test_what_is_not_the_rest_is_not_taken_for_it(second: bytes) -> None:
    with scripted(answer(NAR, TAG, cut=1000), second) as server:
        with pytest.raises(TemporaryFailure, match="does not go on there"):
            fetch(server.url)
        assert len(server.heads) == 2


def test_a_nar_that_has_gone_meanwhile() -> None:
    with (
        scripted(answer(NAR, TAG, cut=1000), answer(b"", status=404)) as server,
        pytest.raises(FetchFailed, match="answers 404"),
    ):
        fetch(server.url)


# --- encodings --------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("name", ["gzip", "x-gzip", "deflate"])
def test_an_encoding_is_undone(name: str, compression: Compression) -> None:
    # What looks like the beginning of a nar in that compression, as far as that matters.
    nar = gzip.compress(NAR) if compression is Compression.GZIP else NAR
    body = zlib.compress(nar) if name == "deflate" else gzip.compress(nar)
    with scripted(answer(body, f"Content-Encoding: {name}")) as server:
        assert fetch(server.url, compression) == nar


@pytest.mark.parametrize(
    ("compression", "name"),
    [
        (Compression.GZIP, "gzip"),
        (Compression.BZIP2, "x-bzip2"),
        (Compression.XZ, "xz"),
        (Compression.ZSTD, "zstd"),
    ],
)
def test_an_encoding_may_be_the_compression(compression: Compression, name: str) -> None:
    body = gzip.compress(NAR) if name == "gzip" else NAR
    with scripted(answer(body, f"Content-Encoding: {name}")) as server:
        assert fetch(server.url, compression) == body


def test_an_encoding_that_is_not_known_is_named() -> None:
    with (
        scripted(answer(NAR, "Content-Encoding: br")) as server,
        pytest.raises(FetchFailed, match="Content-Encoding 'br'"),
    ):
        fetch(server.url)


def test_an_encoding_that_is_cut_off() -> None:
    with (
        scripted(answer(gzip.compress(NAR)[:-9], "Content-Encoding: gzip")) as server,
        pytest.raises(FetchFailed, match="cut off"),
    ):
        fetch(server.url)


def test_nothing_is_asked_to_be_encoded() -> None:
    with scripted(answer(NAR)) as server:
        assert fetch(server.url) == NAR
        assert "\r\nAccept-Encoding: identity\r\n" in server.heads[0]
