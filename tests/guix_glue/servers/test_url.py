"""Substitute URLs, taken apart."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.servers.url import InvalidServer, Origin, parse_server, redirect_target


def test_a_plain_server() -> None:
    server = parse_server("https://ci.example.org/")
    assert server.origin == Origin("https", "ci.example.org", 443)
    assert server.narinfo_path("abc") == "/abc.narinfo"
    assert server.locate("nar/x") == server.locate("/nar/x") == "https://ci.example.org/nar/x"
    assert server.locate("http://elsewhere.example/n") == "http://elsewhere.example/n"


def test_a_server_with_port_and_path() -> None:
    server = parse_server("http://[::1]:8080/a/b/")
    assert server.origin == Origin("http", "::1", 8080)
    assert server.origin.netloc == "[::1]:8080"
    assert server.narinfo_path("abc") == "/a/b/abc.narinfo"
    assert server.locate("nar/x") == "http://[::1]:8080/a/b/nar/x"


@pytest.mark.parametrize("url", ["http://[fe80::1%25eth0]:81/p", "http://[FE80::1%eth0]:81/p/"])
def test_a_zone_is_for_connecting_only(url: str) -> None:
    server = parse_server(url)
    assert server.origin == Origin("http", "fe80::1%eth0", 81)
    assert server.origin.netloc == "[fe80::1]:81"
    assert server.origin.name == "fe80::1"
    assert server.url == server.shown == "http://[fe80::1%25eth0]:81/p"
    assert parse_server(server.url) == server
    assert server.owns(server.locate("nar/x"))
    # What is relative stays on that link.
    assert redirect_target(server.url, "/x") == (server.origin, "/x")


def test_a_zone_may_be_a_number() -> None:
    for url in ("http://[fe80::1%253]", "http://[fe80::1%3]"):
        assert parse_server(url).origin == Origin("http", "fe80::1%3", 80)


def test_a_password_is_for_its_server_and_not_for_the_eye() -> None:
    server = parse_server("http://me:s%3Acret@h.example:81/p")
    assert server.authorization == "Basic bWU6czpjcmV0"
    assert server.url == server.shown == "http://h.example:81/p"
    assert "cret" not in repr(server)
    assert server.owns("http://h.example:81/nar")
    assert not server.owns("http://h.example:82/nar")
    assert not server.owns("https://h.example:81/nar")


def test_a_directory() -> None:
    server = parse_server("file:///srv/a%20b/")
    assert server.origin is None
    assert server.narinfo_path("abc") == "/srv/a b/abc.narinfo"
    assert server.locate("nar/x") == "file:///srv/a%20b/nar/x"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://h",
        "http://",
        "http:///x",
        "http://a..b/",
        "http://h:99999/",
        "http://h/?q",
        "http://h/#f",
        "http://h x/",
        "http://h/\n",
        "http://é/",
        "http://[::1/",
        "http://[::1]extra/",
        "http://extra[::1]/",
        "http://[fe80::1%]/",
        "http://[fe80::1%25]extra/",
        "http://[fe80::1%25a%20b]/",
        "http://[fe80::1%25" + "e" * 16 + "]/",
        "http://h%25eth0/",
        "http://127.0.0.1%25eth0/",
        "file://host/x",
        "file:x",
        "file:///%ff",
        "file:///%00",
        "http://" + "h" * 5000,
        "//h/x",
    ],
)
def test_what_is_no_server(url: str) -> None:
    with pytest.raises(InvalidServer) as raised:
        parse_server(url)
    assert not url or url not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/shadow", "urn:eris:AAAA", "http://u@h/x", "a b", "a#b", "a\r\nX: y", "ftp://h/x"],
)
def test_where_a_server_may_not_send_us(url: str) -> None:
    with pytest.raises(InvalidServer):
        parse_server("http://h").locate(url)


def test_a_directory_does_not_lead_out_of_itself() -> None:
    with pytest.raises(InvalidServer):
        parse_server("file:///srv").locate("nar/../../etc/x")


def test_redirects() -> None:
    assert redirect_target("http://h/a/b", "/c?d") == (Origin("http", "h", 80), "/c?d")
    assert redirect_target("http://h/a/b", "c") == (Origin("http", "h", 80), "/a/c")
    assert redirect_target("http://h/a", "https://i") == (Origin("https", "i", 443), "/")
    for wrong in ("", "http://h/a", "file:///x", "//[::1", "//[:g]/", "x" * 5000):
        with pytest.raises(InvalidServer):
            redirect_target("https://h/a" if wrong else "http://", wrong)


@given(st.text(), st.text())
def test_any_text_is_taken_or_refused(url: str, other: str) -> None:
    for text in (url, "http://h/" + url, "http://" + url, "file:///" + url):
        try:
            server = parse_server(text)
        except InvalidServer:
            continue
        with suppress(InvalidServer):
            assert server.locate(other).isascii()
        with suppress(InvalidServer):
            redirect_target(server.url, other)
