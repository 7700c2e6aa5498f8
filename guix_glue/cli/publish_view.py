"""What is shown of a publisher. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kapla.amounts import bytes_text, duration_text
from kapla.status.rates import Window, number_text, rate_text
from kapla.status.view import Column, Figure, Group, Table, Tone, View

__all__ = ["publish_view", "requests_group"]

_NONE: Final = "–"
_NAMES_ARE_LEFT_OUT: Final = (
    "What is baked is not shown here. The file status-url in the cache directory has the address"
    " of this page with it, for whoever may read that."
)


def publish_view(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> View:
    """All that there is to show. `before`: an earlier look, of which rates are made."""
    if before is not None and before["started_at"] != now["started_at"]:
        before = None
    window = Window.between(now["uptime_s"], None if before is None else before["uptime_s"])
    groups = (requests_group(now, before or now, window), _baking(now), _deltas(now), _cache(now))
    everything = bool(now["everything"])
    return View(
        "kapla publish",
        f"{'a mirror, ' if now['mirror'] else ''}up {duration_text(now['uptime_s'])}",
        Tone.GOOD,
        groups,
        (_bakings(now),) if everything else (),
        () if everything else (_NAMES_ARE_LEFT_OUT,),
    )


def requests_group(now: Mapping[str, Any], last: Mapping[str, Any], window: Window) -> Group:
    """What clients asked for, of any server of substitutes."""

    def rate(kind: str) -> str:
        per_s = window.per_s(now["requests"].get(kind, 0), last["requests"].get(kind, 0))
        return f"{number_text(per_s)}/s"

    def in_all(kind: str) -> str:
        return f"{now['requests'].get(kind, 0):,} in all"

    failed = now["statuses"].get("5xx", 0)
    return Group(
        f"Requests {window.text}",
        (
            Figure(
                "sent",
                rate_text(window.per_s(now["sent_bytes"], last["sent_bytes"])),
                f"{bytes_text(now['sent_bytes'])} in all",
            ),
            Figure("narinfos", rate("narinfo"), in_all("narinfo")),
            Figure("nars", rate("nar"), in_all("nar")),
            Figure("others", rate("other"), in_all("other")),
            Figure("not found", f"{now['statuses'].get('4xx', 0):,}", "answers 4xx"),
            Figure(
                "failed",
                f"{failed:,}",
                "answers 5xx",
                tone=Tone.NOTABLE if failed else Tone.CALM,
            ),
        ),
    )


def _baking(now: Mapping[str, Any]) -> Group:
    baking = now["baking"]
    return Group(
        "Baking",
        (
            Figure("baked", f"{baking['done']:,}", "items, since the start"),
            Figure("under way", f"{baking['under_way']:,}"),
            Figure("waiting", f"{baking['waiting']:,}"),
            Figure("later", f"{baking['delayed']:,}", "tried again"),
            Figure(
                "not baked",
                f"{baking['failed']:,}",
                "tries that failed",
                tone=Tone.NOTABLE if baking["failed"] else Tone.CALM,
            ),
        ),
    )


def _deltas(now: Mapping[str, Any]) -> Group:
    deltas = now["deltas"]
    return Group(
        "Deltas",
        (
            Figure("made", f"{deltas['made']:,}", bytes_text(deltas["block_bytes"])),
            Figure("under way", f"{deltas['under_way']:,}", "items"),
            Figure("waiting", f"{deltas['waiting']:,}", "items"),
            Figure("later", f"{deltas['delayed']:,}", "tried again"),
            Figure("given up", f"{deltas['given_up']:,}", "not worth their blocks"),
            Figure(
                "failed",
                f"{deltas['failed']:,}",
                "or put off",
                tone=Tone.NOTABLE if deltas["failed"] else Tone.CALM,
            ),
        ),
    )


def _cache(now: Mapping[str, Any]) -> Group:
    items, free = now["cache"]["items"], now["cache"]["disk_free_bytes"]
    return Group(
        "Cache and clients",
        (
            Figure("items in the cache", _NONE if items is None else f"{items:,}"),
            Figure("free on disk", _NONE if free is None else bytes_text(free)),
            Figure("URNs", "yes" if now["urns"] else "no", "in narinfos"),
            Figure("clients", f"{now['connections']:,}", "connected"),
            Figure("cut off", f"{now['cut_off']:,}", "replies not taken whole"),
        ),
    )


def _bakings(now: Mapping[str, Any]) -> Table:
    columns = (
        Column("item"),
        Column("when"),
        Column("took", is_number=True, rank=1),
        Column("result"),
    )
    clock = now["started_at"] + now["uptime_s"]
    rows = []
    for one in now["bakings"]:
        if one["is_open"]:
            rows.append((one["item"], "now", _seconds(one["seconds"]), "under way"))
            continue
        ago = max(0.0, clock - one["at"])
        when = "just now" if ago < 1 else f"{duration_text(ago)} ago"
        rows.append((one["item"], when, _seconds(one["seconds"]), one["failure"] or "baked"))
    return Table("Baked of late", columns, rows, "Nothing was baked yet.")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else duration_text(seconds)
