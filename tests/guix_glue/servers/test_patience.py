"""When, and how often, what failed is tried again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from guix_glue.errors import TemporaryFailure
from guix_glue.servers.failures import retry_after_s, status_failure
from guix_glue.servers.patience import Patience, first_success


def test_pauses_grow_and_end() -> None:
    patience = Patience(waiting_s=100.0, tries=3)
    assert [patience.pause_s() for _ in range(4)] == [0.5, 2.0, 8.0, None]


def test_a_server_is_waited_for_as_long_as_it_asks_but_not_for_ever() -> None:
    patience = Patience(waiting_s=20.0, tries=9)
    assert patience.pause_s(15.0) == 15.0
    assert patience.pause_s(6.0) is None
    assert patience.pause_s(1.0) == 2.0


def test_what_was_waited_in_vain_counts() -> None:
    patience = Patience(waiting_s=20.0)
    patience.spend(19.6)
    assert patience.pause_s() is None


def brought(
    script: dict[str, list[float | str | None]], waiting_s: float = 60.0
) -> tuple[str | None, list[str], list[float]]:
    """Try sources that answer by a script: a pause that they ask for, something, or nothing."""
    asked: list[str] = []
    pauses: list[float] = []

    async def attempt(source: str) -> str | None:
        asked.append(source)
        match script[source].pop(0):
            case float(pause_s):
                raise TemporaryFailure("later", pause_s)
            case answer:
                return answer

    async def pausing(pause_s: float) -> None:
        pauses.append(pause_s)

    found = asyncio.run(first_success(script, attempt, pausing, Patience(waiting_s)))
    return found, asked, pauses


def test_others_come_first() -> None:
    assert brought({"a": [0.0], "b": [None], "c": ["x"]}) == ("x", ["a", "b", "c"], [])


def test_then_those_that_may_do_better() -> None:
    script: dict[str, list[float | str | None]] = {
        "a": [0.0, None],
        "b": [None],
        "c": [0.0, 0.0, "x"],
    }
    assert brought(script) == ("x", ["a", "b", "c", "a", "c", "c"], [0.5, 2.0])


def test_each_when_it_asked_for() -> None:
    script: dict[str, list[float | str | None]] = {"a": [9.0, "x"], "b": [3.0, None]}
    assert brought(script) == ("x", ["a", "b", "b", "a"], [3.0, 6.0])


def test_who_asks_for_too_much_is_given_up() -> None:
    assert brought({"a": [61.0]}) == (None, ["a"], [])
    assert brought({"a": [0.0] * 9}) == (None, ["a"] * 4, [0.5, 2.0, 8.0])
    assert brought({}) == (None, [], [])


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("120", 120.0), ("", None), ("soon", None), ("-1", None), ("9" * 30, None)],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    assert retry_after_s(value) == seconds


def test_retry_after_as_a_date() -> None:
    now = datetime.now(UTC)
    later = retry_after_s(format_datetime(now + timedelta(seconds=500), usegmt=True))
    assert later is not None and 400 < later <= 500
    assert retry_after_s(format_datetime(now - timedelta(seconds=5), usegmt=True)) == 0.0
    assert retry_after_s("Mon, 99 Foo 9999 99:99:99 GMT") is None


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass(status: int) -> None:
    failure = status_failure(status, "7")
    assert isinstance(failure, TemporaryFailure)
    assert (str(failure), failure.pause_s) == (f"the server answers {status}", 7.0)


@pytest.mark.parametrize("status", [204, 400, 401, 403, 404, 410, 501, 505])
def test_what_will_not(status: int) -> None:
    assert not isinstance(status_failure(status, "7"), TemporaryFailure)
