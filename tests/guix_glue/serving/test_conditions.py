"""Parts of replies, and replies to who has the bytes already; without a socket."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.serving.conditions import conditional
from guix_glue.serving.reply import (
    NAR_TYPE,
    OCTETS_TYPE,
    TEXT_TYPE,
    FetchedBody,
    FileBody,
    Reply,
    Request,
    StreamBody,
)

CONTENT = bytes(range(100))
GET = Request("GET", "/")


def file_reply(tag: str | None = "tag") -> Reply:
    return Reply(200, OCTETS_TYPE, FileBody(io.BytesIO(CONTENT), 100), 60, tag=tag)


def sent(reply: Reply) -> bytes:
    """What a client gets."""
    if isinstance(reply.body, bytes):
        return reply.body
    assert isinstance(reply.body, FileBody)
    reply.body.file.seek(reply.body.offset)
    return reply.body.file.read(reply.body.size)


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=10-", 10, 99),
        ("bytes=99-", 99, 99),
        ("bytes=50-1000", 50, 99),
        ("bytes=-1", 99, 99),
        ("bytes=-30", 70, 99),
        ("bytes=-1000", 0, 99),
        ("bytes=0-", 0, 99),
        ("BYTES= 5-6 ", 5, 6),
    ],
)
def test_a_range(wanted: str, first: int, last: int) -> None:
    reply = conditional(replace(GET, range=wanted), file_reply())
    assert reply.status == 206
    headers = dict(reply.headers)
    assert headers["Content-Range"] == f"bytes {first}-{last}/100"
    assert headers["ETag"] == '"tag"'
    assert reply.size == last - first + 1
    assert reply.max_age_s == 60
    assert sent(reply) == CONTENT[first : last + 1]


@pytest.mark.parametrize("wanted", ["bytes=100-", "bytes=1000-2000", "bytes=-0"])
def test_a_range_that_there_is_not(wanted: str) -> None:
    whole = file_reply()
    reply = conditional(replace(GET, range=wanted), whole)
    assert reply.status == 416
    assert dict(reply.headers)["Content-Range"] == "bytes */100"
    assert isinstance(whole.body, FileBody)
    assert whole.body.file.closed


@pytest.mark.parametrize(
    "wanted",
    [
        *("bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "bytes=1-2,5-6", "items=0-1", "0-1"),
        *("bytes=--1", "bytes=1--2", "bytes=+1-2", "bytes=\u0661-", "bytes=" + "1" * 19 + "-"),
    ],
)
def test_what_is_no_single_range_gets_all(wanted: str) -> None:
    reply = conditional(replace(GET, range=wanted), file_reply())
    assert (reply.status, sent(reply)) == (200, CONTENT)
    assert dict(reply.headers)["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("named", "status"),
    [
        ('"tag"', 206),
        ('W/"tag"', 200),
        ('"other"', 200),
        ("tag", 200),
        ("Sat, 28 Nov 2026 10:00:00 GMT", 200),
    ],
)
def test_a_range_of_these_very_bytes_only(named: str, status: int) -> None:
    request = replace(GET, range="bytes=1-2", if_range=named)
    assert conditional(request, file_reply()).status == status


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("named", ['"tag"', 'W/"tag"', '"a", "tag"', '"a",W/"tag" ,"b"', "*"])
def test_who_has_the_bytes_already(named: str, method: str) -> None:
    whole = file_reply()
    request = Request(method, "/", range="bytes=1-2", if_none_match=named)
    reply = conditional(request, whole)
    assert (reply.status, sent(reply)) == (304, b"")
    assert dict(reply.headers)["ETag"] == '"tag"'
    assert reply.max_age_s == 60
    assert isinstance(whole.body, FileBody)
    assert whole.body.file.closed


@pytest.mark.parametrize("named", ['"tag', 'tag"', "tag", '"TAG"', '"other"', "", "W/tag"])
def test_who_has_other_bytes(named: str) -> None:
    assert conditional(replace(GET, if_none_match=named), file_reply()).status == 200


def test_parts_of_what_comes_from_somewhere_else() -> None:
    async def pieces(offset: int, size: int) -> AsyncGenerator[bytes, None]:
        yield CONTENT[offset : offset + size]

    left: list[bool] = []

    def fetched(tag: str | None = "tag") -> Reply:
        return Reply(200, NAR_TYPE, FetchedBody(pieces, 100, lambda: left.append(True)), tag=tag)

    part = conditional(replace(GET, range="bytes=10-19"), fetched())
    assert (part.status, part.size) == (206, 10)
    assert dict(part.headers)["Content-Range"] == "bytes 10-19/100"
    assert isinstance(part.body, FetchedBody)
    assert (part.body.offset, part.body.size) == (10, 10)
    assert left == []
    part.close()
    assert left == [True]
    # Who has nothing to read does not keep anybody.
    for asked, status in (
        (replace(GET, range="bytes=100-"), 416),
        (replace(GET, if_none_match="*"), 304),
    ):
        left.clear()
        assert conditional(asked, fetched()).status == status
        assert left == [True]
    whole = conditional(replace(GET, range="bytes=10-19"), fetched(tag=None))
    assert (whole.status, dict(whole.headers)) == (200, {"Accept-Ranges": "none"})


def test_a_head_has_no_parts() -> None:
    reply = conditional(Request("HEAD", "/", range="bytes=1-2"), file_reply())
    assert (reply.status, reply.size) == (200, 100)
    assert dict(reply.headers)["Accept-Ranges"] == "bytes"


def test_what_is_made_on_the_way_has_no_parts() -> None:
    for whole in (Reply(200, NAR_TYPE, StreamBody(lambda: iter(()), 5)), file_reply(tag=None)):  # type: ignore[arg-type, return-value]
        reply = conditional(replace(GET, range="bytes=1-2", if_none_match="*"), whole)
        assert (reply.status, reply.size) == (200, whole.size)
        assert dict(reply.headers) == {"Accept-Ranges": "none"}


@pytest.mark.parametrize("status", [200, 404])
def test_pages_are_as_they_are(status: int) -> None:
    page = Reply(status, TEXT_TYPE, b"text")
    assert conditional(replace(GET, range="bytes=1-2", if_none_match="*"), page) is page


@given(st.text(), st.text(), st.text())
def test_headers_may_be_anything(wanted: str, if_range: str, if_none_match: str) -> None:
    request = Request("GET", "/", wanted, if_range, if_none_match)
    reply = conditional(request, file_reply())
    assert reply.status in (200, 206, 304, 416)
    assert reply.size <= 100


@given(st.integers(0, 200), st.integers(0, 200))
def test_parts_are_of_the_whole(first: int, last: int) -> None:
    reply = conditional(replace(GET, range=f"bytes={first}-{last}"), file_reply())
    if reply.status == 206:
        assert sent(reply) == CONTENT[first : last + 1] != b""
    elif reply.status == 416:
        assert first >= 100
    else:
        assert last < first
