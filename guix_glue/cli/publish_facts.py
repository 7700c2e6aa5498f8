"""What a publisher tells of itself: its facts, and how they are shown."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guix_glue.cli.publish_metrics import PUBLISH_METRICS
from guix_glue.cli.publish_view import publish_view
from guix_glue.cli.served_facts import Served
from guix_glue.publish.local_source import LocalSource
from guix_glue.publish.mirror_source import MirrorSource
from guix_glue.publish.tally import Baking, Bakings, DeltaTally
from guix_glue.serving.http_server import HttpServer
from guix_glue.serving.requests import Requests
from kapla.log import redact
from kapla.status.metrics import metrics_text
from kapla.status.subject import Told
from kapla.status.view import View

__all__ = ["PublishSubject"]


class PublishSubject:
    """A `Subject` of kapla.status. Names of items are told to those who are told everything."""

    def __init__(
        self,
        source: LocalSource | MirrorSource,
        server: HttpServer,
        requests: Requests,
        cache: Path,
        *,
        with_urns: bool,
    ) -> None:
        self._source = source
        self._served = Served(server, requests, cache, source.count)
        self._with_urns = with_urns

    async def facts(self, told: Told) -> Mapping[str, Any]:
        """All facts, for JSON."""
        everything = told is Told.EVERYTHING
        queue = self._source.queue
        bakings = Bakings() if queue is None else queue.bakings
        facts: dict[str, Any] = {
            "everything": everything,
            "mirror": isinstance(self._source, MirrorSource),
            "urns": self._with_urns,
            "baking": {
                "waiting": 0 if queue is None else queue.waiting,
                "under_way": len(bakings.under_way),
                "delayed": 0 if queue is None else queue.delayed,
                "done": bakings.done,
                "failed": bakings.failed,
            },
            "deltas": self._deltas(),
            **await self._served.facts(),
        }
        if everything:
            facts["bakings"] = _told(bakings)
        return facts

    async def metrics(self) -> bytes:
        """Numbers only."""
        return metrics_text(PUBLISH_METRICS, await self.facts(Told.NUMBERS))

    async def trouble(self) -> str | None:
        """As of `Served`."""
        return await self._served.trouble()

    def view(self, facts: Mapping[str, Any], before: Mapping[str, Any] | None) -> View:
        """What is shown."""
        return publish_view(facts, before)

    def _deltas(self) -> dict[str, object]:
        """What became of deltas; all zero where there are to be none."""
        bakery = self._source.deltas
        queue = None if bakery is None else bakery.queue
        tally = DeltaTally() if bakery is None else bakery.tally
        return {
            "waiting": 0 if queue is None else queue.waiting,
            "under_way": 0 if queue is None else len(queue.bakings.under_way),
            "delayed": 0 if queue is None else queue.delayed,
            "made": tally.made,
            "given_up": tally.given_up,
            "failed": tally.failed,
            "block_bytes": tally.block_bytes,
        }


def _told(bakings: Bakings) -> Sequence[Mapping[str, object]]:
    now = time.monotonic()
    under_way = [
        {"item": _name(one), "is_open": True, "seconds": round(now - one.began, 3)}
        for one in bakings.under_way
    ]
    ended = [
        {
            "item": _name(one),
            "is_open": False,
            "at": round(one.at, 3),
            "seconds": round(one.seconds, 3),
            "failure": None if one.failure is None else redact(one.failure),
        }
        for one in reversed(bakings.recent)
    ]
    return [*under_way, *ended]


def _name(baking: Baking) -> str:
    """The name of a store item: that and no directory is what people look for."""
    return baking.item.rpartition("/")[2]
