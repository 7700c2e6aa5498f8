"""What befalls a round: what fails, who is killed and when. Drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.torture.shim import Plan

__all__ = ["Weather", "draw"]

_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Weather:
    """Times are seconds after the clients have begun."""

    plan: Plan
    names: tuple[str, ...]
    """What it is called in the counts."""
    clients: int
    ends_at: float
    how_it_ends: str
    """"killed", "stopped", or "killed at its start"."""
    clients_killed_at: tuple[float, ...]
    second_daemon: bool = False
    fills_at: float | None = None
    """When others take all the room of a small disk, until the end of the round."""
    is_started_anew: bool = False


def draw(random: Random, *, is_small_disk: bool) -> Weather:
    """The weather of the next round."""
    plan, names = _draw_plan(random)
    how = random.choices(("killed", "stopped", "killed at its start"), (6, 2, 1))[0]
    ends_at = random.random() * _SECONDS
    clients = random.randrange(1, 4)
    killed = tuple(random.random() * _SECONDS for _ in range(random.randrange(clients + 1)))
    second = random.random() < 0.06
    fills_at = random.random() * ends_at if is_small_disk and random.random() < 0.6 else None
    anew = random.random() < 0.05
    counted = {
        f"daemon {how}": True,
        "client killed": bool(killed),
        "second daemon": second,
        "disk filled by others": fills_at is not None,
        "Python started anew": anew,
    }
    names += tuple(name for name, is_so in counted.items() if is_so)
    return Weather(plan, names, clients, ends_at, how, killed, second, fills_at, anew)


def _draw_plan(random: Random) -> tuple[Plan, tuple[str, ...]]:
    told: dict[str, int] = {}
    chance = random.choice((300, 3_000, 30_000, 300_000))
    for name in ("write_error", "torn_error", "short_write", "no_room", "sync_error"):
        if random.random() < 0.15:
            told[name] = chance
    if random.random() < 0.2:
        told["clock_jump"] = random.choice((1_000, 100_000))
    if random.random() < 0.25:
        told["kill_at"] = random.choice((30, 300, 3000)) * random.randrange(1, 100) // 100 + 1
    if random.random() < 0.08:
        told["most"] = random.randrange(1 << 18, 1 << 22)
    first = random.choice((0, 0, 50, 300))
    last = first + random.choice((5, 100, 10**9))
    names = tuple(f"shim: {name.replace('_', ' ')}" for name in told)
    return Plan(random.getrandbits(40), first=first, last=last, **told), names
