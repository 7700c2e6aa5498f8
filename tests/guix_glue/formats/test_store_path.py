"""Store paths, and what may become part of one."""

from __future__ import annotations

import csv
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import InvalidEncoding, InvalidStorePath
from guix_glue.formats.store_path import (
    check_base_name,
    check_hash_part,
    check_store_path,
    fixed_output_path,
    format_hash,
    parse_hash,
)
from tests.guix_glue.samples import SAMPLES

HASH = "7xq3qwahlz7ci18sxrm0qhmzqmafag1f"


def test_all_paths_of_a_real_database() -> None:
    with open(SAMPLES / "db" / "ValidPaths.tsv", encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file, delimiter="\t")]
    assert paths
    for path in paths:
        assert f"/gnu/store/{check_store_path(path, '/gnu/store')}" == path


BAD_NAMES = [
    "",
    HASH,
    f"{HASH}-",
    f"{HASH}_name",
    f"{HASH}-.hidden",
    f"{HASH}-a/b",
    f"{HASH}-a\nb",
    f"{HASH}-a b",
    f"{HASH}-\u00e4",
    f"{HASH}-{'x' * 212}",
    f"{HASH[:-1]}-name",
    f"{HASH.upper()}-name",
    f"e{HASH[1:]}-name",
    f"../{HASH}-name",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=range(len(BAD_NAMES)))
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidStorePath):
        check_base_name(name)
    with pytest.raises(InvalidStorePath):
        check_store_path(f"/gnu/store/{name}", "/gnu/store")


@pytest.mark.parametrize("directory", ["/gnu/store/", "/gnu", "", "/nix/store", "/gnu/store/.."])
def test_other_directories(directory: str) -> None:
    with pytest.raises(InvalidStorePath):
        check_store_path(f"{directory}/{HASH}-name", "/gnu/store")


@given(st.text(max_size=300))
def test_names_are_refused_by_one_error(text: str) -> None:
    for check in (check_base_name, check_hash_part):
        try:
            assert check(text) == text
        except InvalidStorePath as error:
            assert len(str(error)) < 2000


def test_the_place_of_a_fixed_output() -> None:
    # guix build of an item declared by the hash of this text.
    [nar] = (SAMPLES / "nar").glob("*-fixed-hello.txt.nar")
    content = nar.read_bytes()
    size = int.from_bytes(content[88:96], "little")
    digest = sha256(content[96 : 96 + size]).digest()
    path = fixed_output_path("/gnu/store", "fixed-hello.txt", digest)
    assert path == f"/gnu/store/{nar.name.removesuffix('.nar')}"
    assert fixed_output_path("/gnu/store", "fixed-hello.txt", digest, recursive=True) != path
    with pytest.raises(InvalidStorePath):
        fixed_output_path("/gnu/store", "a/b", digest)


@given(st.binary(min_size=32, max_size=32))
def test_hashes(digest: bytes) -> None:
    assert parse_hash(format_hash(digest)) == digest
    assert parse_hash(f"sha256:{digest.hex()}") == digest


@pytest.mark.parametrize(
    "text", ["", "sha256", "sha256:", "sha256:00", f"sha512:{'0' * 64}", f"sha256:{'_' * 64}"]
)
def test_bad_hashes(text: str) -> None:
    with pytest.raises(InvalidEncoding):
        parse_hash(text)
