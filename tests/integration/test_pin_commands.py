"""Pins by the command line, in a real daemon: what is stored stays, and what that means."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from eris import BlockSize, ReadCapability
from eris.base32 import format_base32
from eris.errors import StoreFull
from kapla.cli import commands
from kapla.cli.outcome import CommandError, ExitCode
from kapla.client import RemoteStore
from kapla.errors import PinsUnsupported
from kapla.urls import parse_store_url
from tests.eris_fs.trees import File, Link, Node, lay_out
from tests.integration.commands import Kapla, blocks_of
from tests.integration.daemon import GUARD_S, Daemon, running_daemon, wait_until

_random = random.Random(12)


class Here:
    """Runs commands in this process, on one store."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, name: str, *arguments: str | Path) -> str:
        """What a command writes to standard output."""
        command = commands.load(name)
        assert isinstance(command, click.Command)
        written = io.BytesIO()
        before, sys.stdout = sys.stdout, io.TextIOWrapper(written)
        try:
            given = [*map(str, arguments), "--store-url", self.url]
            command.main(given, standalone_mode=False)
            sys.stdout.flush()
            return written.getvalue().decode().rstrip("\n")
        finally:
            sys.stdout = before

    def pins(self) -> dict[str, dict[str, Any]]:
        """What `kapla pins --json` lists, by name."""
        found = [json.loads(line) for line in self("pins", "--json").splitlines()]
        return {one["name"]: one for one in found}

    def pin_of(self, urn: str) -> dict[str, Any] | None:
        """The pin that a content has by its own name."""
        return self.pins().get(root_of(urn))

    def stat(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self("stat", "--json"))
        return report


def root_of(urn: str) -> str:
    return format_base32(ReadCapability.from_urn(urn).root.reference)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon(listen=["coap+tcp://127.0.0.1:0?get&put&stat"]) as running:
        yield running


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a cache and a catalogue of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def kapla(daemon: Daemon) -> Here:
    return Here(daemon.url)


@pytest.fixture
def small_store(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon where one user may pin some 4 MB of content: half the cap."""
    with running_daemon(tmp_path, env={"KAPLA_MAX_SIZE": "8MiB"}) as one:
        yield one


def a_file(directory: Path, size: int, name: str = "file") -> Path:
    path = directory / name
    path.write_bytes(_random.randbytes(size))
    return path


def a_tree(directory: Path) -> Path:
    node: Node = {
        "small": File(_random.randbytes(100)),
        "again": {"large": File(_random.randbytes(150_000)), "link": Link("../small")},
        "empty": {},
    }
    lay_out(node, directory / "tree")
    return directory / "tree"


# --- encode -----------------------------------------------------------------------------------


def test_what_is_encoded_is_pinned_by_the_reference_of_its_first_block(
    kapla: Here, tmp_path: Path
) -> None:
    urn = kapla("encode", a_file(tmp_path, 100_000))
    pin = kapla.pin_of(urn)
    assert pin is not None
    assert (pin["root"], pin["bytes"], pin["own_bytes"]) == (root_of(urn), 5 * 32768, 5 * 32768)
    assert (pin["blocks"], pin["missing"], pin["keep"], pin["lend"]) == (5, 0, True, False)
    assert pin["owner"] == os.geteuid()


@pytest.mark.parametrize("packed", [(), ("--packed",)], ids=["standard", "packed"])
def test_a_tree_is_pinned_whole_however_it_comes_about(
    kapla: Here, tmp_path: Path, packed: tuple[str, ...]
) -> None:
    tree = a_tree(tmp_path)
    urn = kapla("encode", *packed, tree)
    first = kapla.pin_of(urn)
    assert first is not None
    # Once more: all of it is there, and the cache knows it.
    kapla("unpin", urn)
    assert kapla.pin_of(urn) is None
    puts = kapla.stat()["requests"]["put"]
    assert kapla("encode", *packed, tree) == urn
    again = kapla.pin_of(urn)
    assert kapla.stat()["requests"]["put"] - puts < first["blocks"]
    # And by a walk through what is there.
    kapla("unpin", urn)
    kapla("pin", urn)
    walked = kapla.pin_of(urn)
    for pin in (again, walked):
        assert pin is not None
        assert (pin["blocks"], pin["bytes"]) == (first["blocks"], first["bytes"])


def test_without_a_pin_nothing_is_pinned(kapla: Here, tmp_path: Path) -> None:
    urn = kapla("encode", "--no-pin", a_file(tmp_path, 1000))
    assert kapla.pin_of(urn) is None


def test_what_is_lent_stays_lent_when_it_is_stored_again(kapla: Here, tmp_path: Path) -> None:
    file = a_file(tmp_path, 1000)
    urn = kapla("encode", "--lend", file)
    for again in (("encode", file), ("pin", urn)):
        kapla(*again)
        pin = kapla.pin_of(urn)
        assert pin is not None
        assert pin["lend"]


def test_what_is_not_stored_is_not_lent(kapla: Here, tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="exclude each other"):
        kapla("encode", "--lend", "--no-store", a_file(tmp_path, 10))


def test_what_has_no_room_fails_before_any_of_it_is_sent(
    small_store: Daemon, tmp_path: Path
) -> None:
    kapla = Here(small_store.url)
    (tmp_path / "tree").mkdir()
    for number in range(12):
        a_file(tmp_path / "tree", 1_000_000, str(number))
    for source in (a_file(tmp_path, 12_000_000), tmp_path / "tree"):
        with pytest.raises((StoreFull, CommandError)) as caught:
            kapla("encode", source)
        assert getattr(caught.value, "exit_code", ExitCode.REFUSED) == ExitCode.REFUSED
    assert kapla.stat()["requests"]["put"] == 0
    assert not kapla.pins()
    # And nothing is held: what has room finds it.
    kapla("encode", a_file(tmp_path, 3_000_000))


def test_what_is_there_already_or_comes_twice_needs_no_room(
    small_store: Daemon, tmp_path: Path
) -> None:
    kapla = Here(small_store.url)
    file = a_file(tmp_path, 2_400_000)
    urn = kapla("encode", file)
    assert kapla("encode", file) == urn
    assert list(kapla.pins()) == [root_of(urn)]
    (tmp_path / "tree").mkdir()
    content = _random.randbytes(1_000_000)
    for number in range(12):
        (tmp_path / "tree" / str(number)).write_bytes(content)
    pin = kapla.pin_of(kapla("encode", tmp_path / "tree"))
    assert pin is not None
    assert pin["bytes"] < 1_200_000


def test_an_encode_that_is_interrupted_holds_nothing(small_store: Daemon, tmp_path: Path) -> None:
    kapla = Here(small_store.url)
    os.mkfifo(tmp_path / "fifo")
    command = Kapla(tmp_path, small_store.url)
    with (
        command.running("encode", tmp_path / "fifo") as process,
        open(tmp_path / "fifo", "wb") as fifo,
    ):
        fifo.write(_random.randbytes(3_000_000))
        fifo.flush()
        wait_until(lambda: kapla.stat()["requests"]["put"] > 60, "blocks")
        command.interrupt(process, signal.SIGINT)
    assert not kapla.pins()
    # What was held would leave no room for this.
    kapla("encode", a_file(tmp_path, 3_500_000))


def test_pins_are_there_after_a_restart(tmp_path: Path) -> None:
    with running_daemon(tmp_path) as daemon:
        kapla = Here(daemon.url)
        urn = kapla("encode", "--lend", a_file(tmp_path, 5000))
        before = kapla.pin_of(urn)
        daemon.kill()
        daemon.start()
        assert kapla.pin_of(urn) == before


def test_a_store_that_lets_us_pin_nothing_gets_one_line(daemon: Daemon, tmp_path: Path) -> None:
    over_tcp = Kapla(tmp_path, daemon.tcp_url)
    done = over_tcp("encode", a_file(tmp_path, 1000))
    assert done.stderr.startswith(b"kapla: not pinned: ")
    assert done.stderr.count(b"\n") == 1
    urn = done.stdout.decode().strip()
    assert Here(daemon.url).pin_of(urn) is None
    for arguments in (("pin", urn), ("lend", urn), ("unpin", "x"), ("pins",)):
        with pytest.raises((PinsUnsupported, CommandError)) as caught:
            Here(daemon.tcp_url)(*arguments)
        assert getattr(caught.value, "exit_code", ExitCode.REFUSED) == ExitCode.REFUSED


# --- pin, lend, unpin, pins -------------------------------------------------------------------


def put_some(daemon: Daemon, content: bytes, kept: slice) -> list[bytes]:
    """Put some blocks of a content; returns the references of all of them, leaves first."""
    from eris import Encoder
    from eris.model import NULL_CONVERGENCE_SECRET

    encoder = Encoder(BlockSize.SMALL, NULL_CONVERGENCE_SECRET)
    made = [*encoder.feed(content), *encoder.finish()]

    async def put() -> None:
        async with RemoteStore(parse_store_url(daemon.url)) as store:
            for reference, block in made[kept]:
                await store.put(reference, block)

    asyncio.run(put())
    return [reference for reference, _ in made]


def test_what_is_not_wholly_there_is_not_pinned_and_how_much_is_missing_is_said(
    kapla: Here, daemon: Daemon, tmp_path: Path
) -> None:
    file = a_file(tmp_path, 10_000)
    urn = kapla("encode", "--no-store", file)
    count = len(put_some(daemon, file.read_bytes(), slice(2, None)))
    with pytest.raises(CommandError, match=r"2 blocks, 2\.0 KiB") as caught:
        kapla("pin", urn)
    assert caught.value.exit_code == ExitCode.MISSING
    assert kapla.pin_of(urn) is None
    kapla("pin", "--incomplete", "--name", "some of it", urn)
    pin = kapla.pins()["some of it"]
    assert (pin["blocks"], pin["missing"]) == (count - 2, 2)
    # They come, without any word of the pin.
    kapla("encode", "--no-pin", file)
    pin = kapla.pins()["some of it"]
    assert (pin["blocks"], pin["missing"]) == (count, 0)


def test_of_what_is_not_there_at_all_the_first_block_is_missing(kapla: Here) -> None:
    urn = ReadCapability.from_bytes(bytes([10, 0]) + b"r" * 32 + b"k" * 32).to_urn()
    with pytest.raises(CommandError, match="does not have the first block of this URN"):
        kapla("pin", urn)
    kapla("pin", "--incomplete", urn)
    pin = kapla.pin_of(urn)
    assert pin is not None
    assert (pin["blocks"], pin["missing"]) == (0, 1)


def test_several_contents_are_a_pin_each_or_all_one(kapla: Here, tmp_path: Path) -> None:
    urns = [kapla("encode", "--no-pin", a_file(tmp_path, 3000, str(number))) for number in range(3)]
    kapla("pin", *urns)
    each = [kapla.pin_of(urn) for urn in urns]
    blocks = [pin["blocks"] for pin in each if pin is not None]
    assert len(blocks) == 3
    kapla("pin", "--name", "all three", *urns)
    pin = kapla.pins()["all three"]
    assert (pin["root"], pin["blocks"], pin["own_blocks"]) == (root_of(urns[0]), sum(blocks), 0)
    kapla("unpin", *urns)
    # By its first content the common one has gone too.
    assert not {"all three", *map(root_of, urns)} & set(kapla.pins())


def test_shared_blocks_are_in_both_and_belong_to_neither_alone(kapla: Here, tmp_path: Path) -> None:
    common = _random.randbytes(40 * 1024)
    for name, more in (("a", b"x" * 1024), ("b", b"y" * 1024)):
        (tmp_path / name).write_bytes(common + more)
    urns = [kapla("encode", "--block-size", "1KiB", tmp_path / name) for name in ("a", "b")]
    sets = [set(blocks_of((tmp_path / name).read_bytes(), BlockSize.SMALL)) for name in ("a", "b")]
    for urn, own in zip(urns, (sets[0] - sets[1], sets[1] - sets[0]), strict=True):
        pin = kapla.pin_of(urn)
        assert pin is not None
        assert pin["blocks"] == len(sets[0])
        assert pin["own_blocks"] == len(own)


@pytest.mark.parametrize("by", ["name", "urn"])
def test_lending_begins_and_stops(kapla: Here, tmp_path: Path, by: str) -> None:
    urn = kapla("encode", "--no-pin", a_file(tmp_path, 100))
    kapla("pin", "--name", f"to lend by {by}", urn)
    which = urn if by == "urn" else f"to lend by {by}"
    assert not kapla.pins()[f"to lend by {by}"]["lend"]
    kapla("lend", which)
    assert kapla.pins()[f"to lend by {by}"]["lend"]
    kapla("lend", "--stop", which)
    assert not kapla.pins()[f"to lend by {by}"]["lend"]
    kapla("unpin", which)
    assert f"to lend by {by}" not in kapla.pins()


@pytest.mark.parametrize("command", ["lend", "unpin"])
def test_what_is_not_pinned_is_named(kapla: Here, tmp_path: Path, command: str) -> None:
    urn = kapla("encode", "--no-pin", a_file(tmp_path, 100))
    with pytest.raises(CommandError, match="no pin here is of this URN"):
        kapla(command, urn)
    with pytest.raises(CommandError, match="there is no pin nothing here"):
        kapla(command, "nothing")


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 256, "urn:eris:AAAA", "@notes", "-"])
def test_names_that_no_pin_may_have(kapla: Here, tmp_path: Path, name: str) -> None:
    urn = kapla("encode", "--no-store", a_file(tmp_path, 10))
    with pytest.raises(click.UsageError, match="pin"):
        kapla("pin", "--name", name, urn)


def test_the_table_has_a_line_for_each_pin_with_its_name_last(kapla: Here, tmp_path: Path) -> None:
    urn = kapla("encode", "--no-pin", "--no-catalogue", a_file(tmp_path, 100))
    kapla("pin", "--name", "é \u202e name", urn)
    head, *lines = kapla("pins").splitlines()
    assert head.split() == ["SIZE", "ONLY", "HERE", "MISSING", "KEPT", "LENT", "AGE", "NAME"]
    assert len(lines) == len(kapla.pins())
    (line,) = [line for line in lines if line.endswith("name")]
    assert line.split()[:2] == ["1.0", "KiB"]
    assert line.isprintable()


def test_of_several_stores_the_one_with_the_blocks_has_the_pin(
    daemon: Daemon, tmp_path: Path
) -> None:
    with running_daemon(listen=["coap+tcp://127.0.0.1:0"]) as other:
        both = Here(f"{other.tcp_url} {daemon.url}")
        urn = both("encode", a_file(tmp_path, 5000))
        assert Here(daemon.url).pin_of(urn) is not None
        assert Here(other.url).pin_of(urn) is None
        assert both.pin_of(urn) is not None


def test_an_encode_that_is_killed_can_be_given_again(small_store: Daemon, tmp_path: Path) -> None:
    """What a client that vanishes held is held on: the same content counts once."""
    os.mkfifo(tmp_path / "fifo")
    content = _random.randbytes(3_000_000)
    with (
        Kapla(tmp_path, small_store.url).running("encode", tmp_path / "fifo") as process,
        open(tmp_path / "fifo", "wb") as fifo,
    ):
        fifo.write(content[:2_900_000])
        fifo.flush()
        process.kill()
        process.wait(GUARD_S)
    (tmp_path / "file").write_bytes(content)
    kapla = Here(small_store.url)
    assert not kapla.pins()
    urn = kapla("encode", tmp_path / "file")
    assert list(kapla.pins()) == [root_of(urn)]
