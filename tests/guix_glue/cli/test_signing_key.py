"""`kapla signing-key`: a pair of keys is there whole or not at all, and never replaced."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from guix_glue.cli.signing_key import authorize_key
from guix_glue.trust.acl import EMPTY_ACL, LARGEST_ACL, Acl
from guix_glue.trust.keys import generate_private_key, parse_private_key, parse_public_key
from tests.integration.commands import Kapla

# Writes nothing: as on a disk that is full.
NO_ROOM = ("prlimit", "--fsize=0")


@pytest.fixture
def kapla(tmp_path: Path) -> Kapla:
    """A user in an empty directory."""
    return Kapla(tmp_path, "")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_pair_belongs_together_and_is_never_replaced(kapla: Kapla) -> None:
    keys = kapla.home / "keys"
    assert kapla.out("signing-key", "generate", keys) == f"{keys}/signing-key.pub"
    assert names(keys) == ["signing-key.pub", "signing-key.sec"]
    private, public = keys / "signing-key.sec", keys / "signing-key.pub"
    key = parse_private_key(private.read_bytes())
    assert key.public == parse_public_key(public.read_bytes())
    assert (private.stat().st_mode & 0o777, public.stat().st_mode & 0o777) == (0o400, 0o444)
    assert "there already" in kapla.error("signing-key", "generate", keys, code=7)
    assert parse_private_key(private.read_bytes()) == key


def test_a_full_disk_leaves_nothing_in_the_way(kapla: Kapla) -> None:
    keys = kapla.home / "keys"
    Kapla(kapla.home, "", NO_ROOM).error("signing-key", "generate", keys, code=7)
    assert names(keys) == []
    kapla("signing-key", "generate", keys)


def test_what_was_interrupted_between_the_two_is_completed(kapla: Kapla) -> None:
    keys = kapla.home / "keys"
    kapla("signing-key", "generate", keys)
    private, public = keys / "signing-key.sec", keys / "signing-key.pub"
    before = private.read_bytes(), public.read_bytes()
    public.unlink()
    kapla("signing-key", "generate", keys)
    assert (private.read_bytes(), public.read_bytes()) == before


def test_a_secret_key_that_is_none_is_left_alone(kapla: Kapla) -> None:
    keys = kapla.home / "keys"
    keys.mkdir()
    (keys / "signing-key.sec").write_bytes(b"")
    error = kapla.error("signing-key", "generate", keys, code=7)
    assert f"{keys}/signing-key.sec is there already" in error
    assert names(keys) == ["signing-key.sec"]


def test_a_full_disk_leaves_the_access_list_as_it_was(kapla: Kapla) -> None:
    kapla("signing-key", "generate", kapla.home)
    key, acl = kapla.home / "signing-key.pub", kapla.home / "acl"
    for _ in range(2):
        kapla("signing-key", "authorize", "--acl", acl, key)
    assert Acl.parse(acl.read_bytes()).authorizes(parse_public_key(key.read_bytes()))
    before = acl.read_bytes()
    (kapla.home / "other").mkdir()
    kapla("signing-key", "generate", kapla.home / "other")
    other = kapla.home / "other" / "signing-key.pub"
    full = Kapla(kapla.home, "", NO_ROOM)
    full.error("signing-key", "authorize", "--acl", acl, other, code=7)
    assert acl.read_bytes() == before
    assert [name for name in names(kapla.home) if "acl" in name] == ["acl"]


def test_an_access_list_that_is_too_large_is_left_alone(kapla: Kapla) -> None:
    kapla("signing-key", "generate", kapla.home)
    key, acl = kapla.home / "signing-key.pub", kapla.home / "acl"
    before = EMPTY_ACL.ljust(LARGEST_ACL + 1, b"\n")
    acl.write_bytes(before)
    error = kapla.error("signing-key", "authorize", "--acl", acl, key, code=7)
    assert "File too large" in error
    assert acl.read_bytes() == before


def test_two_who_authorize_at_once_lose_no_key(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    keys = [generate_private_key(bytes([number]) * 32).public for number in range(1, 17)]
    files = [tmp_path / f"{number}.pub" for number in range(len(keys))]
    for key, file in zip(keys, files, strict=True):
        file.write_bytes(key.to_file())
    assert authorize_key.callback is not None
    with ThreadPoolExecutor(len(keys)) as pool:
        jobs = [pool.submit(authorize_key.callback, file, acl) for file in files]
        for job in jobs:
            job.result()
    found = Acl.parse(acl.read_bytes())
    assert all(found.authorizes(key) for key in keys)
