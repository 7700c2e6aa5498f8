"""What fuzzing begins with: for each target, inputs that it accepts, and some that it does not.

Made from the captured samples, and by our own writers.
"""

from __future__ import annotations

import ast
import bz2
import gzip
import json
import lzma
import re
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import zstandard
from cbor2 import CBORTag, dumps

from eris import BlockSize, Key, ReadCapability, Reference, ReferenceKeyPair, encode
from eris.bundle import BUNDLE_HEAD, format_bundle_tail, format_bundled_block
from eris.link import Link, format_link
from eris_fs.manifest import format_manifest
from eris_fs.model import (
    EmptyDirectory,
    Entry,
    Pack,
    PackedFile,
    PackedTree,
    Path,
    RegularFile,
    Symlink,
)
from eris_fs.packed.frame import compress
from eris_fs.packed.index import format_index
from guix_glue.fetch.narinfo_cache import format_answer
from guix_glue.formats.compression import Compression, CompressionChoice, compressor
from guix_glue.formats.item_list import export_signature_line, format_item_list
from guix_glue.formats.item_map import format_page
from guix_glue.kept.delta_results import DeltaResult, Deltas
from guix_glue.kept.records import Baked, BakedFile, ErisResult, format_record
from guix_glue.model import StoreItem
from kapla.block_list import LIST_HEAD
from kapla.coap.blocks import BLOCKS_PATHS, get_options, put_options
from kapla.coap.frame import Code, format_frame, format_message
from kapla.coap.maps import format_map
from kapla.config.template import template
from tests.eris_fs.delta.raw import Delta
from tests.eris_fs.delta.raw import Link as DeltaLink
from tests.eris_fs.delta.raw import Tree as DeltaTree
from tests.eris_fs.delta.raw import make as make_delta
from tests.fuzz.cutting import BYTE_BY_BYTE, WHOLE
from tests.fuzz.deltas import BASE as DELTA_BASE
from tests.fuzz.guix_dialogues import ENTRIES, HASH_PART
from tests.guix_glue.local.session import captured_turns
from tests.guix_glue.maps.entries import entries, formatted
from tests.guix_glue.samples import SAMPLES
from tests.kapla.status.examples import everything, numbers

__all__ = ["MAX_SIZE", "seeds"]

MAX_SIZE = 16 * 1024
"""Bytes of an input: small ones are tried more often, and every format has its limits below."""

_SUMMED = b"\1"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_CAPABILITY = ReadCapability(
    BlockSize.SMALL, 0, ReferenceKeyPair(Reference(bytes(range(32))), Key(b"k" * 32))
)


def seeds(target: str) -> list[bytes]:
    """The inputs for a target: each different, none larger than `MAX_SIZE`."""
    return [seed for seed in dict.fromkeys(_SEEDS[target]()) if len(seed) <= MAX_SIZE]


def _files(pattern: str) -> Iterator[bytes]:
    return (file.read_bytes() for file in sorted(SAMPLES.glob(pattern)) if file.is_file())


def _cut(bodies: Iterable[bytes]) -> Iterator[bytes]:
    """Each whole, byte by byte, and in two other ways."""
    for body in bodies:
        yield from (how + body for how in (WHOLE, BYTE_BY_BYTE, b"\2", b"x"))


def _narinfos() -> Iterator[bytes]:
    yield from _files("**/*.narinfo")
    delta = b"ERIS-Delta: " + HASH_PART.encode() + b"-app-1.2.2 urn:eris:ABC\n"
    (text,) = _files("narinfo/uncached-gzip/app-1.2.3.narinfo")
    yield text.replace(b"References:", delta + b"References:") + delta


def _item_lists() -> Iterator[bytes]:
    narinfos = [text[: text.index(b"URL: ")] for text in _files("narinfo/uncached-none/*.narinfo")]
    yield format_item_list("/gnu/store", [], narinfos[:2])
    yield format_item_list("/gnu/store", [], [narinfos[0] + export_signature_line(b"(a)")])


def _nars() -> Iterator[bytes]:
    yield from _files("nar/*.nar")
    yield from (zlib.decompress(data, 31) for data in _files("nar/gac*.nar.gz"))


def _expressions() -> Iterator[bytes]:
    yield from _files("keys/*")
    yield from _files("signatures/*.sexp")
    yield b'(1:a(2:bc#0aFF#|Zm9v|"q\\x41\\101\\n\\\n") () ##)'


def _nix_keys() -> Iterator[bytes]:
    yield from _files("nix-2.8/*-key")


def _compressed() -> Iterator[bytes]:
    text = b"hail ERIS " * 40
    for place, method in enumerate(Compression):
        for body in _written(method, text):
            for double in (body, body + body):
                yield from (bytes([place, 20]) + seed for seed in _cut([double]))


def _written(method: Compression, text: bytes) -> Iterator[bytes]:
    match method:
        case Compression.XZ:
            yield lzma.compress(text)
        case Compression.BZIP2:
            yield bz2.compress(text)
        case _:
            codec = compressor(CompressionChoice(method, 0 if method is Compression.NONE else 3))
            yield codec.feed(text) + codec.finish()
    if method is Compression.GZIP:
        yield gzip.compress(text, mtime=0)
        # A bomb.
        yield gzip.compress(bytes(4 << 20), mtime=0)
    if method is Compression.ZSTD:
        yield zstandard.compress(bytes(4 << 20))
        yield b"\x50\x2a\x4d\x18\3\0\0\0abc" + zstandard.compress(b"after what is skipped")


def _texts() -> Iterator[bytes]:
    yield from (b"zstd:19", b"gzip", b"none", b"0", b"lzip:9", b"30d", b"1h", b"12m")
    yield f"/gnu/store/{HASH_PART}-app-1.2.3".encode()
    yield HASH_PART.encode()
    for data in _narinfos():
        yield from re.findall(rb"sha256:\S+", data)


def _maps() -> Iterator[bytes]:
    # A page is larger than an input: so a small map, or the beginning of a page by itself.
    yield from (b"\0" + formatted(entries(count)) for count in (0, 1, 2, 120))
    page = format_page(b"".join(one.key + one.value for one in entries(150)))
    yield b"\1" + page.rstrip(b"\0")


def _commands() -> Iterator[bytes]:
    for text in _files("transcripts/*.txt"):
        for piece in re.findall(rb"->child:0 (b'.*')\r?\n", text):
            yield ast.literal_eval(piece.decode())
        for options in re.findall(rb"'_NIX_OPTIONS', ('.*')\)", text)[:1]:
            yield ast.literal_eval(options.decode()).encode()


def _answers() -> Iterator[bytes]:
    body = next(_narinfos())
    length = b"Content-Length: %d\r\n" % len(body)
    ok, moved = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 302 Found\r\nLocation: /x\r\n"
    whole = ok + length + b"Cache-Control: max-age=9\r\n\r\n" + body
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    chunked = ok + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    yield whole + missing + chunked
    yield missing + b"HTTP/1.1 100 Continue\r\n\r\n" + moved + length + b"\r\n" + body
    yield ok + b"Connection: close\r\n\r\n" + body
    yield b"HTTP/1.0 200 OK\r\n\r\n" + body
    yield b"HTTP/1.1 204 No Content\r\n\r\n" + b"HTTP/1.1 304 Not Modified\r\n\r\n" + whole
    yield b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"


def _encoded() -> Iterator[bytes]:
    body = next(_narinfos())
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    yield b"\0" + WHOLE + gzip.compress(body, mtime=0)
    yield b"\1" + WHOLE + zlib.compress(body)
    yield b"\1" + WHOLE + raw.compress(body) + raw.flush()
    yield b"br"


def _proxies() -> Iterator[bytes]:
    yield b"http://me:s%40cret@p.example:3128\na.example, .b.example:80 10.0.0.0/8"
    yield b"[::1]:8080\n[fe80::1]:443,fe80::/10,*.c.example"
    yield b"socks5://p\n*"


def _urls() -> Iterator[bytes]:
    yield from (b"/a/b", b"//h:80/x?y", b"https://example.org/nar/zstd/x", b"../up", b"?q", b"#f")
    yield from (b"http://u:p%20@[::1]:8080/a", b"file:///srv/mirror%20b", b"nar/gzip/x")
    yield from (b"/nar/zstd/" + HASH_PART.encode() + b"-app-1.2.3", b"/nix-cache-info")
    yield b"/file/x/sha256/" + b"0" * 52
    yield b"/" + HASH_PART.encode() + b".narinfo"


def _worker() -> Iterator[bytes]:
    first, second, *rest = (turn.received for turn in captured_turns())
    for number in range(3):
        for how in (WHOLE, b"\2"):
            for answers in ([turn] for turn in rest):
                yield bytes([number]) + how + _turns([first + second, *answers])
            yield bytes([number]) + how + _turns([first + second, *rest])


def _turns(parts: Iterable[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(2, "little") + part for part in parts)


def _tables() -> Iterator[bytes]:
    one, other = sorted(ENTRIES)
    base_name = f"{HASH_PART}-x"
    yield f'["{one}"]\nreferences = ["{other}", "{base_name}"]\n'.encode()
    yield f'["{other}"]\nderiver = "{base_name}.drv"\n["{one}"]\n'.encode()
    yield f'"{one}" = {{references = [], when = 1979-05-27T07:32:00Z, n = [0x1, 1e9]}}'.encode()


def _records() -> Iterator[bytes]:
    item = StoreItem(f"/gnu/store/{HASH_PART}-app-1.2.3", bytes(32), 120, (f"{HASH_PART}-x",))
    urn = _CAPABILITY.to_urn()
    made = (DeltaResult(f"{'1' * 32}-x-1", urn, 1024), DeltaResult(f"{'2' * 32}-x-0", reason="no"))
    results = (
        None,
        ErisResult("1", urn, ("s",)),
        ErisResult("1", None, (), "no"),
        ErisResult("1", urn, ("s",), baked_at=1.5, deltas=Deltas("s", made)),
    )
    for result in results:
        record = format_record(Baked(item, (BakedFile("gzip:3", 7),), result))
        yield b"\0" + record
        yield _SUMMED + record.partition(b"\n")[2]


def _mirror_records() -> Iterator[bytes]:
    (text,) = _files("narinfo/uncached-gzip/app-1.2.3.narinfo")
    value = {"version": 2, "server": "http://h", "text": text.decode(), "good_until": 1.5}
    result: dict[str, object] = {"format": "1", "urn": None, "stores": [], "reason": "no"}
    deltas = {"store": "s", "results": [[f"{'1' * 32}-x-1", None, 0, "no"]]}
    for eris in (None, result, {**result, "baked_at": 1.5, "deltas": deltas}):
        yield _SUMMED + json.dumps({**value, "eris": eris}).encode()
    others = [["http://other", text.decode()], ["http://x", "StorePath: /x"]]
    yield _SUMMED + json.dumps({**value, "eris": None, "others": others[:1]}).encode()
    yield _SUMMED + json.dumps({**value, "eris": None, "others": others}).encode()


def _item_urns() -> Iterator[bytes]:
    value = {"version": 1, "good": [_CAPABILITY.to_urn()], "wrong": {"0" * 64: 1.5}, "doubted": {}}
    yield _SUMMED + json.dumps(value).encode()
    yield _SUMMED + json.dumps({**value, "wrong": {}, "doubted": {"1" * 64: 1.5}}).encode()


def _capabilities() -> Iterator[bytes]:
    for content in (b"", b"x" * 20_000):
        found, _ = encode(content)
        yield from (found.to_bytes(), found.to_cbor(), found.to_urn().encode())
        yield found.to_urn()[9:61].encode()


def _nodes() -> Iterator[bytes]:
    yield from (b"r" * 64 + b"k" * 64, b"content\x80", b"p" * 1024, b"\x80")


def _indexes() -> Iterator[bytes]:
    trees: tuple[dict[Path, Entry], ...] = (
        {},
        {(): RegularFile(_CAPABILITY)},
        {
            ("bin", "hello"): RegularFile(_CAPABILITY, True),
            ("bin", "hi"): Symlink("hello"),
            ("é", "b" * 30): RegularFile(_CAPABILITY),
            ("empty",): EmptyDirectory(),
        },
    )
    yield from (b"".join(format_manifest(tree)) for tree in trees)


def _links() -> Iterator[bytes]:
    capability, _ = encode(b"x")
    yield capability.to_urn().encode() + b"\n"
    yield format_link(Link(capability, 1, "text/plain"))
    attributes: dict[str, object] = {
        "name": "x",
        "of": [1, -2, 1.5, None, True, b"y", {"deep": {"er": []}}],
    }
    yield format_link(Link(capability, 1 << 40, "a/b", attributes))


def _bundles() -> Iterator[bytes]:
    capability, blocks = encode(b"hail ERIS " * 200)
    entries = b"".join(format_bundled_block(*item) for item in blocks.items())
    whole = BUNDLE_HEAD + entries + format_bundle_tail([capability])
    yield whole
    yield BUNDLE_HEAD + format_bundle_tail()
    plain = [dict(blocks), CBORTag(276, capability.to_bytes()), {"a": [1.5, None]}, b"x"]
    yield dumps(plain)
    yield dumps(CBORTag(1701996915, plain))
    yield whole[20:] + whole
    yield whole[:-72] + bytes.fromhex("9f5f4161ffbf0102ffff") + whole[-72:]


def _packed_trees() -> Iterator[bytes]:
    pack = Pack(0, 40, 30, _CAPABILITY.to_bytes())
    second = Pack(40, 8, 8, _CAPABILITY.to_bytes())
    yield format_index(PackedTree({}, []), level=1)
    yield format_index(PackedTree({(): PackedFile(0, 40)}, [pack]), level=1)
    entries: dict[Path, Entry] = {
        ("bin", "a"): PackedFile(0, 16, True),
        ("bin", "b"): PackedFile(16, 32),
        ("bin", "c"): PackedFile(16, 32, True),
        ("bin", "none"): PackedFile(0, 0),
        ("l",): Symlink("bin/a"),
        ("s\udcff",): EmptyDirectory(),
    }
    yield format_index(PackedTree(entries, [pack, second], "zstd 1.5"), level=1)


def _sections() -> Iterator[bytes]:
    for index in _packed_trees():
        # The head of the string of bytes is of one byte or of several.
        yield zstandard.decompress(index[index.index(_ZSTD_MAGIC) :])


def _packs() -> Iterator[bytes]:
    for content in (b"x", b"hail ERIS " * 40, bytes(100_000), bytes(range(256)) * 200):
        yield len(content).to_bytes(3, "little") + compress(content, 3)
        yield len(content).to_bytes(3, "little") + content


def _deltas() -> Iterator[Delta]:
    program = bytes(range(256)) * 8
    new: DeltaTree = {
        "b*": program[:999] + b"new" + program[999:],
        "a": b"as it was",
        "l": DeltaLink("b"),
    }
    yield make_delta(DELTA_BASE, {})
    yield make_delta(DELTA_BASE, {"": b"x"})
    yield make_delta(DELTA_BASE, new)
    yield make_delta(DELTA_BASE, {**new, "c": b"fresh " * 20, "d": b"fresh " * 20, "n": b""})


def _messages() -> Iterator[bytes]:
    csm = format_message(Code.CSM, options=[(2, b"\1\0\0\0"), (4, b"")])
    query = _CAPABILITY.to_urn()[9:61].encode()
    for path in BLOCKS_PATHS:
        for letters in (query, bytes(32)):
            get = get_options(path[:-1], letters, 1024)
            yield csm + format_frame(Code.GET, b"t", get) + format_frame(Code.GET, b"", get)
        put = put_options(path[:-1]) + b"\xff" + b"b" * 1024
        yield csm + format_frame(Code.PUT, b"12345678", put)
    fetch = put_options(()) + b"\xff" + bytes(64)
    yield csm + format_frame(Code.FETCH, b"t", fetch) + format_message(Code.PING, b"p")
    yield csm + format_message(Code.CONTENT, b"t", [(12, b""), (300, b"x" * 300)], b"block" * 9)
    yield csm + format_message(Code.RELEASE) + format_message(Code.ABORT, payload=b"why")
    yield csm + format_message(Code.EMPTY) + format_message(Code.CREATED)


def _http_targets() -> Iterator[bytes]:
    letters = b"BLY4QKPNR57OKIOA5BLPI5NHQHKN3GJR5F4RNY6TZFAXKSSLYYQQ"
    yield b"/uri-res/N2R?urn:blake2b:" + letters
    yield b"http://h:80/uri-res/N2R?URN%3Ablake2b%3A" + letters + b'\n"' + letters + b'", W/"x"'
    cid = b"/ipfs/bafk2bzacea" + b"a" * 50
    yield from (cid + b"?format=raw", cid + b"\ntext/html, application/vnd.ipld.raw;q=1")
    yield from (b"/ipfs/QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR?format=raw", b"/?a")
    yield from (b"/kapla/blocks", b"/ipfs/bafkqaaa?format=raw")


def _store_urls() -> Iterator[bytes]:
    yield from (b"coap+unix:///run/eris.sock", b"coap+unix://%2Frun%2Feris.sock/a/b?get&put")
    yield from (b"coap+tcp://[::1]:5683/a%20b?mode=0660&group=x", b"coap+tcp://host", b"http://h")
    yield b"coap+tcp://host?lend&admin"
    yield b"coaps+tcp://host:5684/a?get#ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    yield b"coaps+tcp://host?cert=/c.pem&key=/k%20.pem&ca=/ca.pem"


def _database_urls() -> Iterator[bytes]:
    yield from (b"postgresql:///kapla?host=/run/postgresql", b"postgres://u:p%40@h:5/k")
    yield from (b"postgresql://[::1]:5432,%2Frun%2Fpg/a%20b?hostaddr=1.2.3.4&port=1,2&sslmode=x",)
    yield from (b"postgresql://?service=attic&password=x", b"postgresql://u:a?b@h?dbname=x%25")


def _store_groups() -> Iterator[bytes]:
    yield from (
        b"coap+tcp://a|coap+tcp://b/ coap+unix:///run/a%7Cb",
        b"coap+tcp://a/x?get|coap://b",
    )
    yield b"coap+unix://%2Frun%2Fa/x%7Cy?get|coaps+tcp://b/x%7Cy?put&ca=/c.pem"


def _network_entries() -> Iterator[bytes]:
    yield from (b"192.168.1.0/24 via aa:bb:cc:dd:ee:0f", b"fd00::/64 via 02:00:00:00:00:01")
    yield from (b"wlan0 via AA:BB:CC:DD:EE:0F", b"eth0", b"10.0.0.0/8", b"aa:bb:cc:dd:ee:0f")


def _netlink() -> Iterator[bytes]:
    def attribute(kind: int, data: bytes) -> bytes:
        head = struct.pack("=HH", 4 + len(data), kind)
        return (head + data).ljust((7 + len(data)) & ~3, b"\0")

    def message(kind: int, payload: bytes) -> bytes:
        return struct.pack("=IHHII", 16 + len(payload), kind, 2, 1, 0) + payload

    link = attribute(3, b"br0\0") + attribute(18, attribute(1, b"bridge\0"))
    gateway = attribute(5, bytes([10, 0, 0, 1]))
    hop = struct.pack("=HBBi", 16, 0, 0, 7) + gateway
    found = [
        message(16, struct.pack("=BxHiII", 0, 1, 7, 0x10001, 0) + link),
        message(20, struct.pack("=BBBBI", 2, 24, 0, 0, 7) + attribute(2, bytes([10, 0, 0, 5]))),
        message(24, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0) + attribute(9, 2 * hop)),
        message(28, struct.pack("=BxxxiHBB", 2, 7, 2, 0, 1) + attribute(1, bytes(16))),
    ]
    yield from found
    yield b"".join(found)


def _found_services() -> Iterator[bytes]:
    key = b"pk=ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    texts = [b"rt=eris.blocks", b"path=/.well-known/eris", b"v=1", key]
    yield b"\n".join([b"desktop", b"192.168.1.20 fe80::1%3 203.0.113.1", *texts])
    yield b"\n".join([b"a\x1b[2J", b"192.168.1.5 ::1 x", *texts[:3]])


def _pin_requests() -> Iterator[bytes]:
    root = bytes(range(32))
    yield format_map({"bytes": 2**40, "token": bytes(16)})
    yield format_map({"name": "notes é", "root": root, "lend": True, "keep": False})
    yield format_map({"root": root, "owner": 1000, "incomplete": True, "unknown": [{"x": [1.5]}]})


def _pin_answers() -> Iterator[bytes]:
    counts = dict.fromkeys(("created", "small", "large", "own_small", "own_large", "missing"), 7)
    told = {"name": "notes é", "owner": 1000, "keep": True, "lend": False, **counts}
    yield format_map({**told, "root": None})
    yield format_map({**told, "root": bytes(32), "of a later version": [1.5]})


def _database_pages() -> Iterator[bytes]:
    """Of a table of blocks of both sizes, and of one with an index of its own."""
    size = 4096
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"PRAGMA page_size = {size}")
        connection.execute("CREATE TABLE blocks (id INTEGER PRIMARY KEY, reference, block)")
        connection.execute("CREATE TABLE wanted (reference, pin, PRIMARY KEY (reference, pin))")
        for number, length in enumerate((1024, 32768, 1024, 1024), 1):
            row = (number, bytes([number]) * 32, bytes(length))
            connection.execute("INSERT INTO blocks VALUES (?, ?, ?)", row)
            connection.execute("INSERT INTO wanted VALUES (?, ?)", row[1::-1])
        data = connection.serialize()
    yield from (data[at : at + size] for at in range(0, len(data), size))


_SETTINGS = (
    b"""\
store = '/s/blocks'
max-size = "50 GB" # as sold
listen = [
  "coap+unix:///l?mode=0660", 'coap+tcp://[::1]?get',
]
[[peers]]
url = "coaps+tcp://h?key=/k#ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
rights = ["get", "relay"]
name = """
    + b'"""two\n"words""""\n'
)


_SEEDS: dict[str, Callable[[], Iterable[bytes]]] = {
    "database_page": _database_pages,
    "narinfo": _narinfos,
    "nar": lambda: _cut(_nars()),
    "expression": _expressions,
    "keys": lambda: [*_expressions(), *_nix_keys()],
    "access_list": _expressions,
    "signature": _expressions,
    "decompression": _compressed,
    "guix_texts": _texts,
    "item_list": _item_lists,
    "cache_info": lambda: [*_files("nix-cache-info"), *_files("nix-2.8/nix-cache-info"), b"x: y"],
    "nix_conf": lambda: [b"trusted-public-keys = a:b c\n", b"extra-trusted-public-keys = a # b\n"],
    "item_map": _maps,
    "commands": lambda: _cut(_commands()),
    "replies": lambda: [b"x-1.drv\nx-1\ny-2", b"\nx", b"a b\nc", b"\xff"],
    "kept_narinfo": lambda: [format_answer(text, 1000) for text in (None, b"", b"URL: x\n")],
    "http_answers": lambda: (b"\4" + answer for answer in _cut(_answers())),
    "encoded_bodies": _encoded,
    "server_urls": _urls,
    "proxies": _proxies,
    "retry_after": lambda: [b"120", b"Wed, 01 Jan 2025 00:01:00 GMT", b"Wed, 1 Jan 1 0:0 +2400"],
    "worker": _worker,
    "item_table": _tables,
    "publisher_record": _records,
    "mirror_record": _mirror_records,
    "proxy_urns": _item_urns,
    "capability": _capabilities,
    "node": _nodes,
    "bundle": lambda: _cut(_bundles()),
    "link": _links,
    "block_list": lambda: _cut([LIST_HEAD + bytes(range(64)), LIST_HEAD, LIST_HEAD + b"x"]),
    "eris_fs_index": lambda: _cut(_indexes()),
    "packed_index": lambda: _cut(_packed_trees()),
    "packed_sections": _sections,
    "pack": _packs,
    "delta": lambda: _cut(one.to_bytes() for one in _deltas()),
    "delta_sections": lambda: (one.plain_index() for one in _deltas()),
    "coap_frames": lambda: _cut(_messages()),
    "coap_connection": lambda: _cut(_messages()),
    "list_pages": lambda: [b"", bytes(72), bytes(8), b"after=00000000000000ff", b"after=1"],
    "store_url": _store_urls,
    "database_url": _database_urls,
    "store_group": _store_groups,
    "network_entry": _network_entries,
    "netlink": _netlink,
    "found_service": _found_services,
    "http_targets": _http_targets,
    "settings_file": lambda: [template().encode(), _SETTINGS],
    "toml_lines": lambda: [template().encode(), _SETTINGS, b"a.b = [1, {c = 2}]\n[[d]]\n'e' = 1"],
    "http_places": lambda: [b"127.0.0.1:8080 [::1]:0", b"unix:/run/a.sock", b"localhost:9080"],
    "pin_answers": _pin_answers,
    "pin_requests": _pin_requests,
    "daemon_facts": lambda: [json.dumps(told()).encode() for told in (numbers, everything)],
}
