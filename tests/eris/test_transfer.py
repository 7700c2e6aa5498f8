from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eris
from eris import (
    BlockNotFound,
    BlockReader,
    BlockSize,
    BlockWriter,
    ContentError,
    ConvergenceSecret,
    CorruptBlock,
    InvalidNode,
    MemoryStore,
    NullStore,
    ReadCapability,
    Reference,
    StoreRefused,
    StoreUnavailable,
    check_content,
    content_length,
    get_content,
    put_content,
    read_content,
    stream_content,
)
from eris.transfer import DEFAULT_WINDOW
from tests.eris.helpers import (
    all_checked,
    encode_node,
    encode_pieces,
    make_content,
    naive_encode,
    patient,
    run_clean,
)
from tests.fakes import (
    CorruptingStore,
    FailingStore,
    LossyStore,
    RecordingStore,
    ShuffledStore,
)

SMALL, LARGE = BlockSize.SMALL, BlockSize.LARGE
MIB = 1024 * 1024
both_sizes = pytest.mark.parametrize("block_size", BlockSize, ids=lambda size: size.label)

CONTENT = make_content(300 * 1024 + 5)
CAPABILITY, BLOCKS = eris.encode(CONTENT, block_size=SMALL)


def full_store() -> MemoryStore:
    return MemoryStore(BLOCKS.values())


async def iterate(content: bytes, sizes: Iterator[int]) -> AsyncIterator[bytes]:
    at = 0
    while at < len(content):
        size = next(sizes)
        yield content[at : at + size]
        at += size


def forever(*sizes: int) -> Iterator[int]:
    while True:
        yield from sizes


class ShortReads(io.RawIOBase):
    """A raw stream that gives less than it is asked for, as a terminal or a socket does."""

    def __init__(self, content: bytes) -> None:
        self._rest = io.BytesIO(content)
        self._chance = random.Random(len(content))

    def read(self, size: int = -1) -> bytes:
        return self._rest.read(self._chance.randint(1, 10_000))


class OddFile:
    """Only a `read`, which calls a function; and it tells whether a thread is inside."""

    def __init__(self, read: Callable[[], bytes | None]) -> None:
        self._read = read
        self.inside = 0

    def read(self, size: int) -> bytes | None:
        self.inside += 1
        try:
            return self._read()
        finally:
            self.inside -= 1

    def as_source(self) -> BinaryIO:
        return cast(BinaryIO, self)


LENGTHS = [0, 1, 1023, 1024, 16383, 16384, 32768, 200_000, MIB - 1, MIB, 3 * MIB + 17]


@pytest.mark.parametrize("length", LENGTHS)
def test_every_source_gives_the_same(length: int, tmp_path: Path) -> None:
    content = make_content(length)
    (tmp_path / "content").write_bytes(content)
    expected, blocks = eris.encode(content)

    async def main(*files: BinaryIO) -> None:
        sources: list[eris.transfer.Source] = [
            content,
            bytearray(content),
            memoryview(content),
            io.BytesIO(content),
            *files,
            cast(BinaryIO, ShortReads(content)),
            iterate(content, forever(length or 1)),
            iterate(content, forever(0, 100_000, 0, 0, 77)),
            iterate(content, forever(0, 16383, 1)),
        ]
        for source in sources:
            store = MemoryStore()
            assert await put_content(store, source) == expected
            assert len(store) == len(blocks)
            assert await get_content(store, expected) == content

    path = tmp_path / "content"
    with path.open("rb") as buffered, path.open("rb", buffering=0) as raw:
        run_clean(main(buffered, cast(BinaryIO, raw)))


def test_items_wider_than_a_byte() -> None:
    content = make_content(16384)
    expected, _ = eris.encode(content)
    assert expected.block_size == LARGE
    items = memoryview(content).cast("Q")
    assert asyncio.run(put_content(NullStore(), items)) == expected


def test_a_pipe() -> None:
    content = make_content(2 * MIB + 3)

    def write(end: int) -> None:
        with open(end, "wb", buffering=0) as file:
            for at in range(0, len(content), 3333):
                file.write(content[at : at + 3333])

    read_end, write_end = os.pipe()
    writer = threading.Thread(target=write, args=[write_end])
    writer.start()
    with open(read_end, "rb", buffering=0) as pipe:
        capability = run_clean(put_content(NullStore(), pipe))
    writer.join()
    assert capability == eris.encode(content)[0]


def test_a_file_is_read_from_where_it_stands() -> None:
    content = make_content(50_000)
    file = io.BytesIO(content)
    file.seek(30_000)
    assert asyncio.run(put_content(NullStore(), file)) == eris.encode(content[30_000:])[0]
    assert file.tell() == len(content)
    assert not file.closed


def test_a_source_that_would_block_is_not_taken_for_ended() -> None:
    answers = iter([make_content(20_000), None])
    source = OddFile(lambda: next(answers)).as_source()
    with pytest.raises(BlockingIOError):
        run_clean(put_content(NullStore(), source))


@pytest.mark.parametrize("length", [16383, 16384])
def test_the_16_kib_rule(length: int) -> None:
    content = make_content(length)
    size = SMALL if length == 16383 else LARGE

    async def main() -> None:
        for source in (content, io.BytesIO(content), iterate(content, forever(1000))):
            capability = await put_content(NullStore(), source)
            assert capability.block_size == size
        for given_size in BlockSize:
            for source in (content, io.BytesIO(content), iterate(content, forever(1000))):
                capability = await put_content(NullStore(), source, block_size=given_size)
                assert capability == naive_encode(content, given_size)[0]

    run_clean(main())


def test_the_secret_is_used_for_every_source() -> None:
    content = make_content(50_000)
    secret = ConvergenceSecret(make_content(32))
    expected, _ = eris.encode(content, convergence_secret=secret)

    async def main() -> None:
        for source in (content, io.BytesIO(content), iterate(content, forever(999))):
            capability = await put_content(NullStore(), source, convergence_secret=secret)
            assert capability == expected

    run_clean(main())


@patient
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**32), st.integers(0, 120_000))
def test_whatever_the_window_and_the_order_of_answers(
    put_window: int, get_window: int, seed: int, length: int
) -> None:
    content = make_content(length)

    async def main() -> None:
        memory = MemoryStore()
        store = RecordingStore(ShuffledStore(memory, seed))
        capability = await put_content(store, content, block_size=SMALL, window=put_window)
        assert capability == naive_encode(content, SMALL)[0]
        assert store.most_active <= put_window
        store.most_active = 0
        assert await get_content(store, capability, window=get_window) == content
        assert store.most_active <= get_window
        assert len(store.gets) == eris.node.block_count(length, SMALL)
        checked = await all_checked(store, capability, window=get_window)
        assert not any(each.error for each in checked)

    asyncio.run(main())


def test_a_window_is_used() -> None:
    async def main() -> None:
        for window in (1, 2, 10, 64):
            store = RecordingStore(ShuffledStore(full_store(), window))
            assert await get_content(store, CAPABILITY, window=window) == CONTENT
            assert store.most_active == window
            store = RecordingStore(ShuffledStore(MemoryStore(), window))
            await put_content(store, CONTENT, block_size=SMALL, window=window)
            assert store.most_active == window

    run_clean(main())


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_of_nothing_is_refused(window: int) -> None:
    """It would find no content, and call that the content."""

    async def main() -> None:
        store = full_store()
        with pytest.raises(ValueError, match="window"):
            await get_content(store, CAPABILITY, window=window)
        with pytest.raises(ValueError, match="window"):
            await read_content(store, CAPABILITY, 0, 10, window=window)
        with pytest.raises(ValueError, match="window"):
            await all_checked(store, CAPABILITY, window=window)
        with pytest.raises(ValueError, match="window"):
            await put_content(store, CONTENT, window=window)

    run_clean(main())


@patient
@given(st.integers(0, len(CONTENT) + 5000), st.integers(0, 20_000), st.integers(1, 100))
def test_read_content_is_a_slice(offset: int, length: int, window: int) -> None:
    async def main() -> None:
        store = RecordingStore(full_store())
        found = await read_content(store, CAPABILITY, offset, length, window=window)
        assert found == CONTENT[offset : offset + length]
        # The leaves that are touched, and on each level one node more than they need if full.
        leaves = (length + 1023) // 1024 + 1
        assert len(store.gets) <= leaves + CAPABILITY.level * (2 + leaves // 16)

    asyncio.run(main())


@pytest.mark.parametrize("length", [0, 5, 1023, 1024, 20_000])
def test_reading_beyond_the_end(length: int) -> None:
    content = make_content(length)
    capability, blocks = eris.encode(content, block_size=SMALL)
    store = MemoryStore(blocks.values())

    async def main() -> None:
        for offset in (length, length + 1, length + 1024, length + 2000, 10**9):
            assert await read_content(store, capability, offset, 10) == b""
        assert await read_content(store, capability, 0, 10**12) == content

    run_clean(main())


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (5, -1), (-5, -5)])
def test_negative_offsets_and_lengths_are_refused(offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="range"):
        run_clean(read_content(full_store(), CAPABILITY, offset, length))


@both_sizes
@pytest.mark.parametrize("near", [-1, 0, 1])
@pytest.mark.parametrize("blocks", [0, 1, 2, 16, 17, 256, 257])
def test_content_length(block_size: BlockSize, blocks: int, near: int) -> None:
    length = max(0, blocks * 1024 + near)
    capability, made = encode_pieces(iter([make_content(length)]), block_size)

    async def main() -> None:
        store = RecordingStore(MemoryStore(block for _, block in made))
        assert await content_length(store, capability) == length
        assert len(store.gets) == capability.level + 1

    run_clean(main())


def test_content_length_of_a_hostile_tree() -> None:
    """The same rules as for decoding: a root of one pair is none."""
    leaf, blocks = eris.encode(b"Hail ERIS!")
    pair = leaf.root.reference + bytes(leaf.root.key)
    reference, key, block = encode_node(pair.ljust(1024, b"\0"), 1)
    capability = ReadCapability(SMALL, 1, eris.ReferenceKeyPair(reference, key))
    with pytest.raises(InvalidNode):
        run_clean(content_length(MemoryStore([*blocks.values(), block]), capability))


@pytest.mark.parametrize("seed", range(5))
def test_a_missing_block_and_its_position(seed: int) -> None:
    async def main() -> None:
        order = RecordingStore(full_store())
        assert await get_content(order, CAPABILITY) == CONTENT
        assert len(order.gets) == len(BLOCKS)
        # One off the right edge, so that the length can still be found out.
        index = random.Random(seed).randrange(20, 290)
        lost = order.gets[index]
        store = LossyStore(ShuffledStore(full_store(), seed), [lost])
        with pytest.raises(BlockNotFound) as caught:
            await get_content(store, CAPABILITY)
        assert caught.value.reference == lost
        assert (caught.value.position, caught.value.total) == (index + 1, len(BLOCKS))

    run_clean(main())


def test_the_total_is_unknown_if_the_right_edge_is_missing() -> None:
    async def main() -> None:
        with pytest.raises(BlockNotFound) as caught:
            await get_content(MemoryStore(), CAPABILITY)
        assert caught.value.reference == CAPABILITY.root.reference
        assert (caught.value.position, caught.value.total) == (1, None)

    run_clean(main())


@pytest.mark.parametrize("window", [1, 7, 64])
@pytest.mark.parametrize("seed", range(4))
def test_check_content_reports_exactly_what_is_wrong(seed: int, window: int) -> None:
    order = RecordingStore(full_store())
    asyncio.run(get_content(order, CAPABILITY))
    # Whatever is under a lost node is not known: choose leaves, which come in runs of 16 or more.
    chance = random.Random(seed)
    leaves = order.gets[60:]
    lost, spoiled, cut = (set(chance.sample(leaves, 4)) for _ in range(3))

    async def main() -> None:
        answers = dict.fromkeys(spoiled, bytes(1024)) | dict.fromkeys(cut, b"short")
        corrupting = CorruptingStore(full_store(), answers)
        store = ShuffledStore(LossyStore(corrupting, lost), seed)
        checked = await all_checked(store, CAPABILITY, window=window)
        wrong = {each.reference: each.error for each in checked if each.error}
        known = {each.reference for each in checked}
        assert known == set(BLOCKS) or any(is_node(name) for name in lost | spoiled | cut)
        assert wrong.keys() == (lost | spoiled | cut) & known
        for reference, error in wrong.items():
            assert error is not None
            if reference in lost:
                assert type(error) is BlockNotFound
            else:
                assert type(error) is CorruptBlock
                assert error.size == (5 if reference in cut else None)

    def is_node(name: Reference) -> bool:
        return name not in LEAVES

    run_clean(main())


def find_leaves() -> set[Reference]:
    """Each leaf alone is a content of its own; nodes are what is made in between."""
    leaves = set()
    for at in range(0, len(CONTENT) + 1, 1024):
        piece = CONTENT[at : at + 1024]
        if len(piece) == 1024:
            encoder = eris.Encoder(SMALL)
            leaves |= {reference for reference, _ in encoder.feed(piece)}
        else:
            leaves |= eris.encode(piece, block_size=SMALL)[1].keys()
    return leaves


LEAVES = find_leaves()


def test_check_content_of_a_sound_content() -> None:
    checked = run_clean(all_checked(full_store(), CAPABILITY))
    assert len(checked) == len(BLOCKS)
    assert {each.reference for each in checked} == set(BLOCKS)
    assert not any(each.error for each in checked)


def test_check_content_does_not_know_what_is_under_a_lost_root() -> None:
    checked = run_clean(all_checked(MemoryStore(), CAPABILITY))
    [(reference, error)] = checked
    assert reference == CAPABILITY.root.reference
    assert type(error) is BlockNotFound


def test_check_content_gives_up_when_the_store_fails() -> None:
    store = FailingStore(full_store(), 100, StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        run_clean(all_checked(store, CAPABILITY))


FAILURES = [1, 2, 63, 64, 65, 130, 300]


@pytest.mark.parametrize("nth", FAILURES)
@pytest.mark.parametrize("error", [StoreUnavailable("down"), StoreRefused("full"), OSError("odd")])
def test_a_store_that_fails_while_content_is_put(nth: int, error: Exception) -> None:
    async def main() -> None:
        for source in (CONTENT, io.BytesIO(CONTENT), iterate(CONTENT, forever(5000))):
            for seed in range(3):
                failing = FailingStore(ShuffledStore(MemoryStore(), seed), nth, error)
                with pytest.raises(type(error)) as caught:
                    await put_content(failing, source, block_size=SMALL)
                assert caught.value is error
                if not isinstance(source, bytes):
                    break

    run_clean(main())


@pytest.mark.parametrize("nth", FAILURES)
@pytest.mark.parametrize("error", [StoreUnavailable("down"), OSError("odd")])
def test_a_store_that_fails_while_content_is_got(nth: int, error: Exception) -> None:
    async def main() -> None:
        for seed in range(3):
            failing = FailingStore(ShuffledStore(full_store(), seed), nth, error)
            with pytest.raises(type(error)) as caught:
                await get_content(failing, CAPABILITY)
            assert caught.value is error

    run_clean(main())


class AllFail:
    """Every request fails, each with an error of its own."""

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        raise StoreUnavailable("down")

    async def put(self, reference: Reference, block: bytes) -> None:
        raise StoreUnavailable("down")


def test_a_store_that_fails_altogether() -> None:
    async def main() -> None:
        for source in (CONTENT, io.BytesIO(CONTENT)):
            with pytest.raises(StoreUnavailable):
                await put_content(AllFail(), source)
        with pytest.raises(StoreUnavailable):
            await get_content(AllFail(), CAPABILITY)
        with pytest.raises(StoreUnavailable):
            await all_checked(AllFail(), CAPABILITY)
        with pytest.raises(StoreUnavailable):
            await content_length(AllFail(), CAPABILITY)

    run_clean(main(), debug=True)


@pytest.mark.parametrize("reads", [0, 1, 2])
def test_a_file_that_fails(reads: int) -> None:
    answers = [make_content(100_000)] * reads

    def read() -> bytes:
        if answers:
            return answers.pop()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        run_clean(
            put_content(ShuffledStore(MemoryStore(), 1), OddFile(read).as_source()), debug=True
        )


@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_an_iterable_that_fails(pieces: int) -> None:
    async def source() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield make_content(50_000)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        run_clean(put_content(ShuffledStore(MemoryStore(), 1), source()), debug=True)


def test_source_and_store_fail_together() -> None:
    """One error is raised; the other is not complained about."""
    answers = [make_content(100_000)]

    def read() -> bytes:
        if answers:
            return answers.pop()
        raise OSError("the disk is gone")

    with pytest.raises((OSError, StoreUnavailable)):
        run_clean(put_content(AllFail(), OddFile(read).as_source()), debug=True)


class SlowFile(OddFile):
    """A file whose nth read lasts until `release` is set."""

    def __init__(self, nth: int) -> None:
        super().__init__(self._read_slowly)
        self._left = nth
        self.reached = threading.Event()
        self.release = threading.Event()

    def _read_slowly(self) -> bytes:
        self._left -= 1
        if self._left == 0:
            self.reached.set()
            self.release.wait()
        return make_content(100_000)


async def turn_the_loop() -> None:
    """Let everything happen that can happen now."""
    for _ in range(20):
        await asyncio.to_thread(int)


@pytest.mark.parametrize("nth", [1, 2, 5])
def test_cancellation_leaves_no_thread_in_the_file(nth: int) -> None:
    """Who cancels may close the file next."""

    async def main() -> None:
        file = SlowFile(nth)
        inside_at_end = []
        task = asyncio.create_task(put_content(MemoryStore(), file.as_source()))
        task.add_done_callback(lambda _: inside_at_end.append(file.inside))
        await asyncio.to_thread(file.reached.wait)
        task.cancel()
        await turn_the_loop()
        file.release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert inside_at_end == [0]

    run_clean(main(), debug=True)


@pytest.mark.parametrize("nth", [1, 2, 5])
def test_cancelling_again_leaves_no_thread_in_the_file_either(nth: int) -> None:
    async def main() -> None:
        file = SlowFile(nth)
        inside_at_end = []
        task = asyncio.create_task(put_content(MemoryStore(), file.as_source()))
        task.add_done_callback(lambda _: inside_at_end.append(file.inside))
        await asyncio.to_thread(file.reached.wait)
        for _ in range(3):
            task.cancel()
            await turn_the_loop()
        assert not task.done()
        file.release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert inside_at_end == [0]

    run_clean(main(), debug=True)


def test_a_source_that_holds_out_against_one_cancellation_ends_with_the_next() -> None:
    async def main() -> None:
        reached = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            yield make_content(10 * MIB)
            reached.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.Event().wait()

        task = asyncio.create_task(put_content(MemoryStore(), source()))
        await reached.wait()
        while not task.done():
            task.cancel()
            await turn_the_loop()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_clean(main(), debug=True)


def test_a_failing_store_leaves_no_thread_in_the_file() -> None:
    async def main() -> None:
        file = SlowFile(2)
        inside_at_end = []
        store = FailingStore(MemoryStore(), 1, StoreUnavailable("down"))
        task = asyncio.create_task(put_content(store, file.as_source()))
        task.add_done_callback(lambda _: inside_at_end.append(file.inside))
        await asyncio.to_thread(file.reached.wait)
        await turn_the_loop()
        file.release.set()
        with pytest.raises(StoreUnavailable):
            await task
        assert inside_at_end == [0]

    run_clean(main(), debug=True)


def test_a_failing_store_is_not_hidden_by_an_idle_source() -> None:
    """A live stream may stay silent for hours; the error must not wait for it."""

    async def source() -> AsyncIterator[bytes]:
        yield make_content(10 * MIB)
        await asyncio.Event().wait()

    store = FailingStore(MemoryStore(), 5, StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        run_clean(put_content(store, source(), window=4), debug=True)


def test_a_source_that_cannot_be_stopped_quietly_is_not_complained_about() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield make_content(10 * MIB)
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("could not close")

    store = FailingStore(MemoryStore(), 5, StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        run_clean(put_content(store, source(), window=4), debug=True)


class Hanging:
    """Lets some requests through, and the others wait for ever."""

    def __init__(self, inner: BlockWriter, through: int) -> None:
        self._inner = RecordingStore(inner)
        self._left = through
        self.hangs = asyncio.Event()

    @property
    def active(self) -> int:
        return self._inner.active

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        await self._wait()
        return await self._inner.get(reference, block_size)

    async def put(self, reference: Reference, block: bytes) -> None:
        await self._wait()
        await self._inner.put(reference, block)

    async def _wait(self) -> None:
        self._left -= 1
        if self._left < 0:
            self._inner.active += 1
            try:
                self.hangs.set()
                await asyncio.Event().wait()
            finally:
                self._inner.active -= 1


@pytest.mark.parametrize("through", [0, 1, 100])
def test_cancellation_withdraws_all_requests(through: int) -> None:
    async def cancel(store: Hanging, task: asyncio.Task[object]) -> None:
        await store.hangs.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turn_the_loop()
        assert store.active == 0

    async def main() -> None:
        sources: list[Callable[[], eris.transfer.Source]] = [
            lambda: CONTENT,
            lambda: io.BytesIO(CONTENT),
            lambda: iterate(CONTENT, forever(10_000)),
        ]
        for make_source in sources:
            store = Hanging(MemoryStore(), through)
            put = put_content(store, make_source(), block_size=SMALL)
            await cancel(store, asyncio.create_task(put))
        store = Hanging(full_store(), through)
        await cancel(store, asyncio.create_task(get_content(store, CAPABILITY)))
        store = Hanging(full_store(), through)
        await cancel(store, asyncio.create_task(all_checked(store, CAPABILITY)))

    run_clean(main(), debug=True)


@pytest.mark.parametrize("pieces", [0, 1, 5, 200])
def test_closing_early_withdraws_all_requests(pieces: int) -> None:
    async def main() -> None:
        store = RecordingStore(ShuffledStore(full_store(), pieces))
        content = b""
        async with aclosing(stream_content(store, CAPABILITY)) as stream:
            for _ in range(pieces):
                content += await anext(stream)
        assert CONTENT.startswith(content)
        await turn_the_loop()
        assert store.active == 0
        assert len(store.gets) < pieces + pieces // 8 + DEFAULT_WINDOW * 9 // 8 + 10
        async with aclosing(check_content(store, CAPABILITY)) as checks:
            for _ in range(pieces):
                await anext(checks)
        await turn_the_loop()
        assert store.active == 0

    run_clean(main(), debug=True)


def test_stream_content_comes_in_order_and_in_pieces() -> None:
    async def main() -> None:
        store = ShuffledStore(full_store(), 3)
        pieces = [piece async for piece in stream_content(store, CAPABILITY)]
        assert b"".join(pieces) == CONTENT
        assert all(0 < len(piece) <= 1024 for piece in pieces)
        part = [piece async for piece in stream_content(store, CAPABILITY, start=1500, stop=40_000)]
        assert b"".join(part) == CONTENT[1500:40_000]

    run_clean(main())


@pytest.mark.parametrize("lie", [bytes(1024), b"", bytes(32768)])
def test_wrong_answers_are_noticed(lie: bytes) -> None:
    async def main() -> None:
        for reference in random.Random(len(lie)).sample(sorted(BLOCKS), 5):
            store: BlockReader = CorruptingStore(full_store(), {reference: lie})
            with pytest.raises(ContentError) as caught:
                await get_content(store, CAPABILITY)
            assert isinstance(caught.value, CorruptBlock)
            assert caught.value.reference == reference

    run_clean(main())


def test_requests_ahead_of_the_reader() -> None:
    """Never more than the window, and, in the middle of the content, never less than half of it."""

    async def main() -> None:
        store = RecordingStore(full_store())
        async with aclosing(stream_content(store, CAPABILITY, window=10)) as stream:
            for leaves in range(1, 200):
                await anext(stream)
                nodes = sum(reference not in LEAVES for reference in store.gets)
                assert leaves + 5 <= len(store.gets) <= leaves + 10 + nodes

    run_clean(main())
