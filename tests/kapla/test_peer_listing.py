"""What a daemon tells of its peers, as the client reads it, and as `kapla peers` shows it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from eris.errors import ErisError, StoreRefused, StoreUnavailable
from kapla.cli.facts import facts_json
from kapla.cli.outcome import CommandError
from kapla.cli.peers import _HEAD, _peer_lines, _row
from kapla.coap.frame import Code, Message
from kapla.errors import NotAllowed
from kapla.peer_listing import list_peers
from kapla.remote_store import RemoteStore
from tests.kapla.fake_server import Peer, Script, fake_server

FACTS: dict[str, Any] = {
    "name": "desktop",
    "key": "ed25519:x",
    "url": None,
    "rights": ["lend"],
    "state": "connected",
    "direction": "inbound",
    "connections": 1,
    "address": "192.0.2.1:5684",
    "why": None,
    "next_try_s": None,
    "rtt_s": 0.0213,
    "rate": 3 << 20,
    "hit_ratio": 0.974,
    "breaker": None,
    "breaker_s": None,
    "blocks_in": 5,
    "bytes_in": 5 << 10,
    "blocks_out": 0,
    "bytes_out": 0,
}


def answers(*pages: bytes, code: int = Code.CONTENT) -> Script:
    """Gives one page after the other, and the last again and again."""
    left = list(pages)

    def script(peer: Peer, request: Message) -> None:
        assert request.values(11) == [b"kapla", b"peers"]
        peer.send(code, request.token, payload=left.pop(0) if len(left) > 1 else left[0])

    return script


def listed(script: Script) -> list[dict[str, Any]] | ErisError:
    async def main() -> list[dict[str, Any]] | ErisError:
        async with fake_server(script) as server, RemoteStore(server.url) as store:
            try:
                return await asyncio.wait_for(list_peers(store), 20)
            except ErisError as error:
                return error

    return asyncio.run(main())


def test_pages_are_read_to_the_empty_one() -> None:
    pages = [json.dumps([{"a": number}]).encode() for number in range(3)]
    assert listed(answers(*pages, b"[]")) == [{"a": 0}, {"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("page", "code", "kind"),
    [
        (b"", Code.NOT_FOUND, StoreRefused),
        (b"", Code.METHOD_NOT_ALLOWED, StoreRefused),
        (b"", Code.FORBIDDEN, NotAllowed),
        (b"", Code.INTERNAL_SERVER_ERROR, StoreUnavailable),
        (b"{", Code.CONTENT, StoreUnavailable),
        (b"{}", Code.CONTENT, StoreUnavailable),
        (b"[1]", Code.CONTENT, StoreUnavailable),
        (b"\xff", Code.CONTENT, StoreUnavailable),
        (b"[" * 100_000, Code.CONTENT, StoreUnavailable),
        # For ever.
        (json.dumps([{}] * 500).encode(), Code.CONTENT, StoreUnavailable),
    ],
)
def test_what_makes_no_sense_is_an_error(page: bytes, code: int, kind: type[ErisError]) -> None:
    assert isinstance(listed(answers(page, code=code)), kind)


def test_one_that_is_asked_is_shown_with_figures() -> None:
    assert _row(FACTS) == [
        "connected",
        "inbound",
        "21 ms",
        "3.0 MiB/s",
        "97 %",
        "5.0 KiB",
        "0 B",
        "192.0.2.1:5684",
        "desktop",
        "",
    ]


@pytest.mark.parametrize(
    ("facts", "note"),
    [
        ({"why": "refused", "next_try_s": 62.1}, "refused; next try in 1 min 3 s"),
        ({"why": "refused"}, "refused"),
        (
            {"breaker": "it does not answer", "breaker_s": 1.5},
            "not asked: it does not answer; next try in 2 s",
        ),
    ],
)
def test_one_that_is_not_asked_is_shown_with_the_reason(facts: dict[str, Any], note: str) -> None:
    assert _row({**FACTS, **facts})[-1] == note


def test_what_is_not_known_is_a_dash_and_nothing_commands_a_terminal() -> None:
    facts = {
        **FACTS,
        **dict.fromkeys(("direction", "rtt_s", "hit_ratio", "address")),
        "name": "a\x1b[2Jb",
        "rate": 0,
    }
    row = _row(facts)
    assert row[1:5] == ["-", "-", "-", "-"]
    assert "\x1b" not in row[8]
    assert _row({**facts, "name": None})[8] == "ed25519:x"
    assert _row({**facts, "name": None, "key": None, "url": "TCP a:1"})[8] == "TCP a:1"


def test_the_table_is_in_columns() -> None:
    lines = _peer_lines([FACTS, {**FACTS, "name": "a", "why": "x", "rtt_s": 0.0012}])
    assert lines[0].split() == list(_HEAD)
    at = lines[0].index("ADDRESS")
    assert {line[at - 1] for line in lines} == {" "}
    assert lines[2].endswith("x")


def test_json_is_what_others_can_read() -> None:
    assert json.loads(facts_json({"name": "a\x7fü"}, "list")) == {"name": "a\x7fü"}
    assert "\x7f" not in facts_json({"name": "a\x7fü"}, "list")
    with pytest.raises(CommandError):
        facts_json({"rate": float("inf")}, "list")
