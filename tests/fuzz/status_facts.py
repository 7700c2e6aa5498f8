"""What `kapla top` reads of a daemon, and what is made of it."""

from __future__ import annotations

import json

from kapla.status.daemon import daemon_view
from kapla.status.daemon_metrics import DAEMON_METRICS
from kapla.status.facts import DaemonFacts, InvalidFacts
from kapla.status.lines import lines_of
from kapla.status.metrics import metrics_text
from kapla.status.page import event_of

__all__ = ["daemon_facts"]


def daemon_facts(data: bytes) -> None:
    """Facts in JSON, as they come from a store that may be anything."""
    try:
        facts = DaemonFacts.read(json.loads(data))
    except (InvalidFacts, ValueError, RecursionError):
        return
    view = daemon_view(facts, facts)
    assert list(lines_of(view, 40))
    assert event_of(view).count(b"\n") == 2
    assert metrics_text(DAEMON_METRICS, facts).endswith(b"\n")
