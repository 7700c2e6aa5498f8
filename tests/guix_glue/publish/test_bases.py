"""Which items are bases of which: of the same package and output, older, the newest first."""

from __future__ import annotations

from guix_glue.publish.bases import Bases


def item(number: int, name: str) -> str:
    """A base name."""
    return f"{number:032}-{name}"


def test_older_versions_the_newest_first() -> None:
    bases, names = Bases(), [item(n, f"hello-{version}") for n, version in enumerate((9, 10, 2, 1))]
    for time, name in enumerate(names):
        bases.add(name, time)
    nine, ten, two, one = names
    assert list(bases.before(ten, 1)) == [nine, two, one]
    assert list(bases.before(two, 2)) == [one]
    assert list(bases.before(item(9, "hello-11"), 0)) == [ten, nine, two, one]
    assert list(bases.before(one, 3)) == []


def test_builds_of_one_version_in_the_order_in_which_they_were_baked() -> None:
    bases = Bases()
    first, second, third = (item(n, "profile") for n in range(3))
    for time, name in enumerate((second, first, third)):
        bases.add(name, time)
    assert list(bases.before(third, 2)) == [first, second]
    assert list(bases.before(first, 1)) == [second]
    assert list(bases.before(second, 0)) == []
    # Of a time that is not known.
    bases.add(item(7, "profile"), 0)
    assert list(bases.before(item(8, "profile"), 0)) == []


def test_another_package_or_output_is_no_base() -> None:
    bases, new = Bases(), item(0, "gcc-13-lib")
    for number, name in enumerate(("gcc-12", "gcc-12-debug", "gccgo-12-lib", "gcc-14-lib"), 1):
        bases.add(item(number, name), 0)
    assert list(bases.before(new, 1)) == []
    bases.add(old := item(9, "gcc-12-lib"), 0)
    assert list(bases.before(new, 1)) == [old]
    bases.forget(old)
    assert list(bases.before(new, 1)) == []
    bases.forget(old)


def test_few_items_of_a_package_are_known() -> None:
    bases, last = Bases(), item(1000, "a-1000")
    for number in range(100):
        bases.add(item(number, f"a-{number}"), number)
        bases.add(item(number, f"a-{number}"), number)
    known = list(bases.before(last, 0))
    assert known[0] == item(99, "a-99")
    assert 16 <= len(known) < 100


def test_few_items_are_known_in_all_of_what_was_baked_last() -> None:
    bases = Bases(most=10)
    for round_ in range(3):
        for package in "abcd":
            for number in range(5):
                bases.add(item(number, f"{package}-{number}"), number)
                bases.add(item(number, f"{package}-{number}"), number)
            bases.forget(item(round_, f"{package}-{round_}"))
        known = {package: len(list(bases.before(item(9, f"{package}-9"), 0))) for package in "abcd"}
        assert known == {"a": 0, "b": 0, "c": 4, "d": 4}
