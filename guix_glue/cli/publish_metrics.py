"""The metrics of a publisher: numbers only, whoever asks. docs/status.md has the same list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kapla.status.metrics import Metric, Sample

__all__ = ["PUBLISH_METRICS"]

_Facts = Mapping[str, Any]


def _one(*names: str) -> Callable[[_Facts], Iterable[Sample]]:
    """The value at this place of the facts."""

    def samples(facts: _Facts) -> Iterable[Sample]:
        value: Any = facts
        for name in names:
            value = value[name]
        return (({}, value),)

    return samples


def _by(label: str, name: str) -> Callable[[_Facts], Iterable[Sample]]:
    return lambda facts: [({label: key}, value) for key, value in sorted(facts[name].items())]


def _deltas(facts: _Facts) -> Iterable[Sample]:
    results = ("failed", "given_up", "made")
    return [({"result": result}, facts["deltas"][result]) for result in results]


PUBLISH_METRICS: Final[tuple[Metric[_Facts], ...]] = (
    Metric(
        "kapla_publish_start_time_seconds",
        "gauge",
        "When the publisher was started, in seconds since 1970",
        _one("started_at"),
    ),
    Metric(
        "kapla_publish_requests_total",
        "counter",
        "Requests that are over: for narinfos, for nars, and others",
        _by("kind", "requests"),
    ),
    Metric(
        "kapla_publish_responses_total",
        "counter",
        "Requests that are over, by the first digit of the status",
        _by("status", "statuses"),
    ),
    Metric(
        "kapla_publish_sent_bytes_total",
        "counter",
        "Bytes of the bodies of replies",
        _one("sent_bytes"),
    ),
    Metric(
        "kapla_publish_cut_off_total",
        "counter",
        "Replies that were not sent whole",
        _one("cut_off"),
    ),
    Metric("kapla_publish_connections", "gauge", "Clients that are connected", _one("connections")),
    Metric(
        "kapla_publish_baked_items_total",
        "counter",
        "Items of which all nars, and the URN, were made",
        _one("baking", "done"),
    ),
    Metric(
        "kapla_publish_failed_bakings_total",
        "counter",
        "Tries to bake an item that failed, or were put off",
        _one("baking", "failed"),
    ),
    Metric(
        "kapla_publish_waiting_items",
        "gauge",
        "Items that wait to be baked",
        _one("baking", "waiting"),
    ),
    Metric(
        "kapla_publish_baking_items",
        "gauge",
        "Items that are being baked",
        _one("baking", "under_way"),
    ),
    Metric(
        "kapla_publish_delayed_items",
        "gauge",
        "Items that are tried again later",
        _one("baking", "delayed"),
    ),
    Metric(
        "kapla_publish_deltas_total",
        "counter",
        "Deltas that were tried, by what became of them",
        _deltas,
    ),
    Metric(
        "kapla_publish_delta_bytes_total",
        "counter",
        "Bytes of the blocks of deltas that were made",
        _one("deltas", "block_bytes"),
    ),
    Metric(
        "kapla_publish_waiting_delta_items",
        "gauge",
        "Items that wait for their deltas",
        _one("deltas", "waiting"),
    ),
    Metric(
        "kapla_publish_cached_items",
        "gauge",
        "Items of which the cache has something",
        _one("cache", "items"),
    ),
    Metric(
        "kapla_publish_disk_free_bytes",
        "gauge",
        "Free space of the file system that the cache is on",
        _one("cache", "disk_free_bytes"),
    ),
)
