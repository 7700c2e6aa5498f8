"""What `kapla explain` tells of contents that are here, elsewhere, and nowhere."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from eris import BlockSize, Encoder, Reference
from eris.model import NULL_CONVERGENCE_SECRET, EncodedBlock
from kapla.cli import explain as explain_module
from kapla.cli import verify as verify_module
from kapla.cli.common import CommandError, read_capability
from kapla.client import RemoteStore
from kapla.coap.blocks import pack_bitmap, split_references
from kapla.coap.frame import Code, Message
from kapla.urls import parse_store_url
from tests.integration.daemon import running_daemon
from tests.integration.here import User
from tests.kapla.fake_server import Peer, fake_server, keep_blocks
from tests.kapla.test_client import run

CONTENT = random.Random(8).randbytes(40_000)


def encoded() -> tuple[str, list[EncodedBlock]]:
    """A URN of level 2, and its blocks: those of each level together, the root last."""
    encoder = Encoder(BlockSize.SMALL, NULL_CONVERGENCE_SECRET)
    blocks = [*encoder.feed(CONTENT), *encoder.finish()]
    return encoder.read_capability.to_urn(), blocks


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    with running_daemon() as daemon:
        yield User(tmp_path_factory.mktemp("home"), daemon.url)


def explained(user: User, urn: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(user("explain", "--json", urn, code=code).stdout)
    return found


def put(user: User, blocks: Sequence[EncodedBlock]) -> None:
    async def main() -> None:
        async with RemoteStore(parse_store_url(user.url)) as store:
            for reference, block in blocks:
                await store.put(reference, block)

    run(main)


def rows(found: dict[str, Any]) -> list[tuple[int, ...]]:
    names = ("block_size", "level", "blocks", "here", "peers", "missing")
    return [tuple(row[name] for name in names) for row in found["levels"]]


def test_of_a_content_whose_blocks_are_missing_all_is_told_that_is_known(user: User) -> None:
    urn, blocks = encoded()
    found = explained(user, urn, code=4)
    assert rows(found) == [(1024, 2, 1, 0, 0, 1)]
    assert (found["whole"], found["unknown_below"] > 0) == (False, True)
    put(user, blocks[-1:])
    assert rows(explained(user, urn)) == [(1024, 2, 1, 1, 0, 0), (1024, 1, 3, 0, 0, 3)]
    put(user, blocks[5:])
    found = explained(user, urn)
    assert sum(row[5] for row in rows(found)) == found["missing"]["blocks"] > 0
    put(user, blocks)
    found = explained(user, urn)
    assert rows(found) == [(1024, 2, 1, 1, 0, 0), (1024, 1, 3, 3, 0, 0), (1024, 0, 40, 40, 0, 0)]
    assert (found["whole"], found["kind"], found["pin"]) == (True, "file", None)
    assert found["blocks"] == len(dict(blocks)) == found["here"]["blocks"]
    assert found["bytes"] == 1024 * len(dict(blocks))


def test_of_a_tree_what_is_in_it_and_what_it_shares_with_others(user: User, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "a" / "b").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "link").symlink_to("a")
    for name in ("one", "two", "a/three", "a/b/four"):
        (root / name).write_bytes(name.encode() * 3000)
    (root / "again").write_bytes(b"one" * 3000)
    urn = user.out("encode", root)
    user("encode", root / "one")
    found = explained(user, urn)
    assert (found["files"], found["directories"], found["symlinks"]) == (5, 3, 1)
    assert found["format"] == "eris-fs-1"
    assert found["whole"]
    assert 0 < found["pin"]["shared"]["blocks"] < found["blocks"]
    text = user.out("explain", urn)
    assert "tree (eris-fs-1): 5 files, 3 directories, 1 symlink" in text
    assert "pinned:   yes; shared with other pins: " in text
    packed = explained(user, user.out("encode", "--packed", "--level", "1", root))
    assert (packed["format"], packed["files"], packed["directories"]) == ("kapla-packed-1", 5, 3)


def test_of_a_pin_with_a_name_that_is_told(user: User) -> None:
    urn = user.out("encode", "--no-pin", "-", stdin=b"x" * 5000)
    user("pin", "--name", "mine", urn)
    assert "pinned:   as mine; " in user.out("explain", urn)


class Near:
    """A store with a peer: what it lacks it asks for there, unless it is told not to."""

    def __init__(self, blocks: dict[Reference, bytes], beyond: dict[Reference, bytes]) -> None:
        self.asked_further = 0
        self._here = keep_blocks(blocks.values())
        self._anywhere = keep_blocks({**blocks, **beyond}.values())
        self._blocks, self._beyond = blocks, beyond

    def __call__(self, peer: Peer, request: Message) -> None:
        hops = request.values(16)
        if request.code == Code.FETCH:
            names = split_references(request.payload)
            found = [
                one in self._blocks or (hops == [b"\x04"] and one in self._beyond) for one in names
            ]
            peer.send(Code.CONTENT, request.token, payload=pack_bitmap(found))
        elif request.values(11)[-1] != b"blocks":
            peer.send(Code.NOT_FOUND, request.token)
        elif hops == [b"\x01"]:
            self._here(peer, request)
        else:
            self.asked_further += 1
            self._anywhere(peer, request)


def test_what_only_peers_have_is_told_apart_also_of_nodes_that_were_read_there() -> None:
    urn, blocks = encoded()
    known = dict(blocks)
    names = list(known)
    # The root and two of the leaves are here, the others at the peer but for three.
    here = {name: known[name] for name in (names[-1], *names[:2])}
    beyond = {name: known[name] for name in names[5:] if name not in here}

    async def main() -> None:
        near = Near(here, beyond)
        async with fake_server(near) as server:
            url = f"coap+tcp://127.0.0.1:{server.port}"
            found = await explain_module._explain(read_capability(urn), url)
            facts = found.facts()
        assert facts["here"]["blocks"] == 3
        assert facts["peers"]["blocks"] == len(beyond)
        assert facts["missing"]["blocks"] == 3
        # Nothing but nodes is fetched; the first one twice, as this store does not keep it.
        assert near.asked_further == 4

    run(main)


def test_a_store_that_does_not_tell_is_named(user: User) -> None:
    urn, blocks = encoded()
    script = keep_blocks(dict(blocks).values())

    def refuses(peer: Peer, request: Message) -> None:
        if request.code != Code.GET:
            peer.send(Code.METHOD_NOT_ALLOWED, request.token)
        else:
            script(peer, request)

    async def main() -> None:
        async with fake_server(refuses) as server:
            url = f"coap+tcp://127.0.0.1:{server.port}"
            with pytest.raises(CommandError, match="does not tell which blocks"):
                await explain_module._explain(read_capability(urn), url)

    run(main)


def test_verify_here_asks_for_what_the_store_has_itself(user: User) -> None:
    urn, blocks = encoded()
    known = dict(blocks)
    names = list(known)
    near = Near({name: known[name] for name in names[5:]}, known)

    async def main() -> None:
        async with fake_server(near) as server:
            url = f"coap+tcp://127.0.0.1:{server.port}"
            capability = read_capability(urn)
            count = await verify_module._verify(capability, True, url, here=True)
            assert (count.missing, near.asked_further) == (5, 0)
            count = await verify_module._verify(capability, True, url, here=False)
            assert count.missing == 0
            assert near.asked_further >= len(names)

    run(main)
    user("verify", "--here", "--repair", "--from", user.url, urn, code=2)
