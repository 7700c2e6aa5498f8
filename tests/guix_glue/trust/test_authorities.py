"""Whose word counts: keys of Guix, keys of Nix, both, or none."""

from __future__ import annotations

import pytest

from guix_glue.errors import NotAuthorized, SignatureRejected
from guix_glue.formats.narinfo import Narinfo, parse_narinfo
from guix_glue.trust.acl import Acl
from guix_glue.trust.authorities import Authorities, disbelieved
from guix_glue.trust.nix_keys import NixPublicKey
from tests.guix_glue.samples import SAMPLES

NIX = SAMPLES / "nix-2.8"
NIX_KEY = NixPublicKey.parse((NIX / "public-key").read_text())
OTHER_KEY = NixPublicKey(NIX_KEY.name, bytes(32))
ACL = Acl.parse((SAMPLES / "keys" / "acl").read_bytes())
NIX_TEXT = (NIX / "z90gp91wsj4nxqr2l641lv3i0q4c0dkl.narinfo").read_text()
GUIX_TEXT = (SAMPLES / "narinfo" / "uncached-gzip" / "app-1.2.3.narinfo").read_text()
URN = "urn:eris:AAAA"
DELTA = f"ERIS-Delta: {'0' * 32}-base {URN}\n"


def nix(text: str = NIX_TEXT) -> Narinfo:
    return parse_narinfo(text.encode(), store_dir="/nix/store")


def guix(text: str = GUIX_TEXT) -> Narinfo:
    return parse_narinfo(text.encode(), store_dir="/gnu/store")


def test_one_of_the_two_will_do() -> None:
    both = Authorities(ACL, (NIX_KEY,))
    assert both.believed(guix()) == guix()
    believed = both.believed(nix())
    assert believed.item == nix().item
    assert believed.signed_fields == {"StorePath", "NarHash", "NarSize", "References"}
    assert believed.text == NIX_TEXT


def test_nobody_else_will_do() -> None:
    with pytest.raises(NotAuthorized, match="trusted key"):
        Authorities(ACL, (OTHER_KEY,)).believed(nix())
    with pytest.raises(NotAuthorized):
        Authorities(Acl(), (NIX_KEY,)).believed(guix())
    with pytest.raises(NotAuthorized):
        Authorities(ACL).believed(nix())
    altered = NIX_TEXT.replace("NarSize: 944", "NarSize: 945")
    with pytest.raises(SignatureRejected):
        Authorities(ACL, (NIX_KEY,)).believed(nix(altered))


def test_a_key_of_another_name_is_not_tried() -> None:
    key = NixPublicKey("another", NIX_KEY.key)
    with pytest.raises(NotAuthorized):
        Authorities(nix_keys=(key,)).believed(nix())


def test_the_right_one_of_many_signatures() -> None:
    lines = NIX_TEXT.splitlines(keepends=True)
    junk = [f"Sig: other-{number}:AAAA\n" for number in range(100)]
    assert Authorities(nix_keys=(NIX_KEY,)).believed(nix("".join([*junk, *lines])))


def test_only_so_many_signatures_are_tried() -> None:
    wrong = f"Sig: {NIX_KEY.name}:{'A' * 86}==\n"
    with pytest.raises(NotAuthorized):
        Authorities(nix_keys=(NIX_KEY,)).believed(nix(wrong * 16 + NIX_TEXT))
    assert Authorities(nix_keys=(NIX_KEY,)).believed(nix(wrong * 15 + NIX_TEXT))


@pytest.mark.parametrize("signature", ["", "Signature: 1;host;AAAA\n"])
def test_what_nix_does_not_cover_is_a_hint(signature: str) -> None:
    """Anybody may write an ERIS line above a signature of Guix that nobody here checks."""
    narinfo = nix(f"ERIS: {URN}\n{DELTA}{NIX_TEXT}{signature}")
    assert (narinfo.signed_urn is not None) == bool(signature)
    believed = Authorities(ACL, (NIX_KEY,)).believed(narinfo)
    assert believed.signed_urn is None
    assert believed.hint_urn == URN
    assert believed.signed_deltas == ()
    assert [line.urn for line in believed.hint_deltas] == [URN]
    assert "Deriver" not in believed.signed_fields


def test_a_path_that_follows_from_the_nar_needs_no_signature() -> None:
    text = (NIX / "zyc9q74r4mipj51zwbw8i08sqc02xapc.narinfo").read_text()
    bare = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("Sig:"))
    keys = Authorities(ACL)
    believed = keys.believed(nix(bare))
    assert believed.signed_fields == {"StorePath", "NarHash", "References"}
    other = "zyc9q74r4mipj51zwbw8i08sqc02xapc-src"
    for altered in (
        bare.replace("NarHash: sha256:15", "NarHash: sha256:05"),
        bare.replace("15qik5", "05qik5"),
        bare.replace("zyc9", "zyc8"),
        bare.replace("References: ", f"References: {other}"),
        bare.replace("CA: fixed:r:", "CA: fixed:"),
        bare.replace("-src", "-another"),
    ):
        assert altered != bare
        with pytest.raises(NotAuthorized):
            keys.believed(nix(altered))


def test_where_nobody_is_believed_all_are_hints() -> None:
    assert not Authorities().has_keys
    assert Authorities(ACL).has_keys
    narinfo = disbelieved(guix(GUIX_TEXT.replace("References:", f"ERIS: {URN}\nReferences:")))
    assert narinfo.signed_fields == frozenset()
    assert (narinfo.signed_urn, narinfo.hint_urn) == (None, URN)
