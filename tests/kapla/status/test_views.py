"""Facts as they are shown: figures, rates, lines, the page, metrics."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from guix_glue.cli.proxy_facts import PROXY_METRICS
from guix_glue.cli.publish_metrics import PUBLISH_METRICS
from kapla.cli.doctor.command import command as doctor
from kapla.cli.top import command as top
from kapla.status.daemon import HOW_TO_SEE_ALL, daemon_view
from kapla.status.daemon_metrics import DAEMON_METRICS
from kapla.status.facts import DaemonFacts
from kapla.status.lines import lines_of
from kapla.status.metrics import Metric, metrics_text
from kapla.status.page import event_of, page_html, page_policy
from kapla.status.view import Figure, Tone, View
from tests.kapla.status.examples import everything, numbers

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "status.md"


def figure(view: View, label: str) -> Figure:
    return next(one for group in view.groups for one in group.figures if one.label == label)


def later(uptime_s: float = 102.0) -> DaemonFacts:
    """Two seconds on: 10,240 bytes and 20 requests more."""
    facts = numbers() | {"uptime_s": uptime_s}
    facts["traffic"]["here"]["bytes"] += 10_240
    facts["requests"]["get"] += 20
    return DaemonFacts.read(facts)


def test_rates_are_made_of_two_looks() -> None:
    before = DaemonFacts.read(numbers())
    view = daemon_view(later(), before)
    assert figure(view, "given").text == "5.0 KiB/s"
    assert figure(view, "requests").text == "10/s"
    assert "Traffic now" in [group.title for group in view.groups]


def test_one_look_gives_averages_and_says_so() -> None:
    view = daemon_view(DaemonFacts.read(numbers()))
    assert figure(view, "given").text == "48.8 KiB/s"
    assert "Traffic since the start, on average" in [group.title for group in view.groups]


def test_a_look_before_a_restart_tells_nothing() -> None:
    before = DaemonFacts.read(numbers() | {"started_at": 5.0, "uptime_s": 1.0})
    assert daemon_view(later(), before) == daemon_view(later())


def test_hits_and_space() -> None:
    view = daemon_view(DaemonFacts.read(numbers()))
    hits, space = figure(view, "hits"), figure(view, "space")
    assert (hits.text, hits.part) == ("75 %", 0.75)
    assert (space.text, space.of, space.note) == ("3.2 MiB", "of 10.0 GiB", "4.7 GiB free on disk")
    nothing = numbers() | {"requests": {"get": 0}, "max_size": None, "disk_free_bytes": None}
    view = daemon_view(DaemonFacts.read(nothing))
    assert (figure(view, "hits").part, figure(view, "space").part) == (None, None)


def test_seeds_are_shown_once_there_was_one() -> None:
    facts = numbers()
    labels = [
        f.label for group in daemon_view(DaemonFacts.read(facts)).groups for f in group.figures
    ]
    assert not any("seeds" in label for label in labels)
    facts["seeds"] = {"now": 1, "since_start": 2, "refused": 3, "blocks": 4, "bytes": 4096}
    facts["traffic"]["seeds"] = {"blocks": 4, "bytes": 4096}
    told = DaemonFacts.read(facts)
    assert told.moved.given.bytes == 5_000_000 + 4096
    view = daemon_view(told)
    assert (figure(view, "seeds").text, figure(view, "seeds").note) == ("1", "3 refused")
    assert figure(view, "from seeds").text == "4.0 KiB"
    metrics = metrics_text(DAEMON_METRICS, told).decode()
    assert "kapla_seeds 1\n" in metrics
    assert 'kapla_given_bytes_total{source="seeds"} 4096\n' in metrics


def test_what_is_wrong_is_said_first() -> None:
    view = daemon_view(DaemonFacts.read(numbers()))
    assert (view.state, view.tone) == ("up 1 min 40 s", Tone.GOOD)
    bad = daemon_view(DaemonFacts.read(numbers() | {"bad_blocks": 1}))
    assert (bad.state, bad.tone) == ("1 block bad, up 1 min 40 s", Tone.BAD)
    # Some time ago it was full; now it is.
    full = DaemonFacts.read(numbers() | {"full_blocks": 9})
    assert daemon_view(full, DaemonFacts.read(numbers() | {"uptime_s": 90.0})).tone is Tone.BAD
    again = DaemonFacts.read(numbers() | {"full_blocks": 9, "uptime_s": 102.0})
    assert daemon_view(again, full).tone is Tone.GOOD


def test_names_and_transfers_are_in_the_view_of_administrators_alone() -> None:
    all_of_it = daemon_view(DaemonFacts.read(everything()))
    assert [table.title for table in all_of_it.tables] == [
        "Transfers",
        "Peers",
        "Pins, the first 1 of 2",
        "Listeners",
    ]
    assert all_of_it.tables[0].rows == [
        (
            "user 1000",
            "47 s ago",
            "4 s",
            "4.8 MiB",
            "–",
            "the store 80 %, desktop 20 %",
            "CoAP, Unix socket",
        )
    ]
    some = daemon_view(DaemonFacts.read(numbers()))
    assert [table.title for table in some.tables] == ["Peers", "Listeners"]
    assert some.tables[0].rows[0][0] == "peer 1"
    assert "kapla doctor --status-url" in some.notes[0]


def test_options_that_notes_name_are_there() -> None:
    named = dict(re.findall(r"kapla ([a-z]+) (--[a-z-]+)", HOW_TO_SEE_ALL))
    commands = {"doctor": doctor, "top": top}
    assert named
    for name, option in named.items():
        assert any(option in parameter.opts for parameter in commands[name].params)


# --- lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 30, 40, 79, 80, 120, 300])
def test_lines_fit(width: int) -> None:
    view = daemon_view(DaemonFacts.read(everything()))
    lines = ["".join(piece.text for piece in line) for line in lines_of(view, width)]
    assert max(map(len, lines)) <= max(30, width) + 1
    text = "\n".join(lines)
    for shown in ("kaplad", "3.2 MiB", "Traffic since", "Transfers", "desktop"):
        assert shown in text


def test_what_matters_fits_into_a_small_terminal() -> None:
    view = daemon_view(DaemonFacts.read(everything()))
    lines = ["".join(piece.text for piece in line) for line in lines_of(view, 80)]
    assert any(line.startswith("Transfers") for line in lines[:20])


# --- the page -----------------------------------------------------------------------------------


class Elements(HTMLParser):
    """What a page has in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.text: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.attributes |= {name for name, _ in attributes}
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inner = self.open[-1] if self.open else ""
        self.text[inner] = self.text.get(inner, "") + data


def test_the_page_has_all_figures_and_needs_nothing_from_elsewhere() -> None:
    page = page_html(daemon_view(DaemonFacts.read(everything()))).decode()
    elements = Elements(page)
    assert not elements.open
    assert not elements.attributes & {"src", "href", "style", "action"}
    assert not [name for name in elements.attributes if name.startswith("on")]
    # A name is a name, whatever it looks like.
    assert "<b>photos</b>" in elements.text["td"]
    assert "4.8 MiB" in elements.text["td"]
    assert "3.2 MiB" in elements.text["dd"]
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_only_its_own_style_and_script_may_run() -> None:
    elements = Elements(page_html(daemon_view(DaemonFacts.read(numbers()))).decode())
    policy = page_policy()
    for tag in ("style", "script"):
        digest = hashlib.sha256(elements.text[tag].encode()).digest()
        assert f"{tag}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_names_of_files_may_be_no_utf_8() -> None:
    facts = everything()
    facts["peers"][0]["why"] = "cannot read /srv/\udcff"
    view = daemon_view(DaemonFacts.read(facts))
    assert r"/srv/\udcff" in page_html(view).decode()
    assert b"/srv/" in event_of(view)
    metric: Metric[None] = Metric("m", "gauge", "x", lambda _: [({"file": "\udcff"}, 1)])
    assert metrics_text([metric], None).endswith(b'm{file="\\udcff"} 1\n')


def test_an_event_is_the_figures_of_the_page_in_one_line() -> None:
    view = daemon_view(DaemonFacts.read(everything()))
    event = event_of(view).decode()
    assert event.startswith("data: ")
    assert event.endswith("\n\n")
    assert event.count("\n") == 2
    assert json.loads(event.removeprefix("data: ")) in page_html(view).decode()


# --- metrics ------------------------------------------------------------------------------------

_SAMPLE = re.compile(r'[a-z_]+(\{[a-z]+="[^"\n]*"\})? -?[0-9.e+]+')


def test_metrics_as_they_are_read() -> None:
    lines = metrics_text(DAEMON_METRICS, DaemonFacts.read(everything())).decode().splitlines()
    assert 'kapla_blocks{size="32768"} 93' in lines
    assert 'kapla_given_bytes_total{source="peers"} 1000000' in lines
    assert 'kapla_peers{state="connected"} 1' in lines
    # Those that were found near come and go, and have no number that stays.
    assert [line for line in lines if line.startswith("kapla_peer_rtt_seconds")] == [
        'kapla_peer_rtt_seconds{peer="1"} 0.021'
    ]
    for line in lines:
        assert line.startswith(("# HELP kapla_", "# TYPE kapla_")) or _SAMPLE.fullmatch(line), line
    assert "desktop" not in "\n".join(lines)


def test_what_there_is_not_is_left_out() -> None:
    text = metrics_text(DAEMON_METRICS, DaemonFacts.read(numbers() | {"max_size": None}))
    assert b"kapla_database_max_bytes" not in text


def test_labels_are_escaped() -> None:
    metric: Metric[None] = Metric("x", "gauge", "a\nb\\", lambda _: [({"a": 'q"\\\n'}, 1)])
    assert metrics_text([metric], None) == (
        b'# HELP x a\\nb\\\\\n# TYPE x gauge\nx{a="q\\"\\\\\\n"} 1\n'
    )


@pytest.mark.parametrize(
    "metric", [*DAEMON_METRICS, *PUBLISH_METRICS, *PROXY_METRICS], ids=lambda one: one.name
)
def test_metrics_are_named_by_the_rules_and_documented(metric: Metric[object]) -> None:
    assert metric.name.startswith("kapla_")
    assert metric.name.endswith("_total") is (metric.kind == "counter")
    row = f"| `{metric.name}` | {metric.kind} | {metric.meaning} |"
    assert row in DOCUMENT.read_text()


def test_no_other_metric_is_documented() -> None:
    named = re.findall(r"^\| `(kapla_\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(
        [one.name for one in DAEMON_METRICS]
        + [one.name for one in PUBLISH_METRICS]
        + [one.name for one in PROXY_METRICS]
    )


def test_of_a_database_no_disk_is_told() -> None:
    told = numbers() | {"store": "postgresql", "disk_free_bytes": None}
    facts = DaemonFacts.read(told)
    assert figure(daemon_view(facts), "space").note == "in PostgreSQL"
    assert not re.search(
        b"^kapla_disk_free_bytes [0-9]", metrics_text(DAEMON_METRICS, facts), re.MULTILINE
    )
