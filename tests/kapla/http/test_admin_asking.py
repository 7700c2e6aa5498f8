"""Who is told what at the door for this machine."""

from __future__ import annotations

import pytest

from kapla.http.admin.asking import WrongToken, told_to
from kapla.status.subject import Told

OWN = 990


@pytest.mark.parametrize(
    ("uid", "authorization", "told"),
    [
        (0, None, Told.EVERYTHING),
        (OWN, None, Told.EVERYTHING),
        # Whoever the kernel knows needs no token, and no wrong one harms.
        (OWN, "Bearer wrong", Told.EVERYTHING),
        (1000, None, Told.NUMBERS),
        (None, None, Told.NUMBERS),
        (None, "Bearer right", Told.EVERYTHING),
        (1000, "bearer  right ", Told.EVERYTHING),
    ],
)
def test_who_asks_decides(uid: int | None, authorization: str | None, told: Told) -> None:
    assert told_to(uid, OWN, authorization, "right") is told


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "right",
        "Basic right",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer righ\udcff",
        "Bearer é",
    ],
)
def test_a_wrong_token_is_said_to_be_wrong(authorization: str) -> None:
    for uid in (None, 1000):
        with pytest.raises(WrongToken):
            told_to(uid, OWN, authorization, "right")
