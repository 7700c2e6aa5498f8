"""What a path asks of a proxy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.model import StoreItem
from guix_glue.proxy.routes import (
    CacheInfoPage,
    ElsewhereNar,
    Landing,
    NarinfoOf,
    NarOf,
    Route,
    nar_url,
    parse_path,
)

PART = "7xq3qwahlz7ci18sxrm0qhmzqmafag1f"
ITEM = StoreItem(f"/gnu/store/{PART}-app", bytes(range(32)), 10, ())


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", Landing()),
        ("/index.html", Landing()),
        ("/nix-cache-info", CacheInfoPage()),
        (f"/{PART}.narinfo", NarinfoOf(PART)),
        (f"/nar/gzip/{PART}-app-1.2", ElsewhereNar(PART, f"/nar/gzip/{PART}-app-1.2")),
        (f"/nar/{PART}-app", ElsewhereNar(PART, f"/nar/{PART}-app")),
        ("", None),
        (f"/{PART[:-1]}.narinfo", None),
        (f"/{'e' * 32}.narinfo", None),
        (f"/{PART}.ls", None),
        ("/signing-key.pub", None),
        (f"/nar/{PART}-{'z' * 52}", None),
        (f"/nar/../{PART}-app/", None),
        ("/" + "x/" * 3000, None),
    ],
)
def test_paths(path: str, route: Route | None) -> None:
    assert parse_path(path) == route


def test_the_url_of_a_nar_says_which_it_is() -> None:
    assert parse_path(f"/{nar_url(ITEM)}") == NarOf(PART, ITEM.nar_hash)
    assert "app" not in nar_url(ITEM)


@given(st.text(max_size=100))
def test_any_path_is_a_route_or_none(text: str) -> None:
    parse_path(text)
    assert parse_path(f"/nar/{text}") is None or "-" in text
