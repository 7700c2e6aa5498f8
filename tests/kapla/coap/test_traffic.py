"""Totals of all connections, and the last transfers."""

from __future__ import annotations

from typing import Any

from kapla.coap.origin import Amount, Origins
from kapla.coap.traffic import RECENT, Traffic


def origins(here: int = 0, put: int = 0, **peers: int) -> Origins:
    """Blocks, of a hundred bytes each."""
    return Origins(
        Amount(here, 100 * here),
        {name: Amount(count, 100 * count) for name, count in peers.items()},
        Amount(put, 100 * put),
    )


def sums(traffic: Traffic) -> tuple[int, ...]:
    told: Any = traffic.told()["traffic"]
    return tuple(told[name]["blocks"] for name in ("here", "peers", "put"))


def test_what_is_under_way_counts_and_counts_once() -> None:
    traffic = Traffic()
    place = traffic.place("coap+unix")
    first, counted = origins(here=2), place.enter(origins(put=1, desktop=3), None)
    visit = place.enter(first, None)
    assert sums(traffic) == (2, 3, 1)
    first.here.add(5, 500)
    assert sums(traffic) == (7, 3, 1)
    for _ in range(2):
        place.leave(visit)
    assert sums(traffic) == (7, 3, 1)
    place.leave(counted)
    assert sums(traffic) == (7, 3, 1)
    assert len(place) == 0


def test_what_seeds_gave_counts_by_itself() -> None:
    traffic = Traffic()
    place, made = traffic.place("coap+tcp"), Origins(seeds=Amount(3, 300))
    visit = place.enter(made, "192.0.2.1:1")
    assert visit.bytes == 300
    place.leave(visit)
    told: Any = traffic.told()
    assert told["traffic"]["seeds"] == told["listeners"][0]["seeds"] == {"blocks": 3, "bytes": 300}
    [transfer] = traffic.transfers()
    assert transfer["seeds"] == {"blocks": 3, "bytes": 300}


def test_totals_by_listener() -> None:
    traffic = Traffic()
    traffic.place("coap+unix").enter(origins(here=1), None)
    place = traffic.place("http")
    place.leave(place.enter(origins(here=2), None))
    told: Any = traffic.told()["listeners"]
    assert [(one["kind"], one["connections"], one["here"]["blocks"]) for one in told] == [
        ("coap+unix", 1, 1),
        ("http", 0, 2),
    ]


def test_transfers_are_those_under_way_and_the_last_that_ended() -> None:
    traffic = Traffic()
    place = traffic.place("coap+tcp")
    # Nothing went over this one.
    place.leave(place.enter(origins(), "192.0.2.1:1"))
    for number in range(1, 2 * RECENT):
        place.leave(place.enter(origins(here=number), f"192.0.2.1:{number}"))
    place.enter(origins(put=1), "192.0.2.1:1", lambda: "user 7")
    place.enter(origins(put=2), "192.0.2.2:1")
    found: Any = traffic.transfers()
    assert len(found) == RECENT
    assert [(one["who"], one["is_open"]) for one in found[:3]] == [
        ("192.0.2.2:1", True),
        ("user 7", True),
        (f"192.0.2.1:{2 * RECENT - 1}", False),
    ]


def test_who_it_was_is_known_when_it_has_gone() -> None:
    traffic, names = Traffic(), ["peer desktop"]
    place = traffic.place("coap+tcp")
    visit = place.enter(origins(here=1), "192.0.2.1:1", lambda: names[0])
    place.leave(visit)
    names.clear()
    (found,) = traffic.transfers()
    assert found["who"] == "peer desktop"


def test_what_is_told_has_bounds() -> None:
    many = {f"peer{number}{'x' * 100}": number for number in range(1, 9)}
    traffic = Traffic()
    traffic.place("http").enter(origins(here=1, **many), "y" * 100)
    (found,) = traffic.transfers()
    sources: Any = found["sources"]
    assert [name[:5] for name in sources] == ["peer8", "peer7", "peer6", "peer5"]
    assert max(map(len, (*sources, str(found["who"])))) == 64
    told: Any = found["peers"]
    assert told["blocks"] == sum(many.values())
