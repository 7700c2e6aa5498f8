"""A LAN of machines, each with a daemon, a proxy and a Nix of its own, behind one line to a server.

The line is that of the router to what is outside; its bytes are counted by the kernel. Whatever is
asked for out there crosses it, and what goes from machine to machine does not.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from benchmarks.network.namespaces import file_of, inside, run, within
from guix_glue.formats.store_path import fixed_output_path
from guix_glue.local.archive import nar_hash
from tests.eris_fs.trees import read_back
from tests.guix_glue.proxy.running import ALONE
from tests.guix_glue.publish.support import Publisher
from tests.integration.daemon import GUARD_S, wait_until
from tests.integration.lan.sites import Host, HostDaemon, Site, Sites
from tests.integration.nix_programs import nix
from tests.integration.test_lan import connected
from tests.integration.test_peers import stat
from tests.loaded import Forked

__all__ = ["Machine", "Outside", "Wares"]

# Addresses of the world, as a seed gives away only what servers of the world have. Nothing of it
# leaves the namespaces.
_SERVER: Final = "44.77.0.2"
_ROUTER: Final = "44.77.0.1"
_RATE: Final = "20mbit"
_PORT: Final = 8181


class Wares:
    """Items that refer to each other, made up, and the key that they are signed with."""

    def __init__(self, directory: Path, sizes: Sequence[int]) -> None:
        self.items = directory / "items"
        self.items.mkdir()
        self.store_dir = directory / "nix" / "store"
        self.paths: list[str] = []
        self.trees: list[Path] = []
        made = random.Random(5)
        references = []
        for number, size in enumerate(sizes):
            tree = self.items / f"ware{number}"
            (tree / "bin").mkdir(parents=True)
            (tree / "bin" / "run").write_bytes(made.randbytes(size))
            (tree / "text").write_text(f"{number} words of no weight\n" * 2000)
            digest, _ = nar_hash(str(tree))
            self.paths.append(
                fixed_output_path(str(self.store_dir), tree.name, digest, recursive=True)
            )
            self.trees.append(tree)
            if number:
                references.append(f'[ware{number}]\nreferences = ["ware{number - 1}"]\n')
        (self.items / "items.toml").write_text("".join(references))
        secret = self._nix(directory, "generate-secret", "--key-name", "outside-1")
        self.secret = directory / "secret"
        self.secret.write_text(secret)
        self.public = self._nix(directory, "convert-secret-to-public", stdin=secret).strip()

    @property
    def top(self) -> str:
        """The item that refers to all others."""
        return self.paths[-1]

    def _nix(self, home: Path, *arguments: str, stdin: str = "") -> str:
        done = nix(home, "nix", "key", *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout


class Outside:
    """A server of substitutes and a daemon that lends, out there."""

    def __init__(self, made: Sites, site: Site, directory: Path, wares: Wares) -> None:
        self.site = site
        self.wares = wares
        self.namespace = made.namespace("outside")
        self._plug_in()
        self.host = Host(self.namespace, 0)
        self.daemon = HostDaemon(self.host, directory, "", "coaps+tcp://0.0.0.0:0")
        self.publisher = Publisher(
            [
                *("--items", wares.items, "--store-dir", wares.store_dir),
                *("--nix-key", wares.secret, "-C", "zstd:1", "--cache", directory / "cache"),
                *("--listen", "0.0.0.0", "--port", str(_PORT)),
                *(f"--eris={self.daemon.url}", "--eris-level", "1", "--deltas", "0"),
            ],
            {},
            network=file_of(self.namespace),
        )

    def start(self) -> None:
        """Have all items baked."""
        self.daemon.start()
        self.publisher.start()
        wait_until(self._is_baked, "all items in blocks")

    def close(self) -> None:
        """End both."""
        self.publisher.close()
        self.daemon.kill()

    @property
    def url(self) -> str:
        """The server, for the machines."""
        return f"http://{_SERVER}:{_PORT}"

    @property
    def peer(self) -> str:
        """The daemon, for theirs."""
        return f"coaps+tcp://{_SERVER}:{self.daemon.tls_port}#{self.daemon.key}"

    @property
    def one_copy(self) -> int:
        """Bytes of all blocks."""
        blocks = stat(self.daemon)["blocks"]
        return sum(int(size) * int(count) for size, count in blocks.items())

    def crossed(self) -> int:
        """Bytes that have come in over the line so far, all headers included."""
        shown = run("ip", "-n", self.site.namespace, "-s", "-j", "link", "show", "dev", "outside")
        return int(json.loads(shown)[0]["stats64"]["rx"]["bytes"])

    def _is_baked(self) -> bool:
        with inside(self.namespace):
            told = [
                self.publisher.request(f"/{Path(path).name[:32]}.narinfo").narinfo(
                    str(self.wares.store_dir)
                )
                for path in self.wares.paths
            ]
        return all(one.hint_urn is not None for one in told)

    def _plug_in(self) -> None:
        router, there = self.site.namespace, self.namespace
        add = ("ip", "-n", there, "link", "add", "eth0", "type", "veth", "peer", "name")
        run(*add, "outside", "netns", router)
        for name, device, address in (
            (router, "outside", _ROUTER),
            (there, "eth0", _SERVER),
        ):
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", device)
            run("ip", "-n", name, "link", "set", "dev", device, "up")
            shaped = ("tc", "-n", name, "qdisc", "add", "dev", device, "root", "tbf")
            run(*shaped, "rate", _RATE, "burst", "64kb", "latency", "50ms")
        run("ip", "-n", there, "route", "add", "default", "via", _ROUTER)


class Machine:
    """One of the LAN. `has_store`: its items are where their paths say, so that it can seed."""

    def __init__(
        self, host: Host, directory: Path, outside: Outside, *, has_store: bool = False
    ) -> None:
        self.host = host
        self.directory = directory
        self.wares = outside.wares
        self.daemon = HostDaemon(host, directory, _settings(outside), "coaps+tcp://0.0.0.0:0")
        self.cache = directory / "cache"
        self.proxy = Publisher(
            [
                *("--upstream", outside.url, "--port", "0", "--cache", self.cache),
                *("--trusted-public-keys", self.wares.public),
                *("--eris-store-url", self.daemon.url),
            ],
            ALONE,
            network=file_of(host.namespace),
            command="proxy",
        )
        self._root = None if has_store else directory / "root"
        self._home = directory / "home"
        self._home.mkdir()
        store = self.wares.store_dir
        self.environment = {
            "NIX_STORE_DIR": str(store),
            "NIX_STATE_DIR": str(store.parent / "var"),
            "NIX_LOG_DIR": str(store.parent / "log"),
            "NIX_CONF_DIR": "/nowhere",
            "XDG_CACHE_HOME": str(directory / "xdg"),
        }

    def start(self) -> None:
        """Start daemon and proxy."""
        self.daemon.start()
        self.proxy.start()

    def close(self) -> None:
        """End them."""
        self.proxy.close()
        self.daemon.kill()

    def realise(self) -> None:
        """Have stock Nix get everything from the proxy."""
        store = () if self._root is None else ("--store", self._root)
        done = nix(
            self._home,
            *within(self.host.namespace, "nix-store", *store),
            *("--option", "substituters", self.proxy.url),
            *("--option", "trusted-public-keys", self.wares.public),
            *("--realise", self.wares.top),
            env=self.environment | {"NIX_REMOTE": "local"},
        )
        assert done.returncode == 0, (done.stderr, self.proxy.log, self.daemon.log)

    def has_all(self) -> bool:
        """Whether all items are there, and as they should be."""
        store = self.wares.store_dir if self._root is None else self._root / "nix" / "store"
        places = [store / Path(path).name for path in self.wares.paths]
        pairs = zip(self.wares.trees, places, strict=True)
        return all(read_back(tree) == read_back(place) for tree, place in pairs)

    def forget_blocks(self, *others: Machine) -> None:
        """Start the daemon again without any block, as if there had been no room for them.

        `others` have noticed by then that it was gone.
        """
        self.daemon.stop()
        for file in self.daemon.store.parent.glob(f"{self.daemon.store.name}*"):
            file.unlink()

        def is_missed() -> bool:
            return all(self.daemon.key not in connected(one.daemon) for one in others)

        wait_until(is_missed, "its end")
        self.daemon.start()
        assert not any(stat(self.daemon)["blocks"].values())

    def until_it_finds(self, other: Machine) -> None:
        """Wait until its daemon is connected to that of another."""
        wait_until(lambda: other.daemon.key in connected(self.daemon), "another machine")

    @contextmanager
    def seeding(self) -> Iterator[None]:
        """Give away what Nix has here, from when all of it is known, and how it was packed."""
        index = self.directory / "index"
        arguments = [
            *("seed", "--store", self.wares.store_dir, "--index", index),
            *("--public-items", self.cache / "public" / "items"),
            *("--eris-store-url", self.daemon.url),
        ]
        seed = Forked(
            "kapla",
            [str(one) for one in arguments],
            {},
            env={**os.environ, **self.environment},
            network=file_of(self.host.namespace),
        )

        def is_ready() -> bool:
            assert seed.poll() is None, "the seed has ended"
            with suppress(FileNotFoundError):
                told = json.loads((index / "status.json").read_text())
                return bool(told["packed"] == len(self.wares.paths) and told["connected"])
            return False

        try:
            wait_until(is_ready, "the seed")
            yield
        finally:
            seed.send_signal(signal.SIGTERM)
            assert seed.wait(GUARD_S) == 0


def _settings(outside: Outside) -> str:
    return (
        'advertise = true\ndiscover = "lan"\n'
        f'discover-networks = ["{outside.site.entry}"]\n'
        f'[[peers]]\nurl = "{outside.peer}"\n'
    )
