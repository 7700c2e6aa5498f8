"""Files and trees over a link of 50 ms and 100 Mbit/s: what share of the link is content.

kaplad and an HTTP server run on the far side, `kapla` and `curl` on the near side, in turn. A share
is the bytes of all files over what the link could have carried in the time, from the start of the
command to its end. Of a tree less can arrive than of a large file, however well the link is used:
a file of one block is padded to it, and one of two blocks has an internal node of the same size as
a third. So the use of the link, whatever it carries, is shown too.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.link.emulator import Link, Side, link
from benchmarks.network import NetworkUnavailable
from benchmarks.report import Row, compare, single
from benchmarks.scratch import kept_directory

__all__ = ["run"]

_RTT_MS: Final = 50
_MBIT_S: Final = 100
# Eight seconds of the link, so that its start weighs little.
_LARGE: Final = 100 << 20
_STEP: Final = 1 << 20
_FILES: Final = 2000
_FILE_LIMIT: Final = 64 << 10
# Of the standard library. What is larger is no source, but an archive for the linker.
_LIBRARY_LIMIT: Final = 4 << 20
_PROBE_S: Final = 3
_COAP_PORT: Final = 5683
_OTHER_PORT: Final = 8000
_PROBE: Final = Path(__file__).with_name("probe.py")
_PROGRAMS: Final = Path(sys.executable).parent


class _Content(NamedTuple):
    """Something to be fetched: what it is called, where it is, its bytes, its bar.

    With options it is encoded in another way than by default.
    """

    label: str
    path: Path
    size: int
    bar: float
    options: tuple[str, ...] = ()


class _Transfer(NamedTuple):
    """How a link was used, as shares of what it can carry."""

    content: float
    everything: float


def run(rounds: int) -> list[Row]:
    """Measure all cases over this many rounds; none, with a word, where no link can be made."""
    try:
        with ExitStack() as stack:
            wire = stack.enter_context(link(_RTT_MS, _MBIT_S))
            return _measure(wire, kept_directory(), rounds)
    except NetworkUnavailable as error:
        print(f"No link could be made: {error}. Its cases are left out.", file=sys.stderr)
        return []


def _measure(wire: Link, scratch: Path, rounds: int) -> list[Row]:
    note = _describe(wire)
    contents = list(_make_contents(scratch))
    found: dict[tuple[str, str], list[_Transfer]] = defaultdict(list)
    store = scratch / "store"
    store.mkdir()
    with ExitStack() as stack:
        stack.enter_context(_kaplad(wire.far, store))
        stack.enter_context(_http_server(wire.far, scratch))
        local = f"coap+unix://{store}/s"
        urns = {content: _encoded(content, local) for content in contents}
        for _ in range(rounds):
            for content in contents:
                found["decode", content.label].append(_decode(wire, content, urns[content]))
                if shutil.which("curl") and not content.options:
                    found["http", content.label].append(_get(wire, content))
    for number in range(rounds):
        for content in contents:
            found["encode", content.label].append(_encode(wire, content, scratch / f"{number}"))
    return [row for content in contents for row in _rows(content, found, note)]


def _rows(
    content: _Content, found: dict[tuple[str, str], list[_Transfer]], note: str
) -> Iterator[Row]:
    decode, encode, http = (found[way, content.label] for way in ("decode", "encode", "http"))
    case = f"{_RTT_MS} ms, {_MBIT_S} Mbit/s: decode {content.label}"
    ours = [transfer.content for transfer in decode]
    yield single(case, ours, "of link", content.bar, note=note)
    yield single(
        "  the same, with all that is not content", [t.everything for t in decode], "of link"
    )
    if http:
        yield compare("  the same / HTTP", ours, [t.content for t in http], "of link")
    yield single("  encode", [t.content for t in encode], "of link")


def _describe(wire: Link) -> str:
    """What shapes the link, and what it was found to do."""
    with _started(
        wire.far.command(sys.executable, _PROBE, "serve", wire.far.address, str(_OTHER_PORT)),
        "ready",
    ):
        command = wire.near.command(sys.executable, _PROBE, "measure", wire.far.address)
        command += [str(_OTHER_PORT), str(_PROBE_S)]
        measured = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    trip, rate = map(float, measured.split())
    shaper = "netem" if wire.shaper == "netem" else "a TUN device and our own delay line"
    return f"({shaper}: measured {trip:.1f} ms, {rate:.1f} Mbit/s; MTU 1500; TCP cubic)"


# the contents


def _make_contents(scratch: Path) -> Iterator[_Content]:
    source = random.Random(1)
    large = scratch / "large"
    with large.open("wb") as file:
        for _ in range(_LARGE // _STEP):
            file.write(source.randbytes(_STEP))
    yield _Content("a 100 MiB file", large, _LARGE, 0.9)
    tree = scratch / "tree"
    for number in range(_FILES):
        path = tree / f"{number % 40}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(source.randint(1, _FILE_LIMIT)))
    random_files = _tree(f"{_FILES:,} files", tree)
    yield random_files
    for options in (("--block-size", "cost"), ("--packed", "--level", "1")):
        label = f"{random_files.label}, {' '.join(options)}"
        yield random_files._replace(label=label, options=options)
    library = scratch / "library"
    shutil.copytree(sysconfig.get_path("stdlib"), library, symlinks=True, ignore=_uninteresting)
    yield _tree("the library", library)


def _tree(label: str, path: Path) -> _Content:
    with tarfile.open(path.with_suffix(".tar"), "w") as tar:
        tar.add(path, "tree")
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return _Content(label, path, size, 0.6)


def _uninteresting(directory: str, names: list[str]) -> set[str]:
    chosen = set(shutil.ignore_patterns("__pycache__", "site-packages", "*.pyc")(directory, names))
    return chosen | {
        name for name in names if os.lstat(Path(directory, name)).st_size > _LIBRARY_LIMIT
    }


# the two ends


@contextmanager
def _started(command: list[str], word: str) -> Iterator[None]:
    """Run a server until the context ends; begin when its output has a line with this word."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            while word not in (line := process.stdout.readline()):
                if not line:
                    raise RuntimeError(f"{command} did not start")
            yield
        finally:
            process.terminate()
            process.communicate()


@contextmanager
def _kaplad(side: Side, directory: Path, *options: str) -> Iterator[str]:
    """Start a daemon that listens on this side, and on a Unix socket, which belongs to no side."""
    url = f"coap+tcp://{side.address}:{_COAP_PORT}?get&put"
    command = side.command(_PROGRAMS / "kaplad", "--store", directory / "b.sqlite")
    command += ["--listen", f"coap+unix://{directory}/s", "--listen", url, *options]
    with _started(command, "Listening on TCP"):
        yield url


@contextmanager
def _http_server(side: Side, directory: Path) -> Iterator[None]:
    command = side.command(sys.executable, "-u", "-m", "http.server", str(_OTHER_PORT))
    command += ["--bind", side.address, "--directory", str(directory)]
    with _started(command, "Serving HTTP"):
        yield


def _kapla(*arguments: str | Path, url: str, side: Side | None = None) -> str:
    command = [str(_PROGRAMS / "kapla"), *map(str, arguments)]
    environment = os.environ | {"ERIS_STORE_URL": url}
    done = subprocess.run(
        side.command(*command) if side else command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    return done.stdout.strip()


def _encoded(content: _Content, url: str, side: Side | None = None) -> str:
    return _kapla("encode", *content.options, content.path, url=url, side=side)


def _timed(wire: Link, content: _Content, transfer: Callable[[], object]) -> _Transfer:
    before, begin = wire.near.traffic(), time.perf_counter()
    transfer()
    seconds = time.perf_counter() - begin
    capacity = seconds * wire.mbit_s * 1e6 / 8
    after = wire.near.traffic()
    busier = max(after.received - before.received, after.sent - before.sent)
    return _Transfer(content.size / capacity, busier / capacity)


def _decode(wire: Link, content: _Content, urn: str) -> _Transfer:
    url = f"coap+tcp://{wire.far.address}:{_COAP_PORT}"
    target = kept_directory() / "out"
    return _timed(wire, content, lambda: _kapla("decode", urn, target, url=url, side=wire.near))


def _encode(wire: Link, content: _Content, store: Path) -> _Transfer:
    """Into a store of its own, which knows none of the blocks."""
    store.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store) as fresh, _kaplad(wire.far, Path(fresh)) as url:
        return _timed(wire, content, lambda: _encoded(content, url, wire.near))


def _get(wire: Link, content: _Content) -> _Transfer:
    base = f"http://{wire.far.address}:{_OTHER_PORT}"
    out = kept_directory()
    script = f"curl -sSf {base}/{content.path.name} -o {out}/out"
    if content.path.is_dir():
        script = f"curl -sSf {base}/{content.path.name}.tar | tar -x -C {out}"
    command = wire.near.command("sh", "-c", script)
    return _timed(wire, content, lambda: subprocess.run(command, check=True))
