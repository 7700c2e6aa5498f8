"""Mirror mode, with another publisher as the server upstream."""

from __future__ import annotations

import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest

from guix_glue.formats.narinfo import parse_narinfo
from guix_glue.trust.signature import verify_narinfo
from tests.guix_glue.publish.support import (
    ACL,
    KEYS,
    SAMPLES,
    Publisher,
    make_item,
    nar_of,
    nothing_half_made,
    publishing,
)
from tests.integration.commands import Kapla
from tests.integration.daemon import GUARD_S, running_daemon, wait_until

TRUST = ("--acl", SAMPLES / "keys" / "acl")


def signed_part(text: bytes) -> bytes:
    head, found, rest = text.partition(b"Signature:")
    return head + found + rest.partition(b"\n")[0]


def mirrored_urn(mirror: Publisher, item: Path) -> str:
    """The hint, once it is there."""

    def hint() -> str | None:
        return mirror.narinfo(item).narinfo().hint_urn

    wait_until(lambda: hint() is not None, "the hint")
    urn = hint()
    assert urn is not None
    return urn


def test_the_signed_part_is_unchanged_and_the_nars_are_upstream(
    publisher: Publisher, items: Path, tmp_path: Path
) -> None:
    tree = make_item(items, "tree-1.0")
    original = publisher.baked(tree).body
    with publishing(tmp_path, *TRUST, "--upstream", publisher.url) as mirror:
        answer = mirror.narinfo(tree)
        assert signed_part(answer.body) == signed_part(original)
        narinfo = answer.narinfo()
        verify_narinfo(narinfo, ACL)
        assert narinfo.hint_urn is None
        theirs = parse_narinfo(original, store_dir="/gnu/store")
        assert [url.url for url in narinfo.urls] == [
            f"{publisher.url}/{url.url}" for url in theirs.urls
        ]
        assert [url.file_size for url in narinfo.urls] == [url.file_size for url in theirs.urls]
        missing = mirror.request("/" + "0" * 32 + ".narinfo")
        assert missing.status == 404
        # As a mirror may have promised that keeps nars.
        nar = mirror.request(f"/nar/gzip/{tree.name}")
        assert nar.status == 302
        assert nar.headers["location"] in [url.url for url in narinfo.urls]
        assert mirror.request(f"/nar/gzip/{'0' * 32}-x").status == 404
        assert mirror.request("/signing-key.pub").status == 404


@pytest.mark.parametrize("trees", ["packed", "standard"])
def test_the_urn_is_a_hint_and_its_blocks_are_in_the_store(
    publisher: Publisher, items: Path, trees: str, tmp_path: Path
) -> None:
    with running_daemon(tmp_path) as daemon:
        kapla = Kapla(tmp_path, daemon.url)
        eris = (f"--eris={daemon.url}", "--eris-format", trees)
        with publishing(tmp_path, *TRUST, "--upstream", publisher.url, *eris) as mirror:
            for name in ("tree-1.0", "link", "program"):
                item = make_item(items, name)
                original = publisher.baked(item).body
                urn = mirrored_urn(mirror, item)
                answer = mirror.narinfo(item)
                assert signed_part(answer.body) == signed_part(original)
                narinfo = answer.narinfo()
                verify_narinfo(narinfo, ACL)
                assert narinfo.signed_urn is None
                before, _, after = narinfo.text.partition("Signature:")
                assert "ERIS:" not in before
                assert f"\nERIS: {urn}\n" in after
                kapla("decode", urn, tmp_path / name)
                assert ("packed" in kapla.out("info", "--json", urn)) == (trees == "packed")
                assert nar_of(tmp_path / name) == nar_of(item)
            # Nothing is left of what was unpacked, and all is known after a restart.
            nothing_half_made(tmp_path / "cache")
            mirror.stop()
            mirror.start()
            assert mirror.narinfo(item).body == answer.body
        # Of another format there is no URN yet.
        other = "standard" if trees == "packed" else "packed"
        more = (f"--eris={daemon.url}", "--eris-format", other)
        with publishing(tmp_path, *TRUST, "--upstream", publisher.url, *more) as mirror:
            assert mirror.narinfo(item).narinfo().hint_urn is None
            assert mirrored_urn(mirror, item) != urn


def test_a_signed_urn_gets_no_hint_beside_it(tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.mkdir()
    item = make_item(items, "item")
    item.write_bytes(b"content")
    (tmp_path / "mirror").mkdir()
    with (
        publishing(tmp_path, "--items", items, *KEYS, "--eris") as origin,
        publishing(tmp_path / "mirror", *TRUST, "--upstream", origin.url, "--eris") as mirror,
    ):
        urn = origin.baked(item, urn=True).narinfo().signed_urn

        def complete() -> bool:
            return (mirror.narinfo(item).max_age or 0) > 300

        wait_until(complete, "the mirror to be done")
        narinfo = mirror.narinfo(item).narinfo()
        assert narinfo.signed_urn == urn
        assert narinfo.text.count("ERIS:") == 1


def test_what_is_not_authorized_is_not_mirrored(
    publisher: Publisher, items: Path, tmp_path: Path
) -> None:
    item = make_item(items, "tree-1.0")
    with publishing(
        tmp_path, "--acl", SAMPLES / "keys" / "acl-empty", "--upstream", publisher.url
    ) as mirror:
        assert mirror.narinfo(item).status == 404
        mirror.wait_for_log("is not taken")
    (tmp_path / "none").mkdir()
    environment = {"GUIX_CONFIGURATION_DIRECTORY": str(tmp_path / "none")}
    with publishing(tmp_path, "--upstream", publisher.url, env=environment) as mirror:
        assert mirror.narinfo(item).status == 404
        assert list((tmp_path / "none").iterdir()) == []


def test_a_server_that_is_down_is_passed_over(
    publisher: Publisher, items: Path, tmp_path: Path
) -> None:
    item = make_item(items, "notes.txt")
    down = "http://127.0.0.1:1"
    upstream = ("--upstream", f"{down} {publisher.url}")
    with publishing(tmp_path, *TRUST, *upstream) as mirror:
        good = mirror.narinfo(item)
        assert good.narinfo().urls[0].url.startswith(publisher.url)
        # That nobody else has it is not known while one cannot be asked.
        assert mirror.request("/" + "0" * 32 + ".narinfo").status == 503
    with publishing(tmp_path, *TRUST, "--upstream", down) as mirror:
        # What is kept is served without asking.
        assert mirror.narinfo(item).body == good.body
        assert mirror.narinfo(make_item(items, "program")).status == 503


def test_many_are_asked_for_at_once(tmp_path: Path) -> None:
    wanted = [f"{n:032d}" for n in range(20)]
    request = "GET /{}.narinfo HTTP/1.1\r\nHost: x\r\n\r\n"
    with (
        AllAtOnce(len(wanted)) as server,
        publishing(tmp_path, *TRUST, "--upstream", server.url) as mirror,
        mirror.connect() as connection,
    ):
        connection.sendall("".join(map(request.format, wanted)).encode())
        received = b""
        while received.count(b"Resource not found") < len(wanted):
            data = connection.recv(1 << 16)
            assert data
            received += data
        assert sorted(server.asked) == [f"/{hash_part}.narinfo" for hash_part in wanted]


class AllAtOnce:
    """A server that answers 404, but only once so many have asked."""

    def __init__(self, count: int) -> None:
        barrier = threading.Barrier(count, timeout=GUARD_S)
        self.asked = asked = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                barrier.wait()
                self.send_error(404)

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_damaged_entry_is_fetched_again(
    publisher: Publisher, items: Path, tmp_path: Path
) -> None:
    item = make_item(items, "notes.txt")
    upstream = ("--upstream", publisher.url)
    with publishing(tmp_path, *TRUST, *upstream) as mirror:
        good = mirror.narinfo(item).body
    entry = tmp_path / "cache" / "v1" / "upstream" / item.name[:32]
    entry.write_bytes(entry.read_bytes()[:-10])
    with publishing(tmp_path, *TRUST, *upstream) as mirror:
        assert mirror.narinfo(item).body == good
        assert "damaged" in mirror.log


def test_a_nar_that_is_another_gives_no_hint(tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.mkdir()
    item = make_item(items, "item")
    item.write_bytes(b"content" * 1000)
    (tmp_path / "mirror").mkdir()
    with (
        publishing(tmp_path, "--items", items, *KEYS) as origin,
        publishing(tmp_path / "mirror", *TRUST, "--upstream", origin.url, "--eris") as mirror,
    ):
        origin.baked(item)
        nar = tmp_path / "cache" / "v1" / "items" / item.name[:32] / "gzip-3.nar"
        other = tmp_path / "other"
        shutil.copy(nar, other)
        damaged = bytearray(other.read_bytes())
        damaged[-5] ^= 1
        nar.write_bytes(damaged)
        mirror.narinfo(item)
        mirror.wait_for_log("Not baked")
        assert mirror.narinfo(item).narinfo().hint_urn is None
        nothing_half_made(tmp_path / "mirror" / "cache")
