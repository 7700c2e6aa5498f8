"""The recorded dialogues of the real daemon with the stock substituter, and their servers, rebuilt.

A transcript names its servers by port: 8182 is `guix publish -C zstd:3 -C lzip:3 -C gzip:9` without
cache, 8190 a static server with what the situation is about, 8186 a second one that is in order,
and on 9 nobody listens. The items whose nars are among the samples are served as recorded. Of
python-json-lib there are only narinfos, of four others nothing: these are made anew here, under
their own paths, and what was signed about them is signed again by the same key, with the hash and
size that they have now. What a transcript says of them is compared but for these two facts.
"""

from __future__ import annotations

import ast
import gzip
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import zstandard

from guix_glue.formats.compression import compressor, parse_choice
from guix_glue.formats.narinfo import NarUrl
from guix_glue.formats.store_path import format_hash
from guix_glue.trust.signature import sign_text
from tests.guix_glue.fetch.fakes import FakeServer
from tests.guix_glue.fetch.support import KEY, SAMPLES, Made, make_item, narinfo_of, publish

__all__ = [
    "JSON_LIB",
    "Info",
    "Process",
    "Rebuilt",
    "Reply",
    "read_replies",
    "read_transcript",
]

JSON_LIB: Final = "s3rj0scdrdlfnh8g5dqz5j1z22vf08ik-python-json-lib"
_REBUILT: Final = (
    JSON_LIB,
    "hrvfy53655zzxwdibpacqjkq3g07mynp-zoneinfo-europe",
    "ynly3b0mcxz4vq7gdjz7zxjgd7xbp4bs-common-licenses",
    "swgiia5y0j4bg3j5yyh986zd3mjb9wvd-gpl-3.txt",
)
_RECORDED_SIZE: Final = "105216"
_RECORDED_HASH: Final = "sha256:0rc599jcfhngkmw1dqv8dznzd55ik9ak548gp7aj2cacmx79rxar"

_DAMAGE: Final = {
    "05-nar-404": "missing",
    "06-nar-hash-mismatch": "changed",
    "07-nar-truncated": "truncated",
    "08-nar-garbage": "garbage",
    "10-narinfo-hash-mismatch": "size",
    "11-unsigned-narinfo": "unsigned",
    "14-fallback-to-second-url": "missing",
    "17-derivation-nar-404-no-fallback": "missing",
    "18-derivation-nar-404-fallback": "missing",
}
"""What is wrong on the server 8190."""


@dataclass
class Process:
    """One substituter of a transcript: what it was told and what it said."""

    mode: str
    options: str = ""
    commands: bytes = b""
    replies: bytes = b""
    died: bool = False


def read_transcript(path: Path) -> list[Process]:
    """The processes of a transcript, in order."""
    line_form = re.compile(r"\s*[0-9.]+ (?:substitute --)?(\w+)[^\[]*\[(\d+)\] (\S+)\s+(.*)")
    processes: dict[str, Process] = {}
    for line in path.read_text().splitlines():
        match = line_form.fullmatch(line)
        assert match, line
        if match[1] not in ("query", "substitute"):
            # Another job of the same program.
            continue
        mode, pid, channel, text = match.groups()
        process = processes.setdefault(pid, Process(mode))
        if channel == "env":
            process.options = ast.literal_eval(text)[1]
        elif channel == "exit":
            process.died = text != "0"
        elif text != "'<EOF>'":
            if channel == "->child:0":
                process.commands += ast.literal_eval(text)
            elif channel == "child:4->":
                process.replies += ast.literal_eval(text)
    return list(processes.values())


class Info(NamedTuple):
    """What `info` tells of an item."""

    path: str
    deriver: str
    references: frozenset[str]
    download_size: str
    nar_size: str


Reply = Any
"""A set of paths for `have`, of `Info` for `info`, the words of the line for `substitute`."""


def read_replies(commands: bytes, replies: bytes) -> list[Reply]:
    """Replies as values, one for each command, without the order that means nothing."""
    lines = iter(replies.decode("ascii").split("\n"))
    try:
        return [_read_reply(command, lines) for command in commands.decode().splitlines()]
    except StopIteration:
        raise AssertionError(f"a reply is missing: {replies!r}") from None


def _read_reply(command: str, lines: Iterator[str]) -> Reply:
    word = command.split(maxsplit=1)[0]
    if word == "substitute":
        return tuple(next(lines).split(" "))
    found = set()
    while path := next(lines):
        found.add(path if word == "have" else _read_info(path, lines))
    return frozenset(found)


def _read_info(path: str, lines: Iterator[str]) -> Info:
    deriver, count = next(lines), int(next(lines))
    references = frozenset(next(lines) for _ in range(count))
    return Info(path, deriver, references, next(lines), next(lines))


@dataclass
class Rebuilt:
    """All items: the nars of the samples, and those made anew."""

    directory: Path
    made: dict[str, Made] = field(default_factory=dict)
    nars: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, name in enumerate(_REBUILT):
            root = self.directory / name
            root.mkdir()
            (root / "__init__.py").write_bytes(bytes([number]) * 70_000)
            (root / "other").symlink_to("__init__.py")
            self.made[name] = make_item(root, name)
            self.nars[name] = self.made[name].nar
        for file in (SAMPLES / "nar").iterdir():
            name, _, method = file.name.partition(".nar")
            unpack = _UNPACK.get(method)
            if unpack is not None:
                self.nars[name] = unpack(file.read_bytes())

    def facts(self, text: str) -> str:
        """Put today's hash and size where a text has those that were recorded."""
        item = self.made[JSON_LIB].item
        text = text.replace(_RECORDED_HASH, format_hash(item.nar_hash))
        return text.replace(_RECORDED_SIZE, str(item.nar_size))

    def today(self, told: str | Info) -> str | Info:
        """What was told of an item, with the sizes that it has now."""
        if isinstance(told, str) or (base_name := told.path.rpartition("/")[2]) not in self.made:
            return told
        size = str(self.made[base_name].item.nar_size)
        download_size = size if told.download_size == _RECORDED_SIZE else told.download_size
        return told._replace(nar_size=size, download_size=download_size)

    def success(self, base_name: str, recorded: Reply) -> Reply:
        """What the success of an item is now."""
        if base_name not in self.made:
            return recorded
        item = self.made[base_name].item
        return ("success", format_hash(item.nar_hash), str(item.nar_size))

    def narinfo(self, variant: bytes) -> bytes:
        """A narinfo of python-json-lib about the item as it is now, signed again."""
        text = self.facts(variant.decode().replace("\r\n", "\n"))
        signed, _, rest = text.partition("Signature:")
        others = rest.partition("\n")[2]
        text = f"{signed}Signature: {sign_text(KEY, signed, 'test')}\n{others}"
        return (text.replace("\n", "\r\n") if b"\r\n" in variant else text).encode()

    def as_published(self, server: FakeServer) -> None:
        """Fill a server like that on port 8182."""
        methods = ("zstd", "lzip", "gzip")
        for file in (SAMPLES / "narinfo/uncached-zstd-lzip-gzip").iterdir():
            text = file.read_bytes()
            server.files[f"/{text.split(b'-')[0][-32:].decode()}.narinfo"] = text
        for made in self.made.values():
            urls = [NarUrl(f"nar/{one}/{made.item.base_name}", one, None, None) for one in methods]
            server.files[f"/{made.item.hash_part}.narinfo"] = narinfo_of(made, urls)
        for name, nar in self.nars.items():
            for method in methods:
                packing = compressor(parse_choice(method))
                server.files[f"/nar/{method}/{name}"] = packing.feed(nar) + packing.finish()

    def as_described(self, server: FakeServer, name: str) -> None:
        """Fill a server like that on port 8190 in the situation of a transcript."""
        damage = _DAMAGE.get(name)
        app = (SAMPLES / "narinfo/uncached-none/app-1.2.3.narinfo").read_bytes()
        server.files["/7xq3qwahlz7ci18sxrm0qhmzqmafag1f.narinfo"] = app
        variants = SAMPLES / "narinfo/variants-fed-to-stock-guix"
        variant = variants / f"{name.removeprefix('21-narinfo-')}.narinfo"
        text = self.narinfo(
            (variant if variant.exists() else variants / "eris-unsigned-after.narinfo").read_bytes()
        )
        if damage == "size":
            text = text.replace(b"NarSize: 1", b"NarSize: 2").replace(b"NarSize: 7", b"NarSize: 8")
        elif damage == "unsigned":
            text = b"".join(
                line for line in text.splitlines(keepends=True) if not line.startswith(b"Signature")
            )
        server.files[f"/{JSON_LIB[:32]}.narinfo"] = text
        if damage != "missing":
            server.files[f"/nar/{JSON_LIB}"] = _damaged(self.nars[JSON_LIB], damage)

    def as_it_should_be(self, server: FakeServer) -> None:
        """Fill a server like that on port 8186."""
        publish(server, self.made[JSON_LIB])


def _damaged(nar: bytes, damage: str | None) -> bytes:
    match damage:
        case "changed":
            place = nar.index(b"\0" * 1000) + 500
            return nar[:place] + b"\1" + nar[place + 1 :]
        case "truncated":
            return nar[:50_000]
        case "garbage":
            return bytes(range(1, 251)) * 200
        case _:
            return nar


def _unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


_UNPACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    "": bytes,
    ".gz": gzip.decompress,
    ".zst": _unzstd,
}
