"""Where the doors are: what is read, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapla.config import load_config
from kapla.errors import ConfigError
from kapla.http.settings import is_loopback, parse_admin, parse_http
from kapla.urls import TcpEndpoint, UnixEndpoint


@pytest.mark.parametrize(
    ("value", "places"),
    [
        ("127.0.0.1:8080", [("127.0.0.1", 8080)]),
        ("[::1]:8080 example.org:80", [("::1", 8080), ("example.org", 80)]),
        (["0.0.0.0:0", "0.0.0.0:0"], [("0.0.0.0", 0), ("0.0.0.0", 0)]),
    ],
)
def test_places_for_the_world(value: object, places: list[tuple[str, int]]) -> None:
    assert [place.endpoint for place in parse_http(value)] == [
        TcpEndpoint(host, port) for host, port in places
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (8080, "a list"),
        ([], "a list"),
        ([1], "a list"),
        ("", "a list"),
        ("8080", "a host or address and a port"),
        (":8080", "a host or address and a port"),
        ("::1:8080", "a host or address and a port"),
        ("host:65536", "a host or address and a port"),
        ("host", "a host or address and a port"),
        ("http://host:80", "a host or address and a port"),
        ("unix:/run/x", "a host or address and a port"),
        ("a..b:80", "no host name"),
        (["h:1", "h:1"], "twice"),
        (["h:1"] * 17, "17 places"),
    ],
)
def test_what_is_no_place_for_the_world(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_http(value)


def test_places_for_this_machine() -> None:
    assert parse_admin("localhost:9080").endpoint == TcpEndpoint("localhost", 9080)
    assert parse_admin("127.3.4.5:0").endpoint == TcpEndpoint("127.3.4.5", 0)
    assert parse_admin("[::1]:9080").endpoint == TcpEndpoint("::1", 9080)
    for text in ("unix:/run/kapla/admin.sock", "unix:///run/kapla/admin.sock"):
        assert parse_admin(text).endpoint == UnixEndpoint(Path("/run/kapla/admin.sock"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1, "is expected"),
        (["127.0.0.1:1"], "is expected"),
        ("0.0.0.0:9080", "not on the loopback interface"),
        ("[::]:9080", "not on the loopback interface"),
        ("192.0.2.1:9080", "not on the loopback interface"),
        ("localhost.example.org:9080", "not on the loopback interface"),
        ("unix:run/x", "absolute"),
        ("unix:/run/", "names a file"),
        ("unix:/run/..", "names a file"),
        ("unix:/" + "x" * 107, "108 bytes"),
        ("/run/x", "a host or address and a port"),
    ],
)
def test_what_is_no_place_for_this_machine(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_admin(value)


@given(st.text(max_size=60) | st.lists(st.text(max_size=20), max_size=20) | st.integers())
def test_anything_is_read_or_is_a_value_error(value: object) -> None:
    for parse in (parse_http, parse_admin):
        try:
            parse(value)
        except ValueError as error:
            assert str(error)


def test_no_name_is_of_the_loopback_interface() -> None:
    assert not is_loopback("localhost")
    assert is_loopback("::1") and is_loopback("127.255.0.1")
    assert not is_loopback("::ffff:192.0.2.1")


def test_settings_come_from_the_file_the_environment_and_flags(tmp_path: Path) -> None:
    file = tmp_path / "kapla.toml"
    file.write_text('http = ["127.0.0.1:1", "[::1]:2"]\nadmin = "127.0.0.1:3"\nstore = "/s"\n')
    environment = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    of_file = load_config(file=str(file), environment=environment)
    assert [str(place) for place in of_file.http] == ["TCP 127.0.0.1:1", "TCP [::1]:2"]
    assert str(of_file.admin) == "TCP 127.0.0.1:3"
    environment |= {"KAPLA_HTTP": "127.0.0.1:4", "KAPLA_ADMIN": "unix:/a"}
    of_environment = load_config(file=str(file), environment=environment)
    assert [str(place) for place in of_environment.http] == ["TCP 127.0.0.1:4"]
    assert str(of_environment.admin) == "Unix socket /a"
    of_flags = load_config(
        file=str(file), environment=environment, http=("h:5", "h:6"), admin="[::1]:7"
    )
    assert [str(place) for place in of_flags.http] == ["TCP h:5", "TCP h:6"]
    assert str(of_flags.admin) == "TCP [::1]:7"


@pytest.mark.parametrize(
    ("admin", "what"), [("unix:/run/a.sock", "a listener"), ("unix:/s", "the store")]
)
def test_a_socket_has_a_path_of_its_own(admin: str, what: str) -> None:
    with pytest.raises(ConfigError, match=f"is {what} already: a socket has a path of its own"):
        load_config(store="/s", listen=("coap+unix:///run/a.sock",), admin=admin, environment={})
