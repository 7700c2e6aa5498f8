"""Deltas in narinfos: from earlier items of the same name, with their blocks in a real daemon."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from eris.capability import ReadCapability
from eris.store import BlockReader
from eris_fs import FilePiece
from eris_fs.delta.apply import open_delta
from eris_fs.delta.directory import DirectoryFiles
from guix_glue.formats.narinfo import DeltaLine, Narinfo
from guix_glue.formats.store_path import hash_part_of
from guix_glue.trust.signature import verify_narinfo
from kapla.client import RemoteStore
from kapla.urls import parse_store_url
from tests.guix_glue.publish.support import (
    ACL,
    KEYS,
    SAMPLES,
    Publisher,
    make_item,
    publishing,
    wait_until,
)
from tests.guix_glue.publish.test_admin import body
from tests.guix_glue.publish.test_logs import entries
from tests.integration.commands import Kapla
from tests.integration.daemon import Daemon, running_daemon

DAY_S = 86_400
QUICK = ("--eris-level", "1", "--ttl", "1d")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running_daemon(tmp_path_factory.mktemp("daemon")) as one:
        yield one


@pytest.fixture
def items(tmp_path: Path) -> Path:
    directory = tmp_path / "items"
    directory.mkdir()
    return directory


def add(items: Path, name: str) -> Path:
    """Make an item with one large file, of which each name changes some bytes."""
    program = bytearray(random.Random(0).randbytes(100_000))
    program[50_000 : 50_000 + len(name)] = name.encode()
    making = items / f".{name}"
    (making / "bin").mkdir(parents=True)
    (making / "bin" / "program").write_bytes(program)
    (making / "name").write_text(name)
    return making.rename(make_item(items, name))


def complete(publisher: Publisher, item: Path) -> Narinfo:
    """The narinfo, once clients may keep it."""
    wait_until(
        lambda: publisher.narinfo(item).max_age == DAY_S, f"a complete narinfo of {item.name}"
    )
    return publisher.narinfo(item).narinfo()


@asynccontextmanager
async def opened(
    store: BlockReader, capability: ReadCapability, base: Path
) -> AsyncIterator[AsyncGenerator[FilePiece, None]]:
    with DirectoryFiles(base) as files:
        async with (
            open_delta(store, capability, files) as delta,
            aclosing(delta.files(listing=True)) as pieces,
        ):
            yield pieces


def made_of(daemon: Daemon, line: DeltaLine, base: Path) -> dict[str, bytes]:
    """The files that a delta leads to, by their paths."""

    async def main() -> dict[str, bytes]:
        capability, found = ReadCapability.from_urn(line.urn), dict[str, bytes]()
        async with (
            RemoteStore(parse_store_url(daemon.url)) as store,
            opened(store, capability, base) as pieces,
        ):
            async for path, piece, _ in pieces:
                where = "/".join(path)
                found[where] = found.get(where, b"") + piece
        return found

    return asyncio.run(main())


def pins(daemon: Daemon, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What is pinned, by what follows the name of the publisher."""
    found = map(json.loads, Kapla(tmp_path, daemon.url).out("pins", "--json").splitlines())
    return {pin["name"].rpartition("/")[2]: pin for pin in found}


def test_an_upgrade(daemon: Daemon, items: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = ("--items", items, *KEYS, f"--eris={daemon.url}", *QUICK)
    told = ("--baking-log", log, "--log-format", "json", "--admin", "127.0.0.1:0")
    with publishing(tmp_path, *arguments, *told) as publisher:
        old = add(items, "hello-2.9")
        assert not complete(publisher, old).signed_deltas
        new, other = add(items, "hello-2.10"), add(items, "hello-2.10-doc")
        assert publisher.narinfo(new).max_age == 300
        narinfo = complete(publisher, new)
        verify_narinfo(narinfo, ACL)
        assert "ERIS-Delta" in narinfo.signed_fields
        (line,) = narinfo.signed_deltas
        assert line.base == old.name
        files = {"bin/program": (new / "bin" / "program").read_bytes(), "name": b"hello-2.10"}
        assert made_of(daemon, line, old) == files
        assert not complete(publisher, other).signed_deltas
        # The blocks stay for as long as the narinfo may be asked for.
        pin = pins(daemon, tmp_path)[f"{hash_part_of(new.name)}+{hash_part_of(old.name)}"]
        assert (pin["keep"], pin["lend"], pin["missing"]) == (True, True, 0)
        metrics = body(publisher, "/metrics").splitlines()
        assert 'kapla_publish_deltas_total{result="made"} 1' in metrics
        assert f"kapla_publish_delta_bytes_total {pin['bytes']}" in metrics
        assert json.loads(body(publisher, "/status"))["deltas"]["failed"] == 0
        publisher.stop()
        assert line.urn not in publisher.log + log.read_text()
        (entry,) = [entry for entry in entries(log) if entry["compression"] == "delta"]
        assert (entry["base"], entry["bytes"], entry["result"]) == (old.name, pin["bytes"], "done")
        assert entry["item"] == f"/gnu/store/{new.name}"
        publisher.start()
        again = publisher.narinfo(new)
        assert (again.max_age, again.narinfo().text) == (DAY_S, narinfo.text)
    with publishing(tmp_path, *arguments, "--deltas", "0") as publisher:
        assert not complete(publisher, new).signed_deltas
        # What was promised holds.
        assert pins(daemon, tmp_path)[pin["name"].rpartition("/")[2]] == pin


def test_a_mirror_adds_hints(daemon: Daemon, items: Path, tmp_path: Path) -> None:
    old, new = add(items, "z-1"), add(items, "z-2")
    (tmp_path / "mirror").mkdir()
    upstream = ("--acl", SAMPLES / "keys" / "acl", f"--eris={daemon.url}", *QUICK)
    with (
        publishing(tmp_path, "--items", items, *KEYS, "--ttl", "2d") as origin,
        publishing(tmp_path / "mirror", *upstream, "--upstream", origin.url) as mirror,
    ):
        for item in (old, new):
            wait_until(lambda: origin.narinfo(item).max_age == 2 * DAY_S, "baking")  # noqa: B023
            complete(mirror, item)
        wait_until(lambda: bool(complete(mirror, new).hint_deltas), "the delta")
        narinfo = complete(mirror, new)
        verify_narinfo(narinfo, ACL)
        assert not narinfo.signed_deltas
        (line,) = narinfo.hint_deltas
        assert line.base == old.name
        assert made_of(daemon, line, old)["name"] == b"z-2"
        mirror.stop()
        mirror.start()
        assert complete(mirror, new).text == narinfo.text
