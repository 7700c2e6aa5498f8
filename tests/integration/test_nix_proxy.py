"""Real Nix fetches its substitutes through `kapla proxy`, and through a mirror."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from guix_glue.formats.narinfo import NarUrl, format_narinfo, format_unsigned
from guix_glue.formats.store_path import fixed_output_path, parse_hash
from guix_glue.local.archive import nar_hash
from guix_glue.model import StoreItem
from guix_glue.trust.nix_keys import NixSecretKey
from tests.eris_fs.trees import read_back
from tests.guix_glue.fetch.fakes import FakeServer, running_server, scripted_server
from tests.guix_glue.proxy.running import ALONE, proxying
from tests.guix_glue.publish.support import Publisher, nar_of, publishing
from tests.integration.daemon import Daemon, running_daemon, wait_until
from tests.integration.nix_programs import nix
from tests.integration.test_nix import GREETING, WORDS, Published

pytestmark = pytest.mark.skipif(shutil.which("nix-store") is None, reason="Nix is not installed")

DEAD = "http://127.0.0.1:1"


def dripping(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        with suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nStore")


def digest_of(text: str) -> bytes:
    """A hash as Nix writes it, in one way or the other."""
    kind, _, digits = text.partition("-")
    return b64decode(digits) if kind == "sha256" else parse_hash(text)


@dataclass
class Client:
    """A Nix with a store, and a memory, of its own."""

    directory: Path
    server: Publisher
    published: Published

    def nix(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        (self.directory / "home").mkdir(parents=True, exist_ok=True)
        return nix(self.directory / "home", *arguments)

    def ask(self) -> None:
        """Have the narinfos of all items, which Nix remembers."""
        path = self.published.paths["greeting"]
        done = self.nix("nix", "path-info", "-r", "--store", self.server.url, path)
        assert done.returncode == 0, done.stderr + self.server.log
        assert set(done.stdout.split()) == set(self.published.paths.values())

    def realise(self, path: str | None = None, url: str | None = None) -> None:
        """Have an item, the greeting unless another is named, and what it refers to."""
        done = self.nix(
            *("nix-store", "--store", self.directory / "root"),
            *("--option", "substituters", url or self.server.url),
            *("--option", "trusted-public-keys", self.published.public),
            *("--realise", path or self.published.paths["greeting"]),
        )
        assert done.returncode == 0, done.stderr + self.server.log

    def item(self, name: str) -> Path:
        """Where an item is, once it is there."""
        return self.directory / "root" / self.published.paths[name][1:]

    def has_all(self) -> bool:
        """Whether all items are there, and as they should be."""
        greeting, words = self.item("greeting"), self.item("words")
        return read_back(greeting) == GREETING and read_back(words) == WORDS


@dataclass
class Stage:
    """A publisher whose items are in a daemon's store too, two servers more, and a proxy of all."""

    published: Published
    daemon: Daemon
    origin: Publisher
    others: tuple[FakeServer, FakeServer]
    proxy: Publisher
    cache: Path

    def client(self, tmp_path: Path, name: str = "client") -> Client:
        return Client(tmp_path / name, self.proxy, self.published)


@contextmanager
def relaying(port: int, after: int, act: Callable[[], object]) -> Iterator[str]:
    """A way to a server of this machine; once so many bytes came back something is done."""
    came = 0

    def serve(connection: socket.socket) -> None:
        nonlocal came
        with socket.create_connection(("127.0.0.1", port)) as server:
            threading.Thread(target=_pass_on, args=(connection, server), daemon=True).start()
            while data := server.recv(1 << 16):
                before, came = came, came + len(data)
                if before < after <= came:
                    act()
                connection.sendall(data)

    with scripted_server(serve) as url:
        yield url
    assert came >= after


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("nix"))


@pytest.fixture(scope="module")
def large(published: Published) -> str:
    """The path of an item that does not fit into what is under way."""
    file = published.items / "large"
    file.write_bytes(random.Random(0).randbytes(24_000_000))
    return fixed_output_path("/nix/store", "large", nar_hash(str(file))[0], recursive=True)


def trusting(published: Published) -> tuple[str, ...]:
    return ("--trusted-public-keys", published.public)


def baked(origin: Publisher, paths: Sequence[str]) -> None:
    """Wait until all items are in the store of blocks."""

    def is_baked() -> bool:
        told = [origin.request(f"/{path[11:43]}.narinfo").narinfo("/nix/store") for path in paths]
        return all(one.hint_urn is not None for one in told)

    wait_until(is_baked, "all trees")


@pytest.fixture(scope="module")
def stage(
    published: Published, large: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("stage")
    with ExitStack() as stack:
        daemon = stack.enter_context(running_daemon(directory))
        items = ("--items", published.items, "--nix-key", published.secret, "-C", "zstd:1")
        eris = (f"--eris={daemon.url}", "--eris-level", "1", "--deltas", "0", "--ttl", "1d")
        (directory / "origin").mkdir()
        origin = stack.enter_context(publishing(directory / "origin", *items, *eris))
        baked(origin, [*published.paths.values(), large])
        slow = stack.enter_context(scripted_server(dripping))
        others = stack.enter_context(running_server()), stack.enter_context(running_server())
        for server in others:
            server.files["/nix-cache-info"] = b"StoreDir: /nix/store\nWantMassQuery: 1\n"
        proxy = stack.enter_context(
            proxying(
                directory,
                [DEAD, slow, *(server.url for server in others), origin.url],
                *trusting(published),
                *("--eris-store-url", daemon.url, "--request-log", directory / "requests"),
            )
        )
        yield Stage(published, daemon, origin, others, proxy, directory / "cache")


def test_the_daemon_is_killed_in_the_middle(stage: Stage, large: str, tmp_path: Path) -> None:
    """What was found to be the item goes out as it comes; the rest then comes from the server."""
    stage.client(tmp_path, "before").realise(large)
    with relaying(stage.proxy.port, 4_000_000, stage.daemon.kill) as url:
        client = stage.client(tmp_path)
        try:
            client.realise(large, url)
        finally:
            stage.daemon.start()
    stage.proxy.wait_for_log("large cannot be had from blocks")
    assert nar_hash(str(client.directory / "root" / large[1:]))[1] > 24_000_000


def test_a_closure_out_of_blocks_with_the_servers_switched_off(
    stage: Stage, tmp_path: Path
) -> None:
    """The daemon was away a moment ago, and is left alone while there is any other way."""
    client = stage.client(tmp_path)
    client.ask()
    stage.origin.stop()
    try:
        client.realise()
        assert client.has_all()
        # What was verified is known; another machine asks for the narinfos while nobody answers.
        another = stage.client(tmp_path, "another")
        another.ask()
        another.realise()
        assert another.has_all()
    finally:
        stage.origin.arguments += ["--port", str(stage.origin.port)]
        stage.origin.start()


def test_copying_asks_by_head_first(stage: Stage, tmp_path: Path) -> None:
    client = stage.client(tmp_path)
    done = client.nix(
        *("nix", "copy", "--from", stage.proxy.url, "--to", client.directory / "root"),
        *("--option", "trusted-public-keys", stage.published.public),
        stage.published.paths["greeting"],
    )
    assert done.returncode == 0, done.stderr
    assert client.has_all()


def test_nix_is_told_to_ask_the_proxy_first(stage: Stage) -> None:
    told = stage.proxy.request("/nix-cache-info").body.decode()
    assert told == "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n"
    assert "nix.conf" in stage.proxy.request("/").body.decode()
    assert stage.proxy.request("/signing-key.pub").status == 404


def test_servers_that_disagree_and_a_proxy_that_forgets(stage: Stage, tmp_path: Path) -> None:
    """What Nix was told of an item it gets, whoever has it and whatever the proxy knows by then."""
    secret = NixSecretKey.parse(stage.published.secret.read_text())
    path = f"/nix/store/{'0' * 32}-both"
    for server, content in zip(stage.others, (b"one build\n", b"another build\n"), strict=True):
        file = tmp_path / "file"
        file.write_bytes(content)
        item = StoreItem(path, *nar_hash(str(file)), ())
        nar = NarUrl(f"nar/{item.base_name}", "none", item.nar_size)
        signatures = [secret.sign(item)]
        text = format_narinfo(format_unsigned(item), None, [nar], nix_signatures=signatures)
        server.files[f"/{item.hash_part}.narinfo"] = text
        server.files[f"/{nar.url}"] = nar_of(file)
    client = stage.client(tmp_path)
    done = client.nix("nix", "path-info", "--json", "--store", stage.proxy.url, path)
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)
    stage.proxy.stop()
    shutil.rmtree(stage.cache)
    stage.proxy.arguments += ["--port", str(stage.proxy.port)]
    stage.proxy.start()
    client.realise(path)
    found = nar_hash(str(client.directory / "root" / path[1:]))
    assert found == (digest_of(told["narHash"]), told["narSize"])


def test_a_mirror_of_what_only_nix_signed(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    with publishing(
        tmp_path / "mirror",
        *("--upstream", stage.origin.url, "--store-dir", "/nix/store", "--keep-nars"),
        *trusting(stage.published),
        env=ALONE,
    ) as mirror:
        client = Client(tmp_path / "client", mirror, stage.published)
        client.realise()
        assert client.has_all()
        path = stage.published.paths["words"]
        told = mirror.request(f"/{path[11:43]}.narinfo").narinfo("/nix/store")
        assert told.nix_signatures
        assert told.signed_text is None
