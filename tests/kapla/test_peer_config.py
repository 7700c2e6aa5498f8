"""Settings of peers: where they stand, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kapla.config import Config, load_config
from kapla.errors import ConfigError
from kapla.identity.key import PeerKey
from kapla.peer_config import PeerSettings, check_peers, parse_peer_urls
from kapla.urls import format_store_url

ONE, OTHER = PeerKey(bytes(32)), PeerKey(bytes([7]) * 32)


def load(tmp_path: Path, text: str = "", **given: Any) -> Config:
    file = tmp_path / "kapla.toml"
    file.write_text(f'store = "/srv/store"\nlisten = ["coap+unix:///run/x.sock"]\n{text}')
    return load_config(file=str(file), **{"environment": {}, **given})


def test_a_peer_that_dials_us_is_named_by_its_key_and_may_be_lent_to(tmp_path: Path) -> None:
    [peer] = load(tmp_path, f'[[peers]]\nkey = "{ONE}"\n').peers
    assert peer == PeerSettings(key=ONE)
    assert not any((peer.url, peer.max_rate, peer.name))
    assert peer.rights == {"lend"}
    assert str(peer) == str(ONE)


def test_a_peer_that_we_dial_is_named_by_the_key_in_its_url(tmp_path: Path) -> None:
    [peer] = load(
        tmp_path,
        f'[[peers]]\nurl = "coaps+tcp://desktop.example#{ONE}"\nname = "desktop"\n'
        'rights = ["get", "lend", "put", "stat", "relay"]\nmax-rate = "1 MiB"\n',
    ).peers
    assert (peer.key, peer.name, peer.max_rate) == (ONE, "desktop", 2**20)
    assert peer.rights == {"get", "lend", "put", "stat", "relay"}
    assert str(ONE) in str(peer)


@pytest.mark.parametrize("url", ["coap+tcp://10.0.0.2", "coap+unix:///run/other.sock"])
def test_a_peer_without_a_key_is_named_by_its_url(tmp_path: Path, url: str) -> None:
    [peer] = load(tmp_path, f'[[peers]]\nurl = "{url}"\nrights = []\n').peers
    assert (peer.key, str(peer), peer.rights) == (None, str(peer.url), frozenset())


def test_flags_and_the_environment_add_to_the_file(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        f'[[peers]]\nkey = "{ONE}"\n',
        environment={"KAPLA_PEERS": "coap+tcp://a.example coap+tcp://b.example:7000"},
        peer=("coap+tcp://c.example",),
        known_peer=(str(OTHER),),
    )
    assert [str(peer) for peer in config.peers] == [
        str(ONE),
        "TCP a.example:5683",
        "TCP b.example:7000",
        "TCP c.example:5683",
        str(OTHER),
    ]


def test_there_is_a_rate_for_strangers(tmp_path: Path) -> None:
    assert load(tmp_path).max_stranger_rate is None
    assert load(tmp_path, 'max-stranger-rate = "2 MiB"\n').max_stranger_rate == 2**21


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('url = "coap+tcp://a"\nspeed = 1', "peer 1: unknown key 'speed'; known are url, key,"),
        ("", "peer 1: one of url"),
        (f'url = "coap+tcp://a"\nkey = "{ONE}"', "peer 1: one of url"),
        (f'url = "coap+tcp://a#{ONE}"', "peer 1: url: "),
        ('url = "coap+tcp://a/secret/store"', "peer 1: url: a daemon serves its whole endpoint"),
        ('url = "http://a/secret?get"', "peer 1: url: http:// takes no flags"),
        ('url = "http://a"\nrights = ["get"]', "peer 1: rights: over HTTP a peer is asked, and"),
        ('url = "http://a"\nmax-rate = "1 MiB"', "peer 1: max-rate: over HTTP a peer is asked"),
        (
            'url = "http://a/secret"\n[[peers]]\nurl = "http://a/secret/"',
            "peers: HTTP a:80 is there twice",
        ),
        ('url = "coap+tcp://a?get"', "peer 1: url: the URL of a peer has no flags"),
        ('url = "a"', "peer 1: url: "),
        ("url = 5", "peer 1: url: a text is expected"),
        ('key = "ed25519:short"', "peer 1: key: "),
        ('key = "rsa:abc"', "peer 1: key: "),
        (f'key = "{ONE}"\nrights = ["admin"]', "peer 1: rights: 'admin' is no right; there are"),
        (f'key = "{ONE}"\nrights = [["get"]]', "peer 1: rights: ['get'] is no right"),
        (f'key = "{ONE}"\nrights = "get"', "peer 1: rights: a list of rights is expected"),
        (f'key = "{ONE}"\nmax-rate = "1 KiB"', "peer 1: max-rate: a rate is 32 KiB a second"),
        (f'key = "{ONE}"\nname = ""', "peer 1: name: a name of 1 to 100"),
        (f'key = "{ONE}"\nname = "a\\u001bb"', "peer 1: name: a name of 1 to 100"),
        (f'key = "{ONE}"\n[[peers]]\nkey = "{ONE}"', f"peers: {ONE} is there twice"),
        (
            'url = "coap+tcp://a"\n[[peers]]\nurl = "coap+tcp://a:5683"',
            "peers: TCP a:5683 is there twice",
        ),
        (
            f'url = "coaps+tcp://a#{ONE}"\n[[peers]]\nkey = "{ONE}"',
            f"peers: {ONE} is there twice",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, table: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[[peers]]\n{table}\n")
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_servers_of_http_are_peers_without_rights(tmp_path: Path) -> None:
    urls = ("https://a/one", "https://a/two", "ipfs+https://b")
    tables = "".join(f'[[peers]]\nurl = "{url}"\n' for url in urls)
    peers = load(tmp_path, tables).peers
    assert [format_store_url(peer.url) for peer in peers if peer.url] == [
        "https://a:443/one",
        "https://a:443/two",
        "ipfs+https://b:443",
    ]
    assert all(peer.key is None and not peer.rights for peer in peers)
    assert parse_peer_urls(list(urls)) == peers


def test_the_place_is_the_file_and_the_number_of_the_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kapla\.toml:5: peers: peer 2: one of url"):
        load(tmp_path, f'[[peers]]\nkey = "{ONE}"\n[[peers]]\nname = "x"\n')


def test_peers_are_tables(tmp_path: Path) -> None:
    for value in ('["coap+tcp://a"]', "7"):
        with pytest.raises(ConfigError, match=r"peers: tables are expected, each under \[\[peers"):
            load(tmp_path, f"peers = {value}\n")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"peer": ("coap+tcp://a", "b")}, "--peer: URL 2: "),
        ({"known_peer": ("ed25519:x",)}, "--known-peer: key 1: "),
        ({"environment": {"KAPLA_PEERS": "x"}}, "$KAPLA_PEERS: URL 1: "),
        ({"peer": ("coap+tcp://a", "coap+tcp://a")}, "peers: TCP a:5683 is there twice"),
        ({"peer": tuple(f"coap+tcp://a{n}" for n in range(257))}, "peers: more than 256"),
    ],
)
def test_flags_name_their_place_too(tmp_path: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **given)
    assert says in str(caught.value)


def test_nobody_is_a_peer_of_oneself() -> None:
    peers = [PeerSettings(key=OTHER), PeerSettings(key=ONE)]
    check_peers(peers)
    with pytest.raises(ConfigError, match="is this daemon's own key"):
        check_peers(peers, own=ONE)
