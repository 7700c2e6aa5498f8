"""What a proxy tells of itself: numbers only, whoever asks. docs/status.md has the same metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from guix_glue.cli.publish_view import requests_group
from guix_glue.cli.served_facts import Facts, Served, disk_metric, served_metrics, value_at
from guix_glue.proxy.source import ProxySource
from guix_glue.serving.http_server import HttpServer
from guix_glue.serving.requests import Requests
from kapla.amounts import bytes_text, duration_text
from kapla.status.metrics import Metric, metrics_text
from kapla.status.rates import Window
from kapla.status.subject import Told
from kapla.status.view import Figure, Group, Tone, View

__all__ = ["PROXY_METRICS", "ProxySubject"]

_NONE: Final = "–"


class ProxySubject:
    """A `Subject` of kapla.status."""

    def __init__(
        self, source: ProxySource, server: HttpServer, requests: Requests, cache: Path
    ) -> None:
        self._source = source
        self._served = Served(server, requests, cache, source.count)

    async def facts(self, told: Told) -> Mapping[str, Any]:
        """All facts, for JSON."""
        return {
            "everything": told is Told.EVERYTHING,
            "resting_servers": self._source.resting,
            **await self._served.facts(),
        }

    async def metrics(self) -> bytes:
        """The same as metrics."""
        return metrics_text(PROXY_METRICS, await self.facts(Told.NUMBERS))

    async def trouble(self) -> str | None:
        """As of `Served`."""
        return await self._served.trouble()

    def view(self, facts: Mapping[str, Any], before: Mapping[str, Any] | None) -> View:
        """What is shown."""
        if before is not None and before["started_at"] != facts["started_at"]:
            before = None
        window = Window.between(facts["uptime_s"], None if before is None else before["uptime_s"])
        groups = (requests_group(facts, before or facts, window), _rest(facts))
        return View("kapla proxy", f"up {duration_text(facts['uptime_s'])}", Tone.GOOD, groups, ())


def _rest(now: Facts) -> Group:
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


PROXY_METRICS: Final[tuple[Metric[Facts], ...]] = (
    *served_metrics("kapla_proxy", "proxy"),
    Metric(
        "kapla_proxy_resting_servers",
        "gauge",
        "Servers that are left alone for now, as they do not answer",
        value_at("resting_servers"),
    ),
    Metric(
        "kapla_proxy_cached_narinfos",
        "gauge",
        "Items of which the cache has a narinfo",
        value_at("cache", "items"),
    ),
    disk_metric("kapla_proxy"),
)
