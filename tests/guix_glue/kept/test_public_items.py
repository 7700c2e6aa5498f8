"""What is noted of fetched items, by several at once, with a bound."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guix_glue.kept.public_items import PublicItems, item_mark
from guix_glue.servers.publicness import is_public
from guix_glue.servers.url import parse_server

NAR = b"\1" * 32


def part(number: int) -> str:
    return f"{number:032}"


def test_what_is_noted_is_known(tmp_path: Path) -> None:
    items = PublicItems(tmp_path / "kapla" / "public-items")
    assert items.read() == frozenset()
    assert items.stamp() is None
    for number in (1, 2, 2):
        items.note(part(number), NAR)
    assert PublicItems(tmp_path / "kapla" / "public-items").read() == {
        item_mark(part(1), NAR),
        item_mark(part(2), NAR),
    }
    assert items.stamp() is not None
    assert item_mark(part(1), bytes(32)) not in items.read()


def test_a_record_that_was_cut_off_costs_itself(tmp_path: Path) -> None:
    path = tmp_path / "public-items"
    items = PublicItems(path)
    items.note(part(1), NAR)
    with path.open("ab") as file:
        file.write(b"cut")
    assert items.read() == {item_mark(part(1), NAR)}
    items.note(part(2), NAR)
    assert {item_mark(part(number), NAR) for number in (1, 2)} <= items.read()


def test_the_older_half_goes(tmp_path: Path) -> None:
    items = PublicItems(tmp_path / "public-items", most=10)
    for number in range(35):
        items.note(part(number), NAR)
        assert item_mark(part(number), NAR) in items.read()
    assert 5 <= len(items.read()) <= 11


def test_where_nothing_can_be_kept_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    items = PublicItems(tmp_path / "file" / "public-items")
    items.note(part(1), NAR)
    assert items.read() == frozenset()


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://ci.guix.gnu.org", True),
        ("http://bordeaux.guix.gnu.org/", True),
        ("https://93.184.216.34", True),
        ("https://user:secret@cache.example.org", False),
        ("http://localhost:8080", False),
        ("http://127.0.0.1:8080", False),
        ("http://192.168.1.4", False),
        ("http://10.0.0.1", False),
        ("http://[fe80::1%25eth0]:8080", False),
        ("http://[::1]", False),
        ("http://builder", False),
        ("http://builder.local", False),
        ("http://builder.lan.", False),
        ("file:///srv/items", False),
    ],
)
def test_what_everybody_may_ask(url: str, public: bool) -> None:
    assert is_public(parse_server(url)) is public


def test_whoever_gives_items_on_can_read_it(tmp_path: Path) -> None:
    """That is another user, however careful the one is who fetches."""
    before = os.umask(0o077)
    try:
        PublicItems(tmp_path / "public-items").note(part(1), NAR)
    finally:
        os.umask(before)
    assert (tmp_path / "public-items").stat().st_mode & 0o777 == 0o644
