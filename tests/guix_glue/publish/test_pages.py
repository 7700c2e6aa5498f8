"""The page for people, and what Nix reads of a server first."""

from __future__ import annotations

import asyncio

import pytest

from guix_glue.publish.model import PublishOptions
from guix_glue.publish.pages import cache_info, landing_page
from guix_glue.publish.site import Site
from guix_glue.serving.reply import Request
from tests.guix_glue.publish.fakes import Echo

NIX_KEY = "cache.example-1:AAAA"
GUIX_KEY = b"(public-key <ecc>)"


async def landing(public_key: bytes | None, nix_key: str | None, *, for_nix: bool) -> str:
    options = PublishOptions("/nix/store" if for_nix else "/gnu/store", (), for_nix=for_nix)
    site = Site(Echo(), options, public_key=public_key, nix_key=nix_key, eris=False)
    body = (await site.answer(Request("GET", "/"))).body
    assert isinstance(body, bytes)
    return body.decode()


@pytest.mark.parametrize(
    ("public_key", "nix_key", "for_nix", "guix", "nix"),
    [
        (GUIX_KEY, None, False, True, False),
        (f"{NIX_KEY}\n".encode(), NIX_KEY, True, False, True),
        (GUIX_KEY, NIX_KEY, True, True, True),
        (GUIX_KEY, None, True, True, True),
        (None, None, True, False, True),
    ],
)
def test_whom_the_page_speaks_to(
    public_key: bytes | None, nix_key: str | None, for_nix: bool, guix: bool, nix: bool
) -> None:
    page = asyncio.run(landing(public_key, nix_key, for_nix=for_nix))
    assert ("guix archive --authorize" in page) == guix
    assert ("&lt;ecc&gt;" in page) == guix
    assert ("extra-substituters = SERVER" in page) == nix
    assert (f"extra-trusted-public-keys = {NIX_KEY}" in page) == (nix_key is not None)
    assert ("This server signs nothing itself" in page) == (nix and nix_key is None)
    assert page.count("<h2>") == (2 if guix and nix else 0)


def test_keys_are_escaped() -> None:
    page = landing_page("/nix/store", None, "<b>:AAAA", for_nix=True, eris=False, mirror=False)
    assert b"<b>" not in page


def test_what_nix_reads_first() -> None:
    assert cache_info("/gnu/store", mass_query=False) == (
        b"StoreDir: /gnu/store\nWantMassQuery: 0\nPriority: 100\n"
    )
    assert cache_info("/nix/store", mass_query=True, priority=30).endswith(
        b"\nWantMassQuery: 1\nPriority: 30\n"
    )
