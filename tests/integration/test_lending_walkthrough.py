"""docs/lending.md, word for word, with a smaller store: fill, lend, forget, damage, restore."""

from __future__ import annotations

import re

import pytest

from tests.integration.walkthrough import commands_in, follow, free_port

# Of what the page says, to what it takes here.
SIZES = {"2GiB": "24MiB", "-c 1G": "-c 12M", "-c 20M": "-c 4M"}
MOST_ON_DISK = 28 * 1024 * 1024


def script() -> str:
    commands = commands_in("lending.md")
    for there, here in SIZES.items():
        assert there in commands
        commands = commands.replace(there, here)
    assert "5999" in commands
    commands = commands.replace("5999", str(free_port()))
    # Whoever types is slower than this: the daemon must have begun to listen.
    waiting = "until kapla stat >/dev/null 2>&1; do sleep 0.1; done"
    started = re.sub(r"^(kaplad .*&)$", rf"\1\n{waiting}", commands, flags=re.MULTILINE)
    return started.replace("du -h lend", "du --bytes --summarize lend")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return follow(f"set -m\n{script()}", tmp_path_factory.mktemp("walk"))


def test_three_times_the_cap_stays_within_it_and_what_is_pinned_stays(
    said: tuple[str, str],
) -> None:
    out, err = said
    size = re.search(r"^(\d+)\tlend$", out, re.MULTILINE)
    assert size is not None, err
    assert int(size[1]) <= MOST_ON_DISK
    evicted = re.search(r"^evicted blocks: +([\d,]+)", out, re.MULTILINE)
    assert evicted is not None, err
    assert int(evicted[1].replace(",", "")) > 1000
    assert len(re.findall(r"^1\d\d blocks, 0 missing, 0 bad$", out, re.MULTILINE)) == 2, err


def test_a_stranger_gets_what_is_lent_and_nothing_before(said: tuple[str, str]) -> None:
    out, err = said
    assert out.count("not for strangers\n") == 1, err
    assert "the same\n" in out, err
    assert "nothing is lent yet" in err


def test_damage_is_found_dropped_and_repaired(said: tuple[str, str]) -> None:
    out, err = said
    for line in ("damaged", "something was bad", "something is missing"):
        assert f"{line}\n" in out, err
    assert re.search(r"^1\d\d blocks, 1 missing, 0 bad$", out, re.MULTILINE), err
    assert re.search(r"^1\d\d blocks, 0 missing, 0 bad, 1 repaired$", out, re.MULTILINE), err


def test_what_is_forgotten_is_pinned_no_more_and_the_copy_has_it(said: tuple[str, str]) -> None:
    out, err = said
    _, after = out.split("forgotten: notes")
    pinned = re.findall(r"^ *4\.\d MiB +4\.\d MiB +0 +yes +yes .*$", after, re.MULTILINE)
    assert len(pinned) == 1, err
