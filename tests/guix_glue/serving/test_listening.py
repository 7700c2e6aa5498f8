"""Sockets, users and key files: what a publisher needs before it serves."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from guix_glue.errors import PublishError
from guix_glue.local.authorities import read_acl
from guix_glue.publish.key_files import read_guix_keys, read_nix_key
from guix_glue.serving.listening import activated_sockets, bind_sockets, url_of
from guix_glue.serving.privileges import find_user
from guix_glue.trust.acl import LARGEST_ACL
from tests.guix_glue.publish.support import SAMPLES

KEYS = SAMPLES / "keys"


def test_one_free_port_on_all_interfaces() -> None:
    bound = bind_sockets(None, 0)
    try:
        assert len({one.getsockname()[1] for one in bound}) == 1
        assert len({one.family for one in bound}) == len(bound)
    finally:
        for one in bound:
            one.close()


def test_a_port_that_is_taken() -> None:
    (one,) = bind_sockets("127.0.0.1", 0)
    with one:
        one.listen()
        port = one.getsockname()[1]
        assert url_of(one) == f"http://127.0.0.1:{port}"
        with pytest.raises(PublishError, match=rf"127\.0\.0\.1, port {port}: .*in use"):
            bind_sockets("127.0.0.1", port)


def test_a_host_that_is_none() -> None:
    for host in ("no.such.host.invalid", "a" * 300, ""):
        if host:
            with pytest.raises(PublishError, match="cannot listen"):
                bind_sockets(host, 0)


def test_sockets_of_another_process_are_not_ours() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "HOME": "/"}
    assert activated_sockets(environment) == []
    assert environment == {"HOME": "/"}
    assert activated_sockets({}) == []
    with pytest.raises(PublishError, match="LISTEN_FDS"):
        activated_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"})


def test_a_url_of_the_other_family() -> None:
    with socket.socket(socket.AF_INET6) as one:
        try:
            one.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        assert url_of(one) == f"http://[::1]:{one.getsockname()[1]}"


def test_a_user_that_is_none() -> None:
    with pytest.raises(PublishError, match="--user: there is no user 'nobody-of-this-name'"):
        find_user("nobody-of-this-name")


def test_a_missing_key_names_the_option(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(PublishError, match=r"missing .--public-key.*No such file"):
        read_guix_keys(missing, missing, "host")
    with pytest.raises(PublishError, match=r"missing .--private-key.*No such file"):
        read_guix_keys(KEYS / "signing-key.pub", missing, "host")
    with pytest.raises(PublishError, match="--nix-key"):
        read_nix_key(missing, "host")


def test_a_key_that_is_none(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    secret = "(private-key (ecc (curve Ed25519) (q #00#) (d #1234567890#)))"
    wrong.write_text(secret)
    for option, arguments in {
        "--public-key": (wrong, KEYS / "signing-key.sec"),
        "--private-key": (KEYS / "signing-key.pub", wrong),
    }.items():
        with pytest.raises(PublishError, match=option) as caught:
            read_guix_keys(*arguments, "host")
        assert "1234567890" not in str(caught.value)
    with pytest.raises(PublishError, match="--nix-key"):
        read_nix_key(wrong, "host")
    with pytest.raises(PublishError, match="--acl"):
        read_acl(wrong)


def test_an_acl_that_is_too_large(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_bytes((KEYS / "acl").read_bytes().rjust(LARGEST_ACL, b"\n"))
    assert read_acl(acl).keys
    acl.write_bytes(acl.read_bytes() + b"\n")
    with pytest.raises(PublishError, match=r"--acl.*File too large"):
        read_acl(acl)


def test_keys_of_two_pairs(tmp_path: Path) -> None:
    other = tmp_path / "other.pub"
    text = (KEYS / "signing-key.pub").read_text()
    # Another point of the curve: the base point.
    other.write_text(text.replace(text.split("#")[1], "58" + "66" * 31))
    with pytest.raises(PublishError, match="not the private key that belongs"):
        read_guix_keys(other, KEYS / "signing-key.sec", "host")


def test_a_repr_shows_no_key() -> None:
    keys = read_guix_keys(KEYS / "signing-key.pub", KEYS / "signing-key.sec", "host")
    secret = (KEYS / "signing-key.sec").read_text().split("#")[3]
    assert secret not in repr(keys)
    assert keys.public == (KEYS / "signing-key.pub").read_bytes()
