"""Every recorded dialogue again, with our program in the place of the stock one.

The real program is started for each process of a transcript and told what the daemon said. Its
replies must mean the same: the same items available, the same successes and failures. Where stock
Guix dies, or promises what it then cannot fetch, `NOTHING` says why we do not.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from guix_glue.formats.store_path import format_hash
from tests.guix_glue.fetch.fakes import FakeServer, running_server
from tests.guix_glue.fetch.support import (
    SAMPLES,
    assert_canonical,
    configuration,
    program_environment,
    run_program,
)
from tests.guix_glue.fetch.transcripts import (
    JSON_LIB,
    Process,
    Rebuilt,
    Reply,
    read_replies,
    read_transcript,
)

TRANSCRIPTS: Final = sorted(
    path
    for path in (SAMPLES / "transcripts").glob("*.txt")
    if not path.name.endswith((".client-stderr.txt", ".client-log.txt"))
)

FAILED: Final = ("not-found",)

# Transcripts in which we answer `info` with nothing where stock Guix does not. No source that can
# be read is left, so that there is no substitute, and the daemon builds or asks nobody further.
NOTHING: Final = {
    # No URL; no known compression; only the first URL counts, by position. Stock Guix dies in the
    # middle of its answer, and the user's build with it.
    "21-narinfo-eris-only-no-url",
    "21-narinfo-only-unknown-compression",
    "21-narinfo-unknown-compression",
    # The only URL, by position, is not that of a nar. Stock promises the item and dies fetching it.
    "21-narinfo-eris-as-url",
}


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Rebuilt:
    return Rebuilt(tmp_path_factory.mktemp("items"))


@pytest.fixture(scope="module")
def published(rebuilt: Rebuilt) -> Iterator[tuple[FakeServer, FakeServer]]:
    with running_server() as publish, running_server() as in_order:
        rebuilt.as_published(publish)
        rebuilt.as_it_should_be(in_order)
        yield publish, in_order


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def test_the_transcripts_are_here() -> None:
    names = {path.stem for path in TRANSCRIPTS}
    assert len(names) >= 25
    assert names >= NOTHING


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript(
    path: Path, rebuilt: Rebuilt, published: tuple[FakeServer, FakeServer], tmp_path: Path
) -> None:
    name = path.stem
    processes = read_transcript(path)
    with ExitStack() as stack:
        situation = stack.enter_context(running_server())
        rebuilt.as_described(situation, name)
        ports = {
            "8182": published[0].url.rpartition(":")[2],
            "8186": published[1].url.rpartition(":")[2],
            "8190": situation.url.rpartition(":")[2],
            "9": str(closed_port()),
        }
        acl = (SAMPLES / "keys/acl-empty").read_bytes() if name.startswith("09-") else None
        config = stack.enter_context(configuration(acl))
        pool = stack.enter_context(ThreadPoolExecutor())
        jobs = [pool.submit(replay, process, ports, config, tmp_path) for process in processes]
        replies = [job.result() for job in jobs]
    for process, reply in zip(processes, replies, strict=True):
        check(name, process, reply, rebuilt, tmp_path)


def replay(process: Process, ports: dict[str, str], config: Path, items: Path) -> list[Reply]:
    options = re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda port: ports[port[0]], process.options)
    commands = re.sub(
        rb"^substitute (\S+) /gnu/store/",
        lambda match: b"substitute " + match[1] + b" " + bytes(items) + b"/",
        process.commands,
        flags=re.MULTILINE,
    )
    done = run_program([f"--{process.mode}"], commands, program_environment(config, options))
    assert done.code == 0, done
    return read_replies(process.commands, done.replies)


def check(name: str, process: Process, ours: list[Reply], rebuilt: Rebuilt, items: Path) -> None:
    """Compare our replies with those that were recorded, command by command."""
    if process.mode == "query" and name in NOTHING:
        assert ours == [frozenset()]
    elif process.died:
        # Nothing was recorded, which the daemon took for a failure.
        assert process.mode == "substitute"
        assert ours == [FAILED]
    else:
        recorded = read_replies(process.commands, process.replies)
        commands = process.commands.decode().splitlines()
        for command, one, other in zip(commands, ours, recorded, strict=True):
            compare(command, one, other, rebuilt)
    for command, one in zip(process.commands.decode().splitlines(), ours, strict=True):
        if process.mode == "substitute":
            check_item(items / command.rpartition("/")[2], one, rebuilt)


def compare(command: str, ours: Reply, recorded: Reply, rebuilt: Rebuilt) -> None:
    match ours, recorded:
        case ["success", *_], ["success", *_]:
            assert ours == rebuilt.success(command.rpartition("/")[2], recorded)
        case ["hash-mismatch", "sha256", expected, actual], ["hash-mismatch", "sha256", *_]:
            assert expected == format_hash(rebuilt.made[JSON_LIB].item.nar_hash)[7:]
            assert expected != actual
        case frozenset(), frozenset():
            assert ours == frozenset(map(rebuilt.today, recorded))
        case _:
            assert ours == recorded


def check_item(path: Path, reply: Reply, rebuilt: Rebuilt) -> None:
    """Where success is said there is the item, and else nothing."""
    if reply[0] == "success":
        nar = rebuilt.nars[path.name]
        assert_canonical(path, hashlib.sha256(nar).digest(), len(nar))
    else:
        assert not os.path.lexists(path)
