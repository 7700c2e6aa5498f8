"""What is shown of a daemon."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final

from kapla.amounts import blocks_text, bytes_text, duration_text
from kapla.status.facts import DaemonFacts, Listener, Moved, Peer, Pin, Transfer
from kapla.status.rates import Window, number_text, percent_text, rate_text
from kapla.status.view import Column, Figure, Group, Table, Tone, View

__all__ = ["HOW_TO_SEE_ALL", "daemon_view", "hit_ratio"]

HOW_TO_SEE_ALL: Final = (
    "Who the peers are, names of pins, and transfers are not shown here."
    " kapla top shows them, and kapla doctor --status-url prints the address of this page with"
    " them."
)
_NEARLY_FULL: Final = 0.9
_CONNECTED: Final = "connected"
_NONE: Final = "–"
_DIALLED: Final = "peers"
_KINDS: Final = {
    "coap+unix": "CoAP, Unix socket",
    "coap+tcp": "CoAP, TCP",
    "coaps+tcp": "CoAP, TLS",
    "http": "HTTP",
    _DIALLED: "peers we dialled",
}


def daemon_view(now: DaemonFacts, before: DaemonFacts | None = None) -> View:
    """All that there is to show. `before`: an earlier look, of which rates are made."""
    if before is not None and before.started_at != now.started_at:
        before = None
    window = Window.between(now.uptime_s, None if before is None else before.uptime_s)
    last = before or now
    state, tone = _state(now, last)
    groups = (
        _store(now),
        _traffic(now, last, window),
        _keeping(now),
        _work(now),
    )
    tables = [_peers(now.peers, with_names=now.everything), _listeners(now.listeners)]
    if now.everything:
        tables = [_transfers(now), tables[0], _pins(now), tables[1]]
    return View("kaplad", state, tone, groups, tables, () if now.everything else (HOW_TO_SEE_ALL,))


def hit_ratio(moved: Moved, asked: int) -> float | None:
    """Which part of the blocks that were asked for was here; None before any was."""
    return None if not asked else min(1.0, moved.here.blocks / asked)


def _state(now: DaemonFacts, last: DaemonFacts) -> tuple[str, Tone]:
    up = f"up {duration_text(now.uptime_s)}"
    if now.bad_blocks:
        return f"{blocks_text(now.bad_blocks)} bad, {up}", Tone.BAD
    if now.full_blocks > last.full_blocks or (now is last and now.full_blocks):
        return f"full: new blocks are refused, {up}", Tone.BAD
    return up, Tone.GOOD


def _store(now: DaemonFacts) -> Group:
    sizes = sorted(now.blocks, key=_size, reverse=True)
    parts = [
        f"{now.blocks[size]:,} of {_size(size) // 1024} KiB" for size in sizes if now.blocks[size]
    ]
    return Group(
        "Store",
        (
            _space(now),
            Figure("blocks", f"{sum(now.blocks.values()):,}", " + ".join(parts)),
            Figure("new", f"{now.new_blocks:,}", "since the start"),
            Figure("evicted", f"{now.evicted_blocks:,}", "to make room"),
            Figure(
                "refused",
                f"{now.full_blocks:,}",
                "as the store was full",
                tone=Tone.NOTABLE if now.full_blocks else Tone.CALM,
            ),
        ),
    )


def _space(now: DaemonFacts) -> Figure:
    used, free = bytes_text(now.database_bytes), now.disk_free_bytes
    on_disk = "" if free is None else f"{bytes_text(free)} free on disk"
    if now.store == "postgresql":
        on_disk = "in PostgreSQL"
    if now.max_size:
        part = min(1.0, now.database_bytes / now.max_size)
        # Where old blocks make room for new ones a full store is nothing unusual.
        is_tight = part >= _NEARLY_FULL and now.when_full == "refuse"
        tone = Tone.NOTABLE if is_tight else Tone.CALM
        return Figure("space", used, on_disk, part, tone, f"of {bytes_text(now.max_size)}")
    of_disk = None if not free else now.database_bytes / (now.database_bytes + free)
    return Figure("space", used, on_disk, of_disk)


def _traffic(now: DaemonFacts, last: DaemonFacts, window: Window) -> Group:
    given, before = now.moved.given, last.moved.given
    requests, were = _requests(now), _requests(last)
    ratio = hit_ratio(now.moved, now.requests.get("get", 0))
    from_peers, made = now.moved.peers, now.moved.seeds
    return Group(
        f"Traffic {window.text}",
        (
            Figure(
                "given",
                rate_text(window.per_s(given.bytes, before.bytes)),
                f"{bytes_text(given.bytes)} in all",
            ),
            Figure(
                "put",
                rate_text(window.per_s(now.moved.put.bytes, last.moved.put.bytes)),
                f"{bytes_text(now.moved.put.bytes)} in all",
            ),
            Figure(
                "requests",
                f"{number_text(window.per_s(requests, were))}/s",
                f"{requests:,} in all",
            ),
            Figure("hits", percent_text(ratio), "of what was asked for", ratio),
            Figure(
                "from peers",
                bytes_text(from_peers.bytes),
                "in all",
            ),
            *((Figure("from seeds", bytes_text(made.bytes), "in all"),) if now.seeds.ever else ()),
        ),
    )


def _requests(facts: DaemonFacts) -> int:
    return sum(facts.requests.get(name, 0) for name in ("get", "put", "other"))


def _keeping(now: DaemonFacts) -> Group:
    every = sum(now.blocks.values())

    def of_all(count: int) -> float | None:
        return min(1.0, count / every) if every else None

    pins = _NONE if now.pin_count is None else f"{now.pin_count:,}"
    return Group(
        "Pins and lending",
        (
            Figure("pins", pins),
            Figure("kept", f"{now.kept_blocks:,}", "blocks that stay", of_all(now.kept_blocks)),
            Figure("pinned", f"{now.pinned_blocks:,}", "blocks in all pins"),
            Figure("lent", f"{now.lent_blocks:,}", "blocks for others", of_all(now.lent_blocks)),
        ),
    )


def _work(now: DaemonFacts) -> Group:
    there = sum(peer.state == _CONNECTED for peer in now.peers)
    refused = now.requests.get("refused", 0)
    return Group(
        "Connections and care",
        (
            Figure("connections", f"{now.connections:,}", f"{now.connections_ever:,} in all"),
            Figure("peers connected", f"{there:,}", f"of {len(now.peers):,}"),
            *_seeds(now),
            Figure("not allowed", f"{refused:,}", "requests refused"),
            Figure("scrubbed", f"{now.scrubbed_blocks:,}", "blocks looked at"),
            Figure(
                "bad",
                f"{now.bad_blocks:,}",
                "found damaged",
                tone=Tone.BAD if now.bad_blocks else Tone.CALM,
            ),
        ),
    )


def _seeds(now: DaemonFacts) -> tuple[Figure, ...]:
    """Where there were any, or somebody wanted to be one."""
    seeds = now.seeds
    if not (seeds.ever or seeds.refused):
        return ()
    note = f"{seeds.wrong:,} gave wrong blocks" if seeds.wrong else f"{seeds.refused:,} refused"
    tone = Tone.NOTABLE if seeds.wrong else Tone.CALM
    return (Figure("seeds", f"{seeds.now:,}", note, tone=tone),)


def _peers(peers: Sequence[Peer], *, with_names: bool) -> Table:
    columns = (
        Column("peer"),
        Column("state"),
        Column("way", rank=3),
        Column("rtt", is_number=True),
        Column("rate", is_number=True, rank=4),
        Column("hits", is_number=True, rank=5),
        Column("in", is_number=True, rank=1),
        Column("out", is_number=True, rank=2),
        *((Column("address", rank=6),) if with_names else ()),
    )
    rows = []
    for number, peer in enumerate(peers, 1):
        name = peer.name or f"peer {number}"
        row = [
            name + (" (found near)" if peer.is_found else ""),
            peer.state if peer.why is None else f"{peer.state}: {peer.why}",
            peer.direction or _NONE,
            _NONE if peer.rtt_s is None else _milliseconds(peer.rtt_s),
            rate_text(peer.rate) if peer.rate else _NONE,
            percent_text(peer.hit_ratio),
            bytes_text(peer.bytes_in),
            bytes_text(peer.bytes_out),
        ]
        rows.append([*row, peer.address or _NONE] if with_names else row)
    return Table("Peers", columns, rows, "There are no peers.")


def _listeners(listeners: Sequence[Listener]) -> Table:
    columns = (
        Column("listener"),
        Column("open", is_number=True),
        Column("given", is_number=True),
        Column("from peers", is_number=True, rank=1),
        Column("put", is_number=True),
    )
    rows = [
        (
            _kind(one.kind),
            f"{one.connections:,}",
            bytes_text(one.moved.given.bytes),
            bytes_text(one.moved.peers.bytes),
            bytes_text(one.moved.put.bytes),
        )
        for one in listeners
        if one.kind != _DIALLED or one.connections or one.moved.given.blocks
    ]
    return Table("Listeners", columns, rows, "Nobody can connect.")


def _transfers(now: DaemonFacts) -> Table:
    columns = (
        Column("who"),
        Column("when"),
        Column("took", is_number=True, rank=3),
        Column("given", is_number=True),
        Column("put", is_number=True),
        Column("out of", rank=1),
        Column("by", rank=2),
    )
    clock = now.started_at + now.uptime_s
    rows = [
        (
            one.who or _NONE,
            _when(one, clock),
            duration_text(ceil(one.seconds)),
            bytes_text(one.moved.given.bytes) if one.moved.given.bytes else _NONE,
            bytes_text(one.moved.put.bytes) if one.moved.put.bytes else _NONE,
            _sources(one),
            _kind(one.listener),
        )
        for one in now.transfers
    ]
    return Table("Transfers", columns, rows, "No blocks were moved yet.")


def _when(one: Transfer, clock: float) -> str:
    if one.is_open:
        return "now"
    ago = max(0.0, clock - one.began_at - one.seconds)
    return "just now" if ago < 1 else f"{duration_text(ago)} ago"


def _sources(one: Transfer) -> str:
    """Where what was given came from, with the part of each."""
    given = one.moved.given.bytes
    if not given:
        return _NONE
    own = {"the store": one.moved.here.bytes, "seeds": one.moved.seeds.bytes}
    here = {name: size for name, size in own.items() if size}
    parts = {**here, **{name: amount.bytes for name, amount in one.sources.items()}}
    if len(parts) == 1:
        return next(iter(parts))
    return ", ".join(f"{name} {percent_text(part / given)}" for name, part in parts.items())


def _pins(now: DaemonFacts) -> Table:
    columns = (
        Column("pin"),
        Column("size", is_number=True),
        Column("blocks", is_number=True, rank=2),
        Column("missing", is_number=True, rank=1),
        Column("is"),
        Column("user", is_number=True, rank=3),
    )
    if now.pins is None:
        return Table("Pins", columns, (), "They cannot be told at the moment.")
    rows = [
        (
            pin.name,
            bytes_text(pin.bytes),
            f"{pin.blocks:,}",
            f"{pin.missing:,}",
            _switches(pin),
            str(pin.owner),
        )
        for pin in now.pins
    ]
    title = "Pins"
    if now.pin_count is not None and now.pin_count > len(rows):
        title = f"Pins, the first {len(rows)} of {now.pin_count:,}"
    return Table(title, columns, rows, "Nothing is pinned.")


def _switches(pin: Pin) -> str:
    words = (("kept", pin.keep), ("lent", pin.lend))
    return ", ".join(word for word, is_on in words if is_on) or _NONE


def _kind(kind: str) -> str:
    return _KINDS.get(kind, kind)


def _size(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.1f} ms"
