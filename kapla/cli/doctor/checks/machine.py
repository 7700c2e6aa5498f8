"""Clock, limits, services, Python and Guix: what is around Kapla. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from kapla.cli.doctor.facts import Facts
from kapla.cli.doctor.finding import Finding, ok, trouble, warning

__all__ = ["CHECKS"]

_DAY_S: Final = 86400
_YEAR_S: Final = 365 * _DAY_S
# Beside its connections the daemon has the store, its threads and its listeners open.
_OTHER_FILES: Final = 64


def clock(facts: Facts) -> Iterator[Finding]:
    """Whether the clock is near the truth: certificates are judged by it."""
    mend = "set the clock: timedatectl set-ntp true"
    if facts.now < facts.newest_file - _DAY_S:
        days = int((facts.newest_file - facts.now) / _DAY_S)
        yield trouble("clock", f"the clock is at least {days} days late", mend)
    elif facts.now > facts.newest_file + 20 * _YEAR_S:
        yield warning("clock", "the clock is 20 years after Kapla was installed", mend)


def open_files(facts: Facts) -> Iterator[Finding]:
    """Whether the daemon may have as many files open as it has connections."""
    wanted = facts.settings.max_connections + _OTHER_FILES
    for store in facts.stores:
        if store.open_files is not None and store.open_files < wanted:
            yield warning(
                "open files",
                f"the daemon may have {store.open_files} files open, and max-connections wants"
                f" {wanted}",
                "raise it: LimitNOFILE=8192 in its unit, or ulimit -n 8192 before kaplad",
            )


def services(facts: Facts) -> Iterator[Finding]:
    """Whether systemd's units have failed."""
    for name, state, result in facts.units:
        if state == "failed":
            yield trouble(
                "service",
                f"the unit {name} has failed ({result})",
                f"see why: journalctl -u {name} -n 20; then: systemctl restart {name}",
            )
        elif state == "active":
            yield ok("service", f"the unit {name} runs")


def imports(facts: Facts) -> Iterator[Finding]:
    """Whether another package has our names: python-eris is imported as eris, too."""
    for name, path in facts.shadowed:
        yield trouble(
            "Python",
            f"the module {name} is loaded from {path}, and is not ours",
            "start from another directory, or unset PYTHONPATH",
        )
    for package in facts.others_packages:
        yield trouble(
            "Python",
            f"the package {package} brings a module eris, as Kapla does: one hides the other",
            f"pip uninstall {package}, or install Kapla into an environment of its own",
        )


def guix(facts: Facts) -> Iterator[Finding]:
    """Whether the daemon of Guix gets substitutes through Kapla, and believes anybody."""
    if facts.guix is None:
        return
    environment = facts.guix.environment
    if environment is not None and "kapla-guix" not in environment:
        yield warning(
            "Guix",
            "guix-daemon does not get its substitutes through Kapla",
            "start it by kapla guix-daemon: docs/guix.md has the unit's drop-in",
        )
    if facts.guix.has_acl is False:
        yield warning(
            "Guix",
            "no key is authorized, so that no substitute is believed",
            "kapla signing-key authorize KEY.pub",
        )


def blind(facts: Facts) -> Iterator[Finding]:
    """What could not be looked at."""
    for what, error in facts.blind:
        yield warning(what, f"this could not be looked at: {error}", "look at it by hand")


CHECKS: Final[tuple[Callable[[Facts], Iterator[Finding]], ...]] = (
    clock,
    open_files,
    services,
    imports,
    guix,
    blind,
)
