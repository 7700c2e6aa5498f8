"""The metrics of a publisher: numbers only, whoever asks. docs/status.md has the same list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from guix_glue.cli.served_facts import Facts, disk_metric, served_metrics, value_at
from kapla.status.metrics import Metric, Sample

__all__ = ["PUBLISH_METRICS"]


def _deltas(facts: Facts) -> Iterable[Sample]:
    results = ("failed", "given_up", "made")
    return [({"result": result}, facts["deltas"][result]) for result in results]


PUBLISH_METRICS: Final[tuple[Metric[Facts], ...]] = (
    *served_metrics("kapla_publish", "publisher"),
    Metric(
        "kapla_publish_baked_items_total",
        "counter",
        "Items of which all nars, and the URN, were made",
        value_at("baking", "done"),
    ),
    Metric(
        "kapla_publish_failed_bakings_total",
        "counter",
        "Tries to bake an item that failed, or were put off",
        value_at("baking", "failed"),
    ),
    Metric(
        "kapla_publish_waiting_items",
        "gauge",
        "Items that wait to be baked",
        value_at("baking", "waiting"),
    ),
    Metric(
        "kapla_publish_baking_items",
        "gauge",
        "Items that are being baked",
        value_at("baking", "under_way"),
    ),
    Metric(
        "kapla_publish_delayed_items",
        "gauge",
        "Items that are tried again later",
        value_at("baking", "delayed"),
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
        value_at("deltas", "block_bytes"),
    ),
    Metric(
        "kapla_publish_waiting_delta_items",
        "gauge",
        "Items that wait for their deltas",
        value_at("deltas", "waiting"),
    ),
    Metric(
        "kapla_publish_cached_items",
        "gauge",
        "Items of which the cache has something",
        value_at("cache", "items"),
    ),
    disk_metric("kapla_publish"),
)
