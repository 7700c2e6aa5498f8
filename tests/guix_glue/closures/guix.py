"""A Guix daemon, as far as importing goes: it asks for archives, and takes what is signed.

It knows nothing of the code that it tries: nars are followed by their own few words, and signatures
are checked by libgcrypt where that is installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from guix_glue.formats.expression import find, parse
from guix_glue.trust import ecdsa
from tests.guix_glue.trust.libgcrypt import load

__all__ = ["FakeGuix", "Imported", "import_archive", "running_guix"]

_DONE, _ERROR, _WANTS = 0x616C7473, 0x63787470, 0x64617461
_PIECE = 32 * 1024


@dataclass(frozen=True)
class Imported:
    """What an archive said of an item."""

    nar: bytes
    references: list[str]
    deriver: str


class _Refused(Exception):
    pass


@dataclass
class FakeGuix:
    """What is valid; `keys` are the points whose signatures count."""

    socket: Path
    keys: set[bytes]
    valid: dict[str, Imported] = field(default_factory=dict)
    connections: int = 0
    dies_after: int | None = None
    """Once so many items are imported, a connection ends in the next one's nar."""


class _Reader:
    """Words and strings out of bytes that somebody brings."""

    def __init__(self, more: Callable[[], bytes]) -> None:
        self._more = more
        self._buffer = b""
        self.seen = hashlib.sha256()
        self.kept = bytearray()

    def take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self._more()
            if not data:
                raise EOFError
            self._buffer += data
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        self.seen.update(data)
        self.kept += data
        return data

    def is_at_end(self) -> bool:
        return not self._buffer and not self._more()

    def word(self) -> int:
        return int(struct.unpack("<Q", self.take(8))[0])

    def string(self) -> bytes:
        size = self.word()
        return self.take(size + -size % 8)[:size]

    def strings(self) -> list[str]:
        return [self.string().decode() for _ in range(self.word())]

    def node(self) -> None:
        """Follow a node of a nar to its end."""
        assert self.string() == b"("
        assert self.string() == b"type"
        kind = self.string()
        while (word := self.string()) != b")":
            if kind == b"directory":
                assert word == b"entry"
                assert [self.string() for _ in range(2)] == [b"(", b"name"]
                self.string()
                assert self.string() == b"node"
                self.node()
                assert self.string() == b")"
            else:
                assert word in (b"executable", b"contents", b"target")
                self.string()


def _word(number: int) -> bytes:
    return struct.pack("<Q", number)


def _string(data: bytes) -> bytes:
    return _word(len(data)) + data + bytes(-len(data) % 8)


def _strings(texts: list[str]) -> bytes:
    return _word(len(texts)) + b"".join(_string(text.encode()) for text in texts)


class _Session(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        guix: FakeGuix = self.server.guix  # type: ignore[attr-defined]
        guix.connections += 1
        reader = _Reader(lambda: self.request.recv(1 << 16))
        with contextlib.suppress(EOFError, OSError):
            assert reader.word() == 0x6E697863
            self.request.sendall(_word(0x6478696F) + _word(0x164))
            assert [reader.word() for _ in range(3)] == [0x164, 0, 0]
            self.request.sendall(_word(_DONE))
            while True:
                self._answer(guix, reader)

    def _answer(self, guix: FakeGuix, reader: _Reader) -> None:
        match reader.word():
            case 31:
                found = [path for path in reader.strings() if path in guix.valid]
                self.request.sendall(_word(_DONE) + _strings(found))
            case 27:
                try:
                    paths = self._import(guix, reader)
                except _Refused as error:
                    text = str(error).encode()
                    self.request.sendall(_word(_ERROR) + _string(text) + _word(1))
                else:
                    self.request.sendall(_word(_DONE) + _strings(paths))
            case other:
                raise AssertionError(f"operation {other}")

    def _import(self, guix: FakeGuix, reader: _Reader) -> list[str]:
        def more() -> bytes:
            self.request.sendall(_word(_WANTS) + _word(_PIECE))
            return reader.string()

        return _import_all(guix, _Reader(more))


def import_archive(guix: FakeGuix, archive: bytes) -> list[str]:
    """What `guix archive --import` does with a file; the paths, in its order."""
    parts = iter([archive])
    reader = _Reader(lambda: next(parts, b""))
    paths = _import_all(guix, reader)
    assert reader.is_at_end()
    return paths


def _import_all(guix: FakeGuix, archive: _Reader) -> list[str]:
    paths = []
    while archive.word():
        paths.append(_import_item(guix, archive))
    return paths


def _import_item(guix: FakeGuix, archive: _Reader) -> str:
    archive.seen = hashlib.sha256()
    archive.kept.clear()
    assert archive.string() == b"nix-archive-1"
    if guix.dies_after is not None and len(guix.valid) >= guix.dies_after:
        guix.dies_after = None
        raise EOFError
    archive.node()
    nar = bytes(archive.kept)
    assert archive.word() == 0x4558494E
    path, references = archive.string().decode(), archive.strings()
    deriver = archive.string().decode()
    digest = archive.seen.digest()
    if archive.word() != 1:
        raise _Refused(f"imported archive of `{path}' lacks a signature")
    _check(archive.string(), digest, guix.keys)
    for reference in references:
        if reference != path and reference not in guix.valid:
            raise _Refused(f"path `{reference}' is not valid")
    guix.valid[path] = Imported(nar, references, deriver)
    return path


def _check(signature: bytes, digest: bytes, keys: set[bytes]) -> None:
    expression = parse(signature)
    key = find(find(expression, b"public-key") or (), b"ecc")
    values = find(find(expression, b"sig-val") or (), b"ecdsa")
    stated = find(find(expression, b"data") or (), b"hash")
    assert key is not None
    assert values is not None
    (q,), (r,), (s,) = (find(key, b"q")[1:], find(values, b"r")[1:], find(values, b"s")[1:])  # type: ignore[index]
    assert isinstance(q, bytes)
    assert isinstance(r, bytes)
    assert isinstance(s, bytes)
    if q not in keys:
        raise _Refused("unauthorized public key")
    if stated != (b"hash", b"sha256", digest):
        raise _Refused("signed hash doesn't match actual contents of imported archive")
    library = load()
    verify = ecdsa.verify if library is None else library.verify
    if not verify(q, digest, r, s):
        raise _Refused("invalid signature")


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def running_guix(directory: Path, keys: set[bytes]) -> Iterator[FakeGuix]:
    """The daemon on a socket in this directory."""
    guix = FakeGuix(directory / "guix.sock", keys)
    with _Server(str(guix.socket), _Session) as server:
        server.guix = guix  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield guix
        finally:
            server.shutdown()
            thread.join()
