"""The daemon as those see it who tell of it by HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from kapla.status.daemon import daemon_view
from kapla.status.daemon_metrics import DAEMON_METRICS
from kapla.status.facts import DaemonFacts
from kapla.status.metrics import metrics_text
from kapla.status.subject import Told
from kapla.status.view import View

__all__ = ["DaemonSubject", "Report"]


class Report(Protocol):
    """Where its facts come from."""

    async def status(self, *, everything: bool) -> dict[str, object]:
        """Numbers, or with `everything` names too. Raises: StoreUnavailable."""
        ...

    async def trouble(self) -> str | None:
        """What is wrong with the store; None while it answers."""
        ...


class DaemonSubject:
    """A `Subject` of kapla.status."""

    def __init__(self, report: Report) -> None:
        self._report = report

    async def facts(self, told: Told) -> Mapping[str, Any]:
        """As `/kapla/status` over CoAP, with the peers. Raises: StoreUnavailable."""
        return await self._report.status(everything=told is Told.EVERYTHING)

    async def metrics(self) -> bytes:
        """Numbers only, whoever asks. Raises: StoreUnavailable."""
        facts = await self._report.status(everything=False)
        return metrics_text(DAEMON_METRICS, DaemonFacts.read(facts))

    async def trouble(self) -> str | None:
        """Why it gives no blocks; None while it does."""
        return await self._report.trouble()

    def view(self, facts: Mapping[str, Any], before: Mapping[str, Any] | None) -> View:
        """What is shown."""
        earlier = None if before is None else DaemonFacts.read(before)
        return daemon_view(DaemonFacts.read(facts), earlier)
