"""Who may ask the daemon about itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapla.http.admin.asking import is_of_this_machine, names_of, was_asked_by_a_page

NAMES = names_of("127.0.0.1", 9080)


@pytest.mark.parametrize(
    "host", ["localhost:9080", "LOCALHOST:9080", "127.0.0.1:9080", "[::1]:9080"]
)
def test_names_of_this_machine(host: str) -> None:
    assert is_of_this_machine([host], NAMES)


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [""],
        ["localhost"],
        ["localhost:9081"],
        ["localhost:9080.example.org"],
        ["localhost.:9080"],
        ["evil.example:9080"],
        ["127.0.0.1.nip.example:9080"],
        ["user@localhost:9080"],
        ["localhost:9080", "localhost:9080"],
    ],
)
def test_other_names(hosts: list[str]) -> None:
    assert not is_of_this_machine(hosts, NAMES)
    assert is_of_this_machine(hosts, None)


def test_the_default_port_needs_no_saying_and_other_addresses_have_their_names() -> None:
    assert is_of_this_machine(["localhost"], names_of("127.0.0.1", 80))
    assert is_of_this_machine(["127.0.0.2:9080"], names_of("127.0.0.2", 9080))
    assert is_of_this_machine(["[::1]:9080"], names_of("::1", 9080))


@pytest.mark.parametrize(
    ("site", "origin", "is_page"),
    [
        (None, None, False),
        ("none", None, False),
        ("same-origin", None, False),
        ("same-origin", "http://localhost:9080", False),
        ("same-site", None, True),
        ("cross-site", None, True),
        ("", None, True),
        (None, "null", True),
        (None, "http://evil.example", True),
        (None, "http://localhost:9081", True),
        (None, "https://localhost:9080", True),
        ("same-origin", "http://evil.example", True),
    ],
)
def test_pages_of_other_origins(site: str | None, origin: str | None, is_page: bool) -> None:
    assert was_asked_by_a_page(site, origin, "localhost:9080") is is_page


@given(st.lists(st.text(max_size=40), max_size=3), st.text(max_size=40))
def test_nothing_else_passes(hosts: list[str], origin: str) -> None:
    if is_of_this_machine(hosts, NAMES):
        assert hosts[0].strip().lower() in NAMES
    if not was_asked_by_a_page(None, origin, "localhost:9080"):
        assert origin.strip().lower() == "http://localhost:9080"
