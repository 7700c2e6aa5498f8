"""Which proxy the environment names for which server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.servers.proxies import NO_PROXIES, Proxies
from guix_glue.servers.url import InvalidServer, Origin, parse_address

HTTP, HTTPS = "http://c.example", "https://c.example"


def chosen(url: str, **environ: str) -> str | None:
    """The proxy for a server, as a URL."""
    proxy = Proxies.from_environ(environ).choose(parse_address(url)[0])
    return None if proxy is None else proxy.origin.url


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy", "ALL_PROXY"])
def test_proxies_for_http(name: str) -> None:
    assert chosen(HTTP, **{name: "http://p:3128"}) == "http://p:3128"


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_proxies_for_https(name: str) -> None:
    assert chosen(HTTPS, **{name: "http://p:3128"}) == "http://p:3128"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "PROXY"])
def test_what_is_no_proxy_for_http(name: str) -> None:
    assert chosen(HTTP, **{name: "http://p"}) is None
    assert NO_PROXIES.choose(parse_address(HTTP)[0]) is None


def test_the_closest_name_wins_and_an_empty_one_is_none() -> None:
    both = {"https_proxy": "http://a", "HTTPS_PROXY": "http://b", "all_proxy": "http://c"}
    assert chosen(HTTPS, **both) == "http://a"
    assert chosen(HTTPS, **(both | {"https_proxy": ""})) == "http://b"
    assert chosen(HTTP, **both, http_proxy="") == "http://c"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("p", Origin("http", "p", 80)),
        ("p:3128", Origin("http", "p", 3128)),
        ("http://p:3128/", Origin("http", "p", 3128)),
        ("https://p", Origin("https", "p", 443)),
        ("[::1]:8080", Origin("http", "::1", 8080)),
    ],
)
def test_forms_of_proxies(url: str, origin: Origin) -> None:
    proxy = Proxies.from_environ({"http_proxy": url}).choose(parse_address(HTTP)[0])
    assert proxy is not None and proxy.origin == origin


@pytest.mark.parametrize("url", ["me:s%40cret@p:1", "http://me:s%40cret@p:1"])
def test_a_password_is_for_the_proxy_alone(url: str) -> None:
    proxies = Proxies.from_environ({"http_proxy": url})
    proxy = proxies.choose(parse_address(HTTP)[0])
    assert proxy is not None
    assert proxy.authorization == "Basic bWU6c0BjcmV0"
    assert proxy.shown == "the proxy p:1"
    for shown in (repr(proxy), str(proxy), repr(proxies), proxy.shown):
        assert "cret" not in shown and "bWU6" not in shown


@pytest.mark.parametrize("url", ["socks5://me:secret@p:1", "http://", "http://a b", "ftp://p"])
def test_a_proxy_that_makes_no_sense_is_not_gone_around(url: str) -> None:
    with pytest.raises(InvalidServer, match="the proxy of http_proxy cannot be used") as raised:
        chosen(HTTP, http_proxy=url)
    assert "secret" not in str(raised.value)


LISTED = [
    ("*", HTTP),
    ("x,*", HTTP),
    ("c.example", HTTP),
    ("C.Example", HTTP),
    ("example", HTTP),
    (".example", HTTP),
    ("*.example", HTTP),
    (".c.example", HTTP),
    ("c.example.", HTTP),
    ("c.example", "http://c.example."),
    ("x, c.example", HTTP),
    ("x  c.example", HTTP),
    ("c.example:80", HTTP),
    ("example:443", HTTPS),
    ("10.1.2.3", "http://10.1.2.3:8080"),
    ("10.1.2.3:8080", "http://10.1.2.3:8080"),
    ("10.0.0.0/8", "http://10.1.2.3"),
    ("10.1.2.9/24", "http://10.1.2.3"),
    ("::1", "http://[::1]"),
    ("[::1]", "http://[::1]:81"),
    ("[::1]:81", "http://[::1]:81"),
    ("fe80::/10", "http://[fe80::1%25eth0]"),
    ("0:0:0:0:0:0:0:1", "http://[::1]"),
]
NOT_LISTED = [
    ("", HTTP),
    (",", HTTP),
    (".", HTTP),
    ("*x", HTTP),
    ("ample", HTTP),
    ("d.c.example", HTTP),
    ("c.example:81", HTTP),
    ("http://c.example", HTTP),
    ("10.1.2.4", "http://10.1.2.3"),
    ("1.2.3", "http://10.1.2.3"),
    ("11.0.0.0/8", "http://10.1.2.3"),
    ("10.0.0.0/8", HTTP),
    ("::/0", "http://10.1.2.3"),
    ("[::1]:82", "http://[::1]:81"),
]


@pytest.mark.parametrize(("entries", "url"), LISTED)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_what_is_asked_directly(entries: str, url: str, name: str) -> None:
    assert chosen(url, all_proxy="http://p", **{name: entries}) is None


@pytest.mark.parametrize(("entries", "url"), NOT_LISTED)
def test_what_is_not(entries: str, url: str) -> None:
    assert chosen(url, all_proxy="http://p", no_proxy=entries) == "http://p"


@given(st.text(), st.text())
def test_any_environment_is_taken(url: str, bypass: str) -> None:
    try:
        chosen(HTTP, http_proxy=url, no_proxy=bypass)
    except InvalidServer:
        return
