"""What is refused has a word for the user: whose it was, what was wrong, and that once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from guix_glue.fetch.dialogue import Command, Have, Info, Substitute
from guix_glue.fetch.fetcher import Fetcher
from guix_glue.fetch.lookup import Lookup
from guix_glue.fetch.query import QuerySession
from guix_glue.fetch.refusals import Refusals
from guix_glue.fetch.session import Policy, Session
from guix_glue.fetch.settings import DEFAULT_SETTINGS
from guix_glue.fetch.substitution import SubstituteSession
from guix_glue.fetch.traces import Messages
from guix_glue.servers.url import parse_server
from guix_glue.trust.acl import EMPTY_ACL, Acl, authorize
from guix_glue.trust.keys import PublicKey, generate_private_key
from tests.guix_glue.fetch.fakes import FakeServer, running_server
from tests.guix_glue.fetch.support import (
    KEY,
    SAMPLES,
    STORE,
    Made,
    configuration,
    make_item,
    narinfo_of,
    plain_url,
    program_environment,
    publish,
    run_program,
    with_unsigned_size,
)

ACL = Acl.parse((SAMPLES / "keys/acl").read_bytes())
STRANGER = generate_private_key(bytes(range(32)))
COUNT = 40


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    root = tmp_path_factory.mktemp("item") / "file"
    root.write_text("content\n")
    return [make_item(root, f"{number:032d}-item") for number in range(COUNT)]


def ask(urls: Sequence[str], commands: Sequence[Command], mode: type[Session]) -> list[str]:
    """The messages of one process, line by line."""
    written = bytearray()

    async def run() -> None:
        messages = Messages(written.extend, extended=True)
        lookup = Lookup([parse_server(url) for url in urls], messages)
        settings = replace(DEFAULT_SETTINGS, max_unsigned_size=10)
        policy = Policy(STORE, ACL, eris=False, settings=settings)
        fetcher = Fetcher(None, messages, settings)
        session = (
            QuerySession(policy, lookup, messages)
            if mode is QuerySession
            else SubstituteSession(policy, lookup, messages, fetcher, deduplicate=False)
        )
        try:
            for command in commands:
                await session.answer(command)
        finally:
            lookup.close()
            await fetcher.close()

    asyncio.run(run())
    return [line for line in re.split("[\n\r]", written.decode()) if ": warning: " in line]


def fill(server: FakeServer, items: Sequence[Made], text: Callable[[Made], bytes]) -> None:
    for made in items:
        publish(server, made)
        server.files[f"/{made.item.hash_part}.narinfo"] = text(made)


def good(made: Made) -> bytes:
    return narinfo_of(made, [plain_url(made)])


def named(text: bytes, old: bytes, new: bytes) -> bytes:
    assert old in text
    return text.replace(old, new, 1)


DAMAGED: dict[str, tuple[Callable[[Made], bytes], str]] = {
    "blank": (
        lambda made: named(good(made), made.item.path.encode(), b""),
        "StorePath: ",
    ),
    "another item's": (
        lambda made: named(good(made), b"-item\n", b"-other\n"),
        "StorePath: it is another item's",
    ),
    "another store's": (
        lambda made: named(good(made), STORE.encode(), b"/nix/store"),
        "StorePath: ",
    ),
    "not text": (lambda made: b"\xff" + good(made), "it is not UTF-8"),
    "line ends of others": (
        lambda made: good(made).replace(b"\n", b"\r\n"),
        "it contains a carriage return",
    ),
    "no size": (lambda made: named(good(made), b"NarSize: ", b"NarSize: x"), "NarSize: "),
    "altered": (
        lambda made: named(good(made), b"NarSize: ", b"NarSize: 1"),
        "it was made for another text",
    ),
    "not signed": (lambda made: narinfo_of(made, [plain_url(made)], key=None), "it is not signed"),
    "by a stranger": (
        lambda made: narinfo_of(made, [plain_url(made)], key=STRANGER),
        "its key is not in the access list",
    ),
    "without a nar": (
        lambda made: narinfo_of(made, []),
        "it names nothing that can be fetched",
    ),
    "with a nar elsewhere": (
        lambda made: narinfo_of(made, [replace(plain_url(made), url="file:///etc/passwd")]),
        "it names nothing that can be fetched",
    ),
}


@pytest.mark.parametrize("mode", ["have", "info", "substitute"])
@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_wrong_with_a_narinfo_is_told_once(
    kind: str, mode: str, items: list[Made], tmp_path: Path
) -> None:
    text, word = DAMAGED[kind]
    paths = tuple(made.item.path for made in items)
    commands: dict[str, list[Command]] = {
        "have": [Have(paths), Have(paths)],
        "info": [Info(paths), Info(paths)],
        "substitute": [Substitute(path, str(tmp_path / "item")) for path in paths[:3]],
    }
    session = SubstituteSession if mode == "substitute" else QuerySession
    with running_server() as server:
        fill(server, items, text)
        warnings = ask([server.url], commands[mode], session)
        assert len(warnings) == 1, warnings
        assert warnings[0].startswith(
            f"kapla substitute: warning: the narinfo of {server.url}: {word}"
        )


def test_a_size_that_nobody_signed_and_is_too_large(items: list[Made]) -> None:
    with running_server() as server:
        fill(server, items, with_unsigned_size)
        warnings = ask([server.url], [Have((items[0].item.path,))], QuerySession)
        assert warnings[0].endswith("its size is not signed, and above 10 bytes")


def test_each_server_has_its_own_word(items: list[Made]) -> None:
    with running_server() as one, running_server() as two:
        for server in (one, two):
            fill(server, items, DAMAGED["blank"][0])
        warnings = ask([one.url, two.url], [Have((items[0].item.path,))], QuerySession)
        assert len(warnings) == 2
        assert one.url in warnings[0]
        assert two.url in warnings[1]


def test_who_is_not_authorized_is_no_matter_where_somebody_is(items: list[Made]) -> None:
    with running_server() as near, running_server() as far:
        fill(near, items, DAMAGED["by a stranger"][0])
        fill(far, items, good)
        paths = tuple(made.item.path for made in items)
        assert ask([near.url, far.url], [Have(paths)], QuerySession) == []
        # What is damaged is so whatever others have.
        fill(near, items, DAMAGED["altered"][0])
        assert len(ask([near.url, far.url], [Have(paths)], QuerySession)) == 1


def test_an_item_that_cannot_be_judged_hides_no_other(items: list[Made]) -> None:
    class Faulty(Acl):
        """A fault of our own, for one item."""

        def authorizes(self, key: PublicKey) -> bool:
            asked.append(key)
            if len(asked) == 3:
                raise RuntimeError
            return True

    asked: list[PublicKey] = []
    written = bytearray()

    async def run(url: str) -> bytes:
        messages = Messages(written.extend)
        lookup = Lookup([parse_server(url)], messages)
        policy = Policy(STORE, Faulty(), eris=False, settings=DEFAULT_SETTINGS)
        try:
            session = QuerySession(policy, lookup, messages)
            return await session.answer(Have(tuple(made.item.path for made in items)))
        finally:
            lookup.close()

    with running_server() as server:
        fill(server, items, good)
        told = asyncio.run(run(server.url)).decode().split()
        paths = [made.item.path for made in items]
        assert told == [*paths[:2], *paths[3:]]
        assert f"{paths[2]}: what is said of it cannot be judged" in written.decode()


def test_what_is_told_of_a_server_has_an_end() -> None:
    written = bytearray()
    refusals = Refusals(Messages(written.extend))
    server = parse_server("http://127.0.0.1:1")
    for number in range(1000):
        refusals.tell(server, f"kind {number}", f"kind {number}")
    lines = written.decode().splitlines()
    assert len(lines) == 9
    assert lines[-1] == "kapla substitute: warning: more is wrong with what http://127.0.0.1:1 says"


@pytest.mark.parametrize(
    ("acl", "own", "told"),
    [
        (EMPTY_ACL, False, True),
        (authorize(EMPTY_ACL, KEY.public), True, True),
        (authorize(EMPTY_ACL, KEY.public), False, False),
        (authorize(authorize(EMPTY_ACL, KEY.public), STRANGER.public), True, False),
    ],
    ids=["empty", "only our own", "another's", "ours and another's"],
)
def test_an_access_list_without_a_key_of_others(acl: bytes, own: bool, told: bool) -> None:
    with configuration(acl) as config:
        if own:
            (config / "signing-key.pub").write_bytes(KEY.public.to_file())
        done = run_program(["--query"], b"", program_environment(config, ""))
    line = "ACL for archive imports seems to be uninitialized, substitutes may be unavailable"
    assert (line in done.messages) is told
    assert done.messages.count("warning") == told
