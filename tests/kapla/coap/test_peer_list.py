"""`/kapla/peers`: who is told, and in which pages."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import pytest

from eris.errors import StoreUnavailable
from kapla.coap.blocks import PEERS_PATH, diagnostic
from kapla.coap.connection import Connection
from kapla.coap.frame import Code, Message, Option
from kapla.coap.site import AiocoapLane, Remote
from kapla.storage.access import BlockAccess, Rights, Statistics
from kapla.storage.batching import BatchedStorage
from tests.kapla.coap.harness import EMPTY_CSM, MemoryStorage, parse_messages, request_bytes

TELLS = Rights(stat=True)
# As long as names and reasons get, in letters that take most.
LONGEST: dict[str, object] = {"name": "\U0001f422" * 100, "why": "ü" * 300}


async def _report() -> dict[str, object]:
    return {}


def ask(
    peers: list[dict[str, object]], *options: Option, rights: Rights = TELLS, path: str = "peers"
) -> Message:
    access = BlockAccess(cast(BatchedStorage, MemoryStorage()), rights, Statistics())
    lane = AiocoapLane(access, _report, lambda: peers)
    connection = Connection()
    connection.receive(EMPTY_CSM)
    where: list[Option] = [(11, b"kapla"), (11, path.encode())]
    [frame] = connection.receive(request_bytes(Code.GET, [*where, *options]))
    [answer] = parse_messages(asyncio.run(lane.answer(frame, Remote(connection))))
    return answer


def test_the_path_is_what_the_document_says() -> None:
    assert PEERS_PATH == ("kapla", "peers")


def test_all_are_told_page_by_page_and_no_page_is_longer_than_a_block() -> None:
    peers = [{**LONGEST, "number": number} for number in range(256)]
    found: list[dict[str, object]] = []
    pages = 0
    while page := ask(peers, *([(15, f"after={len(found)}".encode())] if found else [])):
        assert page.code == Code.CONTENT
        assert len(page.payload) <= 32768
        if not (more := json.loads(page.payload)):
            break
        found += more
        pages += 1
    assert found == peers
    assert pages < 20


def test_a_reason_may_name_a_file_that_is_no_utf_8() -> None:
    told: dict[str, object] = {"name": "é", "why": "cannot read /srv/\udcff"}
    answer = ask([told])
    assert answer.code == Code.CONTENT
    assert json.loads(answer.payload) == [told]
    assert diagnostic(StoreUnavailable(str(told["why"]))) == rb"cannot read /srv/\udcff"


def test_it_is_json_and_nothing_else() -> None:
    assert (12, b"\x32") in ask([]).options
    assert ask([], (17, b"\x32")).code == Code.CONTENT
    assert ask([], (17, b"\x2a")).code == Code.NOT_ACCEPTABLE


@pytest.mark.parametrize("query", [b"after=x", b"after=-1", b"before=1", b"after=1234567", b""])
def test_a_page_is_asked_for_by_a_number(query: bytes) -> None:
    assert ask([], (15, query)).code == Code.BAD_REQUEST


def test_one_query_is_understood() -> None:
    assert ask([], (15, b"after=1"), (15, b"after=2")).code == Code.BAD_REQUEST


def test_without_the_right_nobody_is_told() -> None:
    answer = ask([{"name": "desktop"}], rights=Rights(get=True, put=True))
    assert (answer.code, answer.payload) == (Code.FORBIDDEN, b"not told to peers of this listener")
