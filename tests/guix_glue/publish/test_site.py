"""Any request has an answer, without sockets: over a source that works, and one that does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import DaemonError
from guix_glue.formats.compression import Compression
from guix_glue.publish.model import TEXT_TYPE, PublishOptions, Reply, Request
from guix_glue.publish.site import Site

HASH = "7xq3qwahlz7ci18sxrm0qhmzqmafag1f"
NAME = f"{HASH}-app"
FILE = "/file/x/sha256/1q75lkb8cn0m7dcngfzg06wr2002w5nvj4fi5ba615fh42gnwqqz"
OPTIONS = PublishOptions("/gnu/store", (), ttl_s=1000, negative_ttl_s=60)


class Echo:
    """A source that says what it was asked, or fails as it is told."""

    def __init__(self, failure: Exception | None = None) -> None:
        self._failure = failure

    def _say(self, *asked: object) -> Reply:
        if self._failure is not None:
            raise self._failure
        return Reply(200, TEXT_TYPE, repr(asked).encode())

    def expect(self, hash_parts: Sequence[str]) -> None:
        self.expected = list(hash_parts)

    async def narinfo(self, hash_part: str) -> Reply | None:
        return self._say("narinfo", hash_part) if hash_part == HASH else None

    async def nar(self, base_name: str, method: Compression) -> Reply | None:
        return self._say("nar", base_name, method.value) if base_name == NAME else None

    async def fixed_file(self, name: str, sha256: bytes) -> Reply | None:
        return self._say("file", name)

    async def build_log(self, base_name: str) -> Reply | None:
        return self._say("log", base_name)

    async def expire(self, before: float) -> None: ...

    async def close(self) -> None: ...


def answer(path: str, *, method: str = "GET", failure: Exception | None = None) -> Reply:
    site = Site(Echo(failure), OPTIONS, public_key=b"<key>", eris=True)
    return asyncio.run(site.answer(Request(method, path)))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/{HASH}.narinfo", f"('narinfo', '{HASH}')"),
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
    [("/x", None), ("/" + "0" * 32 + ".narinfo", 60), (f"/nar/gzip/{'0' * 32}-x", 300)],
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
