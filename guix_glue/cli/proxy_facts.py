"""What a proxy tells of itself: numbers only, whoever asks. docs/status.md has the same metrics."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from eris.errors import ErisError, StoreUnavailable
from guix_glue.cli.publish_view import requests_group
from guix_glue.proxy.source import ProxySource
from guix_glue.publish.tally import Requests
from guix_glue.serving.http_server import HttpServer
from kapla.amounts import bytes_text, duration_text
from kapla.shared import Shared
from kapla.status.metrics import Metric, Sample, metrics_text
from kapla.status.rates import Window
from kapla.status.subject import Told
from kapla.status.view import Figure, Group, Tone, View

__all__ = ["PROXY_METRICS", "ProxySubject"]

_FRESH_S: Final = 10.0
"""Counting files is work for a disk."""
_PATIENCE_S: Final = 2.0
_NONE: Final = "–"

_Facts = Mapping[str, Any]


class ProxySubject:
    """A `Subject` of kapla.status."""

    def __init__(
        self, source: ProxySource, server: HttpServer, requests: Requests, cache: Path
    ) -> None:
        self._source = source
        self._server = server
        self._requests = requests
        self._cache = cache
        self._started, self._started_at = time.monotonic(), time.time()
        self._disk: Shared[dict[str, object]] = Shared(self._look_at_disk, _FRESH_S)

    async def facts(self, told: Told) -> Mapping[str, Any]:
        """All facts, for JSON."""
        requests = self._requests
        return {
            "everything": told is Told.EVERYTHING,
            "started_at": round(self._started_at, 3),
            "uptime_s": round(time.monotonic() - self._started, 3),
            "requests": dict(requests.kinds),
            "statuses": dict(requests.statuses),
            "sent_bytes": requests.sent_bytes,
            "cut_off": requests.cut_off,
            "connections": self._server.connections,
            "resting_servers": self._source.resting,
            "cache": await self._looked(),
        }

    async def metrics(self) -> bytes:
        """The same as metrics."""
        return metrics_text(PROXY_METRICS, await self.facts(Told.NUMBERS))

    async def trouble(self) -> str | None:
        """Whether the cache is there, without which nothing is remembered."""
        try:
            await self._disk.get(_PATIENCE_S)
        except ErisError as error:
            return f"the cache cannot be used: {error}"
        return None

    def view(self, facts: Mapping[str, Any], before: Mapping[str, Any] | None) -> View:
        """What is shown."""
        if before is not None and before["started_at"] != facts["started_at"]:
            before = None
        window = Window.between(facts["uptime_s"], None if before is None else before["uptime_s"])
        groups = (requests_group(facts, before or facts, window), _rest(facts))
        return View("kapla proxy", f"up {duration_text(facts['uptime_s'])}", Tone.GOOD, groups, ())

    async def _looked(self) -> dict[str, object]:
        try:
            return await self._disk.get(_PATIENCE_S)
        except ErisError:
            return {"items": None, "disk_free_bytes": None}

    async def _look_at_disk(self) -> dict[str, object]:
        try:
            found = await asyncio.to_thread(os.statvfs, self._cache)
            return {
                "items": await self._source.count(),
                "disk_free_bytes": found.f_bavail * found.f_frsize,
            }
        except OSError as error:
            raise StoreUnavailable(error.strerror or "the disk fails") from error


def _rest(now: _Facts) -> Group:
    items, free = now["cache"]["items"], now["cache"]["disk_free_bytes"]
    resting = now["resting_servers"]
    return Group(
        "Cache, servers and clients",
        (
            Figure("narinfos in the cache", _NONE if items is None else f"{items:,}"),
            Figure("free on disk", _NONE if free is None else bytes_text(free)),
            Figure(
                "resting servers",
                f"{resting:,}",
                "not asked for now",
                tone=Tone.NOTABLE if resting else Tone.CALM,
            ),
            Figure("clients", f"{now['connections']:,}", "connected"),
            Figure("cut off", f"{now['cut_off']:,}", "replies not taken whole"),
        ),
    )


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


PROXY_METRICS: Final[tuple[Metric[_Facts], ...]] = (
    Metric(
        "kapla_proxy_start_time_seconds",
        "gauge",
        "When the proxy was started, in seconds since 1970",
        _one("started_at"),
    ),
    Metric(
        "kapla_proxy_requests_total",
        "counter",
        "Requests that are over: for narinfos, for nars, and others",
        _by("kind", "requests"),
    ),
    Metric(
        "kapla_proxy_responses_total",
        "counter",
        "Requests that are over, by the first digit of the status",
        _by("status", "statuses"),
    ),
    Metric(
        "kapla_proxy_sent_bytes_total",
        "counter",
        "Bytes of the bodies of replies",
        _one("sent_bytes"),
    ),
    Metric(
        "kapla_proxy_cut_off_total",
        "counter",
        "Replies that were not sent whole",
        _one("cut_off"),
    ),
    Metric("kapla_proxy_connections", "gauge", "Clients that are connected", _one("connections")),
    Metric(
        "kapla_proxy_resting_servers",
        "gauge",
        "Servers that are left alone for now, as they do not answer",
        _one("resting_servers"),
    ),
    Metric(
        "kapla_proxy_cached_narinfos",
        "gauge",
        "Items of which the cache has a narinfo",
        _one("cache", "items"),
    ),
    Metric(
        "kapla_proxy_disk_free_bytes",
        "gauge",
        "Free space of the file system that the cache is on",
        _one("cache", "disk_free_bytes"),
    ),
)
