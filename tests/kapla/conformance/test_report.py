"""What is told of results; and the table of checks, and the vectors that come with it."""

from __future__ import annotations

import json
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from eris import ReadCapability, decode, reference_of
from kapla.coap.frame import Code, Message
from kapla.conformance.expecting import expect, expect_block, expect_error
from kapla.conformance.model import GROUPS, Check, Failed, Level, Result, Seen, Verdict, words
from kapla.conformance.report import facts, failed_musts, lines_of, sums
from kapla.conformance.stage import Stage
from kapla.conformance.table import TABLE
from kapla.conformance.transcript import Transcript
from kapla.conformance.vectors import KNOWN, NUMBERS, read_vector

OFFICIAL = Path(__file__).parents[2] / "vectors"
OURS = Path(__file__).parents[3] / "kapla" / "conformance" / "data"


async def nothing(stage: Stage) -> str:
    return ""


def result(level: Level, verdict: Verdict, name: str = "it") -> Result:
    check = Check(name, level, "something is so", "RFC 1, 2.3", nothing)
    return Result("group", check, verdict, "what was seen", (Seen(True, b"\x00\xe1", 300),))


# --- the report -------------------------------------------------------------------------------


def test_a_line_for_what_went_well() -> None:
    assert list(lines_of(result(Level.MUST, Verdict.PASS))) == [
        "  ok    must    it                something is so [RFC 1, 2.3]"
    ]


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.SKIPPED, Verdict.ABSENT])
def test_of_all_else_it_is_told_what_was_seen(verdict: Verdict) -> None:
    _, seen = lines_of(result(Level.MAY, verdict))
    assert seen.strip() == "what was seen"


def test_the_bytes_are_shown_when_asked_for() -> None:
    *_, last = lines_of(result(Level.OWN, Verdict.PASS), verbose=True)
    assert last.strip() == "-> 00 e1 … (300 bytes)"


def test_only_a_must_that_failed_counts() -> None:
    fine = [result(level, verdict) for level in Level for verdict in Verdict]
    fine.remove(result(Level.MUST, Verdict.FAIL))
    assert failed_musts(fine) == []
    assert failed_musts([*fine, result(Level.MUST, Verdict.FAIL, "that")]) == ["group/that"]


def test_the_sums_count_what_was_tried() -> None:
    results = [
        result(Level.MUST, Verdict.PASS),
        result(Level.MUST, Verdict.SKIPPED),
        result(Level.SHOULD, Verdict.FAIL),
        result(Level.SHOULD, Verdict.PASS),
        result(Level.OWN, Verdict.ABSENT),
    ]
    assert sums(results) == "conforms: 1 of 1 musts, 1 of 2 shoulds; 1 skipped; 1 not there"
    results.append(result(Level.MUST, Verdict.FAIL))
    assert sums(results).startswith("does not conform: 1 of 2 musts, ")
    assert sums([]) == "conforms: nothing was tried"


def test_the_facts_are_those_of_the_lines() -> None:
    told = facts([result(Level.MUST, Verdict.FAIL)], "TCP there:1", written=7, asked=3)
    assert json.loads(json.dumps(told)) == told
    assert (told["store"], told["conforms"], told["written_bytes"]) == ("TCP there:1", False, 7)
    (one,) = told["checks"]
    assert (one["name"], one["level"], one["verdict"]) == ("it", "must", "fail")
    assert one["bytes"] == [{"sent": True, "head": "00e1", "length": 300}]


def test_a_transcript_is_bounded() -> None:
    transcript = Transcript()
    for _ in range(1000):
        transcript.add(bytes(10_000), sent=True)
    assert len(transcript.lines()) == 40
    assert {(len(seen.head), seen.length) for seen in transcript.lines()} == {(96, 10_000)}


def test_a_transcript_does_not_tell_the_path_of_a_store() -> None:
    transcript = Transcript([b"my-secret", b"inner"])
    transcript.add(b"\xb9my-secret\x05inner\x06blocks", sent=True)
    transcript.add(bytes(90) + b"my-secret", sent=False)
    first, second = transcript.lines()
    assert first.head == b"\xb9*********\x05*****\x06blocks"
    assert second.head == bytes(90) + b"******"


def test_what_a_store_says_cannot_command_a_terminal() -> None:
    assert words(b"\x1b[2Jgone\n") == " (?[2Jgone?)"
    assert words(b"") == ""
    assert len(words(bytes(10_000))) < 100


# --- expectations -----------------------------------------------------------------------------


def test_what_is_expected_and_is_not_is_told_with_both() -> None:
    answer = Message(Code.NOT_FOUND, b"t", (), b"never")
    assert expect(answer, Code.NOT_FOUND) == expect_error(answer) == "4.04 (never)"
    with pytest.raises(Failed, match=r"answered 4\.04 \(never\) instead of 2\.01 or 2\.04"):
        expect(answer, Code.CREATED, Code.CHANGED)
    with pytest.raises(Failed, match=r"answered 2\.05, 5 bytes instead of an error"):
        expect_error(Message(Code.CONTENT, b"t", (), b"block"))
    with pytest.raises(Failed, match="the answer, of 5 bytes, is not the block"):
        expect_block(Message(Code.CONTENT, b"t", (), b"block"), b"other")


# --- the table and the vectors ----------------------------------------------------------------


def test_each_group_is_that_of_its_module() -> None:
    assert tuple(TABLE) == GROUPS
    for group, checks in TABLE.items():
        module = import_module(f"kapla.conformance.{group.replace('-', '_')}")
        assert module.CHECKS is checks


def test_each_check_has_a_name_of_its_own_and_fits_a_line() -> None:
    for group, checks in TABLE.items():
        counted = Counter(check.name for check in checks)
        assert max(counted.values()) == 1, group
        for check in checks:
            assert len(check.name) <= 16
            assert check.source


@pytest.mark.parametrize("number", NUMBERS)
def test_the_vectors_are_the_official_ones(number: int) -> None:
    name = f"eris-test-vector-positive-{number:02d}.json"
    assert (OURS / name).read_bytes() == (OFFICIAL / name).read_bytes()
    vector = read_vector(number)
    assert decode(ReadCapability.from_urn(vector.urn), vector.blocks) == vector.content


def test_the_blocks_that_are_asked_for_have_references_that_are_not_utf_8() -> None:
    for size, number in KNOWN.items():
        (block,) = read_vector(number).blocks.values()
        assert len(block) == size
        with pytest.raises(UnicodeDecodeError):
            reference_of(block).decode()
