"""What is passed on of another server's narinfo, byte for byte or written anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from guix_glue.formats.narinfo import Narinfo, NarUrl, parse_narinfo
from guix_glue.trust.acl import Acl
from guix_glue.trust.authorities import Authorities, disbelieved
from guix_glue.trust.nix_keys import NixPublicKey
from guix_glue.upstream.passing_on import has_signed_urls, own_hints, passed_on
from tests.guix_glue.samples import SAMPLES

NIX = SAMPLES / "nix-2.8"
VARIANTS = SAMPLES / "narinfo" / "variants-fed-to-stock-guix"
NIX_KEY = NixPublicKey.parse((NIX / "public-key").read_text())
BOTH = Authorities(Acl.parse((SAMPLES / "keys" / "acl").read_bytes()), (NIX_KEY,))
OURS = NarUrl("nar/ours", "none", 7)
GUIX = sorted((SAMPLES / "narinfo").glob("*/*.narinfo"))
GUIX = [file for file in GUIX if file.stem != "crlf"]


def read(text: str | bytes, store_dir: str = "/gnu/store") -> Narinfo:
    data = text.encode() if isinstance(text, str) else text
    return parse_narinfo(data, store_dir=store_dir)


@pytest.mark.parametrize("file", GUIX, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_what_guix_signed_stays_byte_for_byte(file: Path) -> None:
    original = BOTH.believed(read(file.read_bytes()))
    if has_signed_urls(original):
        return
    passed = BOTH.believed(read(passed_on(original, [OURS])))
    assert passed.signed_text == original.signed_text
    assert passed.signature == original.signature
    assert passed.item == original.item
    assert passed.urls == (OURS,)


@pytest.mark.parametrize("file", sorted(NIX.glob("*.narinfo")), ids=lambda file: file.stem)
def test_what_nix_signed_is_written_anew_with_all_signatures(file: Path) -> None:
    text = file.read_text()
    original = BOTH.believed(read(f"Sig: other:{'A' * 86}==\n{text}", "/nix/store"))
    data = passed_on(original, [OURS], hint="urn:eris:AAAA")
    passed = BOTH.believed(read(data, "/nix/store"))
    assert passed.urls == (OURS,)
    assert passed.nix_signatures == original.nix_signatures
    assert len(passed.nix_signatures) == 2
    assert passed.ca == original.ca
    assert passed.hint_urn == "urn:eris:AAAA"
    # Nobody signed who derived it, nor what servers call their files.
    assert passed.item.deriver is None
    assert b"FileHash" not in data
    names = [line.partition(":")[0] for line in data.decode().splitlines()]
    assert names.count("URL") == names.count("NarSize") == names.count("StorePath") == 1


@pytest.mark.parametrize(
    "ca",
    [
        "fixed:r:sha256:0abc\n+ Sig: x",
        "x",
        "text:sha256:a b",
        "fixed:r:sha256:0",
        # What Nix dies of: it is of another path.
        "fixed:r:sha256:15qik5vhpqlj38i8a669a71b5whcxqh4597rv823zap2wfbz18sp",
    ],
)
def test_what_is_no_content_address_is_left_out(ca: str) -> None:
    text = (NIX / "z90gp91wsj4nxqr2l641lv3i0q4c0dkl.narinfo").read_text()
    narinfo = read(f"{text}CA: {ca}\n", "/nix/store")
    assert narinfo.ca is not None
    assert b"CA:" not in passed_on(narinfo, [OURS])


def test_signed_urls_are_seen_whoever_is_believed() -> None:
    for name, signed in (("sig-last", True), ("eris-signed", False)):
        narinfo = read((VARIANTS / f"{name}.narinfo").read_bytes())
        assert has_signed_urls(narinfo) is signed
        assert has_signed_urls(disbelieved(narinfo)) is signed
    nix = read((NIX / "z90gp91wsj4nxqr2l641lv3i0q4c0dkl.narinfo").read_bytes(), "/nix/store")
    assert not has_signed_urls(nix)


def test_a_size_that_is_not_signed_goes_along() -> None:
    narinfo = read((VARIANTS / "minimal-mandatory.narinfo").read_bytes())
    passed = read(passed_on(narinfo, [OURS]))
    assert passed.item.nar_size == narinfo.item.nar_size
    assert "NarSize" not in passed.signed_fields


def test_a_signature_over_nothing_is_no_signature() -> None:
    """Who believes Nix alone could else be sent a text without the facts of the item."""
    text = (NIX / "z90gp91wsj4nxqr2l641lv3i0q4c0dkl.narinfo").read_text()
    narinfo = BOTH.believed(read(f"Signature: 1;x;AAAA\n{text}", "/nix/store"))
    data = passed_on(narinfo, [OURS])
    assert b"Signature:" not in data
    assert BOTH.believed(read(data, "/nix/store")).item.path == narinfo.item.path


@pytest.mark.parametrize(
    "line", [f"NarHash: sha256:{'0' * 52}", "FileHash: junk", "URL: nar/x", "References: "]
)
def test_what_guix_is_said_to_have_signed_is_not_sent_on_by_the_word_of_nix(line: str) -> None:
    """Nix takes the last of several lines, and gives up at one that it cannot read."""
    text = (NIX / "z90gp91wsj4nxqr2l641lv3i0q4c0dkl.narinfo").read_text()
    head, _, rest = text.partition("Sig:")
    narinfo = BOTH.believed(read(f"{head}{line}\nSignature: 1;x;AAAA\nSig:{rest}", "/nix/store"))
    assert not has_signed_urls(narinfo)
    data = passed_on(narinfo, [OURS]).decode()
    assert line not in data.splitlines()
    names = [one.partition(":")[0] for one in data.splitlines()]
    assert len(set(names)) == len(names)
    assert "Signature" not in names


@pytest.mark.parametrize("value", ["test.example-1:!!!!", "test.example-1:AAAA", "x", "a:b:c"])
def test_what_is_no_signature_of_nix_is_left_out(value: str) -> None:
    """By a name that it trusts, Nix fails for one."""
    text = (NIX / "z90gp91wsj4nxqr2l641lv3i0q4c0dkl.narinfo").read_text()
    narinfo = BOTH.believed(read(f"Sig: {value}\n{text}", "/nix/store"))
    passed = read(passed_on(narinfo, [OURS]), "/nix/store")
    assert passed.nix_signatures == narinfo.nix_signatures[1:]


@pytest.mark.parametrize("letter", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_only_line_feeds_end_lines(letter: str) -> None:
    narinfo = read((VARIANTS / "minimal-mandatory.narinfo").read_bytes())
    passed = read(passed_on(narinfo, [OURS], hint=f"urn:eris:A{letter}NarSize: 7"))
    assert passed.item == narinfo.item
    assert not has_signed_urls(read(f"X: {letter}URL: x\n{narinfo.text}"))


@pytest.mark.parametrize("name", ["eris-signed", "eris-unsigned-after", "eris-dup"])
def test_lines_of_eris_stay_and_do_not_double(name: str) -> None:
    original = read((VARIANTS / f"{name}.narinfo").read_bytes())
    for believed in (original, disbelieved(original)):
        hint, deltas = own_hints(believed)
        passed = read(passed_on(believed, [OURS], hint=hint, hint_deltas=deltas))
        assert passed.signed_urn == original.signed_urn
        if believed is original:
            assert passed.hint_urn == original.hint_urn
        assert passed.text.count(str(passed.signed_urn)) <= 1
