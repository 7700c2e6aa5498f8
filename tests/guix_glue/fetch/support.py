"""What tests of the fetcher share: fake servers, items with signed narinfos, the program itself."""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guix_glue.formats.nar import NarWriter
from guix_glue.formats.narinfo import NarUrl, format_narinfo, format_unsigned
from guix_glue.local.archive import nar_hash, read_item
from guix_glue.model import StoreItem
from guix_glue.trust.keys import PrivateKey, parse_private_key
from guix_glue.trust.signature import sign_text
from tests.guix_glue.fetch.fakes import FakeServer
from tests.integration.daemon import GUARD_S
from tests.loaded import Forked

__all__ = [
    "HASH_PART",
    "KEY",
    "SAMPLES",
    "STORE",
    "Done",
    "Made",
    "assert_canonical",
    "configuration",
    "make_item",
    "make_tree",
    "narinfo_of",
    "program_environment",
    "publish",
    "run_program",
    "start_program",
    "with_unsigned_size",
]

SAMPLES: Final = Path(__file__).resolve().parent.parent / "samples"
STORE: Final = "/gnu/store"
HASH_PART: Final = "7xq3qwahlz7ci18sxrm0qhmzqmafag1f"
KEY: Final[PrivateKey] = parse_private_key((SAMPLES / "keys/signing-key.sec").read_bytes())
"""The key of the samples, which their ACL authorizes."""


# --- items ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """An item made for a test: what it is, its nar, and where its files are."""

    item: StoreItem
    nar: bytes
    root: Path


def make_tree(root: Path, *, big: int = 100_000) -> None:
    """A tree with the oddities that an item can have."""
    root.mkdir()
    (root / "bin").mkdir()
    (root / "bin/run").write_text("#!/bin/sh\n")
    (root / "bin/run").chmod(0o755)
    (root / "empty-directory").mkdir()
    (root / "empty").touch()
    (root / "one").write_bytes(b"x")
    (root / "é ü").write_bytes(b"y")
    (root / "Case").write_bytes(b"1")
    (root / "case").write_bytes(b"2")
    (root / "twin-a").write_bytes(b"t" * 8192)
    (root / "twin-b").write_bytes(b"t" * 8192)
    (root / "small-twin-a").write_bytes(b"t" * 8191)
    (root / "small-twin-b").write_bytes(b"t" * 8191)
    (root / "big").write_bytes(hashlib.shake_128(b"big").digest(big))
    (root / "dangling").symlink_to("/nowhere/at all")
    (root / "bin/link").symlink_to("../one")


def make_item(root: Path, name: str = f"{HASH_PART}-app-1.2.3", **more: tuple[str, ...]) -> Made:
    """Make an item of what is at `root`."""
    writer = NarWriter()
    nar = b"".join([*map(bytes, map(writer.write, read_item(str(root)))), writer.finish()])
    digest = hashlib.sha256(nar).digest()
    references = more.get("references", ())
    return Made(StoreItem(f"{STORE}/{name}", digest, len(nar), references), nar, root)


def plain_url(made: Made) -> NarUrl:
    return NarUrl(f"nar/{made.item.base_name}", "none", len(made.nar), None)


def narinfo_of(
    made: Made,
    urls: Sequence[NarUrl],
    *,
    urn: str | None = None,
    hint: str | None = None,
    key: PrivateKey | None = KEY,
) -> bytes:
    """A narinfo, signed unless there is no key."""
    unsigned = format_unsigned(made.item, urn)
    signature = None if key is None else sign_text(key, unsigned, "test")
    return format_narinfo(unsigned, signature, urls, hint=hint)


def with_unsigned_size(made: Made) -> bytes:
    """A narinfo as the sample "minimal-mandatory": with NarSize behind the signature."""
    text = narinfo_of(made, [plain_url(made)], key=None).decode()
    lines = text.splitlines(keepends=True)
    size = next(line for line in lines if line.startswith("NarSize"))
    signed = "".join(line for line in lines if line.startswith(("Store", "NarHash", "Ref")))
    rest = "".join(line for line in lines if line.startswith(("URL", "Compression", "FileSize")))
    return f"{signed}Signature: {sign_text(KEY, signed, 'test')}\n{size}{rest}".encode()


def assert_canonical(path: Path, digest: bytes, size: int) -> None:
    """The item is there, in the form that every item has."""
    assert nar_hash(str(path)) == (digest, size)
    for file in [path, *path.rglob("*")]:
        status = file.lstat()
        assert status.st_mtime == 1, file
        assert file.is_symlink() or status.st_mode & 0o777 in (0o444, 0o555), file


def publish(
    server: FakeServer, made: Made, *urls: NarUrl, urn: str | None = None, hint: str | None = None
) -> None:
    """Serve an item: its narinfo, and its nar as it is and with gzip."""
    urls = urls or (plain_url(made),)
    name = made.item.base_name
    server.files[f"/{made.item.hash_part}.narinfo"] = narinfo_of(made, urls, urn=urn, hint=hint)
    server.files.setdefault(f"/nar/{name}", made.nar)
    server.files.setdefault(f"/nar/gzip/{name}", gzip.compress(made.nar, 1))


# --- the program ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """What the program said until its end."""

    replies: bytes
    messages: str
    code: int


@contextmanager
def configuration(acl: bytes | None = None) -> Iterator[Path]:
    """A directory with an ACL, that of the samples unless given."""
    with tempfile.TemporaryDirectory(prefix="kapla-") as name:
        directory = Path(name)
        (directory / "acl").write_bytes((SAMPLES / "keys/acl").read_bytes() if acl is None else acl)
        yield directory


def program_environment(config: Path, options: str) -> dict[str, str]:
    """As the daemon has it: nothing of ours but what is named."""
    kept = {
        name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ
    }
    return {
        **kept,
        "HOME": str(config),
        "XDG_RUNTIME_DIR": str(config),
        "GUIX_CONFIGURATION_DIRECTORY": str(config),
        "KAPLA_NARINFO_CACHE": "none",
        "_NIX_OPTIONS": options,
    }


class Running:
    """The program, started as the daemon starts it: replies on descriptor 4."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        command_end, self.commands = os.pipe()
        self._replies, reply_end = os.pipe()
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115
        messages = self._messages.fileno()
        self._process = Forked(
            "kapla",
            ["substitute", *arguments],
            {0: command_end, 1: messages, 2: messages, 4: reply_end},
            env=environment,
        )
        os.close(command_end)
        os.close(reply_end)
        self._ended = False

    def send(self, commands: bytes) -> None:
        while commands:
            commands = commands[os.write(self.commands, commands) :]

    def reply(self) -> bytes:
        """One line of reply."""
        line = b""
        while not line.endswith(b"\n") and (byte := os.read(self._replies, 1)):
            line += byte
        return line

    def finish(self) -> Done:
        """Close its input and wait for its end."""
        os.close(self.commands)
        replies = b""
        while data := os.read(self._replies, 1 << 16):
            replies += data
        return self._reap(replies)

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.kill()

    def kill(self, number: int) -> Done:
        """End it as the daemon does."""
        self._process.send_signal(number)
        os.close(self.commands)
        return self._reap(b"")

    def _reap(self, replies: bytes) -> Done:
        self._ended = True
        code = self._process.wait(GUARD_S)
        os.close(self._replies)
        self._messages.seek(0)
        messages = self._messages.read().decode()
        self._messages.close()
        assert "Traceback" not in messages, messages
        return Done(replies, messages, code)


@contextmanager
def start_program(arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[Running]:
    """The program under way; killed if it hangs."""
    running = Running(arguments, environment)
    guard = threading.Timer(2 * GUARD_S, running.end)
    guard.start()
    try:
        yield running
    finally:
        guard.cancel()
        if not running._ended:
            running.kill(9)


def run_program(arguments: Sequence[str], commands: bytes, environment: Mapping[str, str]) -> Done:
    """Run the program with all its commands, to its end."""
    with start_program(arguments, environment) as running:
        running.send(commands)
        return running.finish()
