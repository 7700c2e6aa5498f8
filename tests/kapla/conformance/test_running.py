"""What the kit says of stores that are wrong: each has one fault, and the others are not blamed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from eris import StoreUnavailable
from kapla.coap.frame import Code, Message, format_message
from kapla.conformance.model import Result, Verdict
from kapla.conformance.running import run_checks
from kapla.conformance.stage import Stage
from kapla.errors import NotAllowed
from kapla.urls import parse_store_url
from tests.kapla.fake_server import FakeServer, Peer, Script, fake_server, keep_blocks

LAST_METHOD = 0x1F
PATIENT_S = 20.0
# For stores that stay silent to one thing; long enough for all that they do answer.
SHORT_S = 2.0


def check(
    make: Callable[[list[FakeServer]], Script],
    *only: str,
    path: str = "",
    wait_s: float = PATIENT_S,
) -> tuple[dict[str, Result], Stage]:
    """The results of some groups, by name, for a store that does as a script says."""

    async def main() -> tuple[dict[str, Result], Stage]:
        servers: list[FakeServer] = []
        async with fake_server(make(servers), path=path) as server:
            servers.append(server)
            stage = Stage(server.url, read_only=False, wait_s=wait_s)
            return {one.check.name: one async for one in run_checks(stage, only)}, stage

    return asyncio.run(main())


def behaving(servers: list[FakeServer]) -> Script:
    """A store that knows its methods, and no more."""
    keep = keep_blocks()

    def script(peer: Peer, request: Message) -> None:
        if request.code in (Code.GET, Code.PUT):
            keep(peer, request)
        else:
            peer.send(Code.METHOD_NOT_ALLOWED, request.token)

    return script


def test_a_simple_store_passes_what_it_knows() -> None:
    found, stage = check(behaving, "contents")
    assert {one.verdict for one in found.values()} == {Verdict.PASS}
    assert 0 < stage.written <= 2 << 20
    assert all(one.transcript for one in found.values())


def test_a_store_that_asks_its_clients_is_told_no_and_goes_on() -> None:
    def asking(servers: list[FakeServer]) -> Script:
        behave = behaving(servers)

        def script(peer: Peer, request: Message) -> None:
            for other in servers[0].peers:
                if not other.transport.is_closing():
                    other.transport.write(format_message(Code.GET, b"ask", [(11, b"blocks")]))
            behave(peer, request)

        return script

    found, stage = check(asking, "both-ways")
    assert found["asks"].verdict is Verdict.PASS
    assert "requests refused; then 4.04" in found["asks"].seen
    assert stage.asked > 3


def test_a_store_that_dies_has_failed_the_check_and_the_rest_goes_on() -> None:
    def dying(servers: list[FakeServer]) -> Script:
        behave = behaving(servers)

        def script(peer: Peer, request: Message) -> None:
            if request.code == LAST_METHOD:
                servers[0].close()
                for one in servers[0].peers:
                    one.transport.abort()
            else:
                behave(peer, request)

        return script

    found, _ = check(dying, "requests", "both-ways")
    assert found["method"].verdict is Verdict.FAIL
    assert found["method"].seen.startswith("the store closed the connection instead of an answer")
    assert "and another connection: the store closed the connection" in found["method"].seen
    for name in ("post", "elective", "unasked"):
        assert found[name].verdict is Verdict.FAIL
        assert found[name].seen.startswith("nobody is served: cannot connect")


def test_a_store_that_is_silent_is_not_waited_for() -> None:
    def silent(servers: list[FakeServer]) -> Script:
        behave = behaving(servers)

        def script(peer: Peer, request: Message) -> None:
            if request.code != LAST_METHOD:
                behave(peer, request)

        return script

    found, _ = check(silent, "requests", wait_s=SHORT_S)
    assert found["method"].verdict is Verdict.FAIL
    assert found["method"].seen == "waited 2 s in vain for an answer"
    assert found["post"].verdict is Verdict.PASS


def test_a_store_that_serves_nobody_else_any_more_has_failed() -> None:
    def jealous(servers: list[FakeServer]) -> Script:
        behave = behaving(servers)
        unserved: list[Peer] = []

        def script(peer: Peer, request: Message) -> None:
            if request.code == LAST_METHOD:
                unserved.extend(servers[0].peers)
                peer.send(Code.METHOD_NOT_ALLOWED, request.token)
            elif peer not in unserved:
                behave(peer, request)

        return script

    found, _ = check(jealous, "requests", wait_s=SHORT_S)
    assert found["method"].verdict is Verdict.FAIL
    assert found["method"].seen.startswith(
        "4.05; and another connection: waited 2 s in vain for an answer"
    )


def test_a_store_that_gives_another_block_has_failed() -> None:
    def forging(servers: list[FakeServer]) -> Script:
        behave = behaving(servers)

        def script(peer: Peer, request: Message) -> None:
            if request.code == Code.GET and request.values(60):
                peer.send(Code.CONTENT, request.token, payload=bytes(1024))
            else:
                behave(peer, request)

        return script

    found, _ = check(forging, "blocks")
    assert found["get"].seen == "the answer, of 1024 bytes, is not the block"
    failed = {name for name, one in found.items() if one.verdict is Verdict.FAIL}
    assert failed == {"get", "wrong-sizes", "wrong-sizes-told"}  # which it does not look at


def test_a_store_that_sends_what_is_no_message_has_failed() -> None:
    def babbling(servers: list[FakeServer]) -> Script:
        behave = behaving(servers)

        def script(peer: Peer, request: Message) -> None:
            if request.code == LAST_METHOD:
                peer.transport.write(b"\x0f\x85")
            elif request.code == Code.POST:
                peer.transport.write(b"\x13\x85" + request.token + b"\xff")
            else:
                behave(peer, request)

        return script

    found, _ = check(babbling, "requests")
    assert "what is no message: a token of 15 bytes" in found["method"].seen
    assert "malformed message: a payload marker" in found["post"].seen


def test_the_path_of_a_store_is_in_nothing_that_is_told() -> None:
    found, _ = check(behaving, "contents", path="/my-secret/of-mine")
    assert {one.verdict for one in found.values()} == {Verdict.PASS}
    for one in found.values():
        told = b"".join(seen.head for seen in one.transcript) + one.seen.encode()
        assert b"*********" in told
        assert b"my-secret" not in told and b"of-mine" not in told


def test_a_store_that_takes_nothing_ends_it_and_one_that_is_not_there_too() -> None:
    def refusing(servers: list[FakeServer]) -> Script:
        return lambda peer, request: peer.send(Code.FORBIDDEN, request.token, payload=b"no\x1b")

    with pytest.raises(NotAllowed, match=r"takes no blocks here: 4\.03 \(no\?\)"):
        check(refusing)

    async def main() -> None:
        stage = Stage(parse_store_url("coap+tcp://127.0.0.1:1"), read_only=True, wait_s=PATIENT_S)
        async for _ in run_checks(stage):
            raise AssertionError

    with pytest.raises(StoreUnavailable, match="cannot connect"):
        asyncio.run(main())


def test_what_is_no_store_at_all_is_not_checked() -> None:
    async def main(greeting: bytes) -> None:
        async with fake_server(keep_blocks(), greeting=greeting) as server:
            stage = Stage(server.url, read_only=True, wait_s=SHORT_S)
            async for _ in run_checks(stage):
                raise AssertionError

    for greeting, what in ((b"", "in vain for its CSM"), (b"HTTP/1.1 400 Bad", "malformed")):
        with pytest.raises(StoreUnavailable, match=what):
            asyncio.run(main(greeting))


def test_a_store_that_hangs_is_given_little_time_afterwards() -> None:
    def hanging(servers: list[FakeServer]) -> Script:
        behave = behaving(servers)

        def script(peer: Peer, request: Message) -> None:
            if request.code == Code.FETCH:
                servers[0].script = lambda peer, request: None
            else:
                behave(peer, request)

        return script

    found, _ = check(hanging, "extensions", wait_s=SHORT_S)
    assert found["fetch"].seen.startswith("waited 2 s in vain for an answer")
    assert found["fetch-most"].seen == "nobody is served: waited 2 s in vain for an answer"
    assert found["list"].seen == "nobody is served: waited 0.2 s in vain for an answer"
