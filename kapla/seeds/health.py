"""How it stands with one seed: what it owes, and whether it can be waited for. Pure.

A seed is on this machine and answers in a millisecond. One that is quiet may be busy, so what waits
for it is asked of others too, and waits on; or it may only need long for what it was asked, so one
question after the other tries whether it answers these. One that stays quiet is away: nobody waits
for it, and one question now and then tries it. Whatever it answers, it is there again.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["AWAY_S", "QUIET_S", "Health", "State"]

QUIET_S: Final = 0.25
"""Without an answer for so long, while it owes one, it is quiet."""

AWAY_S: Final = 5.0
"""And then it is away."""

_FIRST_REST_S: Final = 1.0
_MOST_TIMES: Final = 6  # 64 s


class State(Enum):
    """How it stands."""

    WELL = "well"
    QUIET = "quiet"
    AWAY = "away"


class Health:
    """Of one seed; `most` questions may be under way. Times are those of any clock that grows."""

    __slots__ = ("_most", "_quiet_since", "_rest_until", "_times", "_tried_at", "owed", "state")

    def __init__(self, most: int) -> None:
        self.state = State.WELL
        self.owed = 0
        """Answers that are still to come."""
        self._most = most
        self._quiet_since = 0.0
        self._rest_until = 0.0
        self._tried_at: float | None = None
        self._times = 0

    @property
    def has_room(self) -> bool:
        """Whether it may be asked one more thing."""
        return self.state is State.WELL and self.owed < self._most

    def may_be_tried(self, now: float) -> bool:
        """Whether one question may find out if it answers, though it is not well."""
        if self.state is State.WELL or self.owed >= self._most:
            return False
        if self.state is State.QUIET:
            return self._tried_at is None or now - self._tried_at >= QUIET_S
        return self._tried_at is None and now >= self._rest_until

    def asked(self, now: float) -> None:
        """It was asked something."""
        if not self.owed:
            self._quiet_since = now
        self.owed += 1
        if self.state is not State.WELL:
            self._tried_at = now

    def answered(self, now: float) -> None:
        """It has answered, whatever it was."""
        self.owed -= 1
        self._quiet_since = now
        self._times = 0
        self._tried_at = None
        self.state = State.WELL

    def look(self, now: float) -> State | None:
        """Look at the time. The state, if it has become worse; AWAY, too, if a try has failed."""
        if self.state is State.AWAY:
            if self._tried_at is None or now - self._tried_at < QUIET_S:
                return None
        elif not self.owed or now - self._quiet_since < QUIET_S:
            return None
        elif now - self._quiet_since < AWAY_S:
            was, self.state = self.state, State.QUIET
            return None if was is State.QUIET else State.QUIET
        self._leave_alone(now)
        return State.AWAY

    def _leave_alone(self, now: float) -> None:
        """Longer each time."""
        self.state = State.AWAY
        self._rest_until = now + _FIRST_REST_S * 2**self._times
        self._times = min(self._times + 1, _MOST_TIMES)
        self._tried_at = None
