"""Keys and signatures of Nix."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import InvalidKey
from guix_glue.formats.narinfo import parse_narinfo
from guix_glue.trust.nix_keys import NixPublicKey, NixSecretKey
from tests.guix_glue.samples import SAMPLES

NIX = SAMPLES / "nix-2.8"
SECRET = NixSecretKey.parse((NIX / "secret-key").read_text())
PUBLIC = NixPublicKey.parse((NIX / "public-key").read_text())
NARINFOS = [
    parse_narinfo(file.read_bytes(), store_dir="/nix/store")
    for file in sorted(NIX.glob("*.narinfo"))
]


def test_real_signatures_verify_and_are_made_again_to_the_byte() -> None:
    assert SECRET.public == PUBLIC
    assert str(PUBLIC) == (NIX / "public-key").read_text().strip()
    assert len(NARINFOS) == 3
    for narinfo in NARINFOS:
        assert PUBLIC.verify(narinfo.nix_signatures[0], narinfo.item)
        assert SECRET.sign(narinfo.item) == narinfo.nix_signatures[0]


def test_every_fact_counts() -> None:
    narinfo = next(narinfo for narinfo in NARINFOS if narinfo.item.references)
    item, [signature] = narinfo.item, narinfo.nix_signatures
    for altered in (
        replace(item, path=item.path + "x"),
        replace(item, nar_hash=bytes(32)),
        replace(item, nar_size=item.nar_size + 1),
        replace(item, references=()),
    ):
        assert not PUBLIC.verify(signature, altered)
    assert PUBLIC.verify(signature, replace(item, deriver=None))
    assert not replace(PUBLIC, name="other").verify(signature, item)
    assert not replace(PUBLIC, key=bytes(32)).verify(signature, item)


def test_secrets_are_not_shown() -> None:
    assert str(SECRET.seed) not in repr(SECRET)


BAD = ["", "name", "name:", ":AAAA", "na me:AAAA", "name:!", f"name:{'A' * 43}", "name:\u00e4"]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_key(text: str) -> None:
    for parse in (NixPublicKey.parse, NixSecretKey.parse):
        with pytest.raises(InvalidKey):
            parse(text)
    assert not PUBLIC.verify(text, NARINFOS[0].item)


def test_halves_that_do_not_belong_together() -> None:
    text = (NIX / "secret-key").read_text().strip()
    with pytest.raises(InvalidKey):
        NixSecretKey.parse(text[:-8] + "AAAAAA==")


@given(st.text(max_size=100))
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(InvalidKey):
        NixPublicKey.parse(text)
    assert not PUBLIC.verify(text, NARINFOS[0].item)
