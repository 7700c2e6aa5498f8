"""What a proxy says of items, whatever its servers do; nars are made up, and servers real."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from guix_glue.formats.narinfo import NarUrl, format_narinfo, format_unsigned, parse_narinfo
from guix_glue.formats.nixbase32 import encode
from guix_glue.proxy.routes import nar_url
from guix_glue.servers.proxies import Proxies
from guix_glue.trust.authorities import Authorities
from guix_glue.trust.nix_keys import NixSecretKey
from guix_glue.trust.signature import sign_text
from tests.guix_glue.fetch.fakes import FakeServer, Reply, running_server, scripted_server
from tests.guix_glue.fetch.proxy import running_proxy
from tests.guix_glue.fetch.support import KEY, Made, make_item, narinfo_of, plain_url
from tests.guix_glue.proxy.running import Inside, inside
from tests.guix_glue.publish.support import ACL, SAMPLES
from tests.integration.daemon import GUARD_S

DEAD = "http://127.0.0.1:1"
SECRET = NixSecretKey.parse((SAMPLES / "nix-2.8" / "secret-key").read_text())


def play(main: Callable[[], Awaitable[None]]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await main()

    asyncio.run(guarded())


@pytest.fixture
def made(tmp_path: Path) -> Made:
    (tmp_path / "file").write_bytes(b"content")
    return make_item(tmp_path / "file")


def other_build(made: Made) -> Made:
    """The same item, built with another result."""
    other = made.root.parent / "other"
    other.write_bytes(b"another content")
    return make_item(other, made.item.base_name)


def path_of(made: Made) -> str:
    return f"/{made.item.hash_part}.narinfo"


def serve(
    server: FakeServer, made: Made, max_age: int | None = None, urn: str | None = None
) -> None:
    """Have a server say that it has an item."""
    text = narinfo_of(made, [plain_url(made)], urn=urn)
    headers = {} if max_age is None else {"Cache-Control": f"max-age={max_age}"}
    server.files[path_of(made)] = Reply(text, headers=headers)


def asked(*servers: FakeServer) -> int:
    """How many narinfos servers were asked for."""
    return sum(path.endswith(".narinfo") for one in servers for path in one.requests)


async def nar_hash(proxy: Inside, made: Made) -> bytes | None:
    """What is sent of the very nar of an item."""
    reply = await proxy.get(f"/{nar_url(made.item)}")
    assert reply.status in (200, 404)
    assert isinstance(reply.body, bytes)
    return reply.body if reply.status == 200 else None


def test_the_narinfo_has_one_nar_which_is_ours(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        urls = [plain_url(made), NarUrl("nar/gzip/x", "gzip", 5)]
        original = narinfo_of(made, urls, urn="urn:eris:AAAA")
        server.files[path_of(made)] = original

        async def main() -> None:
            async with inside(tmp_path, [server.url]) as proxy:
                text = await proxy.text(path_of(made))
                head, _, _ = original.decode().partition("URL:")
                hash_part, digest = made.item.hash_part, encode(made.item.nar_hash)
                assert text == (
                    f"{head}URL: nar/{hash_part}-{digest}\nCompression: none\n"
                    f"FileSize: {len(made.nar)}\n"
                )
                reply = await proxy.get(path_of(made))
                assert reply.max_age_s is not None
                assert 3500 < reply.max_age_s <= 3600
                missing = await proxy.get(f"/{'0' * 32}.narinfo")
                assert (missing.status, missing.max_age_s) == (404, 60)
                assert (await proxy.get("/", "POST")).status == 405
                assert await nar_hash(proxy, made) == made.item.nar_hash
                (vouched,) = proxy.nars.asked
                assert vouched.narinfo.signed_urn == "urn:eris:AAAA"

        play(main)


def test_the_first_good_one_wins_and_others_that_say_the_same_are_known(
    made: Made, tmp_path: Path
) -> None:
    with running_server() as bare, running_server() as good:
        bare.files[path_of(made)] = narinfo_of(made, [plain_url(made)], key=None)
        serve(good, made)

        async def main() -> None:
            async with inside(tmp_path, [DEAD, bare.url, good.url]) as proxy:
                for _ in range(2):
                    await proxy.text(path_of(made))
                    await nar_hash(proxy, made)
            vouched = proxy.nars.asked[-1]
            servers = {one.server.url for one in vouched.candidates}
            assert vouched.candidates[0].server.url == good.url
            assert servers <= {bare.url, good.url}
            # What is kept has the same.
            async with inside(tmp_path, [bare.url, good.url]) as proxy:
                await nar_hash(proxy, made)
            assert proxy.nars.asked[-1] == vouched

        play(main)


def test_servers_that_disagree(made: Made, tmp_path: Path) -> None:
    """Clients remember what they were told; what is asked for is what they get."""
    other = other_build(made)
    with running_server() as one, running_server() as two:
        serve(one, made)
        serve(two, other)

        async def main() -> None:
            async with inside(tmp_path, [one.url, two.url]) as proxy:
                told = parse_narinfo(
                    (await proxy.text(path_of(made))).encode(), store_dir="/gnu/store"
                )
                assert told.item.nar_hash in (made.item.nar_hash, other.item.nar_hash)
                assert await nar_hash(proxy, made) == made.item.nar_hash
                assert await nar_hash(proxy, other) == other.item.nar_hash
                unknown = replace(made.item, nar_hash=bytes(32))
                assert await nar_hash(proxy, replace(made, item=unknown)) is None
                # Neither is forgotten, nor is in the way of the other.
                before = asked(one, two)
                for build in (made, other):
                    assert await nar_hash(proxy, build) == build.item.nar_hash
                assert await nar_hash(proxy, replace(made, item=unknown)) is None
                assert asked(one, two) == before

        play(main)


def test_after_a_restart_without_a_cache_the_very_nar_is_found(made: Made, tmp_path: Path) -> None:
    with running_server() as one, running_server() as two:
        serve(one, other_build(made))
        serve(two, made)

        async def main() -> None:
            async with inside(tmp_path, [one.url, two.url]) as proxy:
                assert await nar_hash(proxy, made) == made.item.nar_hash

        play(main)


def test_what_is_kept_holds_while_no_server_answers(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        serve(server, made, max_age=0)
        server.files["/nix-cache-info"] = b"StoreDir: /gnu/store\nWantMassQuery: 1\nPriority: 7\n"

        async def first() -> None:
            async with inside(tmp_path, [server.url], store_dir=None) as proxy:
                await proxy.text(path_of(made))

        play(first)

    async def then() -> None:
        async with inside(tmp_path, [server.url], store_dir=None) as proxy:
            reply = await proxy.get(path_of(made))
            assert (reply.status, reply.max_age_s) == (200, 0)
            assert await nar_hash(proxy, made) == made.item.nar_hash
            assert await proxy.text("/nix-cache-info") == (
                "StoreDir: /gnu/store\nWantMassQuery: 1\nPriority: 30\n"
            )
            assert (await proxy.get(f"/{'0' * 32}.narinfo")).status == 503

    play(then)


def test_a_kept_narinfo_counts_by_the_keys_that_count_now(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        serve(server, made)

        async def ask(authorities: Authorities) -> int:
            async with inside(tmp_path, [server.url], authorities=authorities) as proxy:
                return (await proxy.get(path_of(made))).status

        async def main() -> None:
            assert await ask(Authorities(ACL)) == 200
            assert await ask(Authorities(nix_keys=(SECRET.public,))) == 404
            assert await ask(Authorities(ACL)) == 200

        play(main)


def test_what_nobody_has_is_not_there_once_the_silent_are_known(made: Made, tmp_path: Path) -> None:
    """A 503 for ever would stop Nix, which has other ways for what is not there."""
    with running_server() as server:

        async def main() -> None:
            async with inside(tmp_path, [DEAD, server.url]) as proxy:
                statuses = [(await proxy.get(path_of(made))).status for _ in range(3)]
                assert statuses[1:] == [404, 404]
                serve(server, made)
                assert (await proxy.get(path_of(made))).status == 200

        play(main)


def test_a_server_that_drips_and_one_that_is_dead_hold_up_nobody(tmp_path: Path) -> None:
    asked: list[str] = []

    def dripping(connection: socket.socket) -> None:
        while request := connection.recv(1 << 16):
            asked.append(request.decode("latin-1").split()[1])
            with suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nStore")

    items = []
    for number in range(40):
        (tmp_path / str(number)).write_bytes(b"%d" % number)
        items.append(make_item(tmp_path / str(number), f"{number:032d}-x"))
    with running_server() as good, scripted_server(dripping) as slow:
        for item in items:
            serve(good, item)

        async def main() -> None:
            async with inside(tmp_path, [DEAD, slow, good.url]) as proxy:
                for item in items:
                    assert (await proxy.get(path_of(item))).status == 200

        play(main)
    narinfos = [path for path in asked if path.endswith(".narinfo")]
    assert len(narinfos) <= 16


def test_without_any_key_the_order_counts_and_urns_are_hints(made: Made, tmp_path: Path) -> None:
    other = other_build(made)
    with running_server() as one, running_server() as two:
        serve(one, made, urn="urn:eris:AAAA")
        serve(two, other)

        async def main() -> None:
            async with inside(tmp_path, [one.url, two.url], authorities=Authorities()) as proxy:
                text = await proxy.text(path_of(made))
                found = parse_narinfo(text.encode(), store_dir="/gnu/store")
                assert found.item.nar_hash == made.item.nar_hash
                # Whoever has the key can check it.
                assert Authorities(ACL).believed(found).signed_urn == "urn:eris:AAAA"
                assert text.count("ERIS:") == 1
                await nar_hash(proxy, made)
                (vouched,) = proxy.nars.asked
                assert vouched.narinfo.signed_urn is None
                assert vouched.narinfo.hint_urn == "urn:eris:AAAA"
                assert not vouched.size_is_signed

        play(main)


def test_signed_urls_are_left_alone(made: Made, tmp_path: Path) -> None:
    unsigned = (
        f"{format_unsigned(made.item)}URL: nar/gzip/{made.item.base_name}\nCompression: gzip\n"
    )
    text = format_narinfo(unsigned, sign_text(KEY, unsigned, "test"), [])
    with running_server() as server:
        server.files[path_of(made)] = text

        async def main() -> None:
            async with inside(tmp_path, [server.url]) as proxy:
                assert (await proxy.text(path_of(made))).encode() == text
                reply = await proxy.get(f"/nar/gzip/{made.item.base_name}")
                assert reply.status == 302
                location = f"{server.url}/nar/gzip/{made.item.base_name}"
                assert reply.headers == (("Location", location),)
                assert (await proxy.get(f"/nar/zstd/{made.item.base_name}")).status == 404
                assert (await proxy.get(f"/nar/gzip/{'0' * 32}-x")).status == 404

        play(main)


def test_a_narinfo_that_only_nix_signed(made: Made, tmp_path: Path) -> None:
    item = replace(made.item, path=f"/nix/store/{made.item.base_name}")
    text = format_narinfo(
        format_unsigned(item), None, [plain_url(made)], nix_signatures=[SECRET.sign(item)]
    )
    keys = Authorities(nix_keys=(SECRET.public,))
    with running_server() as server:
        server.files[path_of(made)] = text

        async def main() -> None:
            async with inside(
                tmp_path, [server.url], authorities=keys, store_dir="/nix/store"
            ) as proxy:
                told = parse_narinfo(
                    (await proxy.text(path_of(made))).encode(), store_dir="/nix/store"
                )
                assert keys.believed(told).item == item
                assert [one.url for one in told.urls] == [nar_url(item)]
                assert (await proxy.get(f"/{nar_url(item)}")).status == 200
                (vouched,) = proxy.nars.asked
                assert vouched.size_is_signed

        play(main)


def test_what_names_nothing_to_fetch_is_not_offered(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        server.files[path_of(made)] = narinfo_of(made, [])

        async def main() -> None:
            async with inside(tmp_path, [server.url]) as proxy:
                assert (await proxy.get(path_of(made))).status == 404

        play(main)


def test_a_nar_that_cannot_be_had_is_asked_about_once_more(made: Made, tmp_path: Path) -> None:
    """What is kept may be old: the nar may be with others by now."""
    with running_server() as old, running_server() as new:
        serve(old, made)

        async def main() -> None:
            async with inside(tmp_path, [old.url, new.url]) as proxy:
                await proxy.text(path_of(made))
                del old.files[path_of(made)]
                serve(new, made)
                proxy.nars.missing = True
                assert await nar_hash(proxy, made) is None
                assert [one.candidates[0].server.url for one in proxy.nars.asked] == [
                    old.url,
                    new.url,
                ]
                # That does not go on with each client that tries.
                assert await nar_hash(proxy, made) is None
                assert len(proxy.nars.asked) == 3

        play(main)


def test_servers_behind_a_proxy_of_http(made: Made, tmp_path: Path) -> None:
    with running_server() as server, running_proxy({"far.example": server.url}) as way:
        serve(server, made)
        proxies = Proxies({"http_proxy": way.url})

        async def main() -> None:
            urls = ["http://user:secret@far.example"]
            async with inside(tmp_path, urls, store_dir=None, proxies=proxies) as proxy:
                await proxy.text(path_of(made))
                await nar_hash(proxy, made)
            (vouched,) = proxy.nars.asked
            assert vouched.candidates[0].server.url == "http://far.example"

        play(main)
        assert sorted(way.asked) == [
            f"GET http://far.example{path_of(made)}",
            "GET http://far.example/nix-cache-info",
        ]
        assert all("Authorization: Basic" in head for head in way.heads)


def test_the_store_is_the_one_of_the_servers(tmp_path: Path) -> None:
    with running_server() as nix, running_server() as guix, running_server() as mute:
        nix.files["/nix-cache-info"] = b"StoreDir: /nix/store\nWantMassQuery: 1\n"
        guix.files["/nix-cache-info"] = b"StoreDir: /gnu/store\nWantMassQuery: 0\n"

        async def main() -> None:
            async with inside(
                tmp_path / "a", [mute.url, nix.url, guix.url], store_dir=None
            ) as proxy:
                text = await proxy.text("/nix-cache-info")
                assert text.startswith("StoreDir: /nix/store\n")
                # The first who tells of a store is enough for an answer.
                await proxy.has_left_out.wait()
                assert [other.server.url for other in proxy.left_out] == [guix.url]
                assert "/nix/store" in await proxy.text("/")
                assert (await proxy.get(f"/{'0' * 32}.narinfo")).status == 404
                assert (asked(nix), asked(guix)) == (1, 0)
            # One that is asked for counts, also while nobody has told.
            async with inside(tmp_path / "b", [DEAD], store_dir="/x") as proxy:
                assert "/x" in await proxy.text("/nix-cache-info")
            async with inside(tmp_path / "c", [DEAD], store_dir=None) as proxy:
                assert (await proxy.get("/nix-cache-info")).status == 503
            async with inside(tmp_path / "d", [mute.url], store_dir=None) as proxy:
                assert "/gnu/store" in await proxy.text("/nix-cache-info")

        play(main)
