"""Narinfos, byte for byte as the stock server writes and signs them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from guix_glue.formats.narinfo import DeltaLine, NarUrl, parse_narinfo
from guix_glue.model import StoreItem
from guix_glue.publish.key_files import read_guix_keys, read_nix_key
from guix_glue.publish.narinfos import NarinfoWriter, SigningKeys
from tests.guix_glue.publish.support import SAMPLES

WRITTEN = sorted((SAMPLES / "narinfo").glob("*cached-*/*.narinfo"))


def test_there_are_samples() -> None:
    assert len(WRITTEN) > 20


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_as_the_stock_server(path: Path) -> None:
    keys = SAMPLES / "keys"
    writer = NarinfoWriter(read_guix_keys(keys / "signing-key.pub", keys / "signing-key.sec", "vm"))
    sample = path.read_bytes()
    known = parse_narinfo(sample, store_dir="/gnu/store")
    assert writer.write(known.item, known.urls, None) == sample
    # What is kept in memory is given again only for the same facts.
    assert writer.write(known.item, known.urls, None) == sample
    assert writer.write(known.item, known.urls[:1], "urn:eris:AAAA") != sample


def test_for_nix_the_smallest_nar_stands_last() -> None:
    keys = SAMPLES / "keys"
    guix = read_guix_keys(keys / "signing-key.pub", keys / "signing-key.sec", "vm")
    nix = read_nix_key(SAMPLES / "nix-2.8" / "secret-key", "vm")
    item = StoreItem(f"/nix/store/{'0' * 32}-x", bytes(32), 1000, ())
    urls = [NarUrl("c", "none", 1000, None), NarUrl("a", "zstd", 10, None)]
    urls += [NarUrl("b", "gzip", 20, None), NarUrl("d", "lzip", 10, None)]
    for one, order in (
        (nix, "cbad"),
        (SigningKeys("vm", guix=guix.guix, nix=nix.nix), "cbad"),
        (guix, "cabd"),
    ):
        written = NarinfoWriter(one).write(item, urls, None)
        known = parse_narinfo(written, store_dir="/nix/store")
        assert "".join(url.url for url in known.urls) == order


def test_what_others_signed_for_nix_stands_beside_our_own() -> None:
    keys = SAMPLES / "keys"
    guix = read_guix_keys(keys / "signing-key.pub", keys / "signing-key.sec", "vm")
    nix = read_nix_key(SAMPLES / "nix-2.8" / "secret-key", "vm")
    assert nix.nix is not None
    item = StoreItem(f"/nix/store/{'0' * 32}-x", bytes(32), 1000, (), None, "text:sha256:1")
    ours = nix.nix.sign(item)
    signed = replace(item, signatures=("cache-1:AAAA", ours))
    urls = [NarUrl("plain", "none", 10, "sha256:1"), NarUrl("packed", "zstd", 5, "sha256:2")]
    for one, signatures in (
        (nix, (ours, "cache-1:AAAA")),
        (SigningKeys("vm"), ("cache-1:AAAA", ours)),
        (SigningKeys("vm", guix=guix.guix), ("cache-1:AAAA", ours)),
    ):
        written = NarinfoWriter(one, for_nix=True).write(signed, urls, None)
        known = parse_narinfo(written, store_dir="/nix/store")
        assert known.nix_signatures == signatures
        # Nix takes the last, whoever signs.
        assert [(url.url, url.file_hash) for url in known.urls][-1] == ("packed", "sha256:2")
        assert written.count(b"\nCA: text:sha256:1\n") == 1
        assert (known.signature is not None) == (one.guix is not None)
        assert known.signed_text is None or "CA:" not in known.signed_text


def test_deltas_are_signed_for_guix_and_hints_for_nix() -> None:
    keys = SAMPLES / "keys"
    guix = read_guix_keys(keys / "signing-key.pub", keys / "signing-key.sec", "vm")
    nix = read_nix_key(SAMPLES / "nix-2.8" / "secret-key", "vm")
    item = StoreItem(f"/nix/store/{'0' * 32}-x-2", bytes(32), 1000, ())
    deltas = [
        DeltaLine(f"{'1' * 32}-x-1", "urn:eris:A"),
        DeltaLine(f"{'2' * 32}-x-0", "urn:eris:B"),
    ]
    for one, is_signed in (
        (nix, False),
        (guix, True),
        (SigningKeys("vm", guix=guix.guix, nix=nix.nix), True),
    ):
        writer = NarinfoWriter(one)
        written = writer.write(item, [NarUrl("a")], "urn:eris:C", deltas)
        known = parse_narinfo(written, store_dir="/nix/store")
        assert list(known.signed_deltas) == (deltas if is_signed else [])
        assert list(known.hint_deltas) == ([] if is_signed else deltas)
        # Else only the signature differs: stock readers skip lines that they do not know.
        without = writer.write(item, [NarUrl("a")], "urn:eris:C").splitlines()
        lines = [line for line in written.splitlines() if not line.startswith(b"ERIS-Delta: ")]
        differing = [one for one, other in zip(lines, without, strict=True) if one != other]
        assert all(line.startswith(b"Signature: ") for line in differing)


def test_the_seed_narinfo_of_the_eris_announcement() -> None:
    keys = SAMPLES / "keys"
    writer = NarinfoWriter(read_guix_keys(keys / "signing-key.pub", keys / "signing-key.sec", "vm"))
    sample = (SAMPLES / "narinfo" / "seed-libchop-with-ERIS.narinfo").read_bytes()
    known = parse_narinfo(sample, store_dir="/gnu/store")
    written = writer.write(known.item, known.urls, known.signed_urn)
    # The key is another: the signed part is the same.
    assert written.partition(b"Signature:")[0] == sample.partition(b"Signature:")[0]


def test_hashes_of_files_are_told_of_all_nars_or_of_none() -> None:
    nix = read_nix_key(SAMPLES / "nix-2.8" / "secret-key", "vm")
    item = StoreItem(f"/nix/store/{'0' * 32}-x", bytes(32), 1000, ())
    # The last is the one that Nix takes, with the last hash: it must not be that of another.
    urls = [NarUrl("a", "gzip", 20, "sha256:1"), NarUrl("b", "zstd", 10, None)]
    assert b"FileHash" not in NarinfoWriter(nix).write(item, urls, None)
    hashed = [replace(url, file_hash="sha256:1") for url in urls]
    assert NarinfoWriter(nix).write(item, hashed, None).count(b"FileHash") == 2
