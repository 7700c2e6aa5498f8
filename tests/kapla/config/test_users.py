"""Users in settings, by name and number."""

from __future__ import annotations

import os
import pwd

import pytest

from kapla.config.users import User, parse_users


def test_names_and_numbers_are_users() -> None:
    root = pwd.getpwuid(0).pw_name
    users = (User(root, 0), User("1000", 1000))
    assert parse_users([root, 1000]) == parse_users(f"{root} 1000") == users
    assert [str(user) for user in users] == [root, "1000"]
    assert parse_users([]) == parse_users("") == ()


def test_a_number_need_not_be_that_of_anybody() -> None:
    assert parse_users([2**32 - 2])[0].uid == 2**32 - 2


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (["no-such-user-of-kapla"], "there is no user 'no-such-user-of-kapla'"),
        ([2**32 - 1], "no number of a user"),
        ([True], "a list of users is expected"),
        ([1.5], "a list of users is expected"),
        (1000, "a list of users is expected"),
        ([""], "a name or a number"),
        (["a\0b"], "a name or a number"),
        (list(range(65)), "there may be 64"),
        ([-1], "there is no user '-1'"),
    ],
)
def test_others_are_refused(value: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_users(value)


def test_what_may_be_meant_is_said() -> None:
    name = pwd.getpwuid(os.geteuid()).pw_name
    with pytest.raises(ValueError, match="did you mean"):
        parse_users([f"{name}x"])
