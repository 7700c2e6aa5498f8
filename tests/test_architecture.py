"""Reads every import and keeps the layers true. The picture:

    eris <- eris_fs <- guix_glue        an arrow reads "is used by"
      ^---- kapla

Library code is handed a store; only command-line modules choose one, so only they reach across.
The daemon, and the client with it, handles opaque blocks: never a key, a capability or the decoder.
The rules are data, `RULES`; `docs/architecture.md` tells their reasons.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("eris", "eris_fs", "kapla", "guix_glue")

DOERS = ("fetch", "publish", "proxy", "seed", "maps", "closures")
"""The packages of guix_glue that each do one job, and know nothing of each other."""

SHARED = ("formats", "kept", "local", "servers", "serving", "sources", "trust", "upstream")
"""The packages of guix_glue that these stand on."""
MAX_LINES = 400


@dataclass(frozen=True)
class Rule:
    """Files matching `where` and not `but` import nothing at or below `forbid` except `allow`."""

    why: str
    where: tuple[str, ...]
    forbid: tuple[str, ...]
    allow: tuple[str, ...] = ()
    but: tuple[str, ...] = ()


# A "*" in a file pattern crosses slashes.
RULES = (
    Rule(
        "eris is the lowest layer and knows no other package",
        where=("eris/*",),
        forbid=("eris_fs", "kapla", "guix_glue"),
    ),
    Rule(
        "the codec does no I/O and knows neither CoAP nor SQL",
        where=("eris/*",),
        forbid=("aiocoap", "click", "rich", "socket", "sqlalchemy", "sqlite3"),
    ),
    Rule(
        "inside eris only the pumps and their threads know asyncio",
        where=("eris/*",),
        but=(
            "eris/ahead.py",
            "eris/lacking.py",
            "eris/put_window.py",
            "eris/sizing.py",
            "eris/threads.py",
            "eris/transfer.py",
        ),
        forbid=("asyncio",),
    ),
    Rule(
        "eris/crypto.py is the one file of eris that names a hash or cipher library",
        where=("eris/*",),
        but=("eris/crypto.py",),
        forbid=("blake3", "cryptography", "hashlib", "hmac", "nacl"),
    ),
    Rule(
        "eris_fs stands on eris alone",
        where=("eris_fs/*",),
        forbid=("kapla", "guix_glue"),
    ),
    Rule(
        "zstd is what one module names, but for frames that are made and opened in one piece",
        where=("*",),
        but=("eris_fs/zstd.py", "eris_fs/packed/frame.py"),
        forbid=("backports", "compression", "zstandard"),
    ),
    Rule(
        "what indexes say of trees is compared, listed and chosen from without a store",
        where=("eris_fs/diff/compare.py", "eris_fs/listing.py", "eris_fs/part.py"),
        forbid=("asyncio", "os", "pathlib", "eris.store", "eris.transfer"),
    ),
    Rule(
        "what a delta, a packed tree and an outline are made of is read and written without I/O",
        where=(
            "eris_fs/delta/framing.py",
            "eris_fs/delta/index.py",
            "eris_fs/delta/matching.py",
            "eris_fs/delta/model.py",
            "eris_fs/delta/patching.py",
            "eris_fs/delta/placing.py",
            "eris_fs/delta/steps.py",
            "eris_fs/outline.py",
            "eris_fs/sections.py",
        ),
        forbid=("asyncio", "os", "pathlib", "eris.store", "eris.threads", "eris.transfer"),
    ),
    Rule(
        "of a base a delta knows files by number: a file system is read by one module alone",
        where=("eris_fs/delta/*",),
        but=("eris_fs/delta/directory.py",),
        forbid=("pathlib", "shutil", "eris_fs.open_file", "eris_fs.restore", "eris_fs.scan"),
    ),
    Rule(
        "what applies a delta makes none, and does not know which base it is given",
        where=(
            "eris_fs/delta/apply.py",
            "eris_fs/delta/keeping.py",
            "eris_fs/delta/opening.py",
            "eris_fs/delta/ranges.py",
            "eris_fs/delta/streaming.py",
        ),
        forbid=("os", "eris_fs.delta.directory", "eris_fs.delta.encode", "eris_fs.delta.stored"),
    ),
    Rule(
        "what reads trees makes none, and knows nothing of files on a disk",
        where=("eris_fs/reader/*",),
        forbid=(
            "eris.encode",
            "eris.transfer.put_content",
            "eris_fs.batch",
            "eris_fs.packed.encode",
            "eris_fs.restore",
            "eris_fs.scan",
            "os",
            "pathlib",
        ),
    ),
    Rule(
        "what a reader keeps, and what it fetches ahead, is decided without I/O",
        where=(
            "eris_fs/reader/directories.py",
            "eris_fs/reader/lru.py",
            "eris_fs/reader/pattern.py",
            "eris_fs/reader/small.py",
            "eris_fs/reader/together.py",
        ),
        forbid=("asyncio", "eris.store", "threading", "time"),
    ),
    Rule(
        "the daemon and the client handle opaque blocks, never the codec",
        where=("kapla/*",),
        but=("kapla/cli/*", "kapla/conformance/*", "kapla/doors/*"),
        forbid=("eris",),
        allow=(
            "eris.allocator",
            "eris.base32",
            "eris.crypto",
            "eris.errors",
            "eris.model",
            "eris.store",
            "eris.threads",
        ),
    ),
    Rule(
        "the daemon and the client never hold a key",
        where=("kapla/*",),
        but=("kapla/cli/*", "kapla/doors/*"),
        forbid=(
            "eris.crypto.open_block",
            "eris.crypto.encrypt_leaves",
            "eris.crypto.encrypt_node",
            "eris.model.ConvergenceSecret",
            "eris.model.Key",
            "eris.model.NULL_CONVERGENCE_SECRET",
            "eris.model.ReferenceKeyPair",
        ),
    ),
    Rule(
        "only the command line and the doors reach across to trees, and nothing stands on the"
        " command line",
        where=("kapla/*",),
        but=("kapla/cli/*", "kapla/doors/*"),
        forbid=("eris_fs", "kapla.cli"),
    ),
    Rule(
        "the doors are for other programs: nothing of ours stands on them",
        where=("*",),
        but=("kapla/doors/*",),
        forbid=("fsspec", "kapla.doors"),
    ),
    Rule(
        "the doors use the client, not the inside of the daemon, nor what is for people",
        where=("kapla/doors/*",),
        forbid=("kapla",),
        allow=(
            "kapla.client",
            "kapla.doors",
            "kapla.errors",
            "kapla.given_urls",
            "kapla.loop",
            "kapla.remote_store",
            "kapla.urls",
        ),
    ),
    Rule(
        "fsspec is an extra: the door that needs none is there without it",
        where=("kapla/doors/*",),
        but=("kapla/doors/filesystem.py", "kapla/doors/fsspec_file.py"),
        forbid=("fsspec", "kapla.doors.filesystem", "kapla.doors.fsspec_file"),
    ),
    Rule(
        "what is given to the doors, and where symlinks lead, is found without I/O",
        where=("kapla/doors/given.py", "kapla/doors/links.py"),
        forbid=("asyncio", "eris.store", "socket", "threading"),
    ),
    Rule(
        "kapla does not know Guix",
        where=("kapla/*",),
        forbid=("guix_glue",),
    ),
    Rule(
        "guix_glue is handed a store; only its command line chooses one",
        where=("guix_glue/*",),
        but=("guix_glue/cli/*",),
        forbid=("kapla",),
        allow=("kapla.handed", "kapla.http.serving", "kapla.stopping"),
    ),
    Rule(
        "the command line of guix_glue uses the client, not the inside of the daemon",
        where=("guix_glue/cli/*",),
        forbid=("kapla",),
        allow=(
            "kapla.__version__",
            "kapla.cli",
            "kapla.client",
            "kapla.config",
            "kapla.encode_cache",
            "kapla.amounts",
            "kapla.errors",
            "kapla.given_urls",
            "kapla.http.admin",
            "kapla.handed",
            "kapla.http.serving",
            "kapla.http.settings",
            "kapla.lan",
            "kapla.log",
            "kapla.origins",
            "kapla.pinning",
            "kapla.seeding",
            "kapla.service_manager",
            "kapla.sizes",
            "kapla.shared",
            "kapla.status",
            "kapla.stopping",
            "kapla.urls",
        ),
    ),
    Rule(
        "nothing of guix_glue stands on its command line",
        where=("guix_glue/*",),
        but=("guix_glue/cli/*",),
        forbid=("guix_glue.cli",),
    ),
    *(
        Rule(
            f"what {one} shares with the others is below them",
            where=(f"guix_glue/{one}/*",),
            forbid=tuple(f"guix_glue.{other}" for other in DOERS if other != one),
        )
        for one in DOERS
    ),
    Rule(
        "from which items deltas lead, and what became of them, is told without I/O",
        where=(
            "guix_glue/formats/package_name.py",
            "guix_glue/publish/bases.py",
            "guix_glue/kept/delta_results.py",
        ),
        forbid=("asyncio", "os", "pathlib", "threading", "time", "eris", "eris_fs", "kapla"),
    ),
    Rule(
        "what a map is, where an item is looked for in one, and what differs is told without I/O",
        where=("guix_glue/formats/item_map/*", "guix_glue/maps/combining.py"),
        forbid=("asyncio", "os", "pathlib", "threading", "time", "eris.store", "eris_fs", "kapla"),
    ),
    Rule(
        "maps are read and written without knowing how items become trees",
        where=("guix_glue/maps/*",),
        forbid=("eris_fs", "guix_glue.fetch", "guix_glue.publish"),
        allow=("eris_fs.reader",),
    ),
    Rule(
        "what a seed knows of blocks, which segments become one, and which items it may give away,"
        " is told without I/O",
        where=(
            "guix_glue/seed/consent.py",
            "guix_glue/seed/packs.py",
            "guix_glue/seed/parts.py",
            "guix_glue/seed/records.py",
            "guix_glue/seed/status.py",
            "guix_glue/seed/tiers.py",
            "guix_glue/servers/publicness.py",
        ),
        forbid=("asyncio", "os", "socket", "threading", "time", "kapla"),
    ),
    Rule(
        "a seed's connection knows the wire, and not what makes blocks",
        where=("kapla/coap/offering.py", "kapla/coap/slowly.py", "kapla/seeding.py"),
        forbid=("kapla.storage", "kapla.peers", "kapla.daemon"),
    ),
    Rule(
        "what of a nar may go out, and by which ways it is made, is decided without I/O",
        where=(
            "guix_glue/proxy/item_urns.py",
            "guix_glue/proxy/outflow.py",
            "guix_glue/proxy/ways.py",
        ),
        forbid=("aiohttp", "asyncio", "os", "pathlib", "threading", "time", "eris_fs", "kapla"),
    ),
    Rule(
        "the publisher loads what makes deltas only where it makes them",
        where=("guix_glue/publish/*",),
        but=("guix_glue/publish/delta_trees.py", "guix_glue/publish/deltas.py"),
        forbid=("eris_fs.delta",),
    ),
    Rule(
        "what those share who bring, publish, pass on, seed and list items knows none of them",
        where=tuple(f"guix_glue/{one}/*" for one in SHARED),
        forbid=tuple(f"guix_glue.{one}" for one in DOERS),
    ),
    Rule(
        "how replies go out over HTTP has nothing to do with what they say",
        where=("guix_glue/serving/*",),
        forbid=(
            "eris_fs",
            "guix_glue.formats",
            "guix_glue.kept",
            "guix_glue.local",
            "guix_glue.sources",
            "guix_glue.trust",
            "guix_glue.upstream",
        ),
    ),
    Rule(
        "whose word counts for an item, and what is wanted of it, is told without I/O",
        where=tuple(
            f"guix_glue/closures/{name}.py"
            for name in ("belief", "order", "recording", "signing", "wanted")
        ),
        forbid=("asyncio", "os", "pathlib", "threading", "time", "eris", "eris_fs", "kapla"),
    ),
    Rule(
        "whose word counts, and what of it is passed on, is judged without I/O",
        where=(
            "guix_glue/trust/*",
            "guix_glue/formats/cache_info.py",
            "guix_glue/upstream/passing_on.py",
            "guix_glue/proxy/routes.py",
            "guix_glue/proxy/narinfo_text.py",
            "guix_glue/proxy/pages.py",
        ),
        forbid=("aiohttp", "asyncio", "os", "pathlib", "socket", "threading", "time"),
    ),
    Rule(
        "other servers are asked by nobody who only chooses",
        where=("guix_glue/sources/*",),
        forbid=("aiohttp", "guix_glue.serving", "guix_glue.upstream"),
    ),
    Rule(
        "aiocoap is loosely typed and stays in kapla/coap",
        where=("*",),
        but=("kapla/coap/*",),
        forbid=("aiocoap",),
    ),
    Rule(
        "a store in a file is a client's store, loaded for a URL that names one",
        where=("*",),
        but=("kapla/file_store/*", "kapla/client.py", "kapla/origins.py"),
        forbid=("kapla.file_store",),
    ),
    Rule(
        "a store in a file is used without a daemon, its listeners and its peers",
        where=("kapla/file_store/*",),
        forbid=("aiocoap", "kapla"),
        allow=(
            "kapla.coap",
            "kapla.config",
            "kapla.errors",
            "kapla.file_store",
            "kapla.local_socket",
            "kapla.pin_messages",
            "kapla.pins",
            "kapla.remote_store",
            "kapla.storage",
            "kapla.store_place",
            "kapla.store_settings",
            "kapla.urls",
        ),
    ),
    Rule(
        "the catalogue holds URNs: only the command line knows it, never the daemon or the client",
        where=("*",),
        but=("kapla/cli/*", "kapla/catalogue/*"),
        forbid=("kapla.catalogue",),
    ),
    Rule(
        "the conformance kit belongs to the command line",
        where=("*",),
        but=("kapla/cli/*", "kapla/conformance/*"),
        forbid=("kapla.conformance",),
    ),
    Rule(
        "the conformance kit makes its own frames: it knows no client and no daemon",
        where=("kapla/conformance/*",),
        forbid=("aiocoap", "kapla"),
        allow=(
            "kapla.coap.blocks",
            "kapla.coap.frame",
            "kapla.conformance",
            "kapla.connecting",
            "kapla.errors",
            "kapla.urls",
        ),
    ),
    Rule(
        "the catalogue keeps what it is given: it knows no store, no daemon and no codec",
        where=("kapla/catalogue/*",),
        forbid=("eris", "kapla"),
        allow=("kapla.catalogue", "kapla.errors", "kapla.urls", "kapla.user_paths"),
    ),
    Rule(
        "SQL stays in kapla/storage, the encode cache, the catalogue, the one reader of the"
        " databases of Guix and Nix, and maps that are databases",
        where=("*",),
        but=(
            "kapla/storage/*",
            "kapla/catalogue/*",
            "kapla/encode_cache.py",
            "guix_glue/local/foreign_database.py",
            "guix_glue/local/store_db.py",
            "guix_glue/maps/database.py",
            "guix_glue/local/store_list.py",
        ),
        forbid=("sqlalchemy", "sqlite3"),
    ),
    Rule(
        "the front of a store knows its backends by the port, and opening.py alone by name",
        where=("kapla/storage/*",),
        but=(
            "kapla/storage/opening.py",
            "kapla/storage/postgresql/*",
            "kapla/storage/sqlite/*",
        ),
        forbid=("kapla.storage.postgresql", "kapla.storage.sqlite", "sqlalchemy", "sqlite3"),
    ),
    Rule(
        "a backend knows the port, and not the front",
        where=("kapla/storage/postgresql/*", "kapla/storage/sqlite/*"),
        but=("kapla/storage/sqlite/reading.py",),
        forbid=(
            "kapla.storage.access",
            "kapla.storage.batching",
            "kapla.storage.opening",
            "kapla.storage.pinning",
            "kapla.storage.rounds",
        ),
    ),
    Rule(
        "PostgreSQL is an extra: its driver is named where it is a store, and nowhere else",
        where=("*",),
        but=("kapla/storage/postgresql/*",),
        forbid=("psycopg",),
    ),
    Rule(
        "runs of references are packed, cut and gathered without I/O",
        where=("kapla/storage/postgresql/runs.py",),
        forbid=("kapla", "psycopg", "threading", "time"),
        allow=("kapla.errors",),
    ),
    Rule(
        "how a database is opened can be said without its driver",
        where=("kapla/storage/postgresql/settings.py", "kapla/storage/postgresql/locks.py"),
        forbid=("psycopg",),
    ),
    Rule(
        "one backend does not know another",
        where=("kapla/storage/postgresql/*",),
        forbid=("sqlite3", "kapla.storage.sqlite", "kapla.storage.batching"),
    ),
    Rule(
        "one backend does not know the other",
        where=("kapla/storage/sqlite/*",),
        forbid=("psycopg", "kapla.storage.postgresql"),
    ),
    Rule(
        "the wire format and the connection's state do no I/O",
        where=("kapla/coap/frame.py", "kapla/coap/connection.py"),
        forbid=("aiocoap", "asyncio", "selectors", "socket", "threading"),
    ),
    Rule(
        "TLS, and the keys that name peers, stay in kapla/identity",
        where=("kapla/*",),
        but=("kapla/identity/*",),
        forbid=("cryptography", "nacl", "ssl"),
    ),
    Rule(
        "keys and TLS know neither stores, nor the wire, nor the daemon",
        where=("kapla/identity/*",),
        forbid=("eris", "kapla"),
        allow=("kapla.errors", "kapla.identity", "kapla.local_socket", "kapla.user_paths"),
    ),
    Rule(
        "a session is a value: the clock is handed in, and nothing of kapla is below it",
        where=("kapla/peers/session/*",),
        forbid=("asyncio", "kapla", "random", "selectors", "socket", "threading", "time"),
        allow=("kapla.peers.session",),
    ),
    Rule(
        "peers are asked for blocks, and know nothing of how these are kept",
        where=("kapla/peers/*",),
        forbid=("aiocoap", "kapla.storage"),
    ),
    Rule(
        "seeds are asked for blocks, and know nothing of peers and of how blocks are kept",
        where=("kapla/seeds/*",),
        forbid=("aiocoap", "kapla.config", "kapla.peers", "kapla.storage"),
    ),
    Rule(
        "whether a seed is waited for, and who is served next, is decided without I/O",
        where=("kapla/seeds/health.py", "kapla/seeds/near.py", "kapla/seeds/turns.py"),
        forbid=("asyncio", "eris", "kapla", "os", "socket", "threading", "time"),
    ),
    Rule(
        "what decides whom of the local network we trust is pure",
        where=(
            "kapla/lan/judging.py",
            "kapla/lan/netlink.py",
            "kapla/lan/networks.py",
            "kapla/lan/service.py",
        ),
        forbid=("asyncio", "ifaddr", "pathlib", "socket", "time", "zeroconf"),
    ),
    Rule(
        "multicast DNS stays in kapla/lan",
        where=("*",),
        but=("kapla/lan/*",),
        forbid=("ifaddr", "zeroconf"),
    ),
    Rule(
        "the local network is looked at without knowing stores, the wire or the daemon",
        where=("kapla/lan/*",),
        forbid=("eris", "kapla"),
        allow=("kapla.errors", "kapla.identity.key", "kapla.lan"),
    ),
    Rule(
        "connections of strangers are bounded without knowing what is asked on them",
        where=("kapla/http/serving/*",),
        forbid=("eris", "kapla", "guix_glue"),
        allow=("eris.allocator", "kapla.http.serving"),
    ),
    Rule(
        "aiohttp answers in kapla/http and guix_glue alone, and there is a door without it",
        where=("kapla/*",),
        but=("kapla/http/*",),
        forbid=("aiohttp", "yarl"),
    ),
    Rule(
        "connections by HTTP have their turn without knowing what is asked on them",
        where=("kapla/http/turns/*",),
        forbid=("kapla.http", "kapla.peers"),
        allow=("kapla.http.serving", "kapla.http.turns"),
    ),
    Rule(
        "the door for the world and the one for this machine know nothing of each other",
        where=("kapla/http/door/*",),
        forbid=("kapla.http.admin", "kapla.peers"),
    ),
    Rule(
        "the door for this machine gives no blocks",
        where=("kapla/http/admin/*",),
        forbid=("kapla.http.door", "kapla.http.wire", "kapla.storage.access.BlockAccess"),
    ),
    Rule(
        "whoever tells of a server to this machine knows no server",
        where=("kapla/http/admin/*",),
        forbid=("eris", "guix_glue", "kapla"),
        allow=(
            "eris.errors",
            "kapla.coap.sockets.peer_uid",
            "kapla.errors",
            "kapla.handed",
            "kapla.http.admin",
            "kapla.http.settings",
            "kapla.sockets",
            "kapla.status",
            "kapla.urls",
        ),
    ),
    Rule(
        "what a server shows of itself is a value: no I/O, and nothing else of kapla",
        where=("kapla/status/*",),
        forbid=("aiohttp", "asyncio", "eris", "kapla", "rich", "selectors", "socket", "time"),
        allow=("kapla.amounts", "kapla.status"),
    ),
    Rule(
        "servers of HTTP are asked without knowing what is kept here, or who is served",
        where=("kapla/http/asking/*",),
        forbid=("aiocoap", "kapla"),
        allow=(
            "kapla.errors",
            "kapla.http.asking",
            "kapla.http.wire",
            "kapla.identity",
            "kapla.peers.source",
            "kapla.uninstalled",
            "kapla.urls",
        ),
    ),
    Rule(
        "what is said over HTTP is a value: no I/O, and of eris what names a block",
        where=("kapla/http/wire/*",),
        forbid=("aiohttp", "asyncio", "eris", "kapla", "selectors", "socket", "threading"),
        allow=("eris.base32", "eris.crypto", "eris.errors", "eris.model", "kapla.http.wire"),
    ),
    Rule(
        "settings are read without knowing the store, the wire or the daemon",
        where=("kapla/config/*",),
        forbid=("eris", "kapla", "asyncio"),
        allow=(
            "kapla.config",
            "kapla.database_url",
            "kapla.errors",
            "kapla.guessing",
            "kapla.http.settings",
            "kapla.identity",
            "kapla.lan.networks",
            "kapla.local_socket",
            "kapla.log",
            "kapla.peer_config",
            "kapla.sizes",
            "kapla.store_place",
            "kapla.tls",
            "kapla.urls",
            "kapla.user_paths",
        ),
    ),
    Rule(
        "what the doctor says of facts is pure: no I/O, and nothing of kapla but amounts in words",
        where=(
            "kapla/cli/doctor/checks/*",
            "kapla/cli/doctor/facts.py",
            "kapla/cli/doctor/finding.py",
        ),
        forbid=("asyncio", "eris", "kapla", "os", "pathlib", "socket", "subprocess", "time"),
        allow=(
            "kapla.amounts",
            "kapla.cli.doctor.checks",
            "kapla.cli.doctor.facts",
            "kapla.cli.doctor.finding",
        ),
    ),
    Rule(
        "completion only looks: it runs no command, and makes nothing",
        where=("kapla/cli/completing/*",),
        forbid=("kapla.catalogue.catalogue", "kapla.catalogue.file", "kapla.cli"),
        allow=(
            "kapla.amounts",
            "kapla.cli.commands",
            "kapla.cli.completing",
            "kapla.cli.main.Commands",
            "kapla.cli.store.Store",
            "kapla.cli.urn",
        ),
    ),
    Rule(
        "the text of manual pages is a value",
        where=("kapla/cli/manual/roff.py",),
        forbid=("click", "eris", "kapla", "os", "pathlib"),
    ),
    Rule(
        "sockets are handed over without knowing whose they are, or what is said on them",
        where=("kapla/handed/*",),
        forbid=("asyncio", "eris", "kapla", "guix_glue"),
        allow=("kapla.handed",),
    ),
    Rule(
        "packages do not need what is not installed with them",
        where=("*",),
        forbid=("benchmarks", "tests", "tools"),
    ),
)


def is_within(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the prefixes or below it: eris_fs is not below eris."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def source_files(root: Path) -> list[Path]:
    return sorted(file for name in PACKAGES for file in (root / name).rglob("*.py"))


def imports_of(root: Path, file: Path) -> Iterator[tuple[int, str]]:
    """The dotted names a file imports, with their lines: `from a.b import c` gives a.b.c.

    Imports inside functions, under TYPE_CHECKING, and by `import_module("...")` count too.
    """
    package = file.relative_to(root).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = list(package[: len(package) + 1 - level]) if level else []
                base += [module] if module else []
                yield from ((alias.lineno, ".".join([*base, alias.name])) for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def violations(root: Path) -> list[str]:
    """One line for each import that breaks a rule: where, what, and the rule."""
    found = []
    for file in source_files(root):
        path = file.relative_to(root).as_posix()
        rules = [rule for rule in RULES if applies(rule, path)]
        for line, name in imports_of(root, file):
            found += [
                f"{path}:{line}: imports {name}, but {rule.why}"
                for rule in rules
                if is_within(name, rule.forbid) and not is_within(name, rule.allow)
            ]
    return found


def applies(rule: Rule, path: str) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in rule.where) and not any(
        fnmatchcase(path, pattern) for pattern in rule.but
    )


def test_the_layers_hold() -> None:
    found = violations(REPOSITORY)
    assert not found, "\n" + "\n".join(found)


def test_rules_name_files_that_exist() -> None:
    # A rule for a file that was renamed would be kept by nobody.
    named = {pattern for rule in RULES for pattern in rule.where + rule.but if "*" not in pattern}
    missing = {path for path in named if not (REPOSITORY / path).exists()}
    assert not missing, missing


def test_every_package_is_typed() -> None:
    untyped = [name for name in PACKAGES if not (REPOSITORY / name / "py.typed").exists()]
    assert not untyped, f"no py.typed in {untyped}"


def test_no_module_is_too_long() -> None:
    lengths = {
        str(file.relative_to(REPOSITORY)): len(file.read_text().splitlines())
        for file in source_files(REPOSITORY)
    }
    too_long = {path: length for path, length in lengths.items() if length > MAX_LINES}
    assert not too_long, f"over {MAX_LINES} lines: {too_long}"


# --- the checker itself, on a made-up tree ----------------------------------------------------


def check(root: Path, path: str, source: str) -> list[str]:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    return violations(root)


def test_a_violation_names_file_line_and_rule(tmp_path: Path) -> None:
    assert check(tmp_path, "kapla/daemon.py", "import os\nfrom eris import decode\n") == [
        "kapla/daemon.py:2: imports eris.decode, but "
        "the daemon and the client handle opaque blocks, never the codec"
    ]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("eris/node.py", "import kapla.client"),
        ("eris/node.py", "import eris_fs"),
        ("eris/node.py", "from socket import socket"),
        ("eris/store.py", "import sqlalchemy.engine"),
        ("eris/decode.py", "import asyncio"),
        ("eris/node.py", "from hashlib import blake2b"),
        ("eris/transfer.py", "from cryptography.hazmat import primitives"),
        ("eris_fs/tree.py", "from kapla import client"),
        ("eris_fs/reader/tree.py", "from kapla.client import open_store"),
        ("eris_fs/reader/lru.py", "import asyncio"),
        ("eris_fs/delta/index.py", "import asyncio"),
        ("eris_fs/delta/apply.py", "from eris_fs.scan import scan_tree"),
        ("eris_fs/delta/apply.py", "from eris_fs.delta.directory import DirectoryFiles"),
        ("kapla/daemon.py", "import eris"),
        ("kapla/daemon.py", "from eris import Decoder"),
        ("kapla/client.py", "from eris.transfer import put_content"),
        ("kapla/client.py", "def f():\n    from eris.capability import ReadCapability"),
        ("kapla/client.py", "import importlib\nimportlib.import_module('eris.encode')"),
        ("kapla/coap/site.py", "from eris.model import Key"),
        ("kapla/coap/site.py", "from eris.crypto import open_block"),
        ("kapla/daemon.py", "from eris_fs import scan"),
        ("kapla/daemon.py", "from .cli import main"),
        ("kapla/coap/site.py", "from ..cli.main import main"),
        ("kapla/cli/encode.py", "import guix_glue.nar"),
        ("kapla/cli/encode.py", "import sqlite3"),
        ("kapla/client.py", "import aiocoap"),
        ("kapla/daemon.py", "from kapla.catalogue.catalogue import Catalogue"),
        ("guix_glue/cli/publish.py", "import kapla.catalogue"),
        ("kapla/daemon.py", "from kapla.conformance.stage import Stage"),
        ("kapla/conformance/stage.py", "from kapla.remote_store import RemoteStore"),
        ("kapla/catalogue/file.py", "from kapla.storage.sqlite import engine"),
        ("kapla/catalogue/entries.py", "from eris.capability import ReadCapability"),
        ("kapla/storage/sqlite/writer.py", "from aiocoap import Message"),
        ("kapla/coap/site.py", "from sqlalchemy import Table"),
        ("kapla/coap/frame.py", "import asyncio"),
        ("kapla/coap/connection.py", "import socket"),
        ("kapla/peers/session/session.py", "import asyncio"),
        ("kapla/peers/session/standing.py", "from time import monotonic"),
        ("kapla/peers/session/want.py", "from kapla.peers.source import Block"),
        ("kapla/peers/runner.py", "from kapla.storage.access import BlockAccess"),
        ("kapla/seeds/first.py", "from kapla.peers.beyond import PeerBlocks"),
        ("kapla/seeds/health.py", "from time import monotonic"),
        ("guix_glue/proxy/nars.py", "from guix_glue.fetch.fetcher import Fetcher"),
        ("guix_glue/proxy/outflow.py", "import asyncio"),
        ("guix_glue/publish/site.py", "from kapla.client import Client"),
        ("guix_glue/fetch/nar_client.py", "from kapla.client import Client"),
        ("guix_glue/fetch/nar_client.py", "from guix_glue.publish import model"),
        ("guix_glue/upstream/servers.py", "from guix_glue.fetch.fetcher import Fetcher"),
        ("guix_glue/servers/url.py", "from guix_glue.fetch import options"),
        ("guix_glue/local/items.py", "from guix_glue.cli import programs"),
        ("guix_glue/cli/publish.py", "from kapla.daemon import Daemon"),
        ("kapla/daemon.py", "import psycopg"),
        ("kapla/storage/postgresql/settings.py", "from psycopg import errors"),
        ("kapla/storage/postgresql/session.py", "from kapla.storage.sqlite import files"),
        ("kapla/storage/sqlite/files.py", "from kapla.storage.postgresql import settings"),
        ("kapla/daemon.py", "import ssl"),
        ("kapla/coap/link.py", "from cryptography import x509"),
        ("kapla/identity/contexts.py", "from kapla.coap import frame"),
        ("kapla/identity/key.py", "from eris.base32 import format_base32"),
        ("kapla/http/wire/batch.py", "import asyncio"),
        ("kapla/config/checks.py", "from kapla.storage.sqlite.database import open_database"),
        ("kapla/http/wire/n2r.py", "from kapla.urls import parse_store_url"),
        ("kapla/daemon.py", "import kapla.doors.sync"),
        ("kapla/cli/cat.py", "from kapla.doors.session import Session"),
        ("kapla/doors/sync.py", "from kapla.daemon import Daemon"),
        ("kapla/doors/sync.py", "from kapla.cli.common import connect"),
        ("kapla/doors/session.py", "import fsspec"),
        ("kapla/log.py", "from tests import fakes"),
        ("guix_glue/formats/compression/compressors.py", "from backports import zstd"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, path: str, source: str) -> None:
    found = check(tmp_path, path, source)
    assert found
    assert all(violation.startswith(f"{path}:") for violation in found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("eris/transfer.py", "import asyncio\nfrom . import node"),
        ("eris/crypto.py", "import hashlib\nfrom cryptography.hazmat import primitives"),
        ("eris_fs/tree.py", "import eris\nfrom eris.transfer import put_content"),
        ("kapla/client.py", "from eris.model import BlockSize\nfrom eris.store import BlockReader"),
        ("kapla/daemon.py", "from eris import errors\nfrom . import client"),
        ("kapla/cli/list.py", "from kapla.catalogue.catalogue import Catalogue"),
        ("kapla/catalogue/file.py", "import sqlite3\nfrom kapla.catalogue import errors"),
        ("kapla/cli/encode.py", "import eris\nimport eris_fs\nfrom kapla.client import Client"),
        ("kapla/coap/site.py", "import aiocoap\nimport asyncio"),
        ("kapla/doors/sync.py", "import eris_fs\nfrom kapla.client import open_store"),
        ("kapla/storage/sqlite/writer.py", "import sqlite3\nimport sqlalchemy"),
        ("guix_glue/local/store_db.py", "import sqlite3\nimport eris_fs"),
        ("guix_glue/cli/publish.py", "from kapla import client, errors\nimport kapla.cli.main"),
        ("guix_glue/cli/publish.py", "import guix_glue.publish.site, guix_glue.cli.publisher"),
    ],
)
def test_a_right_import_is_let_through(tmp_path: Path, path: str, source: str) -> None:
    assert check(tmp_path, path, source) == []
