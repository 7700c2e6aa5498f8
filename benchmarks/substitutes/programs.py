"""The programs that take part, each as it is installed: daemons, publishers, and the fetcher.

The fetcher is spoken to as the Guix daemon does it: a new process for each build, commands on its
standard input, replies on a pipe. It is timed from its start to the line that says `success`.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

from benchmarks.substitutes.items import Item
from guix_glue.formats.narinfo import Narinfo, parse_narinfo

__all__ = [
    "HERE",
    "PROGRAMS",
    "Fetch",
    "Fetcher",
    "Here",
    "Offer",
    "Place",
    "Publication",
    "Server",
    "Store",
    "block_bytes",
    "kaplad",
    "make_keys",
    "offers",
    "peak_mib",
    "publish",
    "running",
    "told",
]

PROGRAMS: Final = Path(sys.executable).parent
_PATIENCE_S: Final = 600
_LOOK_S: Final = 0.02
_STORE_DIR: Final = "/gnu/store"


class Place(Protocol):
    """Where programs run: this machine, or one end of a link."""

    @property
    def address(self) -> str: ...

    def command(self, *arguments: str | Path) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Here:
    """This machine, by its loopback."""

    address: str = "127.0.0.1"

    def command(self, *arguments: str | Path) -> list[str]:
        return [str(argument) for argument in arguments]


HERE: Final = Here()


@dataclass(frozen=True, slots=True)
class Publication:
    """A way to publish: what it is called, the options, and whether blocks are made.

    With `deltas` the directory of items is the store, and what is in it counts as installed.
    """

    label: str
    options: tuple[str, ...]
    eris: bool
    deltas: bool = False

    @property
    def cache(self) -> str:
        return self.label.replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Store:
    """A daemon: its sockets, and its process."""

    url: str
    tcp_url: str
    process: int


@dataclass(frozen=True, slots=True)
class Server:
    """A publisher."""

    url: str
    port: int
    process: int
    store_dir: str
    deltas: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """What a narinfo offers when it is complete: a URN, URNs of deltas, a nar of so many bytes."""

    urn: str | None
    deltas: tuple[str, ...]
    nar_bytes: int


def _environment(**more: str) -> dict[str, str]:
    # As installed: with its bytecode, which the first start writes.
    return os.environ | {"PYTHONDONTWRITEBYTECODE": ""} | more


@contextmanager
def running(command: list[str], log: Path, listening: str) -> Iterator[tuple[int, str]]:
    """Run a server until the context ends; gives its process and what `listening` finds."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=_environment()
        )
    try:
        while not (found := re.search(listening, log.read_text())):
            if process.poll() is not None:
                raise RuntimeError(f"{command} did not start: {log.read_text()}")
            time.sleep(_LOOK_S)
        yield process.pid, found[1]
    finally:
        process.terminate()
        process.wait()


@contextmanager
def kaplad(place: Place, directory: Path) -> Iterator[Store]:
    """Start a daemon with the store in a directory, for this place and for a Unix socket."""
    directory.mkdir(exist_ok=True)
    url = f"coap+unix://{directory}/s"
    command = place.command(PROGRAMS / "kaplad", "--store", directory / "b.sqlite")
    command += ["--listen", url, "--listen", f"coap+tcp://{place.address}:0?get"]
    listening = r"Listening on TCP.*:(\d+)"
    with running(command, directory / "log", listening) as (process, port):
        yield Store(url, f"coap+tcp://{place.address}:{port}", process)


def make_keys(directory: Path) -> None:
    """Make a key pair in `directory`/keys, and an access list that accepts it in `directory`."""
    directory.mkdir()
    told("signing-key", "generate", directory / "keys")
    public = directory / "keys" / "signing-key.pub"
    told("signing-key", "authorize", "--acl", directory / "acl", public)


@contextmanager
def publish(
    place: Place,
    publication: Publication,
    *,
    items: Path,
    cache: Path,
    keys: Path,
    store: str | None = None,
    store_dir: str = _STORE_DIR,
) -> Iterator[Server]:
    """Start `kapla publish` with a cache of its own for each way; `store` is for blocks."""
    cache.mkdir(parents=True, exist_ok=True)
    command = place.command(PROGRAMS / "kapla", "publish", "--items", items)
    command += ["--cache", str(cache / publication.cache), *publication.options]
    command += ["--public-key", f"{keys}/keys/signing-key.pub"]
    command += ["--private-key", f"{keys}/keys/signing-key.sec"]
    command += ["--listen", place.address, "--port", "0"]
    if publication.eris:
        command.append(f"--eris={store or ''}")
        # Where there can be none, to say so is refused.
        if store and "standard" not in publication.options:
            command += ["--deltas", str(int(publication.deltas))]
    if publication.deltas:
        store_dir = str(items)
    command += ["--store-dir", store_dir]
    log = cache / f"{publication.cache}.log"
    with running(command, log, r"Listening on http://[\d.]+:(\d+)") as (process, port):
        url = f"http://{place.address}:{port}"
        yield Server(url, int(port), process, store_dir, publication.deltas)


def offers(server: Server, items: Sequence[Item]) -> list[Offer]:
    """Ask for the narinfos of items until each is complete. Only of a publisher that is here."""
    waiting = dict(enumerate(items))
    found: dict[int, Offer] = {}
    connection = http.client.HTTPConnection(HERE.address, server.port, timeout=_PATIENCE_S)
    end = time.monotonic() + _PATIENCE_S
    while waiting:
        for number, item in list(waiting.items()):
            connection.request("GET", f"/{item.hash_part}.narinfo")
            reply = connection.getresponse()
            text = reply.read()
            if reply.status != 200:
                raise RuntimeError(f"no narinfo of {item.label}: {reply.status}")
            # While anything is missing a narinfo says how soon to ask again.
            if "Cache-Control" not in reply.headers:
                found[number] = _offer(parse_narinfo(text, store_dir=server.store_dir))
                del waiting[number]
        if time.monotonic() > end:
            raise RuntimeError("items are not baked")
        if waiting:
            time.sleep(_LOOK_S)
    connection.close()
    return [found[number] for number in range(len(items))]


def _offer(narinfo: Narinfo) -> Offer:
    sizes = [url.file_size for url in narinfo.urls if url.file_size is not None]
    deltas = tuple(line.urn for line in narinfo.signed_deltas)
    return Offer(narinfo.signed_urn, deltas, min(sizes, default=0))


def told(*arguments: str | Path) -> str:
    """What a `kapla` command says."""
    command = [str(PROGRAMS / "kapla"), *map(str, arguments)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=_environment()
    )
    return done.stdout.strip()


def block_bytes(store: str, urn: str, against: str | None = None) -> int:
    """The bytes of a tree's distinct blocks, or of those that another tree lacks."""
    old = () if against is None else ("--against", against)
    facts = json.loads(told("info", "--json", "--store-url", store, urn, *old))
    return int(facts["block_bytes" if against is None else "new_block_bytes"])


def peak_mib(process: int) -> float:
    """The largest resident memory of a process until now, whatever it is of."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


@dataclass(frozen=True, slots=True)
class Fetch:
    """An item was brought: seconds, and the fetcher's largest resident memory in MiB."""

    seconds: float
    peak_mib: float


class Fetcher:
    """Runs `kapla substitute`; what it brings stays in a directory."""

    def __init__(self, place: Place, directory: Path, acl: Path) -> None:
        self._place = place
        self._directory = directory
        self._acl = acl

    def start(
        self, mode: str, server: Server | None, stores: Sequence[str], messages: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a process that waits for commands."""
        named = [word for url in stores for word in ("--eris-store-url", url)]
        program = [str(PROGRAMS / "kapla"), "substitute", mode, *named, "--reply-fd", "1"]
        urls = "" if server is None else server.url
        store_dir = _STORE_DIR if server is None else server.store_dir
        return subprocess.Popen(
            self._place.command(*program),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            env=_environment(
                GUIX_CONFIGURATION_DIRECTORY=str(self._acl),
                NIX_STORE_DIR=store_dir,
                _NIX_OPTIONS=f"substitute-urls={urls}",
            ),
        )

    def fetch(self, item: Item, server: Server, stores: Sequence[str] = ()) -> Fetch:
        """Bring an item, out of the stores if there are any, and then not in any other way.

        A server that makes deltas must have one, and it is taken.
        """
        target = Path(tempfile.mkdtemp(dir=self._directory)) / item.path.name
        path = item.store_path(server.store_dir)
        # What others have written must not be waited for.
        os.sync()
        with tempfile.TemporaryFile() as messages:
            begin = time.perf_counter()
            with self.start("--substitute", server, stores, messages) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(f"substitute {path} {target}\n".encode())
                process.stdin.flush()
                reply = process.stdout.readline()
                seconds = time.perf_counter() - begin
                peak = peak_mib(process.pid) if reply else 0.0
            messages.seek(0)
            said = messages.read().decode()
        source = "Downloading urn:" if stores else "Downloading http:"
        wrong = source not in said or "failed" in said or ("by a delta" in said) != server.deltas
        if not reply.startswith(b"success ") or wrong:
            raise RuntimeError(f"{item.label} was not brought as meant: {reply!r} {said}")
        return Fetch(seconds, peak)

    def start_s(self) -> float:
        """How long a process takes that has nothing to do."""
        with tempfile.TemporaryFile() as messages:
            begin = time.perf_counter()
            with self.start("--substitute", None, (), messages) as process:
                assert process.stdin is not None
                process.stdin.close()
            return time.perf_counter() - begin
