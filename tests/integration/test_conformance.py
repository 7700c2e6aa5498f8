"""The conformance kit on real stores: `kaplad` by all ways, and python-eris's server.

What python-eris is known to fail is listed by name, so that a change of either is noticed.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from eris import BlockNotFound, BlockSize, Reference
from kapla.client import RemoteStore
from kapla.conformance.model import Level, Result, Verdict
from kapla.conformance.running import run_checks
from kapla.conformance.stage import Stage
from kapla.conformance.table import TABLE
from kapla.identity.pair import load_or_make
from kapla.urls import parse_store_url
from tests.integration.commands import Kapla
from tests.integration.daemon import Daemon, running_daemon
from tests.integration.test_interop import python_eris

INTEROP = Path(__file__).parents[2] / "docs" / "interop.md"
NO_HALF = {"flight/half-closed", "flight/half-a-message"}
# Under TLS the rest is the same, and takes a handshake each.
OF_CONNECTIONS = ("greeting", "signals", "blocks", "pieces", "flight", "hostile", "both-ways")
KAPLAD_FAILS = {"hostile/malformed-told"}
KAPLAD_LACKS = {"greeting/long-tokens", "both-ways/asks"}

PYTHON_ERIS_FAILS = {
    Level.MUST: {
        "references/raw",
        "references/raw-missing",
        "references/raw-wrong",
        "requests/critical",
        "requests/proxy",
        "requests/not-acceptable",
        "requests/repeated",
        "requests/impossible",
        "requests/strange-path",
        "pieces/gap",
        "hostile/marker",
        "hostile/number",
    },
    Level.SHOULD: {
        "greeting/small-size",
        "signals/custody-waits",
        "signals/release",
        "references/told",
        "references/two",
        "references/padded",
        "references/spare-bits",
        "requests/core",
        "pieces/beyond",
    },
}
PYTHON_ERIS_LACKS = {
    "greeting/no-limit",
    "signals/custody-told",
    "requests/root",
    *KAPLAD_LACKS,
    *(f"extensions/{check.name}" for check in TABLE["extensions"]),
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    listen = ["coap+tcp://127.0.0.1:0?get&put", "coaps+tcp://127.0.0.1:0?get&put"]
    with running_daemon(listen=listen) as running:
        yield running
        assert "Traceback" not in running.log
        assert "failed" not in running.log


def check(url: str, *only: str, read_only: bool = False) -> list[Result]:
    """All results, each waited for long enough for a busy machine."""

    async def main() -> list[Result]:
        stage = Stage(parse_store_url(url), read_only=read_only, wait_s=20)
        return [result async for result in run_checks(stage, only)]

    return asyncio.run(main())


def names(results: list[Result], verdict: Verdict, level: Level | None = None) -> set[str]:
    return {
        f"{result.group}/{result.check.name}"
        for result in results
        if result.verdict is verdict and level in (None, result.check.level)
    }


@pytest.mark.parametrize("way", ["unix", "tcp", "tls"])
def test_kaplad_does_all_but_one(daemon: Daemon, way: str) -> None:
    url = {"unix": daemon.url, "tcp": daemon.tcp_url, "tls": daemon.tls_url}[way]
    groups = OF_CONNECTIONS if way == "tls" else tuple(TABLE)
    results = check(url, *groups)
    assert len(results) == sum(len(TABLE[group]) for group in groups)
    assert names(results, Verdict.FAIL) == KAPLAD_FAILS, results
    assert names(results, Verdict.SKIPPED) == (NO_HALF if way == "tls" else set())
    assert names(results, Verdict.ABSENT) == KAPLAD_LACKS


def test_a_daemon_that_asks_the_kit_for_blocks_bears_a_no(tmp_path: Path) -> None:
    key = load_or_make(tmp_path / "identity.pem").public
    listen = ["coaps+tcp://127.0.0.1:0?get&put"]
    with running_daemon(None, "--known-peer", str(key), listen=listen) as daemon:
        url = daemon.tls_url.replace("#", f"?key={tmp_path}/identity.pem#")

        async def want(store: RemoteStore) -> None:
            """Ask for what is nowhere: the daemon asks whoever it knows."""
            while True:
                with suppress(BlockNotFound):
                    await store.get(Reference(os.urandom(32)), BlockSize.SMALL)

        async def main() -> tuple[list[Result], int]:
            stage = Stage(parse_store_url(url), read_only=False, wait_s=20)
            async with RemoteStore(parse_store_url(daemon.url)) as store:
                wanting = asyncio.create_task(want(store))
                try:
                    only = ("blocks", "both-ways")
                    return [result async for result in run_checks(stage, only)], stage.asked
                finally:
                    wanting.cancel()

        results, asked = asyncio.run(main())
    assert asked > 0
    assert {result.verdict for result in results} == {Verdict.PASS}


def test_what_python_eris_does_and_what_not() -> None:
    with python_eris("serve") as peer:
        results = check(f"coap+tcp://127.0.0.1:{peer.read()}")
    for level in Level:
        assert names(results, Verdict.FAIL, level) == PYTHON_ERIS_FAILS.get(level, set()), level
    assert names(results, Verdict.SKIPPED) == set()
    assert names(results, Verdict.ABSENT) == PYTHON_ERIS_LACKS


def test_the_document_tells_what_was_found() -> None:
    text = INTEROP.read_text()
    for name in set.union(*PYTHON_ERIS_FAILS.values(), KAPLAD_FAILS):
        assert f"`{name}`" in text, name
    for level in (Level.MUST, Level.SHOULD):
        of = sum(one.level is level for checks in TABLE.values() for one in checks)
        met = of - len(PYTHON_ERIS_FAILS[level])
        assert f"{met} of {of}" in text, level


def test_the_command_tells_what_it_does_and_what_it_found(tmp_path: Path, daemon: Daemon) -> None:
    kapla = Kapla(tmp_path, daemon.tcp_url)
    done = kapla("conformance", "--only", "signals", "--only", "blocks", daemon.tcp_url)
    said = done.stderr.decode()
    assert said.startswith(
        f"kapla: checking TCP 127.0.0.1:{daemon.tcp_port}; this puts up to 2 MiB"
    )
    lines = done.stdout.decode().splitlines()
    assert [line for line in lines if not line.startswith(" ")][:2] == ["signals", "blocks"]
    assert "  ok    must    ping " in done.stdout.decode()
    assert lines[-1].startswith("conforms: ")


def test_a_store_that_takes_nothing(tmp_path: Path) -> None:
    with running_daemon(listen=["coap+tcp://127.0.0.1:0?get"]) as daemon:
        kapla, url = Kapla(tmp_path, daemon.url), daemon.tcp_url
        refused = kapla.error("conformance", url, code=6)
        assert "takes no blocks here: 4.03" in refused
        assert "--read-only checks the rest" in refused
        # Without a block that is there much is left out; with those of the vectors little is.
        only = ("--json", "--only", "blocks", "--only", "references")
        few = kapla("conformance", "--read-only", *only, url)
        assert b"this puts nothing" in few.stderr
        check(daemon.url, "both-ways")
        many = kapla("conformance", *only, url + "?get")
        facts, more = json.loads(few.stdout), json.loads(many.stdout)
        assert facts["conforms"] is more["conforms"] is True
        assert facts["written_bytes"] == more["written_bytes"] == 0
        assert verdicts(facts)["blocks/get"] == "skipped"
        assert verdicts(more)["blocks/get"] == "pass"
        assert verdicts(more)["blocks/small"] == "skipped"


def verdicts(facts: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {f"{one['group']}/{one['name']}": one["verdict"] for one in facts["checks"]}


def test_a_store_that_fails_a_must_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    with python_eris("serve") as peer:
        url = f"coap+tcp://127.0.0.1:{peer.read()}"
        done = Kapla(tmp_path, url)("conformance", "-v", "--only", "references", url, code=8)
    last = done.stderr.decode().splitlines()[-1]
    assert "fails 3 of what a store must do: references/raw, " in last
    lines = done.stdout.decode().splitlines()
    place = next(n for n, line in enumerate(lines) if " raw " in line)
    assert lines[place].startswith("  FAIL  must    raw ")
    assert lines[place + 1].strip() == "the store closed the connection instead of an answer"
    assert lines[place + 2].strip().startswith("-> 50 e1 ")
    assert lines[-1].startswith("does not conform: ")


def test_no_store_is_told_as_elsewhere(tmp_path: Path) -> None:
    kapla = Kapla(tmp_path, "none")
    missing = kapla.error("conformance", f"coap+unix://{tmp_path}/none.sock", code=3)
    assert "cannot connect to Unix socket" in missing
    assert "not HTTP" in kapla.error("conformance", "http://127.0.0.1:1/", code=2)
    assert b"STORE-URL" in kapla("conformance", code=2).stderr
