"""Makes the checks, one after the other, and sees after each that others are still served.

A store that ends, or hangs, in the middle of a check has failed that one; the next is tried all the
same. Each check has an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Final

from kapla.conformance.model import Absent, Check, Failed, Result, Skipped, Verdict
from kapla.conformance.stage import Stage
from kapla.conformance.table import TABLE
from kapla.conformance.wire import Wire

__all__ = ["run_checks"]

_PATIENCE: Final = 6
"""How many times as long as for one answer a whole check may take: some ask for many."""
_HASTE: Final = 10


async def run_checks(stage: Stage, only: Collection[str] = ()) -> AsyncIterator[Result]:
    """Make all checks, or those of the groups in `only`; yields how each ended, as it ends.

    Raises: NotAllowed, if the store takes no blocks and `stage` is not read-only;
    StoreUnavailable, if it is not there to begin with.
    """
    await stage.prepare()
    others = _Others(stage)
    try:
        for group, checks in TABLE.items():
            if not only or group in only:
                for check in checks:
                    yield await _run(stage, others, group, check)
    finally:
        others.leave()


async def _run(stage: Stage, others: _Others, group: str, check: Check) -> Result:
    if check.writes and stage.read_only:
        return Result(group, check, Verdict.SKIPPED, "it would put blocks")
    async with stage.scene():
        if trouble := await others.come():
            return Result(group, check, Verdict.FAIL, f"nobody is served: {trouble}")
        verdict, seen = await _outcome(stage, check)
        transcript = stage.transcript()
        if verdict is not Verdict.SKIPPED and (trouble := await others.trouble()):
            verdict, seen = Verdict.FAIL, f"{seen}; {trouble}" if seen else trouble
    return Result(group, check, verdict, seen, transcript)


async def _outcome(stage: Stage, check: Check) -> tuple[Verdict, str]:
    limit_s = _PATIENCE * stage.wait_s
    try:
        async with asyncio.timeout(limit_s):
            return Verdict.PASS, await check.run(stage)
    except Failed as failed:
        return Verdict.FAIL, str(failed)
    except Skipped as skipped:
        return Verdict.SKIPPED, str(skipped)
    except Absent as absent:
        return Verdict.ABSENT, str(absent)
    except TimeoutError:
        return Verdict.FAIL, f"not done within {limit_s:g} s"


class _Others:
    """The other peers of a store: one that was there before a check, and one that comes after it.

    The latter is there before the next check.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._there: Wire | None = None
        self._haste = 1

    async def come(self) -> str | None:
        """See to it that somebody is there; returns why nobody can be.

        A store that served nobody when it was last tried is given less time.
        """
        if self._there is None:
            try:
                self._there = await self._newcomer(self._stage.wait_s / self._haste)
            except Failed as failed:
                self._haste = _HASTE
                return str(failed)
        self._haste = 1
        return None

    async def trouble(self) -> str | None:
        """What is wrong with them after a check."""
        before, self._there = self._there, None
        try:
            if before is not None:
                await self._stage.serves(before)
        except Failed as failed:
            return f"and another connection: {failed}"
        finally:
            self._forget(before)
        try:
            self._there = await self._newcomer(self._stage.wait_s)
        except Failed as failed:
            return f"and a new connection: {failed}"
        return None

    def leave(self) -> None:
        """End."""
        self._forget(self._there)

    async def _newcomer(self, wait_s: float) -> Wire:
        wire = await self._stage.outsider()
        wire.wait_s = wait_s
        try:
            await self._stage.serves(wire)
        except Failed:
            self._forget(wire)
            raise
        wire.wait_s = self._stage.wait_s
        return wire

    def _forget(self, wire: Wire | None) -> None:
        if wire is not None:
            self._stage.asked += wire.asked
            wire.close()
