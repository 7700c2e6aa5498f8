"""What is to be fetched: whose word counts for it, and what signs its archive."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from guix_glue.closures.belief import Belief
from guix_glue.closures.recording import Recorder
from guix_glue.closures.signing import ArchiveSigner
from guix_glue.closures.wanted import Wanted, dangling, joined, vouched_for
from guix_glue.errors import InvalidItemList, NotVouchedFor, SignatureRejected
from guix_glue.formats.item_list import ItemList, format_item_list, parse_item_list
from guix_glue.formats.narinfo import format_narinfo, format_unsigned, parse_narinfo
from guix_glue.model import StoreItem
from guix_glue.servers.url import parse_server
from guix_glue.trust.acl import Acl
from guix_glue.trust.authorities import Authorities
from guix_glue.trust.keys import generate_private_key
from guix_glue.trust.nix_keys import NixSecretKey
from guix_glue.trust.signature import sign_digest, sign_text
from tests.guix_glue.samples import SAMPLES

KEY = generate_private_key(bytes(range(32)))
OTHER = generate_private_key(bytes(range(1, 33)))
ACL = Acl(frozenset({KEY.public.to_expression()}))
NIX = NixSecretKey.parse((SAMPLES / "nix-2.8" / "secret-key").read_text())
BELIEF = Belief(Authorities(ACL, (NIX.public,)))
NOBODY = Belief(Authorities())
DIGEST = sha256(b"archive").digest()
URN = "urn:eris:A"


def item(letter: str, *references: str, store_dir: str = "/gnu/store") -> StoreItem:
    names = tuple(f"{one * 32}-{one}" for one in references)
    name, digest = f"{letter * 32}-{letter}", sha256(letter.encode()).digest()
    return StoreItem(f"{store_dir}/{name}", digest, 100, names, f"{name}.drv")


A, B = item("a", "a"), item("b", "a")


def listed(*records: bytes, store_dir: str = "/gnu/store") -> ItemList:
    return parse_item_list(format_item_list(store_dir, [], records))


def test_this_machines_key_signs_all_that_is_known() -> None:
    recorder = Recorder("here", KEY)
    (wanted,) = vouched_for(listed(recorder.record(A, URN, DIGEST)), BELIEF)
    assert wanted.item == A
    assert wanted.urns == (URN,)
    assert ArchiveSigner(None, ACL).sign(wanted, DIGEST) == sign_digest(KEY, DIGEST)


def test_nobody_vouches() -> None:
    records = (Recorder("here", KEY).record(A, URN, DIGEST), Recorder("x").record(B, URN, DIGEST))
    with pytest.raises(NotVouchedFor, match=r"vouches for 1 of 2 items; b{32}-b: it is not"):
        vouched_for(listed(*records), BELIEF)
    with pytest.raises(NotVouchedFor, match="2 of 2"):
        vouched_for(listed(*records), NOBODY)
    unchecked = Belief(Authorities(), checks=False)
    assert [one.item for one in vouched_for(listed(*records), unchecked)] == [A, B]


def test_of_nix_a_deriver_is_not_signed() -> None:
    one = item("a", store_dir="/nix/store")
    record = Recorder("here", nix=NIX).record(one, URN, DIGEST)
    (wanted,) = vouched_for(listed(record, store_dir="/nix/store"), BELIEF)
    assert wanted.item == replace(one, deriver=None)


def test_a_size_that_nobody_signed_does_not_count() -> None:
    lines = format_unsigned(A).splitlines(keepends=True)
    unsigned = "".join(line for line in lines if not line.startswith("NarSize"))
    text = format_narinfo(unsigned, sign_text(KEY, unsigned, "x"), ()) + b"NarSize: 5\n"
    with pytest.raises(SignatureRejected, match="does not cover NarSize"):
        BELIEF.item(parse_narinfo(text, store_dir="/gnu/store"))


def test_what_others_have_signed_goes_along_if_it_is_of_the_same() -> None:
    unsigned = format_unsigned(A, "urn:eris:OTHER")
    text = format_narinfo(unsigned, sign_text(KEY, unsigned, "there"), ())
    said = parse_narinfo(text, store_dir="/gnu/store")
    (wanted,) = vouched_for(listed(Recorder("here").record(A, URN, DIGEST, said)), BELIEF)
    # Ours is where the list is; theirs may be nowhere.
    assert wanted.urns == (URN, "urn:eris:OTHER")
    assert wanted.archive_signature is None
    for other in (replace(A, nar_size=101), replace(A, nar_hash=DIGEST), replace(A, references=())):
        record = Recorder("here").record(other, URN, DIGEST, said)
        with pytest.raises(NotVouchedFor):
            vouched_for(listed(record), BELIEF)


def test_signatures_of_nix_that_a_store_has_go_along() -> None:
    one = item("a", store_dir="/nix/store")
    known = replace(one, signatures=(NIX.sign(one),), content_address="fixed:r:sha256:abc")
    record = Recorder("here").record(known, URN, DIGEST)
    assert b"\nCA: fixed:r:sha256:abc\n" in record
    assert vouched_for(listed(record, store_dir="/nix/store"), BELIEF)


def test_of_a_server_the_signed_urn_comes_first() -> None:
    unsigned = format_unsigned(A, URN)
    text = format_narinfo(unsigned, sign_text(KEY, unsigned, "x"), (), hint="urn:eris:HINT")
    narinfo = parse_narinfo(text, store_dir="/gnu/store")
    server = parse_server("http://one.example")
    assert Wanted.of(A, narinfo, server=server).urns == (URN, "urn:eris:HINT")
    assert Wanted.of(A, narinfo).urns == ("urn:eris:HINT", URN)


def test_several_lists_are_one() -> None:
    one, two = Wanted(A, (URN,)), Wanted(B)
    assert joined([[two], [one], [Wanted(A)]]) == [one, two]
    with pytest.raises(InvalidItemList, match="one hash here and another there"):
        joined([[one], [Wanted(replace(A, nar_hash=DIGEST))]])
    with pytest.raises(InvalidItemList, match="more than one store"):
        joined([[one], [Wanted(item("a", store_dir="/nix/store"))]])


def test_what_is_missing() -> None:
    assert dangling([Wanted(B)]) == [A.base_name]
    assert dangling([Wanted(B), Wanted(A)]) == []
    assert dangling([Wanted(B)], {A.base_name}) == []


def test_who_signs_an_archive() -> None:
    signed, bad = Wanted(A, (), sign_digest(OTHER, DIGEST)), Wanted(A, (), b"(nonsense")
    # What this machine imports is signed by a key of its list; an archive by whoever did.
    assert ArchiveSigner(None, ACL).lacking([signed, bad]) == [A.base_name] * 2
    assert ArchiveSigner(None, None).lacking([signed, bad]) == [A.base_name]
    assert ArchiveSigner(None, None).sign(signed, DIGEST) == signed.archive_signature
    assert ArchiveSigner(None, None).sign(bad, DIGEST) is None
    with pytest.raises(SignatureRejected, match="is of another one"):
        ArchiveSigner(None, None).sign(signed, sha256(b"other").digest())
    for signer in (ArchiveSigner(KEY, ACL), ArchiveSigner(KEY, None)):
        assert signer.lacking([signed, bad]) == []
        assert signer.sign(bad, DIGEST) == sign_digest(KEY, DIGEST)
    # A key that is in no list of this machine is of no use to it.
    assert ArchiveSigner(OTHER, ACL).lacking([signed]) == [A.base_name]
