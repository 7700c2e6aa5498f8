"""What one peer tells of what it has: about each block it is asked once at a time.

In a net of daemons that ask on behalf of each other one request comes to each of them by many ways.
If each of these asked all others anew, a request would become thousands. So who wants to know what
a peer is being asked right now waits for that answer, and that something is not there is remembered
for a moment. Nobody waits in a circle: a question waits for others of a lower Hop-Limit only, and
those that are shared here have the same one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from eris.model import Reference

__all__ = ["Telling"]

# Shorter than a session takes to ask again for what a neighbour may have got meanwhile.
_MISSING_S: Final = 0.2
_MOST_REMEMBERED: Final = 4096


class _Question:
    """One that is under way, what it is about, and how many wait for its answer."""

    __slots__ = ("answer", "references", "waiting")

    def __init__(self, references: Sequence[Reference], answer: asyncio.Future[list[bool]]) -> None:
        self.references = references
        self.answer = answer
        self.waiting = 0

    def present(self) -> list[Reference]:
        """Those that are there. Raises: what the answer is, if it is an error."""
        told = zip(self.references, self.answer.result(), strict=True)
        return [name for name, is_there in told if is_there]


class Telling:
    """`ask` asks the peer; it gives as many answers as there are questions, or raises."""

    def __init__(self, ask: Callable[[Sequence[Reference]], Awaitable[list[bool]]]) -> None:
        self._ask = ask
        self._under_way: dict[Reference, _Question] = {}
        # Until when; the first ends first.
        self._missing: OrderedDict[Reference, float] = OrderedDict()

    async def find(self, references: Sequence[Reference]) -> list[bool]:
        """Tell which blocks are there. Raises: what `ask` does."""
        self._forget()
        asked = [name for name in references if name not in self._missing]
        self._ask_for([name for name in asked if name not in self._under_way])
        questions = {self._under_way[name] for name in asked}
        await self._wait(questions)
        present = {name for question in questions for name in question.present()}
        return [name in present for name in references]

    def _ask_for(self, references: Sequence[Reference]) -> None:
        if not references:
            return
        question = _Question(references, asyncio.ensure_future(self._ask(references)))
        for name in references:
            self._under_way[name] = question
        question.answer.add_done_callback(lambda _: self._told(question))

    async def _wait(self, questions: set[_Question]) -> None:
        for one in questions:
            one.waiting += 1
        try:
            if questions:
                await asyncio.wait([one.answer for one in questions])
        finally:
            for one in questions:
                one.waiting -= 1
                if not one.waiting:
                    # Nobody wants to know any more.
                    one.answer.cancel()
                    self._leave(one)

    def _told(self, question: _Question) -> None:
        self._leave(question)
        if question.answer.cancelled() or question.answer.exception() is not None:
            return
        until = asyncio.get_running_loop().time() + _MISSING_S
        present = set(question.present())
        for name in question.references:
            if name not in present:
                self._missing[name] = until

    def _leave(self, question: _Question) -> None:
        """It is no more under way."""
        for name in question.references:
            if self._under_way.get(name) is question:
                del self._under_way[name]

    def _forget(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._missing:
            name, until = next(iter(self._missing.items()))
            if until > now and len(self._missing) <= _MOST_REMEMBERED:
                break
            del self._missing[name]
