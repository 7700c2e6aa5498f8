"""The index: its bytes, its order, and that nothing but an index is taken for one."""

from __future__ import annotations

from collections.abc import Iterable

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eris import ReadCapability
from eris_fs import (
    MAGIC,
    EmptyDirectory,
    Entry,
    InvalidManifest,
    Limits,
    ManifestReader,
    Path,
    RegularFile,
    Symlink,
    Tree,
    TreeTooLarge,
    UnsafePath,
    format_manifest,
    looks_like_tree,
)
from tests.eris_fs.trees import capability, names, targets

CAPABILITY_CBOR = capability().to_cbor()
FILE = b"\x82\x00" + CAPABILITY_CBOR
HEADER = MAGIC + b"\x01"

capabilities = st.builds(
    lambda code, rest: ReadCapability.from_bytes(bytes([code]) + rest),
    st.sampled_from([10, 15]),
    st.binary(min_size=65, max_size=65),
)
entries: st.SearchStrategy[Entry] = st.one_of(
    st.builds(RegularFile, capabilities, st.booleans()),
    st.builds(Symlink, targets),
    st.just(EmptyDirectory()),
)


def without_conflicts(tree: dict[Path, Entry]) -> dict[Path, Entry]:
    """Leave out entries that lie under others."""
    return {
        path: entry
        for path, entry in tree.items()
        if not any(path[:length] in tree for length in range(len(path)))
    }


paths = st.lists(names, max_size=6).map(tuple)
trees = st.dictionaries(paths, entries, max_size=12).map(without_conflicts)


def read(pieces: Iterable[bytes], limits: Limits | None = None) -> dict[Path, Entry]:
    """Read an index that comes in pieces."""
    reader = ManifestReader(limits or Limits())
    tree: dict[Path, Entry] = {}
    for piece in pieces:
        tree.update(reader.feed(piece))
    reader.finish()
    return tree


def one_by_one(data: bytes) -> list[bytes]:
    """Cut into single bytes."""
    return [data[at : at + 1] for at in range(len(data))]


def verdict(pieces: Iterable[bytes]) -> Tree | str:
    """Read; the reason for refusing is a result too."""
    try:
        return read(pieces)
    except InvalidManifest as error:
        return error.reason


def index(*pairs: bytes) -> bytes:
    """Put an index together from encoded keys and entries in turn."""
    assert len(pairs) % 2 == 0
    return HEADER + bytes([0xA0 + len(pairs) // 2]) + b"".join(pairs)


def test_known_bytes() -> None:
    tree: Tree = {
        ("bin", "hello"): RegularFile(capability(), executable=True),
        ("a",): Symlink("b/c"),
        ("empty",): EmptyDirectory(),
        ("bin", "é"): RegularFile(capability()),
    }
    expected = (
        "da65726974 82 01 a4"
        "81 6161 82 02 63622f63"
        "81 65656d707479 81 03"
        f"82 6362696e 62c3a9 82 00 d90114 5842 0a00{'00' * 64}"
        f"82 6362696e 6568656c6c6f 82 01 d90114 5842 0a00{'00' * 64}"
    )
    assert b"".join(format_manifest(tree)) == bytes.fromhex(expected)


def test_the_empty_tree_is_an_empty_map() -> None:
    assert b"".join(format_manifest({})) == bytes.fromhex("da65726974 82 01 a0")
    assert read([bytes.fromhex("da65726974 82 01 a0")]) == {}


def test_keys_are_in_bytewise_order_not_length_first() -> None:
    tree: Tree = {("b", "c"): EmptyDirectory(), ("aaaaaaaa",): EmptyDirectory()}
    data = b"".join(format_manifest(tree))
    assert data.index(b"aaaaaaaa") < data.index(b"\x82\x61b\x61c")
    # The order that cbor2 calls canonical, RFC 7049's, is the other one.
    assert data[8:] not in cbor2.dumps({("b", "c"): [3], ("aaaaaaaa",): [3]}, canonical=True)


@given(trees)
def test_keys_ascend(tree: Tree) -> None:
    found = list(ManifestReader().feed(b"".join(format_manifest(tree))))
    keys = [cbor2.dumps(path) for path, _ in found]
    assert keys == sorted(keys)


@given(trees)
def test_cbor2_reads_what_is_written(tree: Tree) -> None:
    tag = cbor2.loads(b"".join(format_manifest(tree)))
    assert tag.tag == 0x65726974
    version, found = tag.value
    assert version == 1
    assert set(found) == set(tree)


@given(trees, st.integers(1, 300))
def test_reading_inverts_writing(tree: Tree, step: int) -> None:
    data = b"".join(format_manifest(tree))
    assert read([data]) == tree
    assert read(one_by_one(data)) == tree
    assert read(data[at : at + step] for at in range(0, len(data), step)) == tree


@given(trees)
def test_order_of_the_mapping_does_not_matter(tree: Tree) -> None:
    backward = dict(reversed(list(tree.items())))
    assert b"".join(format_manifest(tree)) == b"".join(format_manifest(backward))


def test_long_trees_come_in_pieces() -> None:
    tree: Tree = {(f"{number:06}",): RegularFile(capability(number)) for number in range(10_000)}
    pieces = list(format_manifest(tree))
    assert len(pieces) > 2
    assert read(pieces) == tree


@given(trees, st.binary(min_size=1, max_size=40))
def test_nothing_may_follow(tree: Tree, tail: bytes) -> None:
    data = b"".join(format_manifest(tree)) + tail
    for pieces in ([data], one_by_one(data), [data[: -len(tail)], tail]):
        with pytest.raises(InvalidManifest, match="follows its end"):
            read(pieces)


@given(trees)
def test_every_truncation_is_refused(tree: Tree) -> None:
    data = b"".join(format_manifest(tree))
    for length in range(len(data)):
        with pytest.raises(InvalidManifest, match="too early"):
            read([data[:length]])


@given(st.binary(max_size=200))
def test_any_bytes_are_an_index_or_refused(data: bytes) -> None:
    for start in (b"", MAGIC, HEADER, HEADER + b"\xa1", HEADER + b"\xa1\x81\x61a"):
        assert verdict([start + data]) == verdict(one_by_one(start + data))


@given(trees, st.data())
def test_any_damage_is_an_index_or_refused(tree: Tree, data: st.DataObject) -> None:
    damaged = bytearray(b"".join(format_manifest(tree)))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert verdict([bytes(damaged)]) == verdict(one_by_one(bytes(damaged)))


@given(trees)
def test_what_is_read_is_written_again(tree: Tree) -> None:
    data = b"".join(format_manifest(tree))
    assert b"".join(format_manifest(read([data]))) == data


def test_both_forms_of_keys() -> None:
    expected = {("bin", "hello"): RegularFile(capability())}
    assert read([index(b"\x82\x63bin\x65hello", FILE)]) == expected
    assert read([index(b"\x69bin/hello", FILE)]) == expected


def test_any_order_of_keys() -> None:
    assert list(read([index(b"\x61b", FILE, b"\x81\x61a", FILE)])) == [("b",), ("a",)]


def test_the_magic() -> None:
    assert looks_like_tree(HEADER + b"\xa0")
    assert looks_like_tree(MAGIC)
    assert not looks_like_tree(MAGIC[:-1])
    assert not looks_like_tree(b"")
    assert not looks_like_tree(b"\xd9\xd9\xf7" + MAGIC)


CONFLICTS = [
    (b"\x81\x61a", b"\x81\x61a"),
    (b"\x61a", b"\x81\x61a"),
    (b"\x81\x61a", b"\x82\x61a\x61b"),
    (b"\x82\x61a\x61b", b"\x81\x61a"),
    (b"\x83\x61a\x61b\x61c", b"\x61a"),
    (b"\x80", b"\x81\x61a"),
    (b"\x81\x61a", b"\x80"),
]


@pytest.mark.parametrize(("one", "other"), CONFLICTS)
@pytest.mark.parametrize("kind", [FILE, b"\x82\x02\x61b", b"\x81\x03"])
def test_paths_that_conflict(one: bytes, other: bytes, kind: bytes) -> None:
    data = index(b"\x81\x61-", FILE, one, kind, b"\x81\x61z", FILE, other, FILE)
    if b"\x80" in (one, other):
        data = index(one, kind, other, FILE)
    for pieces in ([data], one_by_one(data)):
        with pytest.raises(InvalidManifest, match=r"twice|under another") as caught:
            read(pieces)
        assert isinstance(caught.value.__cause__, UnsafePath)


INVALID = {
    "nothing": b"",
    "other content": b"Hail ERIS!",
    "another tag": bytes.fromhex("da65726975 82 01 a0"),
    "self-described": bytes.fromhex("d9d9f7 da65726974 82 01 a0"),
    "a longer tag": bytes.fromhex("db0000000065726974 82 01 a0"),
    "three items": bytes.fromhex("da65726974 83 01 a0 00"),
    "an indefinite array": bytes.fromhex("da65726974 9f 01 a0 ff"),
    "version 0": MAGIC + b"\x00\xa0",
    "version 2": MAGIC + b"\x02\xa0",
    "version -2": MAGIC + b"\x21\xa0",
    "version 1 written long": MAGIC + b"\x18\x01\xa0",
    "no map": HEADER + b"\x80",
    "an indefinite map": HEADER + b"\xbf\xff",
    "a map head written long": HEADER + b"\xb8\x00",
    "a reserved head": HEADER + b"\xbc",
    "a key that is a number": index(b"\x01", FILE),
    "a key of bytes": index(b"\x41a", FILE),
    "a component of bytes": index(b"\x81\x41a", FILE),
    "a component that is an array": index(b"\x81\x81\x61a", FILE),
    "an indefinite key": index(b"\x9f\x61a\xff", FILE),
    "an indefinite text": index(b"\x81\x7f\x61a\xff", FILE),
    "a length written long": index(b"\x81\x78\x01a", FILE),
    "no UTF-8": index(b"\x81\x61\xff", FILE),
    "a surrogate": index(b"\x81\x63\xed\xa0\x80", FILE),
    "overlong UTF-8": index(b"\x81\x62\xc0\xaf", FILE),
    "an empty component": index(b"\x81\x60", FILE),
    "dot": index(b"\x81\x61.", FILE),
    "dot dot": index(b"\x82\x62..\x61a", FILE),
    "dot dot within": index(b"\x83\x61a\x62..\x61b", FILE),
    "a slash": index(b"\x81\x63a/b", FILE),
    "NUL": index(b"\x81\x62a\x00", FILE),
    "an empty text key": index(b"\x60", FILE),
    "an absolute text key": index(b"\x62/a", FILE),
    "a text key with a trailing slash": index(b"\x62a/", FILE),
    "a text key with dot dot": index(b"\x64../a", FILE),
    "a text key with NUL": index(b"\x63a/\x00", FILE),
    "kind 4": index(b"\x61a", b"\x82\x04" + CAPABILITY_CBOR),
    "a negative kind": index(b"\x61a", b"\x82\x20" + CAPABILITY_CBOR),
    "a file without a capability": index(b"\x61a", b"\x81\x00"),
    "a file of three items": index(b"\x61a", b"\x83\x00" + CAPABILITY_CBOR + b"\x00"),
    "an entry that is a map": index(b"\x61a", b"\xa1\x00" + CAPABILITY_CBOR),
    "an empty entry": index(b"\x61a", b"\x80"),
    "an empty directory with a value": index(b"\x61a", b"\x82\x03\x00"),
    "a capability without a tag": index(b"\x61a", b"\x82\x00" + CAPABILITY_CBOR[3:]),
    "a capability under another tag": index(
        b"\x61a", b"\x82\x00\xd9\x01\x15" + CAPABILITY_CBOR[3:]
    ),
    "a short capability": index(b"\x61a", b"\x82\x00\xd9\x01\x14\x58\x41" + bytes([10] + 70 * [0])),
    "an unknown block size": index(b"\x61a", b"\x82\x00" + CAPABILITY_CBOR[:5] + bytes(66)),
    "an empty target": index(b"\x61a", b"\x82\x02\x60"),
    "a target with NUL": index(b"\x61a", b"\x82\x02\x61\x00"),
    "a target of bytes": index(b"\x61a", b"\x82\x02\x41a"),
    "a target that is no UTF-8": index(b"\x61a", b"\x82\x02\x61\xff"),
    "a huge map": HEADER + b"\xbb" + b"\xff" * 8,
    "a huge path": index(b"\x9b" + b"\xff" * 8, b""),
    "a huge component": index(b"\x81\x7b" + b"\xff" * 8, b""),
    "a huge text key": index(b"\x7b" + b"\xff" * 8, b""),
    "a huge target": index(b"\x61a", b"\x82\x02\x7b" + b"\xff" * 8),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_indices(name: str) -> None:
    data = INVALID[name]
    for pieces in ([data], one_by_one(data), [data + bytes(100)]):
        with pytest.raises(InvalidManifest):
            read(pieces)


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        (index(b"\x61a", FILE, b"\x61b", FILE), Limits(entries=1)),
        # Directories count: a/b/c are three, and d the fourth.
        (index(b"\x65a/b/c", FILE, b"\x61d", FILE), Limits(entries=3)),
        (index(b"\x83\x61a\x61b\x61c", FILE), Limits(depth=2)),
        (index(b"\x65a/b/c", FILE), Limits(depth=2)),
        (index(b"\x81\x64abcd", FILE), Limits(name_size=3)),
        (index(b"\x64abcd", FILE), Limits(name_size=3)),
        (index(b"\x81\x64\xc3\xa9\xc3\xa9", FILE), Limits(name_size=3)),
        (index(b"\x82\x62ab\x62cd", FILE), Limits(path_size=4)),
        (index(b"\x65ab/cd", FILE), Limits(path_size=4)),
        (index(b"\x82\x62\xc3\xa9\x62\xc3\xa9", FILE), Limits(path_size=4)),
        (index(b"\x61a", b"\x82\x02\x64abcd"), Limits(target_size=3)),
        (index(b"\x61a", FILE), Limits(index_size=80)),
    ],
)
def test_limits(data: bytes, limits: Limits) -> None:
    read([data])
    for pieces in ([data], one_by_one(data)):
        with pytest.raises(InvalidManifest):
            read(pieces, limits)


def test_limits_allow_what_they_say() -> None:
    data = index(b"\x82\x62ab\x62cd", b"\x82\x02\x64abcd")
    limits = Limits(
        entries=2, depth=2, name_size=2, path_size=5, target_size=4, index_size=len(data)
    )
    assert read([data], limits) == {("ab", "cd"): Symlink("abcd")}


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"\xba\x00\x0f\x42\x41", "more than 1000000 entries"),
        (b"\xa1\x99\x01\x01", "more than 256 components"),
        (b"\xa1\x81\x79\x01\x00", "more than 255 bytes"),
        (b"\xa1\x79\x10\x00", "more than 4095 bytes"),
        (b"\xa1\x61a\x82\x02\x79\x10\x00", "more than 4095 bytes"),
    ],
)
def test_a_length_is_refused_before_what_it_announces(head: bytes, reason: str) -> None:
    with pytest.raises(InvalidManifest, match=reason):
        ManifestReader().feed(HEADER + head)


def test_where_it_goes_wrong() -> None:
    data = index(b"\x61a", FILE, b"\x61b", b"\x82\x09")
    for pieces in ([data], one_by_one(data)):
        with pytest.raises(InvalidManifest) as caught:
            read(pieces)
        assert caught.value.offset == len(data)


UNWRITABLE: list[Tree] = [
    {("..",): EmptyDirectory()},
    {("a", ""): EmptyDirectory()},
    {("a/b",): EmptyDirectory()},
    {("\udc80",): EmptyDirectory()},
    {("a" * 256,): EmptyDirectory()},
    {("a",) * 257: EmptyDirectory()},
    {("a" * 255,) * 17: EmptyDirectory()},
    {("a",): Symlink("")},
    {("a",): Symlink("a\0")},
    {("a",): Symlink("\udc80")},
    {("a",): Symlink("a" * 4096)},
    {("a",): RegularFile(capability()), ("a", "b"): EmptyDirectory()},
    {(): RegularFile(capability()), ("a",): EmptyDirectory()},
]


@pytest.mark.parametrize("tree", UNWRITABLE)
def test_what_would_be_refused_is_not_written(tree: Tree) -> None:
    with pytest.raises(UnsafePath):
        b"".join(format_manifest(tree))


def test_too_large_a_tree_is_not_written() -> None:
    tree: Tree = {("a", "b"): EmptyDirectory(), ("c",): EmptyDirectory()}
    assert b"".join(format_manifest(tree, Limits(entries=3)))
    with pytest.raises(TreeTooLarge):
        b"".join(format_manifest(tree, Limits(entries=2)))


def test_messages_hold_no_capability_and_no_control_characters() -> None:
    secret = ReadCapability.from_bytes(bytes([10, 0]) + bytes(range(64)))
    entry = b"\x82\x01" + secret.to_cbor()
    data = index(b"\x81\x63\x1b[m", entry, b"\x81\x63\x1b[m", entry)
    with pytest.raises(InvalidManifest) as caught:
        read([data])
    message = str(caught.value)
    assert message.isprintable()
    assert r"\x1b[m" in message
    assert secret.to_urn()[9:30] not in message + repr(caught.value)
