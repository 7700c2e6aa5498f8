"""What a publisher and a proxy tell alike: of requests, clients, and the cache; numbers only."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from eris.errors import ErisError, StoreUnavailable
from guix_glue.serving.http_server import HttpServer
from guix_glue.serving.requests import Requests
from kapla.shared import Shared
from kapla.status.metrics import Metric, Sample

__all__ = ["Facts", "Served", "counted_by", "disk_metric", "served_metrics", "value_at"]

Facts = Mapping[str, Any]

_FRESH_S: Final = 10.0
"""Counting files is work for a disk."""
_PATIENCE_S: Final = 2.0


class Served:
    """A server, and its cache on disk, of which `count` tells how many items it has."""

    def __init__(
        self,
        server: HttpServer,
        requests: Requests,
        cache: Path,
        count: Callable[[], Awaitable[int]],
    ) -> None:
        self._server = server
        self._requests = requests
        self._cache = cache
        self._count = count
        self._started, self._started_at = time.monotonic(), time.time()
        self._disk: Shared[dict[str, object]] = Shared(self._look_at_disk, _FRESH_S)

    async def facts(self) -> dict[str, Any]:
        """All of them, for JSON."""
        requests = self._requests
        return {
            "started_at": round(self._started_at, 3),
            "uptime_s": round(time.monotonic() - self._started, 3),
            "requests": dict(requests.kinds),
            "statuses": dict(requests.statuses),
            "sent_bytes": requests.sent_bytes,
            "cut_off": requests.cut_off,
            "connections": self._server.connections,
            "cache": await self._looked(),
        }

    async def trouble(self) -> str | None:
        """Whether the cache is there, without which nothing is remembered."""
        try:
            await self._disk.get(_PATIENCE_S)
        except ErisError as error:
            return f"the cache cannot be used: {error}"
        return None

    async def _looked(self) -> dict[str, object]:
        try:
            return await self._disk.get(_PATIENCE_S)
        except ErisError:
            return {"items": None, "disk_free_bytes": None}

    async def _look_at_disk(self) -> dict[str, object]:
        try:
            found = await asyncio.to_thread(os.statvfs, self._cache)
            return {
                "items": await self._count(),
                "disk_free_bytes": found.f_bavail * found.f_frsize,
            }
        except OSError as error:
            raise StoreUnavailable(error.strerror or "the disk fails") from error


def value_at(*names: str) -> Callable[[Facts], Iterable[Sample]]:
    """The value at this place of the facts."""

    def samples(facts: Facts) -> Iterable[Sample]:
        value: Any = facts
        for name in names:
            value = value[name]
        return (({}, value),)

    return samples


def counted_by(label: str, name: str) -> Callable[[Facts], Iterable[Sample]]:
    """The values of a table, each with its name as a label."""
    return lambda facts: [({label: key}, value) for key, value in sorted(facts[name].items())]


def served_metrics(prefix: str, what: str) -> tuple[Metric[Facts], ...]:
    """Metrics of requests and clients; `what` is the word for the server."""
    return (
        Metric(
            f"{prefix}_start_time_seconds",
            "gauge",
            f"When the {what} was started, in seconds since 1970",
            value_at("started_at"),
        ),
        Metric(
            f"{prefix}_requests_total",
            "counter",
            "Requests that are over: for narinfos, for nars, and others",
            counted_by("kind", "requests"),
        ),
        Metric(
            f"{prefix}_responses_total",
            "counter",
            "Requests that are over, by the first digit of the status",
            counted_by("status", "statuses"),
        ),
        Metric(
            f"{prefix}_sent_bytes_total",
            "counter",
            "Bytes of the bodies of replies",
            value_at("sent_bytes"),
        ),
        Metric(
            f"{prefix}_cut_off_total",
            "counter",
            "Replies that were not sent whole",
            value_at("cut_off"),
        ),
        Metric(
            f"{prefix}_connections", "gauge", "Clients that are connected", value_at("connections")
        ),
    )


def disk_metric(prefix: str) -> Metric[Facts]:
    """How much room there is for the cache."""
    return Metric(
        f"{prefix}_disk_free_bytes",
        "gauge",
        "Free space of the file system that the cache is on",
        value_at("cache", "disk_free_bytes"),
    )
