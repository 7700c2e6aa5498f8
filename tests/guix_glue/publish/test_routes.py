"""Paths of requests: those of the stock server, and anything else."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.formats.compression import Compression
from guix_glue.publish.routes import (
    BuildLog,
    CacheInfo,
    FixedFile,
    Landing,
    ListingOf,
    NarinfoOf,
    NarOf,
    Route,
    SigningKey,
    nar_url,
    parse_nar_path,
    parse_path,
)

HASH = "7xq3qwahlz7ci18sxrm0qhmzqmafag1f"
NAME = f"{HASH}-app-1.2.3"
FILE_HASH = "1q75lkb8cn0m7dcngfzg06wr2002w5nvj4fi5ba615fh42gnwqqz"


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", Landing()),
        ("/index.html", Landing()),
        ("/nix-cache-info", CacheInfo()),
        ("/signing-key.pub", SigningKey()),
        (f"/{HASH}.narinfo", NarinfoOf(HASH)),
        (f"//{HASH}.narinfo", NarinfoOf(HASH)),
        (f"/{HASH}.ls", ListingOf(HASH)),
        (f"/nar/{NAME}", NarOf(NAME, Compression.NONE)),
        (f"/nar/gzip/{NAME}", NarOf(NAME, Compression.GZIP)),
        (f"/nar/lzip/{NAME}", NarOf(NAME, Compression.LZIP)),
        (f"/nar/zstd/{NAME}", NarOf(NAME, Compression.ZSTD)),
        (f"/nar/gzip/{HASH}-a%2Bb%3F", NarOf(f"{HASH}-a+b?", Compression.GZIP)),
        (f"/log/{NAME}", BuildLog(NAME)),
    ],
)
def test_what_is_served(path: str, route: Route) -> None:
    assert parse_path(path) == route


def test_a_file_by_its_hash() -> None:
    route = parse_path(f"/file/fixed-hello.txt/sha256/{FILE_HASH}")
    assert isinstance(route, FixedFile)
    assert route.name == "fixed-hello.txt"
    assert len(route.sha256) == 32


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nix-cache-info",
        "/nar",
        "/nar/",
        "/nar/brotli/" + NAME,
        "/nar/none/" + NAME,
        "/nar/gzip/" + HASH,
        "/nar/gzip/../" + NAME,
        f"/nar/gzip/..%2F{NAME}",
        f"/nar/gzip/{HASH}-a%2F..%2Fb",
        f"/nar/gzip/{HASH}-a%00",
        f"/nar/gzip/{HASH}-%FF",
        # Stock answers 500 to lengths other than 32.
        f"/{HASH}0.narinfo",
        f"/{HASH[:-1]}.narinfo",
        "/" + "e" * 32 + ".narinfo",
        "/.narinfo",
        "/.ls",
        f"/{HASH}0.ls",
        f"/{HASH}.ls/x",
        # What Nix asks of outputs that are named by their content, and of debug files.
        f"/realisations/sha256:{'0' * 64}!out.doi",
        f"/debuginfo/{'0' * 40}",
        "/file/x/sha256/eeee",
        f"/file/x/sha1/{FILE_HASH}",
        f"/file/x/sha256/{'z' * 52}",
        f"/file/..%2F..%2Fetc/sha256/{FILE_HASH}",
        f"/file/.hidden/sha256/{FILE_HASH}",
        f"/file/%FF/sha256/{FILE_HASH}",
        f"/file/{'x' * 212}/sha256/{FILE_HASH}",
        f"/file/x/sha256/{'0' * 51}e",
        "/log/x",
        f"/log/{NAME}/more",
        "/" + "a" * 5000,
    ],
)
def test_what_is_not_there(path: str) -> None:
    assert parse_path(path) is None


def test_another_nar_path() -> None:
    nar_path = parse_nar_path("/foo/bar/")
    assert parse_path(f"/foo/bar/zstd/{NAME}", nar_path) == NarOf(NAME, Compression.ZSTD)
    assert parse_path(f"/nar/zstd/{NAME}", nar_path) is None
    assert nar_url(nar_path, Compression.ZSTD, NAME) == f"foo/bar/zstd/{NAME}"


@pytest.mark.parametrize("text", ["", "/", "..", "a/../b", "file", "log"])
def test_what_is_no_nar_path(text: str) -> None:
    with pytest.raises(ValueError, match=r"path|taken"):
        parse_nar_path(text)


@given(
    st.sampled_from(["a+b", "x?y", "a=b", "_.-", "q"]),
    st.sampled_from([Compression.NONE, Compression.GZIP, Compression.LZIP, Compression.ZSTD]),
)
def test_a_nar_url_leads_to_its_nar(name: str, method: Compression) -> None:
    url = nar_url(("nar", "ünï"), method, f"{HASH}-{name}")
    assert parse_path("/" + url, ("nar", "ünï")) == NarOf(f"{HASH}-{name}", method)


PARTS = st.sampled_from(
    ["nar", "gzip", "file", "sha256", "log", "..", ".", "", NAME, f"{HASH}.narinfo", FILE_HASH]
) | st.binary(max_size=12).map(quote)


@given(st.lists(PARTS, max_size=6).map(lambda parts: "/" + "/".join(parts)) | st.text())
def test_any_path_is_a_route_or_none(path: str) -> None:
    route = parse_path(path)
    if isinstance(route, NarOf | BuildLog):
        assert "/" not in route.base_name
        assert len(route.base_name) > 33
