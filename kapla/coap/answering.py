"""What is asked of us on one link.

Whatever has arrived is read, requests are sorted into the lanes and handed on in batches: all
recognised GETs of one read are one query, all PUTs one part of a group commit. There is no more
than a bounded number of requests outstanding; while there are more no more is read, and while the
peer does not read nothing more is answered, so that no peer, fast or slow, makes memory grow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

from eris.errors import ErisError
from kapla.coap import shares
from kapla.coap.allowance import Share
from kapla.coap.answers import answers_to_gets, answers_to_puts
from kapla.coap.batch import Limits, take_batch
from kapla.coap.caller import caller_of
from kapla.coap.connection import pong_with_custody
from kapla.coap.fellows import Fellows
from kapla.coap.frame import Code, Frame
from kapla.coap.further import Further, Gets
from kapla.coap.link import Link
from kapla.coap.origin import Origins
from kapla.coap.put_rate import NO_LIMIT, PutRate
from kapla.coap.site import AiocoapLane, Remote
from kapla.coap.sockets import peer_uid
from kapla.coap.steps import Begun
from kapla.coap.turns import Line, Turn
from kapla.coap.under_way import UnderWay
from kapla.storage.access import BlockAccess, GetDone, Marked, MarkedDone, PutDone

__all__ = ["Answering"]

# What the store's threads take for each of these bytes: it looks for 1024 references in 0.8 ms.
_STORE_TAKES_S: Final = 25e-9
# What they take of the interpreter and the processors for a block that is put, and for each KiB.
_A_PUT_TAKES_S: Final = 15e-6
_A_PUT_KIB_TAKES_S: Final = 4e-6


class Answering:
    """Answers the requests of one peer."""

    def __init__(
        self, link: Link, access: BlockAccess, lane: AiocoapLane, line: Line, fellows: Fellows
    ) -> None:
        self._link = link
        self._access = access
        self._lane = lane
        self._fellows = fellows
        self._remote = Remote(
            link.connection,
            lambda: link.transport is not None,
            lambda: self.turn.group,
            lambda size: self.turn.group.looking(_STORE_TAKES_S * size),
        )
        self._waiting: deque[Frame] = deque()
        self.kept = 0
        """Bytes of the requests that were read since none was waiting; where we ask, too."""
        self._unread = b""
        # Of the slow lane, as far as they needed no waiting.
        self._answers: list[bytes] = []
        # Of what others had, and of what is kept.
        self._later: list[bytes] = []
        self._later_gave = 0
        self.under_way = UnderWay(self._go_on)
        """What is worked on for the peer."""
        self.turn = Turn(line, self.take_turn, link.was_reset)
        """Its part of the event loop's time."""
        self._put_rate: PutRate | None = None
        self._share: Share | None = None
        self._further: Further | None = None
        self._hints_are_true = True
        self._working = False
        self._uid: int | None = None

    # what the link tells

    def made(self, transport: asyncio.Transport) -> None:
        """There is a connection: enter it, and see who it is."""
        self._fellows.opened(self._link)
        welcome = self._fellows.welcome(self._link)
        if welcome is not None:
            self._access, self._lane, allowance = welcome
            self._share = self._remote.share = Share(allowance, self.take_turn)
        # Whoever we dialled is a peer, by a Unix socket too: the kernel knows only who made that,
        # and what answers there may be anywhere.
        uid = self._uid = peer_uid(transport) if welcome is None else None
        self._remote.caller = caller_of(uid, self._access.rights)
        self._put_rate = self._fellows.put_rate(uid)
        self._remote.enter_seed = partial(self._fellows.enter_seed, self._link, uid)
        if self._fellows.reach is not None:
            self._further = self._remote.further = Further(
                self._fellows.reach,
                self._link,
                self.under_way,
                self._answer_later,
                self.turn.owes,
                self._remote.origins,
                begins=uid is not None,
                goes_on=self._fellows.goes_on(self._link),
            )

    def begin(self) -> None:
        """Read, or wait for a turn."""
        if not self.turn.may_go_on():
            self._link.set_reading(False)

    def admit(self, data: bytes) -> None:
        """Have the link read what arrived; or keep it, and no more, until the turn comes."""
        with self.turn:
            data = self._unread + data
            if self.turn.may_go_on():
                self._unread = b""
                self._read(data)
            else:
                self._unread = data
                self._link.set_reading(False)

    def _read(self, data: bytes) -> None:
        """Beside others, some at a time."""
        most = self.turn.at_once(len(data))
        if most < len(data):
            self._unread = data[most:]
            data = data[:most]
        self._link.read(data)

    def take(self, frames: Sequence[Frame]) -> None:
        """Take requests."""
        if frames:
            self._waiting.extend(frames)
            if self._link.asking is not None:
                self.kept += sum(stop - start for _, _, _, start, stop in frames)
        self._work()

    def lost(self) -> None:
        """The connection has gone. What is worked on ends by itself."""
        self.drop()
        self.turn.leave()
        self._remote.pin.leave()
        if self._put_rate is not None:
            self._put_rate.leave(self.take_turn)
        if self._share is not None:
            self._share.leave()
        if self._further is not None:
            self._further.leave()
        self._leave_when_idle()

    def drop(self) -> None:
        """Answer nothing of what waits."""
        self._unread = b""
        self._waiting.clear()

    @property
    def origins(self) -> Origins:
        """What was given and put here, and where it came from."""
        return self._remote.origins

    @property
    def user(self) -> str | None:
        """The user of this machine who is there, by number; None on TCP."""
        return None if self._uid is None else f"user {self._uid}"

    @property
    def waiting(self) -> int:
        """How many requests were read that are not handed on."""
        return len(self._waiting)

    @property
    def has_unread(self) -> bool:
        """Whether something has come that is not even read."""
        return bool(self._unread)

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be answered."""
        return bool(self.under_way.requests or self._later or self._waiting or self._unread)

    def take_turn(self) -> None:
        """Go on after having waited."""
        with self.turn:
            self._work()
            if self._link.ending:
                self._link.close_when_idle()

    def _leave_when_idle(self) -> None:
        # Not before: what was handed on takes memory, and whoever comes next has a full allowance.
        if not self._link.is_there and not self.under_way.requests:
            self._fellows.closed(self._link)

    # requests

    def _work(self) -> None:
        """Hand on waiting requests, as far as the limits allow."""
        if self._working:
            return  # a refusal is answered before it is even handed on: the loop below goes on
        self._working = True
        try:
            while self._waiting and self.turn.may_go_on() and self._hand_on():
                pass
        finally:
            self._working = False
        if not self._waiting:
            self.kept = 0
        if self._unread and self._link.takes_more and self.turn.may_go_on():
            data, self._unread = self._unread, b""
            self._read(data)
        elif not self._link.ending:
            self._link.read_on()

    def _hand_on(self) -> bool:
        """Hand on one batch; False if the limits allow none."""
        peers = max(1, len(self._fellows))
        under_way = self.under_way
        room = shares.requests(peers) - under_way.requests if self._link.writable else 0
        rate, share = self._put_rate, self._share
        most, most_kib = (NO_LIMIT, NO_LIMIT) if share is None else share.room()
        if share is not None and not (most and most_kib):
            share.wait()
            return False
        limits = Limits(
            min(room, most),
            # In parts that the store can begin with before all is there.
            min(shares.weight(peers) - under_way.weight, shares.PART, most_kib),
            self._link.connection.takes_whole_blocks,
            self._hints_are_true,
            NO_LIMIT if rate is None else rate.room(self.take_turn),
        )
        batch = take_batch(self._waiting, limits, self._take_slow_lane)
        if rate is not None:
            if batch.put_kib:
                rate.took(self.take_turn, batch.put_kib)
            if batch.is_held_up:
                rate.wait(self.take_turn)
        if self._answers:
            answers, self._answers = self._answers, []
            self._link.write(answers)
        if batch.gets:
            if share is not None:
                share.asked(len(batch.gets), batch.get_weight)
            self._get(Gets(batch.gets, batch.get_tokens, batch.get_hops, batch.get_weight))
        if batch.puts:
            self._put(batch.put_tokens, batch.puts, batch.put_weight)
        return batch.taken > 0

    def _get(self, gets: Gets) -> None:
        if gets.hops:
            self._get_marked(gets)
            return

        def start(done: GetDone) -> None:
            self._access.get_many(gets.references, done, self._remote.is_there, self.turn.group)

        answer = partial(self._answer_gets, gets)
        self.under_way.hand_on(len(gets.tokens), gets.weight, start, answer)

    def _get_marked(self, gets: Gets) -> None:
        """For a peer that wants to know what it may give on."""

        def start(done: MarkedDone) -> None:
            self._access.get_marked(gets.references, done, self._remote.is_there, self.turn.group)

        def answer(result: Marked | ErisError) -> None:
            if isinstance(result, ErisError):
                self._answer_gets(gets, result)
            else:
                are_lent = [
                    is_lent and place in gets.hops for place, is_lent in enumerate(result.are_lent)
                ]
                self._answer_gets(gets, result.blocks, are_lent)

        self.under_way.hand_on(len(gets.tokens), gets.weight, start, answer)

    def _put(self, tokens: list[bytes], blocks: list[bytes], weight: int) -> None:
        hold = self._remote.pin.hold
        self._remote.origins.put.add(len(blocks), weight << 10)

        def start(done: PutDone) -> None:
            self._access.put_many(blocks, done, self._remote.is_there, hold, self.turn.group)

        self.turn.owes(_A_PUT_TAKES_S * len(tokens) + _A_PUT_KIB_TAKES_S * weight)
        self.under_way.hand_on(len(tokens), weight, start, partial(self._answer_puts, tokens))

    def _answer_gets(
        self,
        gets: Gets,
        result: Sequence[bytes | None] | ErisError,
        are_lent: Sequence[bool] = (),
    ) -> None:
        with self.turn:
            if self._share is not None:
                self._share.answered(len(gets.tokens), gets.weight)
            if isinstance(result, ErisError):
                self._link.write(answers_to_gets(gets.tokens, result))
                return
            blocks = list(filter(None, result))
            size = sum(map(len, blocks))
            self._hints_are_true &= size <= gets.weight << 10
            self._remote.origins.here.add(len(blocks), size)
            self.turn.gave(len(blocks), len(result) - len(blocks))
            if self._further is None or len(blocks) == len(result):
                answers = answers_to_gets(gets.tokens, result, are_lent)
            else:
                answers = self._further.answers(gets, result, are_lent)
            if self._share is not None:
                # Of what others are asked for it is not known yet.
                self._share.gave(len(blocks), size, len(answers) - len(blocks))
            self._link.write(answers)

    def _answer_later(self, answer: bytes, block_bytes: int) -> None:
        is_there = block_bytes > 0
        self._later_gave += is_there
        if self._share is not None:
            self._share.gave(is_there, block_bytes, not is_there)
        self._write_soon([answer] if answer else [])

    def _write_soon(self, answers: list[bytes]) -> None:
        """Send these with whatever else comes in this turn of the loop."""
        if not self._later:
            asyncio.get_running_loop().call_soon(self._write_later)
        self._later += answers

    def _write_later(self) -> None:
        with self.turn:
            answers, self._later = self._later, []
            gave, self._later_gave = self._later_gave, 0
            if gave:
                self.turn.gave(gave)
            self._link.write(answers)
        # A Ping may have waited for these, or the end.
        self._go_on()

    def _answer_puts(
        self, tokens: Sequence[bytes], result: Sequence[ErisError | None] | ErisError | None
    ) -> None:
        with self.turn:
            if not isinstance(result, ErisError):
                self.turn.gave(len(tokens) if result is None else result.count(None))
            # The commit that kept these has kept the others too, most likely.
            is_last = self.under_way.requests == len(tokens)
            send = self._link.write if is_last else self._write_soon
            send(answers_to_puts(tokens, result))

    def _take_slow_lane(self, frame: Frame) -> int | None:
        """Answer a request in a task of its own; returns what it weighs, None if it has to wait."""
        if frame[0] == Code.PING:
            return self._take_ping(frame[1])
        if not self.turn.may_go_slowly():
            return None
        share = self._share
        if share is not None and not all(share.room()):
            share.wait()
            return None
        code, token, buffer, start, stop = frame
        weight = shares.slow_weight(code, stop - start)
        if share is not None:
            share.begin_slowly(code, stop - start)
        with self.turn.slowly:
            # A copy: all that was read together with it is not to be kept for it.
            own = (code, token, buffer[start:stop], 0, stop - start)
            work = Begun(self._lane.answer(own, self._remote), self.turn.slowly)
            if work.done:
                self._answers.append(work.result)
                self._end_slowly(code, stop - start)
            else:
                self.turn.took_elsewhere(_STORE_TAKES_S * (stop - start))

                def end(answer: bytes | None) -> None:
                    self._end_slowly(code, stop - start)
                    self._answer_slowly(answer)

                self.under_way.run(work.rest(), weight, end)
        return weight

    def _take_ping(self, token: bytes) -> int | None:
        """Answer a Ping with Custody, once everything before it is answered: it weighs nothing."""
        if self.under_way.requests or self._later:
            return None
        self._answers.append(pong_with_custody(token))
        return 0

    def _end_slowly(self, code: int, length: int) -> None:
        if self._share is not None:
            self._share.end_slowly(code, length)

    def _answer_slowly(self, answer: bytes | None) -> None:
        if answer is not None:
            with self.turn.slowly:
                self._link.write([answer])

    def _go_on(self) -> None:
        """Something was answered: there is room for more, or an end."""
        if self._waiting or self._unread or self._link.ending:
            self.take_turn()
        self._leave_when_idle()
