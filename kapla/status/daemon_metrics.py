"""The metrics of a daemon: numbers only, whoever asks. docs/status.md has the same list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from kapla.status.facts import Amount, DaemonFacts, Moved
from kapla.status.metrics import Metric, Sample

__all__ = ["DAEMON_METRICS"]

_STATES: Final = ("connected", "connecting", "waiting", "away")


def _one(
    value: Callable[[DaemonFacts], float | int | None],
) -> Callable[[DaemonFacts], Iterable[Sample]]:
    return lambda facts: (({}, value(facts)),)


def _by(
    label: str, values: Callable[[DaemonFacts], Mapping[str, int]]
) -> Callable[[DaemonFacts], Iterable[Sample]]:
    return lambda facts: [({label: name}, value) for name, value in values(facts).items()]


def _requests(facts: DaemonFacts) -> Mapping[str, int]:
    return {name: facts.requests.get(name, 0) for name in ("get", "put", "other")}


def _given(of: Callable[[Amount], int]) -> Callable[[DaemonFacts], Mapping[str, int]]:
    def values(facts: DaemonFacts) -> Mapping[str, int]:
        moved: Moved = facts.moved
        return {"store": of(moved.here), "seeds": of(moved.seeds), "peers": of(moved.peers)}

    return values


def _peer_states(facts: DaemonFacts) -> Mapping[str, int]:
    return {**dict.fromkeys(_STATES, 0), **Counter(peer.state for peer in facts.peers)}


def _round_trips(facts: DaemonFacts) -> Iterable[Sample]:
    """Of those in the settings, by their place there: those found near come and go."""
    return [
        ({"peer": str(number)}, peer.rtt_s)
        for number, peer in enumerate(facts.peers, 1)
        if not peer.is_found
    ]


def _connections(facts: DaemonFacts) -> Mapping[str, int]:
    """By kind: two listeners of one kind are one sample."""
    counts: Counter[str] = Counter()
    for listener in facts.listeners:
        counts[listener.kind] += listener.connections
    return counts


DAEMON_METRICS: Final[tuple[Metric[DaemonFacts], ...]] = (
    Metric(
        "kapla_start_time_seconds",
        "gauge",
        "When the daemon was started, in seconds since 1970",
        _one(lambda facts: facts.started_at),
    ),
    Metric(
        "kapla_blocks",
        "gauge",
        "Blocks in the store, by their size in bytes",
        _by("size", lambda facts: facts.blocks),
    ),
    Metric(
        "kapla_database_bytes",
        "gauge",
        "Pages of the database in use",
        _one(lambda facts: facts.database_bytes),
    ),
    Metric(
        "kapla_database_max_bytes",
        "gauge",
        "The setting max-size; not there without it",
        _one(lambda facts: facts.max_size),
    ),
    Metric(
        "kapla_disk_free_bytes",
        "gauge",
        "Free space of the file system that the store is on; not there of a database",
        _one(lambda facts: facts.disk_free_bytes),
    ),
    Metric(
        "kapla_requests_total",
        "counter",
        "Requests: blocks asked for (get), blocks sent (put), and all else (other)",
        _by("kind", _requests),
    ),
    Metric(
        "kapla_refused_requests_total",
        "counter",
        "Requests for blocks that were refused for want of the right",
        _one(lambda facts: facts.requests.get("refused", 0)),
    ),
    Metric(
        "kapla_given_blocks_total",
        "counter",
        "Blocks that were given, by where they came from: this store, seeds, or peers",
        _by("source", _given(lambda amount: amount.blocks)),
    ),
    Metric(
        "kapla_given_bytes_total",
        "counter",
        "Bytes of the blocks that were given, by where they came from",
        _by("source", _given(lambda amount: amount.bytes)),
    ),
    Metric(
        "kapla_put_blocks_total",
        "counter",
        "Blocks that were sent to be stored, whether they were new or not",
        _one(lambda facts: facts.moved.put.blocks),
    ),
    Metric(
        "kapla_put_bytes_total",
        "counter",
        "Bytes of the blocks that were sent to be stored",
        _one(lambda facts: facts.moved.put.bytes),
    ),
    Metric(
        "kapla_new_blocks_total",
        "counter",
        "Blocks that were stored and had not been there",
        _one(lambda facts: facts.new_blocks),
    ),
    Metric(
        "kapla_full_blocks_total",
        "counter",
        "Blocks that were refused because the store is full",
        _one(lambda facts: facts.full_blocks),
    ),
    Metric(
        "kapla_evicted_blocks_total",
        "counter",
        "Blocks that made room for others",
        _one(lambda facts: facts.evicted_blocks),
    ),
    Metric(
        "kapla_scrubbed_blocks_total",
        "counter",
        "Blocks that were read and hashed to see whether they are sound",
        _one(lambda facts: facts.scrubbed_blocks),
    ),
    Metric(
        "kapla_bad_blocks_total",
        "counter",
        "Blocks that were found to be damaged",
        _one(lambda facts: facts.bad_blocks),
    ),
    Metric(
        "kapla_connections",
        "gauge",
        "Open connections, by the kind of listener; without those to the admin door",
        _by("listener", _connections),
    ),
    Metric(
        "kapla_connections_total",
        "counter",
        "Connections that were made, refused ones included",
        _one(lambda facts: facts.connections_ever),
    ),
    Metric("kapla_pins", "gauge", "Pins, of all users", _one(lambda facts: facts.pin_count)),
    Metric(
        "kapla_pinned_blocks",
        "gauge",
        "Blocks that some pin has, whether that keeps them or not",
        _one(lambda facts: facts.pinned_blocks),
    ),
    Metric(
        "kapla_kept_blocks",
        "gauge",
        "Blocks that stay because a pin keeps them",
        _one(lambda facts: facts.kept_blocks),
    ),
    Metric(
        "kapla_lent_blocks",
        "gauge",
        "Blocks that may be given to others",
        _one(lambda facts: facts.lent_blocks),
    ),
    Metric(
        "kapla_seeds",
        "gauge",
        "Seeds: programs of this machine that make blocks again from files",
        _one(lambda facts: facts.seeds.now),
    ),
    Metric(
        "kapla_seed_questions_total",
        "counter",
        "Blocks that seeds were asked for",
        _one(lambda facts: facts.seeds.asked),
    ),
    Metric(
        "kapla_refused_seeds_total",
        "counter",
        "Times that somebody wanted to be a seed and was not let",
        _one(lambda facts: facts.seeds.refused),
    ),
    Metric(
        "kapla_wrong_seeds_total",
        "counter",
        "Seeds that were sent away for a wrong block",
        _one(lambda facts: facts.seeds.wrong),
    ),
    Metric(
        "kapla_peers",
        "gauge",
        "Peers, by how it stands with them",
        _by("state", _peer_states),
    ),
    Metric(
        "kapla_peer_rtt_seconds",
        "gauge",
        "How long a block takes from a peer of the settings, by its place there",
        _round_trips,
    ),
)
