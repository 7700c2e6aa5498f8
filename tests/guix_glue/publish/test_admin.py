"""What a publisher tells this machine of itself."""

from __future__ import annotations

import http.client
import json
import re
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest

from guix_glue.cli.option_types import bound_admin
from guix_glue.publish.tally import RECENT, Bakings
from guix_glue.serving.requests import Requests
from tests.guix_glue.publish.support import KEYS, Publisher, make_item, publishing
from tests.integration.daemon import GUARD_S, wait_until


def told(publisher: Publisher, path: str, token: str | None = None) -> tuple[int, str]:
    """Status and text of an answer."""
    match = re.search(r"Telling of the publisher on http://127\.0\.0\.1:(\d+)", publisher.log)
    assert match, publisher.log
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with closing(http.client.HTTPConnection("127.0.0.1", int(match[1]), timeout=GUARD_S)) as client:
        client.request("GET", path, headers=headers)
        reply = client.getresponse()
        return reply.status, reply.read().decode()


def body(publisher: Publisher, path: str, token: str | None = None) -> str:
    """What is told at a path."""
    status, text = told(publisher, path, token)
    assert status == 200, text
    return text


def test_what_is_asked_and_baked(tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.mkdir()
    item = make_item(items, "hello")
    item.write_bytes(bytes(10_000))
    url_file = tmp_path / "cache" / "v1" / "status-url"
    options = ("--items", items, *KEYS, "--admin", "127.0.0.1:0")
    with publishing(tmp_path, *options) as publisher:
        publisher.baked(item)
        publisher.request(f"/nar/gzip/{item.name}")
        assert publisher.request("/nothing").status == 404
        assert stat.S_IMODE(url_file.stat().st_mode) == 0o600
        token = url_file.read_text().strip().partition("#")[2]

        def facts_now() -> Any:
            return json.loads(body(publisher, "/status"))

        # It is counted when the job ends, just after the item can be had.
        wait_until(lambda: facts_now()["baking"]["done"] == 1, "the end of the baking")
        facts = facts_now()
        assert facts["requests"]["nar"] == 1
        assert facts["statuses"]["4xx"] == 1
        assert facts["sent_bytes"] > 0
        assert facts["cache"]["items"] == 1
        assert "bakings" not in facts
        for path in ("/status", "/metrics", "/"):
            assert "hello" not in body(publisher, path)
        metrics = body(publisher, "/metrics").splitlines()
        assert "kapla_publish_baked_items_total 1" in metrics
        assert 'kapla_publish_requests_total{kind="nar"} 1' in metrics
        (baked,) = json.loads(body(publisher, "/status", token))["bakings"]
        assert (baked["item"], baked["failure"]) == (item.name, None)
        page = body(publisher, "/", token)
        assert item.name in page
        assert "Baked of late" in page
        assert body(publisher, "/healthz") == "ok\n"
        assert told(publisher, "/status", "x" + token)[0] == 401
        assert publisher.stop() == 0
        assert token not in publisher.log
    assert not url_file.exists()


def test_a_page_whose_address_cannot_be_written(tmp_path: Path) -> None:
    items, in_its_place = tmp_path / "items", tmp_path / "cache" / "v1" / "status-url"
    items.mkdir()
    in_its_place.mkdir(parents=True)
    with publishing(tmp_path, "--items", items, *KEYS, "--admin", "127.0.0.1:0") as publisher:
        assert body(publisher, "/healthz") == "ok\n"
        assert publisher.request("/nothing").status == 404
        assert "cannot write" in publisher.log
        assert publisher.stop() == 0


@pytest.mark.parametrize("place", ["192.0.2.1:9081", "9081", "unix:relative", "[::]:9081"])
def test_places_that_are_none(place: str) -> None:
    with pytest.raises(click.BadParameter) as raised:
        bound_admin(place)
    assert raised.value.param_hint == "--admin"


def test_requests_are_counted_by_what_they_are_for() -> None:
    requests = Requests(("nar",))
    for path in ("/aaa.narinfo", "/nar/gzip/aaa", "/nar/aaa.narinfo", "/", "-"):
        requests.answered(path, 200, 5, whole=path != "/")
    requests.answered("/x", 499, 0, whole=False)
    assert requests.kinds == {"narinfo": 1, "nar": 2, "other": 3}
    assert requests.statuses == {"2xx": 5, "4xx": 1}
    assert (requests.sent_bytes, requests.cut_off) == (25, 2)


def test_bakings_count_however_they_end_and_few_are_remembered() -> None:
    bakings = Bakings()
    for number in range(2 * RECENT):
        with bakings.one(f"item {number}") as baking:
            assert bakings.under_way == [baking]
            baking.failure = None
    with bakings.one("late") as baking:
        baking.failure = "x" * 1000
    with pytest.raises(KeyboardInterrupt), bakings.one("y" * 1000):
        raise KeyboardInterrupt
    assert (bakings.done, bakings.failed, bakings.under_way) == (2 * RECENT, 2, [])
    assert len(bakings.recent) == RECENT
    last, before = bakings.recent[-1], bakings.recent[-2]
    assert (last.failure, len(last.item), len(before.failure or "")) == ("stopped", 200, 200)
