"""`kapla substitute --discover` on a local network of namespaces, with publishers and liars."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.network import Network
from guix_glue.fetch.nearby import MAX_NEARBY
from guix_glue.formats.store_path import format_hash
from tests.guix_glue.fetch.support import (
    STORE,
    Made,
    assert_canonical,
    configuration,
    make_item,
    make_tree,
    program_environment,
)
from tests.guix_glue.lan import Announced, address_of, announcing, lan, selfish_responder
from tests.guix_glue.publish.support import KEYS, Publisher, publishing
from tests.integration.daemon import GUARD_S, program, wait_until

# A busy machine may be slow to answer; found servers have a fifth of it.
PATIENT = ("--server-timeout", "50", "--nar-timeout", "100")
# Longer than the program looks around.
SEARCH_S = 10.0


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with lan() as made:
        yield made


class Fetching(NamedTuple):
    """Somebody on the desk who fetches items."""

    net: Network
    config: Path

    def run(
        self,
        mode: str,
        command: str,
        *arguments: str,
        options: str = "substitute-urls=",
        **env: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run the program with one command."""
        with self.running(mode, *arguments, options=options, **env) as process:
            output, errors = process.communicate(command, 2 * GUARD_S)
        assert process.returncode == 0
        assert "Traceback" not in errors, errors
        return subprocess.CompletedProcess(process.args, 0, output, errors)

    @contextmanager
    def running(
        self, mode: str, *arguments: str, options: str = "substitute-urls=", **env: str
    ) -> Iterator[subprocess.Popen[str]]:
        """The program under way; killed at the end if it is still there."""
        environment = program_environment(self.config, options)
        environment |= {"KAPLA_NARINFO_CACHE": str(self.config / "cache"), "ERIS_STORE_URL": "none"}
        kapla = (program("kapla"), "substitute", f"--{mode}", "--reply-fd=1", *PATIENT, *arguments)
        process = subprocess.Popen(
            self.net.host("desk").command(*kapla),
            env=environment | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def search(self) -> None:
        """Look around as long as a client of the daemon may, or until something is found."""
        noted = self.config / "cache/nearby"
        with self.running("query", "--discover") as process:
            assert process.stdin
            process.stdin.write(f"have {STORE}/{32 * '0'}-nothing \n")
            process.stdin.flush()
            end = time.monotonic() + SEARCH_S
            pause = threading.Event()
            while not (noted.exists() and noted.read_text()) and time.monotonic() < end:
                pause.wait(0.02)

    def has(self, made: Made, *arguments: str, **env: str) -> bool:
        """Whether the item can be had."""
        done = self.run("query", f"have {made.item.path} \n", *arguments, **env)
        assert done.stdout in ("\n", f"{made.item.path}\n\n")
        return done.stdout != "\n"

    def wait(self, made: Made) -> None:
        """Wait until the network shows that the item can be had."""
        self.wait_until(lambda: self.has(made, "--discover"), "it to be found")

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Look around until something shows."""

        def shows() -> bool:
            self.search()
            return is_so() or self.forget()

        wait_until(shows, what)

    def forget(self) -> bool:
        """Be as if nothing had been looked for; False, for it is not found."""
        (self.config / "cache/nearby").unlink(missing_ok=True)
        return False


@pytest.fixture
def fetching(net: Network) -> Iterator[Fetching]:
    with configuration() as config:
        yield Fetching(net, config)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("item") / "tree"
    make_tree(root)
    return make_item(root)


@pytest.fixture(scope="module")
def publisher(
    net: Network, made: Made, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Publisher]:
    """One on the sofa that advertises the item."""
    place = tmp_path_factory.mktemp("publisher")
    (place / "items").mkdir()
    made.root.rename(place / "items" / made.item.base_name)
    arguments = ("--items", place / "items", *KEYS, "--listen", "0.0.0.0", "--advertise")
    with publishing(place, *arguments, prefix=net.host("sofa").command()) as one:
        one.wait_for_log("Advertising")
        yield one


def assert_fetched(fetching: Fetching, made: Made, destination: Path, **more: str) -> str:
    done = fetching.run(
        "substitute", f"substitute {made.item.path} {destination}\n", "--discover", **more
    )
    item = made.item
    assert done.stdout == f"success {format_hash(item.nar_hash)} {item.nar_size}\n", done.stderr
    assert_canonical(destination, item.nar_hash, item.nar_size)
    return done.stderr


def test_a_publisher_is_found_and_gives_what_it_has(
    fetching: Fetching, made: Made, publisher: Publisher, tmp_path: Path
) -> None:
    fetching.wait(made)
    url = f"http://{address_of('sofa')}:{publisher.port}"
    # The next process need not look.
    assert (fetching.config / "cache/nearby").read_text() == f"{url}\n"
    assert url in assert_fetched(fetching, made, tmp_path / "item")
    # Unless asked for nobody is found; the environment can ask, and what is given counts more.
    assert not fetching.has(made)
    assert fetching.has(made, KAPLA_DISCOVER_SERVERS="1")
    assert not fetching.has(made, KAPLA_DISCOVER_SERVERS="perhaps")
    assert not fetching.has(made, "--no-discover", KAPLA_DISCOVER_SERVERS="1")


def test_what_guix_discover_has_found_is_asked(
    fetching: Fetching, made: Made, publisher: Publisher, tmp_path: Path
) -> None:
    noted = tmp_path / "discover/publish"
    noted.parent.mkdir()
    noted.write_text(f"http://{address_of('sofa')}:{publisher.port}\n")
    env = {"options": "substitute-urls=\ndiscover=true", "GUIX_STATE_DIRECTORY": str(tmp_path)}
    assert fetching.has(made, **env)
    # Nobody looked.
    assert not (fetching.config / "cache").exists()
    assert not fetching.has(made, "--no-discover", **env)
    # What the daemon's program has found is enough, though it be nothing.
    noted.write_text("")
    assert not fetching.has(made, "--discover", **env)


def test_hostile_announcements_change_nothing(
    fetching: Fetching, made: Made, publisher: Publisher, tmp_path: Path
) -> None:
    lies: list[Announced] = [
        ("nobody-there", "192.168.77.200", 8080),
        ("port-zero", "192.168.77.200", 0),
        ("no-address", "", 80),
        ("loopback", "127.0.0.1", 80),
        ("yourself", address_of("desk"), 80),
        ("group", "224.0.0.251", 80),
        ("escape %1b[31m é☠", "192.168.77.201", 80),
        ("refusing", address_of("bed"), 1),
        *((f"silent-{number}", "", 80) for number in range(40)),
    ]
    with announcing(fetching.net.host("bed"), lies):
        fetching.wait(made)
        messages = assert_fetched(fetching, made, tmp_path / "item")
        assert "escape" not in messages
        noted = (fetching.config / "cache/nearby").read_text()
    assert re.fullmatch(r"(http://192\.168\.77\.[0-9]+(:[0-9]+)?\n)+", noted)
    assert f"http://{address_of('desk')}" not in noted.splitlines()


def test_an_address_that_is_on_no_network_of_ours_is_not_asked(
    fetching: Fetching, made: Made
) -> None:
    # There is a way to everywhere.
    route = ("ip", "route", "replace", "default", "via", address_of("bed"))
    subprocess.run(fetching.net.host("desk").command(*route), check=True, timeout=GUARD_S)
    near, file = f"http://{address_of('bed')}:1\n", fetching.config / "cache/nearby"
    lies = [("elsewhere", "203.0.113.9", 80), ("near", address_of("bed"), 1)]

    # Both are told of in one packet.
    with announcing(fetching.net.host("bed"), lies):
        fetching.wait_until(lambda: near in file.read_text(), "the other one")
    assert "203.0.113.9" not in file.read_text()


def test_a_thousand_servers_hide_none_that_is_named(
    fetching: Fetching, made: Made, publisher: Publisher, tmp_path: Path
) -> None:
    crowd: list[Announced] = [
        (f"crowd-{number}", f"192.168.77.{100 + number % 100}", 1000 + number)
        for number in range(1000)
    ]
    url = f"http://{address_of('sofa')}:{publisher.port}"
    with announcing(fetching.net.host("bed"), crowd):
        noted = fetching.config / "cache/nearby"
        fetching.wait_until(lambda: noted.read_text() != "", "some of them to be found")
        assert len(noted.read_text().splitlines()) <= MAX_NEARBY
        options = f"substitute-urls={url}"
        messages = assert_fetched(fetching, made, tmp_path / "item", options=options)
    # At most: refused, no way there, not in time, and whatever else can happen to one.
    assert messages.count("warning") <= 4


def test_who_has_gone_is_not_asked_any_more(
    fetching: Fetching, made: Made, publisher: Publisher
) -> None:
    fetching.wait(made)
    assert publisher.stop() == 0
    # What was noted is not there: that is a word, and no more.
    assert not fetching.has(made, "--discover")
    fetching.forget()
    done = fetching.run("query", f"have {made.item.path} \n", "--discover")
    assert (done.stdout, done.stderr) == ("\n", "")
    publisher.start()
    publisher.wait_for_log("Advertising")


def test_a_stranger_is_not_believed(net: Network, fetching: Fetching, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    subprocess.run([program("kapla"), "signing-key", "generate", keys], check=True, timeout=GUARD_S)
    (tmp_path / "items").mkdir()
    lie = tmp_path / "items" / f"{32 * '0'}-lie"
    lie.write_text("a lie")
    own = ("--public-key", keys / "signing-key.pub", "--private-key", keys / "signing-key.sec")
    arguments = ("--items", lie.parent, *own, "--listen", "0.0.0.0", "--advertise")
    with publishing(tmp_path, *arguments, prefix=net.host("bed").command()) as publisher:
        publisher.wait_for_log("Advertising")
        url = f"http://{address_of('bed')}:{publisher.port}"

        def is_refused() -> bool:
            done = fetching.run("query", f"have {STORE}/{lie.name} \n", "--discover")
            assert done.stdout == "\n"
            return f"the narinfo of {url}: its key is not in the access list" in done.stderr

        fetching.wait_until(is_refused, "it to be found")


def test_where_nothing_can_be_found_that_is_said(fetching: Fetching, made: Made) -> None:
    with selfish_responder(fetching.net.host("desk")):
        done = fetching.run("query", f"have {made.item.path} \n", "--discover")
    assert done.stdout == "\n"
    assert "servers of the local network are not found: Address already in use" in done.stderr
