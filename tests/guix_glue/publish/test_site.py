"""Any request has an answer, without sockets: over a source that works, and one that does not."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import DaemonError, StillHashing
from guix_glue.publish.model import PublishOptions
from guix_glue.publish.site import Site
from guix_glue.serving.reply import Reply, Request
from tests.guix_glue.publish.fakes import HASH, NAME, Echo

FILE = "/file/x/sha256/1q75lkb8cn0m7dcngfzg06wr2002w5nvj4fi5ba615fh42gnwqqz"
OPTIONS = PublishOptions("/gnu/store", (), ttl_s=1000, negative_ttl_s=60)


def answer(path: str, *, method: str = "GET", failure: Exception | None = None) -> Reply:
    site = Site(Echo(failure), OPTIONS, public_key=b"<key>", eris=True)
    return asyncio.run(site.answer(Request(method, path)))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/{HASH}.narinfo", f"('narinfo', '{HASH}')"),
        (f"/{HASH}.ls", f"('listing', '{HASH}')"),
        (f"/nar/{NAME}", f"('nar', '{NAME}', 'none')"),
        (f"/nar/zstd/{NAME}", f"('nar', '{NAME}', 'zstd')"),
        (FILE, "('file', 'x')"),
        (f"/log/{NAME}", f"('log', '{NAME}')"),
        ("/signing-key.pub", "<key>"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_each_route(path: str, body: str, method: str) -> None:
    reply = answer(path, method=method)
    assert (reply.status, reply.body) == (200, body.encode())


@pytest.mark.parametrize(
    ("path", "age"),
    [
        ("/x", None),
        ("/" + "0" * 32 + ".narinfo", 60),
        ("/" + "0" * 32 + ".ls", 60),
        (f"/nar/gzip/{'0' * 32}-x", 300),
    ],
)
def test_what_is_not_there(path: str, age: int | None) -> None:
    reply = answer(path)
    assert reply.status == 404
    assert reply.body == f"Resource not found: {path}".encode()
    assert reply.max_age_s == age


def test_the_landing_page_is_escaped() -> None:
    assert isinstance(body := answer("/").body, bytes)
    assert b"&lt;key&gt;" in body
    assert b"<key>" not in body


@pytest.mark.parametrize(
    ("failure", "status"),
    [(DaemonError("no daemon"), 503), (OSError(5, "I/O"), 503), (RuntimeError("a bug"), 500)],
)
def test_a_source_that_fails(failure: Exception, status: int) -> None:
    reply = answer(f"/{HASH}.narinfo", failure=failure)
    assert reply.status == status
    assert isinstance(reply.body, bytes)
    assert str(failure).encode() not in reply.body


def test_what_is_not_known_yet_is_asked_for_again_soon() -> None:
    reply = answer(f"/{HASH}.narinfo", failure=StillHashing())
    assert (reply.status, reply.max_age_s) == (404, 10)


def test_the_source_is_told_which_narinfos_come() -> None:
    source = Echo()
    site = Site(source, OPTIONS, public_key=None, eris=False)
    site.expect([f"/{HASH}.narinfo", "/x.narinfo", f"/nar/{NAME}", "//"])
    assert source.expected == [HASH]


PARTS = st.sampled_from(
    ["nar", "gzip", "file", "sha256", "log", "..", "", NAME, f"{HASH}.narinfo", "index.html"]
) | st.binary(max_size=40).map(quote)
PATHS = st.lists(PARTS, max_size=6).map(lambda parts: "/" + "/".join(parts)) | st.binary().map(
    lambda sent: sent.decode("utf-8", "surrogateescape")
)


@given(PATHS, st.sampled_from(["GET", "HEAD", "POST", "BREW"]))
def test_any_request_has_an_answer(path: str, method: str) -> None:
    reply = answer(path, method=method)
    assert reply.status in (200, 404, 405)
    assert isinstance(reply.body, bytes)
    assert reply.size == len(reply.body)


def test_what_cannot_be_answered_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    site = Site(Echo(DaemonError("odd")), OPTIONS, public_key=None, eris=True)

    async def main() -> None:
        for _ in range(100):
            assert (await site.answer(Request("GET", f"/{HASH}.narinfo"))).status == 503

    asyncio.run(main())
    assert len(caplog.records) == 1
