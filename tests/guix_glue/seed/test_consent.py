"""Which items may be given away: a table of cases."""

from __future__ import annotations

import pytest

from guix_glue.kept.public_items import item_mark
from guix_glue.local.store_list import ValidItem
from guix_glue.seed.consent import Answers, Consent, Say

HASH = "a" * 32
NAR = b"\1" * 32
OTHER_NAR = b"\2" * 32
MARK = item_mark(HASH, NAR)
DERIVER = "b" * 32 + "-hello-2.12.drv"


def item(name: str = "hello-2.12", **facts: object) -> ValidItem:
    given: dict[str, object] = {"deriver": DERIVER, **facts}
    return ValidItem(f"{HASH}-{name}", NAR, 1000, **given)  # type: ignore[arg-type]


def guix(has_log: bool | None = False, **given: object) -> Consent:
    return Consent(has_log=lambda deriver: has_log, **given)  # type: ignore[arg-type]


NOTED, YES, NO = Answers(noted={MARK}), Answers(yes={MARK}), Answers(no={MARK})
NOTHING = Answers()
ANOTHER = Answers(noted={item_mark(HASH, OTHER_NAR)}, yes={item_mark(HASH, OTHER_NAR)})

CASES = [
    # what is fetched
    ("fetched", item(), guix(), NOTED, Say.OFFERED, "fetched by a signed narinfo"),
    ("fetched, with no log", item(), guix(None), NOTED, Say.OFFERED, "fetched"),
    ("fetched, and a log", item(), guix(True), NOTED, Say.OFFERED, "fetched"),
    ("fetched, other content", item(), guix(), ANOTHER, Say.TO_ASK, "not answered yet"),
    # names
    ("a derivation", item("hello.drv"), guix(), NOTED, Say.NOT_OFFERED, "*.drv"),
    ("settings", item("etc"), guix(), YES, Say.NOT_OFFERED, "somebody's settings"),
    ("a system", item("my-system"), guix(), NOTED, Say.NOT_OFFERED, "*-system"),
    ("a home", item("home-environment"), guix(), NOTED, Say.NOT_OFFERED, "home-environment*"),
    ("NixOS", item("nixos-system-host-23"), guix(), NOTED, Say.NOT_OFFERED, "nixos-system-*"),
    ("allowed", item("my-system"), guix(allow=["my-*"]), NOTED, Say.OFFERED, "fetched"),
    ("denied", item(), guix(deny=["hel*"]), NOTED, Say.NOT_OFFERED, "--deny hel*"),
    ("both", item(), guix(deny=["hel*"], allow=["*"]), NOTED, Say.NOT_OFFERED, "--deny"),
    ("no system", item("gnome-system-monitor-3"), guix(), NOTED, Say.OFFERED, "fetched"),
    # made here, of Guix
    ("a log", item(), guix(True), NOTHING, Say.NOT_OFFERED, "there is a log"),
    ("a log, answered", item(), guix(True), YES, Say.NOT_OFFERED, "there is a log"),
    ("logs hidden", item(), guix(None), NOTHING, Say.NOT_OFFERED, "cannot be read"),
    ("added", item(deriver=None), guix(), NOTHING, Say.NOT_OFFERED, "added to the store"),
    ("added, answered", item(deriver=None), guix(), YES, Say.NOT_OFFERED, "added to the store"),
    # made here, of Nix
    (
        "ultimate",
        item(is_built_here=True, is_signed=True),
        guix(),
        YES,
        Say.NOT_OFFERED,
        "built on this machine",
    ),
    (
        "unsigned",
        item(is_built_here=False, is_signed=False),
        guix(),
        YES,
        Say.NOT_OFFERED,
        "nobody has signed it",
    ),
    (
        "signed",
        item(is_built_here=False, is_signed=True, deriver=None),
        guix(None),
        NOTHING,
        Say.TO_ASK,
        "not answered yet",
    ),
    # what servers say
    ("to be asked", item(), guix(), NOTHING, Say.TO_ASK, "not answered yet"),
    ("nobody to ask", item(), guix(may_ask=False), NOTHING, Say.NOT_OFFERED, "no server to ask"),
    ("they have it", item(), guix(), YES, Say.OFFERED, "a server has"),
    ("still, later", item(), guix(may_ask=False), YES, Say.OFFERED, "a server has"),
    ("they do not", item(), guix(), NO, Say.NOT_OFFERED, "no server that was asked"),
]


@pytest.mark.parametrize(
    ("one", "consent", "answers", "say", "reason"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_consent(one: ValidItem, consent: Consent, answers: Answers, say: Say, reason: str) -> None:
    verdict = consent.decide(one, answers)
    assert verdict.say is say
    assert reason in verdict.reason
