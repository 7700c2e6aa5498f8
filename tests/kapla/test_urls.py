from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapla.errors import ConfigError, InvalidUrl
from kapla.identity.files import CertificateFiles
from kapla.identity.key import PeerKey
from kapla.urls import (
    FileEndpoint,
    Flags,
    HttpEndpoint,
    StoreUrl,
    TcpEndpoint,
    TlsEndpoint,
    UnixEndpoint,
    format_store_url,
    parse_store_url,
)

READ = Flags(frozenset({"get"}))
SOCKET = UnixEndpoint(Path("/run/eris.sock"))
# RFC 8032, section 7.1, test 1.
KEY_TEXT = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
KEY = PeerKey.parse(KEY_TEXT)


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
        ("file:///srv/a%20b.sqlite", StoreUrl(FileEndpoint(Path("/srv/a b.sqlite")))),
        ("FILE://localhost/Srv/b", StoreUrl(FileEndpoint(Path("/Srv/b")))),
        ("file:///b?get", StoreUrl(FileEndpoint(Path("/b")), (), READ)),
        ("http://example.org", StoreUrl(HttpEndpoint("example.org", 80), (), READ)),
        ("HTTPS://Example.ORG/", StoreUrl(HttpEndpoint("example.org", 443, True), (), READ)),
        ("http://[::1]:8080/a%20b/c/", StoreUrl(HttpEndpoint("::1", 8080), ("a b", "c"), READ)),
        ("ipfs+http://h", StoreUrl(HttpEndpoint("h", 80, False, True), (), READ)),
        ("ipfs+https://h:1", StoreUrl(HttpEndpoint("h", 1, True, True), (), READ)),
        ("coaps+tcp://example.org", StoreUrl(TlsEndpoint("example.org", 5684))),
        ("COAPS+TCP://[::1]:7/a", StoreUrl(TlsEndpoint("::1", 7), ("a",))),
        (f"coaps+tcp://h#{KEY_TEXT}", StoreUrl(TlsEndpoint("h", 5684, KEY))),
        (
            f"coaps+tcp://h:1/a/b?lend&put#{KEY_TEXT}",
            StoreUrl(TlsEndpoint("h", 1, KEY), ("a", "b"), Flags(frozenset({"lend", "put"}))),
        ),
        (
            "coaps+tcp://[::]?get&cert=/etc/a%26b.pem&key=/k%20ey&ca=/ca=",
            StoreUrl(
                TlsEndpoint("::", 5684),
                (),
                Flags(
                    frozenset({"get"}),
                    files=CertificateFiles(Path("/etc/a&b.pem"), Path("/k ey"), Path("/ca=")),
                ),
            ),
        ),
        (
            "coaps+tcp://h?ca=/ca.pem",
            StoreUrl(TlsEndpoint("h", 5684), (), Flags(files=CertificateFiles(ca=Path("/ca.pem")))),
        ),
        (
            f"coaps+tcp://h?key=/k#{KEY_TEXT}",
            StoreUrl(
                TlsEndpoint("h", 5684, KEY), (), Flags(files=CertificateFiles(key=Path("/k")))
            ),
        ),
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
        ("file://host/a", "whole path of a file"),
        ("file:a", "whole path of a file"),
        ("file:///", "whole path of a file"),
        ("file:///a/", "whole path of a file"),
        ("file:///a/..", "whole path of a file"),
        ("file:///a%00", "NUL"),
        ("file:///a#b", "no fragment"),
        ("file:///a?lend", "no flags but get and put"),
        ("file:///a?mode=0600", "no flags but get and put"),
        ("coap://host", "not supported"),
        ("coaps://host", "not supported"),
        ("http://", "host name or address"),
        ("http://h:0x", "port"),
        ("http://user:word@h", "no user name"),
        ("https://h/a#b", "no fragment"),
        ("http://h?get", "takes no flags"),
        ("ipfs+http://h?put", "takes no flags"),
        ("http://h%2e", "without escapes"),
        ("http://h/a/../b", "no . or .."),
        ("http://h//a", "empty"),
        ("ipfs://h", "begins with"),
        ("ipfs+coap://h", "begins with"),
        ("coap+ws://host", "not supported"),
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
        ("coaps+tcp://", "coaps.tcp:// takes a host name or address"),
        ("coaps+tcp://%2Frun%2Feris.sock", "coaps.tcp:// takes a host"),
        ("coaps+tcp://host:x", "port"),
        ("coaps+tcp://user@host", "user name"),
        # As where a variable of a script is empty.
        ("coaps+tcp://host#", "is a key"),
        ("coaps+tcp://host#x", "is a key"),
        ("coaps+tcp://host#ed25519:", "is a key"),
        (f"coaps+tcp://host#{KEY_TEXT}#", "is a key"),
        (f"coaps+tcp://host#{KEY_TEXT}?get", "is a key"),
        (f"coaps+tcp://host#{KEY_TEXT[:-1]}p", "altered"),
        (f"coap+tcp://host#{KEY_TEXT}", "fragment"),
        (f"coap+unix:///run/eris.sock#{KEY_TEXT}", "fragment"),
        ("coaps+tcp://host?cert=/a", "go together"),
        ("coaps+tcp://host?key=/a&ca=/b", "go together"),
        ("coaps+tcp://host?cert=a&key=/b", "absolute path"),
        ("coaps+tcp://host?ca=/b/", "absolute path"),
        ("coaps+tcp://host?ca=", "flag"),
        ("coaps+tcp://host?ca=/%zz", "begins no escape"),
        ("coap+tcp://host?ca=/a", "for coaps.tcp"),
        ("coap+unix:///a?cert=/a&key=/b", "for coaps.tcp"),
        (f"coaps+tcp://host?ca=/a#{KEY_TEXT}", "only that counts"),
        (f"coaps+tcp://host?cert=/a&key=/b#{KEY_TEXT}", "only that counts"),
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
    assert str(parse_store_url(f"coaps+tcp://[::1]:7/a#{KEY_TEXT}")) == "TLS [::1]:7"


def test_the_store_path_is_not_shown() -> None:
    for text in (
        "coap+tcp://host/hidden/here",
        "coap+unix://%2Fa/hidden/here",
        "coaps+tcp://host/hidden/here?ca=/c",
        f"coaps+tcp://host/hidden/here#{KEY_TEXT}",
    ):
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
            "ca=/",
            "cert=/c",
            "key=/k",
            f"#{KEY_TEXT}",
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


@given(
    st.one_of(
        st.text(),
        PARTS,
        PARTS.map(lambda rest: "coap+tcp://" + rest),
        PARTS.map(lambda rest: f"coaps+tcp://h{rest}#{KEY_TEXT}"),
        PARTS.map(lambda rest: "coaps+tcp://" + rest),
    )
)
def test_any_text_is_a_url_or_invalid(text: str) -> None:
    try:
        url = parse_store_url(text)
    except InvalidUrl as error:
        assert str(error)
        return
    if isinstance(url.endpoint, UnixEndpoint | FileEndpoint):
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
    st.sampled_from(["coap+tcp://", "coaps+tcp://", "coap+unix://", "coaps://", "coap:", ""]),
    SPOILERS,
    SPOILERS,
    st.sampled_from(["", "?get", "?post", "#f", "?mode=9", "?ca=/x", "?cert=/x", f"#{KEY_TEXT}"]),
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
        "file:///srv/my%20own/%C3%A9%25.sqlite",
        "coap+tcp://h",
        "coap+tcp://[::1]:99/%C3%A9/%25",
        "coap+tcp://[fe80::1%25eth0]/a",
        "coaps+tcp://h",
        "coaps+tcp://[::1]:99/a%2Fb",
        f"coaps+tcp://h/a#{KEY_TEXT}",
        f"coaps+tcp://h/a?key=/my%20key#{KEY_TEXT}",
        "coaps+tcp://h:7?cert=/%C3%A9%26%3F%23&key=/k&ca=/c%25",
    ],
)
def test_a_store_url_is_written_as_it_is_read(text: str) -> None:
    url = parse_store_url(text)
    assert parse_store_url(format_store_url(url)) == url


def test_the_key_of_a_store_url_is_written() -> None:
    url = parse_store_url(f"coaps+tcp://h/a?get#{KEY_TEXT}")
    assert format_store_url(url) == f"coaps+tcp://h:5684/a#{KEY_TEXT}"


def test_a_store_url_is_written_without_what_it_allows() -> None:
    url = parse_store_url("coap+tcp://h/a?get&put")
    assert format_store_url(url) == "coap+tcp://h:5683/a"
