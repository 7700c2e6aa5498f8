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


async def run_checks(stage: Stage, only: Collection[str] = ()) -> AsyncIterator[Result]:
    """Make all checks, or those of the groups in `only`; yields how each ended, as it ends.

    Raises: NotAllowed, if the store takes no blocks and `stage` is not read-only;
    StoreUnavailable, if it is not there to begin with.
    """
    await stage.prepare()
    for group, checks in TABLE.items():
        if not only or group in only:
            for check in checks:
                yield await _run(stage, group, check)


async def _run(stage: Stage, group: str, check: Check) -> Result:
    if check.writes and stage.read_only:
        return Result(group, check, Verdict.SKIPPED, "nothing is put")
    async with stage.scene():
        bystander = await _bystander(stage)
        verdict, seen = await _outcome(stage, check)
        transcript = stage.transcript()
        if verdict is not Verdict.SKIPPED and (trouble := await _trouble(stage, bystander)):
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


async def _bystander(stage: Stage) -> Wire | None:
    """A peer that was there before; None if there can be none, which the check will show."""
    try:
        wire = await stage.connect(noted=False)
        await wire.greeted()
    except Failed:
        return None
    return wire


async def _trouble(stage: Stage, bystander: Wire | None) -> str | None:
    """What is wrong with the others afterwards."""
    try:
        if bystander is not None:
            await stage.serves(bystander)
    except Failed as failed:
        return f"and another connection: {failed}"
    try:
        await stage.serves()
    except Failed as failed:
        return f"and a new connection: {failed}"
    return None
