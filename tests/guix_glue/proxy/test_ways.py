"""By which ways a nar is made: what is tried, in which order, and what may go out as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eris.capability import ReadCapability
from eris.model import BlockSize, Key, Reference, ReferenceKeyPair
from guix_glue.formats.compression import Compression
from guix_glue.formats.narinfo import DeltaLine, Narinfo
from guix_glue.model import StoreItem
from guix_glue.proxy.ways import Known, Way, block_ways, hinted_ways, nar_ways
from guix_glue.servers.nars import NarSource
from guix_glue.servers.url import parse_server
from guix_glue.sources.order import DeltaSource, ErisSource, Source
from guix_glue.sources.vouching import Candidate, Vouched

BASE = f"{'1' * 32}-app-1.0"
ITEM = StoreItem(f"/gnu/store/{'2' * 32}-app-1.1", bytes(32), 1_000_000, ())


def capability(number: int) -> ReadCapability:
    pair = ReferenceKeyPair(Reference(bytes([number]) * 32), Key(bytes(32)))
    return ReadCapability(BlockSize.LARGE, 1, pair)


SIGNED, HINT, GOOD, DELTA, MAPPED = (capability(number) for number in range(5))
PLAIN = Narinfo(ITEM, (), "", "", "", frozenset(["NarSize"]))
NOTHING = Known((), lambda _: False, lambda _: False)


def vouched(first: Narinfo, *others: Narinfo) -> Vouched:
    narinfos = (first, *others)
    servers = [parse_server(f"http://server-{number}") for number, _ in enumerate(narinfos)]
    return Vouched(first, tuple(map(Candidate, servers, narinfos)))


def wrong(*sources: Source) -> Known:
    return replace(NOTHING, is_wrong=lambda source: source in sources)


def ways(
    first: Narinfo, *others: Narinfo, known: Known = NOTHING, trust_hints: bool = True
) -> list[tuple[Source, bool]]:
    found = block_ways(
        vouched(first, *others), known, trust_hints=trust_hints, bases=frozenset([BASE])
    )
    return [(way.source, way.whole) for way in found]


def test_what_is_signed_may_go_out_as_it_comes_but_for_deltas() -> None:
    line = DeltaLine(BASE, DELTA.to_urn())
    signed = replace(PLAIN, signed_urn=SIGNED.to_urn(), signed_deltas=(line,))
    for trust_hints in (True, False):
        assert ways(signed, trust_hints=trust_hints) == [
            (DeltaSource(BASE, DELTA), True),
            (ErisSource(SIGNED), False),
        ]


def test_a_hint_is_made_whole_first_whoever_gives_it() -> None:
    hinting = replace(PLAIN, hint_urn=HINT.to_urn())
    # Nobody has looked at the signatures of the others.
    other = replace(PLAIN, signed_urn=SIGNED.to_urn())
    assert ways(hinting, other) == [(ErisSource(HINT), True), (ErisSource(SIGNED), True)]
    assert ways(hinting, other, trust_hints=False) == []


def test_what_was_found_to_be_the_item_comes_first_and_as_it_comes() -> None:
    line = DeltaLine(BASE, DELTA.to_urn())
    hinting = replace(PLAIN, hint_urn=HINT.to_urn(), hint_deltas=(line,))
    known = replace(NOTHING, good=(GOOD, HINT))
    assert ways(hinting, known=known) == [
        (ErisSource(GOOD), False),
        (ErisSource(HINT), False),
        (DeltaSource(BASE, DELTA), True),
    ]
    assert ways(PLAIN, known=known, trust_hints=False) == [
        (ErisSource(GOOD), False),
        (ErisSource(HINT), False),
    ]


def test_what_was_found_to_be_something_else_is_left_out() -> None:
    line = DeltaLine(BASE, DELTA.to_urn())
    signed = replace(PLAIN, signed_urn=SIGNED.to_urn(), signed_deltas=(line,))
    assert ways(signed, known=wrong(ErisSource(SIGNED))) == [(DeltaSource(BASE, DELTA), True)]
    assert ways(signed, known=wrong(DeltaSource(BASE, DELTA))) == [(ErisSource(SIGNED), False)]


def test_what_is_doubted_is_made_whole_first() -> None:
    signed = replace(PLAIN, signed_urn=SIGNED.to_urn())
    known = replace(NOTHING, is_doubted=lambda source: source == ErisSource(SIGNED))
    assert ways(signed, known=known) == [(ErisSource(SIGNED), True)]


def test_what_maps_know_is_made_whole_first() -> None:
    tried = [Way(ErisSource(HINT), whole=True)]
    urns = [HINT.to_urn(), "urn:eris:none", MAPPED.to_urn(), MAPPED.to_urn(), GOOD.to_urn()]
    found = hinted_ways(urns, wrong(ErisSource(GOOD)), tried)
    assert found == [Way(ErisSource(MAPPED), whole=True)]
    many = [capability(number).to_urn() for number in range(10, 20)]
    assert len(hinted_ways(many, NOTHING, ())) == 3


def nar(host: str) -> NarSource:
    return NarSource(f"http://{host}/nar", Compression.NONE, None)


def order(nars: Sequence[NarSource], known: Known, rests: Sequence[Source]) -> list[Source]:
    found = nar_ways(nars, known, lambda source: source in rests)
    assert not any(way.whole for way in found)
    return [way.source for way in found]


def test_nars_of_servers_that_were_wrong_come_last() -> None:
    a, b, c, d = map(nar, "abcd")
    assert order([a, b, a, c], NOTHING, []) == [a, b, c]
    assert order([a, b, c, d], wrong(a), [b]) == [c, d, b, a]
    assert order([a, b], wrong(a, b), [a]) == [b, a]
