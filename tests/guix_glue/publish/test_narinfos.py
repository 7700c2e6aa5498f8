"""Narinfos, byte for byte as the stock server writes and signs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from guix_glue.formats.narinfo import parse_narinfo
from guix_glue.publish.key_files import read_guix_keys
from guix_glue.publish.narinfos import NarinfoWriter
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


def test_the_seed_narinfo_of_the_eris_announcement() -> None:
    keys = SAMPLES / "keys"
    writer = NarinfoWriter(read_guix_keys(keys / "signing-key.pub", keys / "signing-key.sec", "vm"))
    sample = (SAMPLES / "narinfo" / "seed-libchop-with-ERIS.narinfo").read_bytes()
    known = parse_narinfo(sample, store_dir="/gnu/store")
    written = writer.write(known.item, known.urls, known.signed_urn)
    # The key is another: the signed part is the same.
    assert written.partition(b"Signature:")[0] == sample.partition(b"Signature:")[0]
