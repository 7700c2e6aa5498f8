from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapla.errors import ConfigError, InvalidUrl
from kapla.urls import (
    Flags,
    StoreUrl,
    TcpEndpoint,
    UnixEndpoint,
    format_store_url,
    parse_store_url,
)

SOCKET = UnixEndpoint(Path("/run/eris.sock"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("coap+unix:///run/eris.sock", StoreUrl(SOCKET)),
        ("coap+unix://%2Frun%2Feris.sock", StoreUrl(SOCKET)),
        ("coap+unix://%2frun%2feris.sock/", StoreUrl(SOCKET)),
        ("coap+unix://%2Frun%2Feris.sock/stores/mine", StoreUrl(SOCKET, ("stores", "mine"))),
        ("coap+tcp://%2Frun%2Feris.sock/stores/mine", StoreUrl(SOCKET, ("stores", "mine"))),
        ("coap://%2Frun%2Feris.sock", StoreUrl(SOCKET)),
        # A socket's path keeps its case, as a host name need not.
        ("coap+unix://%2Frun%2FEris.SOCK", StoreUrl(UnixEndpoint(Path("/run/Eris.SOCK")))),
        ("coap+unix:///run/a%20b%25.sock", StoreUrl(UnixEndpoint(Path("/run/a b%.sock")))),
        ("coap+unix:///run/é.sock", StoreUrl(UnixEndpoint(Path("/run/é.sock")))),
        ("coap+tcp://example.org", StoreUrl(TcpEndpoint("example.org", 5683))),
        ("COAP+TCP://Example.ORG:7", StoreUrl(TcpEndpoint("example.org", 7))),
        ("coap+tcp://127.0.0.1:0", StoreUrl(TcpEndpoint("127.0.0.1", 0))),
        ("coap+tcp://[::1]:5684/a", StoreUrl(TcpEndpoint("::1", 5684), ("a",))),
        ("coap+tcp://host:65535", StoreUrl(TcpEndpoint("host", 65535))),
        ("coap+tcp://host:/", StoreUrl(TcpEndpoint("host", 5683))),
        ("coap+tcp://host/a%2Fb/c%20d", StoreUrl(TcpEndpoint("host", 5683), ("a/b", "c d"))),
        (
            "coap+unix:///run/eris.sock?get&put&mode=0660&group=kapla",
            StoreUrl(SOCKET, (), Flags(frozenset({"get", "put"}), 0o660, "kapla")),
        ),
        ("coap+tcp://h?get", StoreUrl(TcpEndpoint("h", 5683), (), Flags(frozenset({"get"})))),
        ("coap+tcp://h/?stat", StoreUrl(TcpEndpoint("h", 5683), (), Flags(frozenset({"stat"})))),
        ("coap+unix:///a?mode=600", StoreUrl(UnixEndpoint(Path("/a")), (), Flags(None, 0o600))),
        ("coap+unix:///a?group=a%20b", StoreUrl(UnixEndpoint(Path("/a")), (), Flags(group="a b"))),
    ],
)
def test_what_is_understood(text: str, expected: StoreUrl) -> None:
    assert parse_store_url(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "begins with"),
        ("/run/eris.sock", "begins with"),
        ("coap+unix", "begins with"),
        ("ftp://host", "begins with"),
        ("coap://host", "not supported"),
        ("coaps+tcp://host", "not supported"),
        ("coap+ws://host", "not supported"),
        ("https://host", "not supported"),
        ("coap+unix://run/eris.sock", "absolute path"),
        ("coap+unix:", "absolute"),
        ("coap+unix:///", "names a file"),
        ("coap+unix:///run/", "names a file"),
        ("coap+unix://%2Frun%2F", "names a file"),
        ("coap+unix:///run/%zz", "begins no escape"),
        ("coap+unix:///run/%ff", "not UTF-8"),
        ("coap+unix:///run/a%00b", "NUL"),
        ("coap+unix:///" + "x" * 107, "108 bytes; the system takes 107"),
        ("coap+unix:///" + "é" * 54, "109 bytes"),
        ("coap+tcp://", "host name or address"),
        ("coap+tcp://:5683", "host name or address"),
        ("coap+tcp:///stores/mine", "host name or address"),
        ("coap+tcp://host:port", "port"),
        ("coap+tcp://host:65536", "port"),
        ("coap+tcp://host:-1", "port"),
        ("coap+tcp://[::1", "not a URL"),
        ("coap+tcp://ho st", "white space"),
        ("coap+tcp://host\n", "white space"),
        ("coap+tcp://ho\x00st", "control character"),
        ("coap+tcp://ho\udc80st", "control character"),
        ("coap+tcp://ho$t", "host name or address"),
        ("coap+tcp://hóst", "host name or address"),
        ("coap+tcp://a..b", "host name or address"),
        ("coap+tcp://" + "a" * 64, "host name or address"),
        ("coap+tcp://user@host", "user name"),
        ("coap+tcp://user:secret@host", "user name"),
        ("coap+tcp://host/a//b", "empty or overlong"),
        ("coap+tcp://host/a/", "empty or overlong"),
        ("coap+tcp://host/" + "x" * 256, "empty or overlong"),
        ("coap+tcp://host/%zz", "begins no escape"),
        ("coap+tcp://host/%ff", "not UTF-8"),
        ("coap+tcp://host#x", "fragment"),
        ("coap+tcp://host?post", "flag"),
        ("coap+tcp://host?get=1", "flag"),
        ("coap+tcp://host?get&", "flag"),
        ("coap+unix:///a?mode=0999", "flag"),
        ("coap+unix:///a?mode=10660", "flag"),
        ("coap+unix:///a?group=", "flag"),
        ("coap+tcp://" + "h" * 5000, "longer than"),
    ],
)
def test_what_is_refused_and_why(text: str, reason: str) -> None:
    with pytest.raises(InvalidUrl, match=reason):
        parse_store_url(text)


def test_an_invalid_url_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError):
        parse_store_url("x")
    with pytest.raises(ValueError, match="store URL"):
        parse_store_url("x")


@pytest.mark.parametrize("length", [106, 107])
def test_the_longest_socket_path(length: int) -> None:
    path = "/" + "x" * (length - 1)
    assert parse_store_url(f"coap+unix://{path}").endpoint == UnixEndpoint(Path(path))


def test_rights() -> None:
    assert all(parse_store_url("coap+tcp://h").allows(right) for right in ("get", "put", "stat"))
    assert parse_store_url("coap+tcp://h?lend").allows("get")
    assert not parse_store_url("coap+tcp://h?lend").allows("put")
    only_get = parse_store_url("coap+tcp://h?get")
    assert only_get.allows("get")
    assert not only_get.allows("put")
    assert parse_store_url("coap+unix:///a?mode=600").allows("put")


def test_what_is_shown() -> None:
    assert str(parse_store_url("coap+unix:///run/eris.sock")) == "Unix socket /run/eris.sock"
    assert str(parse_store_url("coap+tcp://[::1]:1")) == "TCP [::1]:1"
    assert str(parse_store_url("coap+tcp://host")) == "TCP host:5683"


def test_the_store_path_is_not_shown() -> None:
    for text in ("coap+tcp://host/hidden/here", "coap+unix://%2Fa/hidden/here"):
        url = parse_store_url(text)
        assert url.store_path == ("hidden", "here")
        for shown in (str(url), repr(url), f"{url}", f"{url!r}"):
            assert "hidden" not in shown


PARTS = st.lists(
    st.sampled_from(
        [
            "coap",
            "+tcp",
            "+unix",
            "://",
            ":",
            "/",
            "//",
            "?",
            "&",
            "#",
            "@",
            "[",
            "]",
            "[::1]",
            "%2F",
            "%",
            "%00",
            "%ff",
        ]
    )
    | st.sampled_from(
        [
            "host",
            "5683",
            "99999",
            "get",
            "put",
            "mode=",
            "0660",
            "group=",
            "..",
            "é",
            "℀",
            "／",
            "١",
        ]
    )
    | st.just("x" * 64),
    max_size=14,
).map("".join)


@given(st.one_of(st.text(), PARTS, PARTS.map(lambda rest: "coap+tcp://" + rest)))
def test_any_text_is_a_url_or_invalid(text: str) -> None:
    try:
        url = parse_store_url(text)
    except InvalidUrl as error:
        assert str(error)
        return
    if isinstance(url.endpoint, UnixEndpoint):
        assert url.endpoint.path.is_absolute()
    else:
        # What the system's resolver is given does not make it raise anything but OSError.
        assert url.endpoint.host.encode("idna")
        assert 0 <= url.endpoint.port < 65536


SECRET = "c4pab1l1ty"
SPOILERS = st.lists(
    st.sampled_from(["/", "//", "%", "%zz", "%ff", "%00", "x" * 256, ":", "[", "]", "é", "~", " "]),
    max_size=4,
).map("".join)


@given(
    st.sampled_from(
        ["host", "host:99999", "[::1", "%2Frun%2Fx", "ho：st", "host／", "h@h", "host:"]
    ),
    st.sampled_from(["coap+tcp://", "coap+unix://", "coaps://", "coap:", ""]),
    SPOILERS,
    SPOILERS,
    st.sampled_from(["", "?get", "?post", "#f", "?mode=9"]),
)
def test_a_reason_never_tells_the_store_path(
    host: str, scheme: str, before: str, after: str, query: str
) -> None:
    try:
        url = parse_store_url(f"{scheme}{host}/{before}{SECRET}{after}{query}")
    except InvalidUrl as error:
        assert SECRET not in str(error)
        assert error.__cause__ is None
    else:
        assert SECRET not in repr(url) + str(url)


COMPONENTS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20
)


@given(st.lists(COMPONENTS, min_size=1, max_size=4), st.booleans())
def test_any_store_path_can_be_written(path: list[str], unix: bool) -> None:
    start = "coap+unix://%2Frun%2Fx" if unix else "coap+tcp://host"
    text = start + "".join("/" + quote(component, safe="") for component in path)
    assert parse_store_url(text).store_path == tuple(path)


@pytest.mark.parametrize(
    "text",
    [
        "coap+unix:///run/eris.sock",
        "coap+unix:///run/my%20own/%C3%A9%25.sock",
        "coap+unix://%2Frun%2Feris.sock/a/b%2Fc",
        "coap+tcp://%2Frun%2Feris.sock/a",
        "coap+tcp://h",
        "coap+tcp://[::1]:99/%C3%A9/%25",
        "coap+tcp://[fe80::1%25eth0]/a",
    ],
)
def test_a_store_url_is_written_as_it_is_read(text: str) -> None:
    url = parse_store_url(text)
    assert parse_store_url(format_store_url(url)) == url


def test_a_store_url_is_written_without_its_flags() -> None:
    url = parse_store_url("coap+tcp://h/a?get&put")
    assert format_store_url(url) == "coap+tcp://h:5683/a"
