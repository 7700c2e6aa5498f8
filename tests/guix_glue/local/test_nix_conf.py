"""Keys of the machine's Nix: read as Nix reads them, with limits."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import InvalidKey, PublishError
from guix_glue.local.authorities import read_authorities
from guix_glue.local.nix_conf import (
    MOST_KEYS,
    NIX_DEFAULT_KEY,
    nix_conf_path,
    parse_nix_keys,
    read_nix_conf_keys,
)
from guix_glue.trust.nix_keys import NixPublicKey
from tests.guix_glue.samples import SAMPLES

KEY = (SAMPLES / "nix-2.8" / "public-key").read_text().strip()
ACL = SAMPLES / "keys" / "acl"


def keys_of(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "nix.conf").write_text(text)
    return list(read_nix_conf_keys(str(tmp_path / "nix.conf")))


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", [NIX_DEFAULT_KEY]),
        ("sandbox = false\nnonsense\n= =\n", [NIX_DEFAULT_KEY]),
        ("trusted-public-keys = a b\n", ["a", "b"]),
        ("trusted-public-keys =\n", []),
        ("  trusted-public-keys\t=  a  b # c\n#trusted-public-keys = d\n", ["a", "b"]),
        ("trusted-public-keys = a\ntrusted-public-keys = b\n", ["b"]),
        ("binary-cache-public-keys = a\n", ["a"]),
        ("extra-trusted-public-keys = a\n", [NIX_DEFAULT_KEY, "a"]),
        ("trusted-public-keys = a\nextra-trusted-public-keys = b a\n", ["a", "b"]),
        ("extra-trusted-public-keys = b\ntrusted-public-keys = a\n", ["a"]),
        ("trusted-public-keys: a\n", [NIX_DEFAULT_KEY]),
        ("!include not-there\ntrusted-public-keys = a", ["a"]),
    ],
)
def test_the_last_line_counts(tmp_path: Path, text: str, keys: list[str]) -> None:
    assert keys_of(tmp_path, text) == keys


def test_an_included_file_stands_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "keys").write_text("include other\nextra-trusted-public-keys = b\n")
    (tmp_path / "more" / "other").write_text("trusted-public-keys = a\n")
    assert keys_of(tmp_path, f"!include {tmp_path}/more/keys\n") == ["a", "b"]
    assert keys_of(tmp_path, "include more/keys\ntrusted-public-keys = c\n") == ["c"]


def test_there_are_limits(tmp_path: Path) -> None:
    with pytest.raises(InvalidKey, match="files"):
        keys_of(tmp_path, "include nix.conf\n")
    with pytest.raises(InvalidKey, match="keys"):
        keys_of(tmp_path, f"trusted-public-keys = {'a ' * (MOST_KEYS + 1)}\n")
    with pytest.raises(InvalidKey, match="keys"):
        parse_nix_keys(f"{KEY} " * (MOST_KEYS + 1))
    with pytest.raises(OSError, match="large"):
        keys_of(tmp_path, "#" * (1024 * 1024 + 1))
    with pytest.raises(FileNotFoundError):
        keys_of(tmp_path, "include not-there\n")


@given(st.text(max_size=200))
def test_any_text_is_keys_or_none(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "nix.conf"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        read_nix_conf_keys(str(path))
    except (OSError, InvalidKey):
        assert "include" in text


def test_where_it_is() -> None:
    assert nix_conf_path({}) == "/etc/nix/nix.conf"
    assert nix_conf_path({"NIX_CONF_DIR": "/x"}) == "/x/nix.conf"


def test_all_keys_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    environ = {"NIX_CONF_DIR": str(tmp_path)}
    named = NixPublicKey.parse(KEY)
    # None is there, which is as good as one that names none.
    assert read_authorities(ACL, (), environ).nix_keys == ()
    (tmp_path / "nix.conf").write_text(f"trusted-public-keys = nonsense {KEY} {NIX_DEFAULT_KEY}")
    found = read_authorities(ACL, (named,), environ)
    assert found.nix_keys == (named, NixPublicKey.parse(NIX_DEFAULT_KEY))
    assert found.acl.keys
    assert "left out" in caplog.text
    assert not read_authorities(tmp_path / "none", (), {"NIX_CONF_DIR": "/nowhere"}).has_keys


@pytest.mark.parametrize("text", ["include not-there\n", "include nix.conf\n"])
def test_a_broken_nix_conf_is_no_reason_to_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "nix.conf").write_text(text)
    assert read_authorities(ACL, (), {"NIX_CONF_DIR": str(tmp_path)}).nix_keys == ()
    assert "No keys are taken from" in caplog.text
    # Which file it is that is not there.
    assert ("not-there, which" in caplog.text) == ("not-there" in text)


def test_a_broken_list_is(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("nonsense")
    with pytest.raises(PublishError, match="--acl"):
        read_authorities(tmp_path / "acl", (), {"NIX_CONF_DIR": str(tmp_path)})
