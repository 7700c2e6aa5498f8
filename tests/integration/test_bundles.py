"""Contents that go from daemon to daemon: copied, or carried as a file where the two never meet."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import cbor2
import pytest

from eris import BlockSize, ReadCapability, Reference, decode, encode, reference_of
from eris.base32 import format_base32
from eris.bundle import BUNDLE_HEAD
from eris.transfer import get_content, put_content
from kapla.client import RemoteStore
from kapla.urls import parse_store_url
from tests.integration.commands import blocks_of, stalling_store
from tests.integration.daemon import GUARD_S, Daemon, running_daemon, wait_until
from tests.integration.here import User

BLOCKS = 9
"""Of what `content` gives: eight of 32 KiB, no two alike, and the node above them."""


@pytest.fixture(scope="module")
def daemons() -> Iterator[tuple[Daemon, Daemon]]:
    """Two, which never meet; the second has listeners that only give, and only take."""
    listen = ("coap+tcp://127.0.0.1:0?get", "coap+tcp://127.0.0.1:0?put")
    with running_daemon() as first, running_daemon(listen=listen) as second:
        yield first, second


@pytest.fixture
def here(daemons: tuple[Daemon, Daemon], tmp_path: Path) -> User:
    """A user of the first daemon."""
    return user(tmp_path / "here", daemons[0])


@pytest.fixture
def there(daemons: tuple[Daemon, Daemon], tmp_path: Path) -> User:
    """A user of the second one."""
    return user(tmp_path / "there", daemons[1])


@pytest.fixture
def content(request: pytest.FixtureRequest) -> bytes:
    """Of each test its own: the daemons are shared."""
    name = request.node.name.encode().ljust(100)
    return b"".join(name[:100] + number.to_bytes(4, "big") for number in range(2400))


UMASK = os.umask(0)
os.umask(UMASK)


def user(home: Path, daemon: Daemon) -> User:
    home.mkdir()
    return User(home, daemon.url)


def make_tree(path: Path, content: bytes) -> None:
    (path / "sub").mkdir(parents=True)
    (path / "large").write_bytes(content)
    (path / "sub" / "small").write_bytes(content[:3000])
    (path / "sub" / "same").write_bytes(content[:3000])
    (path / "empty").write_bytes(b"")


def stored(user: User, content: bytes) -> str:
    """Put content into a user's store, without a command's start; gives its URN."""

    async def put() -> str:
        async with RemoteStore(parse_store_url(user.url)) as store:
            return (await put_content(store, content)).to_urn()

    return asyncio.run(put())


def read(user: User, urn: str) -> bytes:
    """What a user's store has of a content."""

    async def get() -> bytes:
        async with RemoteStore(parse_store_url(user.url)) as store:
            return await get_content(store, ReadCapability.from_urn(urn))

    return asyncio.run(get())


def found(user: User, references: list[Reference]) -> list[bool]:
    """Which blocks a user's store has."""

    async def find() -> list[bool]:
        async with RemoteStore(parse_store_url(user.url)) as store:
            return await store.find(references)

    return asyncio.run(find())


def tcp_ports(daemon: Daemon) -> list[int]:
    return [int(port) for port in re.findall(r"Listening on TCP 127.0.0.1:(\d+)", daemon.log)]


def files_of(path: Path) -> dict[str, bytes]:
    found = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in found}


def counts(done: str) -> dict[str, int]:
    found: dict[str, int] = json.loads(done)
    return found


# copy


def test_what_was_copied_is_whole_there_and_a_second_time_nothing_moves(
    here: User, there: User, content: bytes
) -> None:
    urn = stored(here, content)
    first = here.out("copy", urn, "--to", there.url)
    assert first == f"{BLOCKS} blocks copied ({BLOCKS * 32768:,} bytes)"
    assert read(there, urn) == content
    again = counts(here.out("copy", urn, "--to", there.url, "--json"))
    assert again == {"blocks": 0, "bytes": 0, "present": BLOCKS}


def test_only_what_is_missing_is_copied_into_the_usual_store(
    here: User, there: User, content: bytes
) -> None:
    urn = stored(here, content)
    stored(there, content[:-100])
    moved = counts(there.out("copy", urn, "--from", here.url, "--json"))
    assert moved == {"blocks": 2, "bytes": 2 * 32768, "present": BLOCKS - 2}
    assert read(there, urn) == content


@pytest.mark.parametrize("options", [(), ("--packed", "--level", "1")], ids=["standard", "packed"])
def test_a_tree_is_copied_with_all_its_files(
    here: User, there: User, content: bytes, options: tuple[str, ...]
) -> None:
    make_tree(here.home / "tree", content)
    urn = here.out("encode", "tree", *options)
    here("copy", urn, "--to", there.url)
    there("decode", urn, "back")
    assert files_of(there.home / "back") == files_of(here.home / "tree")


def test_of_a_tree_the_index_alone_is_copied_if_asked(
    here: User, there: User, content: bytes
) -> None:
    make_tree(here.home / "tree", content)
    urn = here.out("encode", "tree")
    moved = counts(here.out("copy", urn, "--to", there.url, "--json", "--raw"))
    assert moved["blocks"] == 1
    assert there("decode", urn, "-", "--raw").stdout == here("decode", urn, "-", "--raw").stdout


def test_a_store_that_takes_no_blocks_is_named(
    here: User, daemons: tuple[Daemon, Daemon], content: bytes
) -> None:
    urn = stored(here, content)
    giving, _ = tcp_ports(daemons[1])
    told = here.error("copy", urn, "--to", f"coap+tcp://127.0.0.1:{giving}", code=6)
    assert told.startswith(f"TCP 127.0.0.1:{giving}: ")
    assert "read-only" in told
    told = here.error("copy", urn, "--to", f"{daemons[1].url}?get", code=6)
    assert "allows no put" in told


def test_a_store_that_gives_no_blocks_is_named(here: User, daemons: tuple[Daemon, Daemon]) -> None:
    _, taking = tcp_ports(daemons[1])
    urn = encode(b"anything")[0].to_urn()
    told = here.error("copy", urn, "--from", f"coap+tcp://127.0.0.1:{taking}", code=6)
    assert told.startswith(f"TCP 127.0.0.1:{taking}: ")


def test_a_copy_wants_to_know_where_to(here: User) -> None:
    urn = stored(here, b"x")
    assert "--to" in here("copy", urn, code=2).stderr.decode()
    assert "the same store" in here.error("copy", urn, "--to", here.url, code=2)


def test_what_the_source_does_not_have_is_said(here: User, there: User) -> None:
    urn = encode(b"nobody stored this")[0].to_urn()
    assert "first block" in here.error("copy", urn, "--to", there.url, code=4)


def test_an_interrupted_copy_goes_on_where_it_was(
    here: User, there: User, content: bytes, daemons: tuple[Daemon, Daemon], tmp_path: Path
) -> None:
    urn = stored(here, content)
    references = blocks_of(content, BlockSize.LARGE)
    slow = daemons[0].directory / "slow.sock"
    with (
        stalling_store(slow, daemons[0].socket, 5 * 32768) as source,
        there.as_program.running("copy", urn, "--from", source.url, "--no-pin") as process,
    ):
        assert source.stalled.wait(GUARD_S)
        wait_until(lambda: any(found(there, references)), "what came to be put")
        there.as_program.interrupt(process, signal.SIGINT)
    moved = counts(there.out("copy", urn, "--from", here.url, "--json"))
    assert moved["present"] > 0
    assert moved["blocks"] + moved["present"] == BLOCKS
    assert read(there, urn) == content


# bundles


def test_a_bundle_brings_contents_and_says_which(here: User, there: User, content: bytes) -> None:
    make_tree(here.home / "tree", content)
    file, tree = stored(here, content), here.out("encode", "tree")
    here("export", file, tree, "both.eris")
    assert there.out("import", here.home / "both.eris") == f"{file}\n{tree}"
    assert read(there, file) == content
    there("decode", tree, "back")
    assert files_of(there.home / "back") == files_of(here.home / "tree")


def test_a_bundle_goes_through_a_pipe(here: User, there: User, content: bytes) -> None:
    urn = stored(here, content)
    bundle = here.as_program("export", urn, "-").stdout
    found = json.loads(there.as_program.out("import", "-", "--json", stdin=bundle))
    assert found == {
        "blocks": BLOCKS,
        "bytes": BLOCKS * 32768,
        "present": 0,
        "bad": 0,
        "ignored": 0,
        "urns": [urn],
    }
    assert read(there, urn) == content


def test_a_stranger_reads_a_bundle(here: User, content: bytes) -> None:
    urn = stored(here, content + content)
    bundle = here("export", urn, "-").stdout
    assert bundle.startswith(bytes.fromhex("d9d9f7da657269739fbf5820"))
    tagged = cbor2.loads(bundle)
    assert tagged.tag == 1701996915
    blocks, capability = tagged.value
    assert all(reference_of(block) == reference for reference, block in blocks.items())
    assert capability.tag == 276
    read = ReadCapability.from_bytes(capability.value)
    assert decode(read, {Reference(name): block for name, block in blocks.items()}) == content * 2
    # No key stands twice, which a reader may refuse.
    assert bundle.count(b"\x59\x80\x00") == len(blocks)


def test_what_a_stranger_wrote_is_imported(there: User, content: bytes) -> None:
    capability, blocks = encode(content)
    bundle = cbor2.dumps([dict(blocks), cbor2.CBORTag(276, capability.to_bytes())])
    assert there.out("import", "-", stdin=bundle) == capability.to_urn()
    assert read(there, capability.to_urn()) == content


def test_a_bundle_with_secrets_is_for_its_owner_only(here: User, content: bytes) -> None:
    urn = stored(here, content)
    here("export", urn, "secret.eris")
    here("export", urn, "--no-capabilities", "open.eris")
    modes = [
        stat.S_IMODE(os.stat(here.home / name).st_mode) for name in ("secret.eris", "open.eris")
    ]
    assert modes == [0o600, 0o666 & ~UMASK]
    key = bytes(ReadCapability.from_urn(urn).root.key)
    assert key in (here.home / "secret.eris").read_bytes()
    assert key not in (here.home / "open.eris").read_bytes()


def test_a_bundle_without_capabilities_is_carried_by_strangers(
    here: User, there: User, content: bytes
) -> None:
    urn = stored(here, content)
    here("export", urn, "--no-capabilities", "open.eris")
    assert there.out("import", here.home / "open.eris") == ""
    assert read(there, urn) == content


def test_a_file_that_is_there_is_replaced_only_if_asked(here: User, content: bytes) -> None:
    urn = stored(here, content)
    (here.home / "mine").write_bytes(b"precious")
    assert "--force" in here.error("export", urn, "mine", code=7)
    assert (here.home / "mine").read_bytes() == b"precious"
    here("export", urn, "mine", "--force")
    assert (here.home / "mine").read_bytes().startswith(BUNDLE_HEAD)


def test_what_cannot_be_exported_whole_leaves_no_file(here: User, content: bytes) -> None:
    urn = stored(here, content)
    lost = encode(b"nobody stored this")[0].to_urn()
    here.error("export", urn, lost, "out.eris", code=4)
    assert list(here.home.glob("*out.eris*")) == []


def test_of_a_damaged_bundle_the_rest_is_kept(here: User, there: User, content: bytes) -> None:
    urn = stored(here, content)
    bundle = bytearray(here("export", urn, "-").stdout)
    bundle[len(BUNDLE_HEAD) + 1000] ^= 1
    done = there("import", "-", code=5, stdin=bytes(bundle))
    assert done.stdout.decode().split() == [urn]
    assert f"{BLOCKS - 1} blocks imported" in done.stderr.decode()
    assert "1 bad" in done.stderr.decode()
    # The other store has what is lacking.
    moved = counts(there.out("copy", urn, "--from", here.url, "--json"))
    assert (moved["blocks"], moved["present"]) == (1, BLOCKS - 1)


def test_of_a_bundle_that_is_cut_off_what_came_is_kept(
    here: User, there: User, content: bytes
) -> None:
    urn = stored(here, content)
    bundle = here("export", urn, "-").stdout
    told = there.error("import", "-", code=5, stdin=bundle[: len(bundle) // 2])
    assert "cut off" in told
    assert "4 blocks imported" in told
    assert there.out("import", "-", stdin=bundle) == urn


def test_what_is_no_bundle_is_said_to_be_none(there: User) -> None:
    told = there.error("import", "-", code=5, stdin=b"no bundle at all\n" * 100)
    assert "byte 0" in told
    assert "0 blocks imported" in told


def test_only_what_another_store_lacks_is_exported(here: User, there: User, content: bytes) -> None:
    old = stored(here, content[:-100])
    here("copy", old, "--to", there.url)
    new = stored(here, content)
    here("export", new, "delta.eris", "--missing-from", there.url)
    assert (here.home / "delta.eris").stat().st_size < 3 * 32768
    assert there.out("import", here.home / "delta.eris") == new
    assert read(there, new) == content


# where two stores never meet


def test_a_stick_carries_what_is_missing_in_both_directions(
    here: User, there: User, content: bytes, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    shared = stored(here, content[:-100])
    stored(there, content[:-100])
    # First the lists go round, then what each lacks.
    here("list-blocks", stick / "here.list")
    there("list-blocks", stick / "there.list")
    mine = stored(here, content)
    theirs = stored(there, content + content)
    for one, urn, other in ((here, mine, "there"), (there, theirs, "here")):
        whole = one("export", urn, "-").stdout
        file = stick / f"for-{other}"
        one("export", shared, urn, file, "--missing-from", stick / f"{other}.list")
        assert file.stat().st_size < len(whole) - 6 * 32768
    assert there.out("import", stick / "for-there").split() == [shared, mine]
    assert here.out("import", stick / "for-here").split() == [shared, theirs]
    assert read(there, mine) == content
    assert read(here, theirs) == content + content
    assert stat.S_IMODE((stick / "here.list").stat().st_mode) == 0o600


def test_a_list_is_told_from_other_files(here: User, content: bytes) -> None:
    urn = stored(here, content)
    (here.home / "x.list").write_bytes(b"something else")
    assert "no list" in here.error("export", urn, "-", "--missing-from", "x.list", code=2)
    data = here("list-blocks").stdout
    (here.home / "x.list").write_bytes(data[:-1])
    assert "cut off" in here.error("export", urn, "-", "--missing-from", "x.list", code=2)
    here.error("export", urn, "-", "--missing-from", "nothing.list", code=7)


def test_a_store_that_may_not_be_listed_says_to_whom(
    here: User, daemons: tuple[Daemon, Daemon]
) -> None:
    giving, _ = tcp_ports(daemons[1])
    url = f"coap+tcp://127.0.0.1:{giving}"
    told = here.error("list-blocks", "all.list", "--store-url", url, code=6)
    assert "admin" in told
    assert not (here.home / "all.list").exists()


# pins


def pin_of(user: User, urn: str) -> dict[str, int] | None:
    """What the store of a user says of the pin that a content has."""
    name = format_base32(ReadCapability.from_urn(urn).root.reference)
    pins = [json.loads(line) for line in user.out("pins", "--json").splitlines()]
    found: list[dict[str, int]] = [pin for pin in pins if pin["name"] == name]
    return found[0] if found else None


def blocks_in(pin: dict[str, int] | None) -> tuple[int, int]:
    """How many blocks a pin has, and how many it lacks."""
    assert pin is not None
    return pin["blocks"], pin["missing"]


def test_each_copied_content_is_pinned_with_what_was_there_before(
    here: User, there: User, content: bytes
) -> None:
    stored(there, content[:-100])
    urn, other = stored(here, content), stored(here, content[:5000])
    here("copy", urn, other, "--to", there.url, "--lend")
    pin = pin_of(there, urn)
    assert blocks_in(pin) == (BLOCKS, 0)
    assert pin is not None and pin["lend"]
    assert blocks_in(pin_of(there, other)) == (6, 0)


def test_what_is_not_to_be_pinned_is_not(here: User, there: User, content: bytes) -> None:
    urn = stored(here, content)
    here("copy", urn, "--to", there.url, "--no-pin")
    here("export", urn, "x.eris")
    there("import", here.home / "x.eris", "--no-pin")
    assert pin_of(there, urn) is None


def test_contents_that_a_bundle_names_are_pinned_with_what_was_there_before(
    here: User, there: User, content: bytes
) -> None:
    make_tree(here.home / "tree", content)
    tree = here.out("encode", "tree")
    stored(there, content)
    here("export", tree, "x.eris", "--missing-from", there.url)
    assert there.out("import", here.home / "x.eris", "--lend") == tree
    blocks, missing = blocks_in(pin_of(there, tree))
    assert missing == 0
    assert blocks == blocks_in(pin_of(here, tree))[0]


def test_what_a_damaged_bundle_brought_is_kept_and_completed(
    here: User, there: User, content: bytes
) -> None:
    urn = stored(here, content)
    bundle = bytearray(here("export", urn, "-").stdout)
    bundle[-1000] ^= 1
    there("import", "-", code=5, stdin=bytes(bundle))
    assert blocks_in(pin_of(there, urn)) == (BLOCKS - 1, 1)
    bundle[-1000] ^= 1
    there("import", "-", stdin=bytes(bundle))
    assert blocks_in(pin_of(there, urn)) == (BLOCKS, 0)


def test_a_bundle_that_names_nonsense_brings_its_blocks_all_the_same(
    there: User, content: bytes
) -> None:
    capability, blocks = encode(content)
    wrong = bytearray(capability.to_bytes())
    wrong[-1] ^= 1
    named = [cbor2.CBORTag(276, bytes(one)) for one in (wrong, capability.to_bytes())]
    done = there("import", "-", stdin=cbor2.dumps([dict(blocks), *named]))
    assert len(done.stdout.split()) == 2
    assert b"cannot be read" in done.stderr
    assert blocks_in(pin_of(there, capability.to_urn())) == (BLOCKS, 0)


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
def test_no_directory_is_taken_for_a_bundle_or_replaced_by_one(
    here: User, content: bytes, force: tuple[str, ...]
) -> None:
    urn = stored(here, content)
    (here.home / "directory").mkdir()
    assert here.error("import", "directory", code=7) == "directory: Is a directory"
    for command in (("export", urn), ("list-blocks",)):
        error = here.error(*command, *force, "directory", code=7)
        assert error == "directory is a directory: not replaced by a file"


def test_a_store_that_does_not_tell_what_it_has_is_no_other_side(
    here: User, daemons: tuple[Daemon, Daemon], content: bytes
) -> None:
    urn = stored(here, content)
    _, port = tcp_ports(daemons[1])
    only_takes = f"coap+tcp://127.0.0.1:{port}"
    error = here.error("export", urn, "x.eris", "--missing-from", only_takes, code=6)
    assert error.startswith(f"TCP 127.0.0.1:{port} does not tell which blocks it has (")
    assert error.endswith("or leave out --missing-from")
    assert not (here.home / "x.eris").exists()
