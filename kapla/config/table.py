"""All settings, a row each: all else that speaks of them draws on this table.

That is what reads them, `kaplad --help`, `kapla config`, what SIGHUP takes over; tests compare
`docs/cli.md` and `packaging/kapla.toml` with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kapla.config.model import LEVELS
from kapla.config.readers import (
    parse_choice,
    parse_count,
    parse_switch,
    parse_urls,
)
from kapla.config.users import parse_users
from kapla.http.settings import parse_admin, parse_http
from kapla.lan.networks import parse_entries
from kapla.peer_config import parse_known_peers, parse_peer_urls, parse_peers
from kapla.sizes import parse_amount, parse_rate, parse_scrub_rate, parse_store_size
from kapla.store_place import parse_place

__all__ = ["BY_FIELD", "BY_KEY", "SETTINGS", "Flag", "Setting"]

Reader = Callable[[object], object]
"""Makes what `Config` holds of what TOML or a text has. Raises: ValueError."""


@dataclass(frozen=True, slots=True)
class Flag:
    """An option of `kaplad` that sets it."""

    name: str
    metavar: str
    help: str
    several: bool = False
    read: Reader | None = None
    """Where that differs from how the setting is read."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting."""

    key: str
    """In the file."""
    field: str
    """Of `Config`, where its default is."""
    read: Reader
    about: str
    """What it does, in a sentence or two."""
    default: str
    """What holds without it, in words."""
    example: str
    """As TOML has it; what the default is where that can be written."""
    flags: tuple[Flag, ...] = ()
    reloads: bool = False
    """Whether SIGHUP takes it over."""

    @property
    def variable(self) -> str:
        """In the environment."""
        return "KAPLA_" + self.key.upper().replace("-", "_")


_SIZES = 'bytes, or as in "10G", "10 GiB" (2^30 each) or "10 GB" (10^9)'

SETTINGS: Final = (
    Setting(
        "store",
        "store",
        parse_place,
        "The SQLite file that holds the blocks; its directory is made. Or the URL of a database of"
        " PostgreSQL, as postgresql:///kapla?host=/run/postgresql.",
        "root: /var/lib/kapla/blocks.sqlite; others: ~/.local/share/kapla/blocks.sqlite",
        '"/srv/blocks/kapla.sqlite"',
        (
            Flag(
                "--store",
                "PATH|URL",
                "The SQLite file that holds the blocks, or a database of PostgreSQL, as"
                " postgresql:///kapla?host=/run/postgresql.",
            ),
        ),
    ),
    Setting(
        "listen",
        "listen",
        parse_urls,
        "Where programs and other daemons connect, and what they may do there.",
        "root: /run/eris.sock; others: $XDG_RUNTIME_DIR/eris.sock",
        '["coap+unix:///run/eris.sock?mode=0660", "coap+tcp://[::]:5683"]',
        (
            Flag(
                "--listen",
                "URL",
                "Where to listen, as coap+unix:///run/eris.sock?get&put, coap+tcp://[::1]:5683?get"
                " or coaps+tcp://[::]:5684?lend; may be given several times, and replaces the"
                " defaults.",
                several=True,
            ),
        ),
    ),
    Setting(
        "max-size",
        "max_size",
        parse_store_size,
        f"How large the database and its WAL may become: {_SIZES}."
        " What nobody has pinned or read for long makes room.",
        "none, the disk is the limit",
        '"100 GiB"',
        (
            Flag(
                "--max-size",
                "SIZE",
                'Bytes the store may have, or as in "100 GiB". What nobody keeps makes room then.',
            ),
        ),
        reloads=True,
    ),
    Setting(
        "min-free",
        "min_free",
        parse_amount,
        "How much of its disk the store leaves to others: a size as above.",
        "none",
        '"10 GiB"',
        (Flag("--min-free", "SIZE", "Bytes of its disk that the store leaves free."),),
        reloads=True,
    ),
    Setting(
        "when-full",
        "when_full",
        parse_choice("evict", "refuse"),
        "What happens where there is no room: old blocks go (evict), or new ones are refused"
        " (refuse).",
        "evict, so that a cache stays of use",
        '"evict"',
        (
            Flag(
                "--when-full",
                "evict|refuse",
                "What is done where there is no room: old blocks go (the default), or new ones are"
                " refused.",
            ),
        ),
        reloads=True,
    ),
    Setting(
        "synchronous",
        "synchronous",
        parse_choice("normal", "full"),
        "What an acknowledged block survives: a killed process (normal), or a power cut too (full),"
        " at an fsync for each commit.",
        "normal, as blocks can mostly be had again",
        '"normal"',
    ),
    Setting(
        "max-put-rate",
        "max_put_rate",
        parse_rate,
        "Bytes a second that each user may put; who puts more is read later.",
        "none",
        '"50 MiB"',
        reloads=True,
    ),
    Setting(
        "peers",
        "peers",
        parse_peers,
        "Other daemons that are asked for what is not here: a table [[peers]] for each. Here is one"
        " that we dial.",
        "none",
        "coaps+tcp://attic.example#ed25519:…",
        (
            Flag(
                "--peer",
                "URL",
                "Another daemon to connect to, and to ask for what is not here, as"
                " coaps+tcp://HOST#ed25519:KEY; may be given several times.",
                several=True,
                read=parse_peer_urls,
            ),
            Flag(
                "--known-peer",
                "KEY",
                "A daemon that connects to us, by the key that its --print-key prints: it is asked"
                " too; may be given several times.",
                several=True,
                read=parse_known_peers,
            ),
        ),
    ),
    Setting(
        "advertise",
        "advertise",
        parse_switch,
        "Whether listeners on TCP and TLS are announced on the local network.",
        "false, so that nothing is told that was not asked for",
        "false",
    ),
    Setting(
        "discover",
        "discover",
        parse_choice("lan"),
        "Where other daemons are looked for: on the local network (lan).",
        "none",
        '"lan"',
    ),
    Setting(
        "discover-networks",
        "discover_networks",
        parse_entries,
        "Networks where whoever is found is asked for blocks; kapla peers --found prints them.",
        "none",
        '["192.168.1.0/24 via aa:bb:cc:dd:ee:ff"]',
    ),
    Setting(
        "max-stranger-rate",
        "max_stranger_rate",
        parse_rate,
        "Bytes a second that those on TCP, TLS and HTTP whom nobody knows are given, all of a"
        " listener together.",
        "none",
        '"10 MiB"',
        reloads=True,
    ),
    Setting(
        "seed-users",
        "seed_users",
        parse_users,
        "Who may run seeds, which see what everybody wants: names or numbers of users.",
        "none, but root and the user who runs kaplad",
        "[1000]",
        reloads=True,
    ),
    Setting(
        "http",
        "http",
        parse_http,
        "Where what is lent is given to anybody by HTTP: a place, or a list.",
        "none",
        '"[::]:8080"',
        (
            Flag(
                "--http",
                "HOST:PORT",
                "Where to give what is lent to anybody by HTTP, as 127.0.0.1:8080 or [::]:8080; may"
                " be given several times.",
                several=True,
            ),
        ),
    ),
    Setting(
        "admin",
        "admin",
        parse_admin,
        "Where this machine is told of the daemon by HTTP.",
        "none",
        '"unix:/run/kapla/admin.sock"',
        (
            Flag(
                "--admin",
                "PLACE",
                "Where to tell this machine of the daemon by HTTP, as 127.0.0.1:9080 or"
                " unix:/PATH.",
            ),
        ),
    ),
    Setting(
        "max-connections",
        "max_connections",
        parse_count,
        "Connections at a time, of each listener and each place of http.",
        "512, as each may cost a few MiB",
        "512",
        reloads=True,
    ),
    Setting(
        "scrub-rate",
        "scrub_rate",
        parse_scrub_rate,
        "Bytes a second that are read and hashed in the background; 0: none.",
        "1 MiB, which is 2.5 TB in thirty days",
        '"1 MiB"',
        reloads=True,
    ),
    Setting(
        "max-pinned-bytes",
        "max_pinned",
        parse_amount,
        "How much the pins of one user may hold.",
        "half of max-size; none without that",
        '"20 GiB"',
        reloads=True,
    ),
    Setting(
        "lend-cache",
        "lend_cache",
        parse_switch,
        "Whether blocks that no pin has may be lent, as kapla encode --no-pin --lend asks for it.",
        "true",
        "true",
        reloads=True,
    ),
    Setting(
        "log-level",
        "log_level",
        parse_choice(*LEVELS),
        f"How much is logged: {', '.join(LEVELS)}.",
        "info",
        '"info"',
        reloads=True,
    ),
    Setting(
        "log-format",
        "log_format",
        parse_choice("text", "json"),
        "What a line of the log is: a sentence (text), or an object of JSON (json).",
        "text",
        '"text"',
        (
            Flag(
                "--log-format",
                "text|json",
                "A sentence a line in the log (the default), or an object of JSON.",
            ),
        ),
        reloads=True,
    ),
)

BY_KEY: Final = {setting.key: setting for setting in SETTINGS}
BY_FIELD: Final = {setting.field: setting for setting in SETTINGS}
