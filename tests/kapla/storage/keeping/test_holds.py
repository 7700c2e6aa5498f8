"""What is held is held by those that are open."""

from __future__ import annotations

from kapla.storage.sqlite.keeping.state import Keeping


def test_what_comes_after_the_end_of_a_hold_is_not_held() -> None:
    keeping = Keeping(tracks_reads=True)
    ended, other = keeping.open_hold(1000), keeping.open_hold(1000)
    keeping.hold(other, [(1, 1024)])
    keeping.end_hold(ended)
    keeping.hold(ended, [(2, 1024), (3, 32768)])
    assert list(keeping.safe()) == [1]
    keeping.end_hold(other)
    assert not keeping.safe()
