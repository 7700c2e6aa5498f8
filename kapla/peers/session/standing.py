"""What is known of one peer, for all sessions together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kapla.peers.session.breaker import Breaker
from kapla.peers.session.round_trip import RoundTrip
from kapla.peers.session.window import Window

__all__ = ["NEAR_SILENCE_S", "Facts", "Standing"]

# A link of 50 ms may well be silent for 250: a commit, a lost packet.
_LEAST_SILENCE_S: Final = 0.25
# One that is near may be making a block out of files, and what others give is dearer.
NEAR_SILENCE_S: Final = 2.0
_SILENT_ROUND_TRIPS: Final = 8
# So many failures one after the other, and it is left alone.
_FAILURES: Final = 4
_FAILED: Final = "it failed"


@dataclass(slots=True)
class Facts:
    """What a peer has done so far, for people."""

    blocks: int = 0
    bytes: int = 0
    missing: int = 0
    failures: int = 0
    wrong: int = 0


class Standing:
    """Times, window, breaker of a peer, and what it owes. `now` is in seconds, of any clock."""

    def __init__(self, *, tells: bool = True) -> None:
        self.tells = tells
        """Whether asking it what it has costs less than asking for it."""
        self.is_near = False
        """Whether it is on a network of this machine: what it gives crosses no line of ours."""
        self.round_trip = RoundTrip()
        self.window = Window()
        self.breaker = Breaker()
        self.facts = Facts()
        self.outstanding = 0
        """Bytes of the blocks that it was asked for and has not answered, of all sessions."""
        self.owed = 0
        """Requests for blocks that it has not answered, of all sessions."""
        self.is_proven = False
        """Whether it has ever given a block."""
        self.worked_at = 0.0
        """When it last gave a block, or said that it has not."""
        self._heard = 0.0
        self._failures = 0

    @property
    def srtt_s(self) -> float:
        """The smoothed time until a block is there, in seconds."""
        return self.round_trip.smoothed_s

    @property
    def rttvar_s(self) -> float:
        """How much that varies, in seconds."""
        return self.round_trip.variation_s

    @property
    def hit_ratio(self) -> float | None:
        """Which part of what it was asked for it had; None if it was asked for nothing."""
        asked = self.facts.blocks + self.facts.missing
        return self.facts.blocks / asked if asked else None

    @property
    def limit_s(self) -> float:
        """Without an answer for so long, it does not work."""
        least_s = NEAR_SILENCE_S if self.is_near else _LEAST_SILENCE_S
        return max(least_s, _SILENT_ROUND_TRIPS * self.round_trip.surely_s)

    def finish_s(self) -> float:
        """How long a block would take now, behind what is outstanding."""
        return self.srtt_s * (1 + self.outstanding / self.window.size)

    def room(self, now: float, most: float = float("inf")) -> float:
        """How many bytes more it may owe: over 0 lets one more block go, whatever its size.

        `most`: that it may owe in all, if its window is larger.
        """
        if self.breaker.is_open:
            return 1.0 if self.breaker.lets_through(now) else 0.0
        return min(self.window.size, most) - self.outstanding

    def asked(self, weight: int, now: float) -> None:
        """A block of so many bytes was asked for."""
        if not self.owed:
            self._heard = now  # silence counts from when an answer is owed
        self.owed += 1
        self.outstanding += weight
        self.breaker.asked(now)
        if self.outstanding >= self.window.size:
            self.window.used_up()

    def released(self, weight: int) -> None:
        """Nothing is owed for that any more: answered, or nobody will hear the answer."""
        self.owed -= 1
        self.outstanding -= weight

    def gave(self, weight: int, took_s: float, now: float) -> None:
        """It gave a block."""
        self.facts.blocks += 1
        self.facts.bytes += weight
        self.is_proven = True
        self.learn(took_s, weight, now)
        self._works(now)

    def lacked(self, now: float) -> None:
        """It said that it does not have a block."""
        self.facts.missing += 1
        self._works(now)

    def told(self, took_s: float) -> None:
        """It answered a question: a first guess of how far it is."""
        self.round_trip.guess(took_s)

    def learn(self, took_s: float, weight: int, now: float) -> None:
        """Learn how long a block took."""
        samples = max(1, self.outstanding // (2 * weight)) if weight else 1
        self.round_trip.learn(took_s, samples)
        self.window.learn(took_s, weight, self.srtt_s, now)

    def failed(self, now: float) -> None:
        """It answered that it cannot, or lied; after some such answers it is left alone."""
        self.facts.failures += 1
        self._failures += 1
        self._heard = now
        if self.breaker.is_open and self.breaker.is_silent:
            # It had somebody else to wait for, perhaps: it is there.
            self.breaker.close()
        if self._failures >= _FAILURES and not self.breaker.until > now:
            self.breaker.open(now, _FAILED)
            self._failures = 0

    def came_back(self) -> None:
        """It has a new connection: what failed as the last one was lost says nothing of this."""
        self._failures = 0
        if self.breaker.reason == _FAILED:
            self.breaker.close()

    def timed_out(self, now: float) -> None:
        """An answer did not come in time."""
        self.window.timed_out(now, self.srtt_s)

    def fell_silent(self, now: float) -> None:
        """It answers nothing: leave it alone."""
        self.breaker.open(now, "it does not answer", is_silent=True)
        self.window.shut()

    def lied(self, now: float) -> None:
        """It gave a wrong block: leave it alone."""
        self.facts.wrong += 1
        self.breaker.open(now, "it gave a wrong block")

    def is_silent(self, now: float) -> bool:
        """Whether it should have said something by now."""
        if self.breaker.is_open:
            return self.breaker.is_probe_late(now, self.limit_s)
        return self.owed > 0 and now >= self._heard + self.limit_s

    @property
    def silent_at(self) -> float | None:
        """When it will have been silent for too long, if nothing comes."""
        since = self.breaker.probe_at if self.breaker.is_open else self._heard
        if since is None or not self.owed:
            return None
        return since + self.limit_s

    def _works(self, now: float) -> None:
        self._heard = self.worked_at = now
        self._failures = 0
        self.breaker.close()
