"""What a session makes of many peers, played through in a time of its own: nothing here waits."""

from __future__ import annotations

from functools import cache

import pytest

from tests.kapla.peers.scenes import FAULTS, Played, crowd, read_from, thousand


@cache
def four(size: int, blocks: int) -> Played:
    """What the four take that have all."""
    return read_from(4, blocks=blocks, size=size)


def test_four_peers_are_nearly_as_fast_as_their_sum() -> None:
    together = four(32 * 1024, 960)
    assert read_from(1).took_s / together.took_s >= 3.7
    assert together.twice <= 0.02


def test_one_peer_is_asked_at_once_and_never_waits_for_a_question() -> None:
    played = read_from(1)
    assert played.reader.log["find"] == 0
    # The round trips of the three levels, and the bytes at the rate of the link.
    assert played.took_s <= 1.02 * played.reader.content.bytes / 1_250_000 + 3 * 0.05


def test_a_link_that_is_fast_and_far_is_filled() -> None:
    played = read_from(1, mbit_s=100)
    assert played.took_s <= 1.12 * played.reader.content.bytes / 12_500_000


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fifth_that_is_no_good_costs_next_to_nothing(fault: str, is_first: bool) -> None:
    five = read_from(4, fault=fault, is_first=is_first)
    assert five.took_s <= 1.05 * four(32 * 1024, 960).took_s
    assert five.twice <= 0.02


@pytest.mark.parametrize("fault", ["drips", "stalls", "answers half"])
def test_small_blocks_are_not_held_back_either(fault: str) -> None:
    five = read_from(4, blocks=1500, size=1024, fault=fault)
    assert five.took_s <= 1.15 * four(1024, 1500).took_s + 0.1
    assert five.twice <= 0.05


def test_a_peer_that_has_nothing_costs_a_round_trip_at_most() -> None:
    alone = read_from(1, blocks=200)
    beside = read_from(1, blocks=200, fault="has nothing", is_first=True)
    assert beside.took_s <= 1.05 * alone.took_s + 0.05


def test_a_crowd_takes_most_blocks_from_each_other() -> None:
    played = crowd(blocks=150)
    assert played.left_first <= 2
    assert played.twice <= 0.05


@pytest.mark.parametrize("kind", ["all", "last", "part"])
def test_a_thousand_peers_are_looked_through(kind: str) -> None:
    played = thousand(kind)
    assert not played.reader.lost
    assert played.twice <= 0.05


def test_what_none_of_a_thousand_has_is_said_when_all_were_asked() -> None:
    played = thousand("nobody")
    root = played.reader.content.references[0]
    assert played.reader.lost == {root: False}
    assert all(node.asked or node.questions for node in played.nodes)


def test_peers_that_come_and_go_lose_nothing() -> None:
    played = thousand("part", count=200, leaving=100)
    assert not played.reader.lost
