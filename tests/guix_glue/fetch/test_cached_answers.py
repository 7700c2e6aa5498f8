"""What the fetcher does with narinfos that it knows from before: sessions one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from guix_glue.fetch.dialogue import Command, Have, Substitute
from guix_glue.fetch.fetcher import Fetcher
from guix_glue.fetch.lookup import Lookup
from guix_glue.fetch.narinfo_cache import NarinfoCache
from guix_glue.fetch.query import QuerySession
from guix_glue.fetch.session import Policy
from guix_glue.fetch.settings import DEFAULT_SETTINGS
from guix_glue.fetch.substitution import SubstituteSession
from guix_glue.fetch.traces import Messages
from guix_glue.formats.narinfo import NarUrl
from guix_glue.servers.url import parse_server
from guix_glue.trust.acl import Acl
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.fetch.fakes import FakeServer, Reply, running_server
from tests.guix_glue.fetch.support import (
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
)

ACL = Acl.parse((SAMPLES / "keys/acl").read_bytes())


class Time:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Machine:
    """Processes that share a cache: each is one session."""

    directory: Path
    time: Time
    acl: Acl = ACL
    messages: str = ""
    hurried: bool = False
    """Whether pauses take no time."""

    def run(self, commands: Sequence[Command], *urls: str) -> list[bytes]:
        written = bytearray()
        mode = "substitute" if isinstance(commands[0], Substitute) else "query"

        async def answer(clock: Clock) -> list[bytes]:
            messages = Messages(written.extend, extended=True)
            cache = NarinfoCache(str(self.directory), now=self.time)
            servers = [parse_server(url) for url in urls]
            lookup = Lookup(servers, messages, cache=cache, announce=mode == "query")
            policy = Policy(STORE, self.acl, eris=False, settings=DEFAULT_SETTINGS)
            fetcher = Fetcher(None, messages)
            session = (
                QuerySession(policy, lookup, messages)
                if mode == "query"
                else SubstituteSession(policy, lookup, messages, fetcher, deduplicate=False)
            )
            try:
                answers = (session.answer(command) for command in commands)
                if self.hurried:
                    return [await clock.skip_until(one, 0.25) for one in answers]
                return [await one for one in answers]
            finally:
                lookup.close()
                await fetcher.close()

        replies = run_on_clock(answer)
        self.messages = written.decode()
        return replies

    def has(self, made: Made, *urls: str) -> bool:
        """Whether a new process says that the item is there."""
        return self.run([Have((made.item.path,))], *urls) != [b"\n"]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "narinfos", Time())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("item") / "file"
    root.write_text("content\n")
    return make_item(root)


def narinfos_asked(server: FakeServer) -> int:
    return sum(path.endswith(".narinfo") for path in server.requests)


def serve(server: FakeServer, made: Made, text: bytes, status: int = 200, age: str = "") -> None:
    headers = {"Cache-Control": f"max-age={age}"} if age else {}
    server.files[f"/{made.item.hash_part}.narinfo"] = Reply(text, status, headers)


def test_what_was_known_is_shown_without_a_network(machine: Machine, made: Made) -> None:
    with running_server() as server:
        publish(server, made)
        assert machine.has(made, server.url)
        url = server.url
        # As the stock client has it.
        looking = f"looking for substitutes on '{url}'..."
        assert machine.messages == f"{looking}   0.0%\r\x1b[K{looking} 100.0%\n"
    assert machine.has(made, url)
    # Nobody is asked, so that nothing is said.
    assert machine.messages == ""
    # Some 36 hours, where the server does not say.
    machine.time.now += 37 * 3600
    assert not machine.has(made, url)


@pytest.mark.parametrize(("status", "usual"), [(200, 36 * 3600), (404, 120)])
@pytest.mark.parametrize("age", ["", "50", "0"])
def test_a_servers_word_on_how_long_counts(
    age: str, status: int, usual: int, machine: Machine, made: Made
) -> None:
    good_s = int(age or usual)
    with running_server() as server:
        publish(server, made)
        serve(server, made, narinfo_of(made, [plain_url(made)]), status, age)
        assert machine.has(made, server.url) is (status == 200)
        machine.time.now += max(0, good_s - 2)
        assert machine.has(made, server.url) is (status == 200)
        assert narinfos_asked(server) == (2 if age == "0" else 1)
        machine.time.now += 4
        machine.has(made, server.url)
        assert narinfos_asked(server) == (3 if age == "0" else 2)


def test_what_is_no_answer_is_not_kept(machine: Machine, made: Made) -> None:
    with running_server() as server:
        publish(server, made)
        machine.hurried = True
        for status in (500, 503, 403):
            serve(server, made, b"", status)
            assert not machine.has(made, server.url)
        machine.hurried = False
        publish(server, made)
        assert machine.has(made, server.url)


def test_who_is_authorized_is_asked_each_time(machine: Machine, made: Made) -> None:
    with running_server() as server:
        publish(server, made)
        assert machine.has(made, server.url)
    machine.acl = Acl()
    assert not machine.has(made, server.url)
    assert "its key is not in the access list" in machine.messages
    machine.acl = ACL
    assert machine.has(made, server.url)


def test_what_is_damaged_is_not_kept(machine: Machine, made: Made) -> None:
    text = narinfo_of(made, [plain_url(made)])
    with running_server() as server:
        publish(server, made)
        for damaged in (b"\0", text.replace(b"NarSize: ", b"NarSize: 1"), text[:100]):
            serve(server, made, damaged)
            assert not machine.has(made, server.url)
        # The server mended it.
        serve(server, made, text)
        assert machine.has(made, server.url)
        assert narinfos_asked(server) == 4


def test_the_process_that_fetches_knows_what_another_one_asked(
    machine: Machine, made: Made, tmp_path: Path
) -> None:
    with running_server() as server:
        publish(server, made)
        assert machine.has(made, server.url)
        command = Substitute(made.item.path, str(tmp_path / "item"))
        [reply] = machine.run([command], server.url)
        assert reply.startswith(b"success ")
        assert narinfos_asked(server) == 1
        assert "looking for" not in machine.messages


def test_a_nar_that_moved_is_asked_for_anew(machine: Machine, made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        publish(server, made, NarUrl("nar/old", "none", None, None))
        server.files["/nar/old"] = made.nar
        assert machine.has(made, server.url)
        del server.files["/nar/old"]
        serve(server, made, narinfo_of(made, [NarUrl("nar/new", "none", None, None)]))
        server.files["/nar/new"] = made.nar
        command = Substitute(made.item.path, str(tmp_path / "item"))
        [reply] = machine.run([command], server.url)
        assert reply.startswith(b"success ")
        assert narinfos_asked(server) == 2
        # And that is what is known from now on.
        [reply] = machine.run([replace(command, destination=str(tmp_path / "two"))], server.url)
        assert reply.startswith(b"success ")
        assert narinfos_asked(server) == 2


@pytest.mark.parametrize("now", ["the same", "gone", "down"])
def test_a_server_is_asked_anew_once(
    now: str, machine: Machine, made: Made, tmp_path: Path
) -> None:
    with running_server() as server:
        publish(server, made)
        assert machine.has(made, server.url)
        del server.files[f"/nar/{made.item.base_name}"]
        if now == "gone":
            del server.files[f"/{made.item.hash_part}.narinfo"]
        if now == "down":
            server.close()
        command = Substitute(made.item.path, str(tmp_path / "item"))
        assert machine.run([command], server.url) == [b"not-found\n"]
        if now != "down":
            assert narinfos_asked(server) == 2
            assert server.requests.count(f"/nar/{made.item.base_name}") == 1
            assert machine.run([command], server.url) == [b"not-found\n"]
            assert narinfos_asked(server) == 3


def test_what_was_not_there_and_is_there_now(machine: Machine, made: Made, tmp_path: Path) -> None:
    """The daemon asks to fetch it, so that somebody has heard of it."""
    with running_server() as server:
        assert not machine.has(made, server.url)
        publish(server, made)
        [reply] = machine.run([Substitute(made.item.path, str(tmp_path / "item"))], server.url)
        assert reply.startswith(b"success ")


def test_another_build_under_the_same_name(machine: Machine, made: Made, tmp_path: Path) -> None:
    """What is published changes its hash, as when it was built anew, and not its place."""
    other = replace(made, item=replace(made.item, nar_hash=bytes(32)))
    with running_server() as server:
        publish(server, other)
        assert machine.has(made, server.url)
        publish(server, made)
        [reply] = machine.run([Substitute(made.item.path, str(tmp_path / "item"))], server.url)
        assert reply.startswith(b"success ")


def test_a_server_of_nars_that_is_not_there_is_asked_last(
    machine: Machine, made: Made, tmp_path: Path
) -> None:
    with running_server() as server, running_server() as good:
        with running_server() as gone:
            url = gone.url
        publish(server, made, NarUrl(f"{url}/nar", "none", None, None))
        publish(good, made)
        commands = [Substitute(made.item.path, str(tmp_path / name)) for name in ("one", "two")]
        replies = machine.run(commands, server.url, good.url)
        assert all(reply.startswith(b"success ") for reply in replies)
        assert machine.messages.count("Connection refused") == 1


def test_a_server_in_trouble_is_told_of_once(machine: Machine, tmp_path: Path) -> None:
    paths = [f"{STORE}/{digit * 32}-item" for digit in "0123"]
    with running_server() as server:
        for path in paths:
            server.files[f"/{path[len(STORE) + 1 :][:32]}.narinfo"] = Reply(b"", 401)
        commands = [Substitute(path, str(tmp_path / "item")) for path in paths]
        assert machine.run(commands, server.url) == [b"not-found\n"] * 4
        assert narinfos_asked(server) == 4
        assert machine.messages.count("the server answers 401") == 1


# --- the program ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["option", "environment", "wrong"])
def test_the_program_keeps_them_where_it_is_told(way: str, made: Made, tmp_path: Path) -> None:
    command = f"have {made.item.path} \n".encode()
    with running_server() as server, configuration() as config:
        publish(server, made)
        environment = program_environment(config, f"substitute-urls={server.url}")
        place = tmp_path / "deep/narinfos"
        arguments = ["--query"]
        if way == "option":
            arguments += ["--narinfo-cache", str(place)]
        else:
            environment["KAPLA_NARINFO_CACHE"] = str(place) if way == "environment" else "relative"
        found = run_program(arguments, command, environment).replies
        assert found == f"{made.item.path}\n\n".encode()
        again = run_program(arguments, command, environment)
        assert again.replies == found
        assert narinfos_asked(server) == (2 if way == "wrong" else 1)
        assert ("narinfos are not kept" in again.messages) is (way == "wrong")
